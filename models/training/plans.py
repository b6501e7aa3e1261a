"""Plans: what a config file of training says, as a dataclass."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from riverrun.models.checkpoint import build
from riverrun.models.errors import ModelError

T = TypeVar("T")


def read(
    kind: type[T], config: Path, arranged: Callable[[dict[str, Any]], dict[str, Any]] = lambda told: told
) -> T:
    """Parse a TOML file, whose keys are `arranged` as those of the dataclass.

    Raises ModelError if it is missing, no TOML, or has unknown or missing keys.
    """
    try:
        return build(kind, arranged(tomllib.loads(config.read_text(encoding="utf-8"))))
    except (OSError, ValueError, ModelError) as error:
        raise ModelError(f"{config} is not a training config: {error}") from error


def kind(config: Path, kinds: Mapping[str, T]) -> T:
    """What a TOML file is a plan of: that of `kinds` whose key it has.

    Raises ModelError if it is missing, no TOML, or has none of these keys or several.
    """
    try:
        told = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{config} is not a training config: {error}") from error
    found = [key for key in kinds if key in told]
    if len(found) != 1:
        has = f"the keys {' and '.join(found)}" if found else "neither"
        raise ModelError(
            f"{config} is not a training config: it has {has}, expected one of {' and '.join(kinds)},"
            " which says what is trained"
        )
    return kinds[found[0]]


def beginning(weights: str | None, base: Path, minutes: float, what: str) -> Path | None:
    """The weights that a run begins with, if any. Raises ModelError if it has none, and no minutes to learn `what`."""
    if weights is None and not minutes:
        raise ModelError(f"{what} has 0 minutes and nothing to begin with: add minutes, or weights = ...")
    return None if weights is None else base / weights


def shortened(plan: T, parts: Sequence[str], minutes: float) -> T:
    """The same with other minutes for all of its parts together, shared out as before."""
    recipes: dict[str, Any] = {name: getattr(plan, name) for name in parts}
    whole = sum(recipe.minutes for recipe in recipes.values()) or 1.0
    fewer = {
        name: replace(recipe, minutes=recipe.minutes * minutes / whole) for name, recipe in recipes.items()
    }
    made: T = replace(cast(Any, plan), **fewer)
    return made
