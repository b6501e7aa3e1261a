"""Plans: what a config file of training says, as a dataclass."""

import tomllib
from pathlib import Path
from typing import TypeVar

from riverrun.models.checkpoint import build
from riverrun.models.errors import ModelError

T = TypeVar("T")


def read(kind: type[T], config: Path) -> T:
    """Parse a TOML file. Raises ModelError if it is missing, no TOML, or has unknown or missing keys."""
    try:
        return build(kind, tomllib.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError, ModelError) as error:
        raise ModelError(f"{config} is not a training config: {error}") from error
