"""What a session that shows was asked for, and how far it has come: lists of a State, a row each.

state = {..., **opened(request, prompt)} ── told: the prompt that counts now ── given: pictures, up to the end
                                              └───────────────────────────────────────────┘
"""

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from riverrun.media import Chunk
from riverrun.models.contract import Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.picture import pixels
from riverrun.models.shown import Shown

if TYPE_CHECKING:
    from riverrun.models.state import State

LONGEST = 3600.0  # seconds that may be asked for at once


def mode(request: Shown, spec: Spec) -> str:
    """That which is asked for, or the model's usual one. Raises InvalidRequest for one it does not have."""
    if request.mode and request.mode not in spec.modes:
        raise InvalidRequest(f"mode is {request.mode[:40]!r}, expected one of {', '.join(spec.modes)}")
    return request.mode or spec.modes[0]


def first(picture: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture of a request, of a model's size. Raises InvalidRequest.  # -> [y, x, 3]"""
    found = pixels(picture)
    if found.shape[:2] != size:
        has, wanted = (" x ".join(map(str, pair)) for pair in (found.shape[:2], size))
        raise InvalidRequest(f"picture has {has} pixels, expected {wanted}: scale it first")
    return found.copy()


def opened(request: Shown, prompt: Any) -> "State":
    """Of a new session; `prompt` is that of its request as the model has it, of JSON values. Raises InvalidRequest."""
    return {
        "prompts": [[prompt]], "told": [0], "seconds": [_seconds(request.seconds)], "end": [request.end],
        "seed": [request.seed], "frame": [0],
    }  # fmt: skip


def updated(state: "State", request: Shown, prompt: Callable[[str], Any]) -> "State":
    """Another prompt that waits, another end, or both; `prompt` checks one. Raises InvalidRequest."""
    if request.picture:
        raise InvalidRequest("picture is given after the first request, expected none: open another session")
    prompts = state["prompts"][0]
    if request.prompt:
        prompts = [*prompts, prompt(request.prompt)]
    seconds = _seconds(request.seconds) or state["seconds"][0]
    return {**state, "prompts": [prompts], "seconds": [seconds], "end": [request.end or state["end"][0]]}


def told(state: "State", i: int, rate: int | Fraction) -> tuple[Any, Chunk | None]:
    """The prompt of session i that counts from now on, and from which tick those that waited do; None: as before."""
    waiting, before = state["prompts"][i], state["told"][i]
    if not waiting:
        return None, None
    state["prompts"][i], state["told"][i] = [], before + len(waiting)
    return waiting[-1], Chunk(np.full((len(waiting), 1), state["frame"][i], np.float32), before, rate)


def given(
    state: "State", i: int, made: NDArray[np.uint8], rate: int | Fraction
) -> tuple[Chunk, Chunk | None]:
    """The next pictures of session i, cut where they end, and the last of the times then.  # made [t, y, x, 3]"""
    frame, total = state["frame"][i], round(state["seconds"][i] * rate)
    count = min(len(made), total - frame) if total else len(made)
    last = state["end"][i] or 0 < total <= frame + count
    state["frame"][i] = frame + len(made)
    over = Chunk(np.zeros((0, 1), np.float32), state["told"][i], rate, True) if last else None
    return Chunk(np.ascontiguousarray(made[: max(0, count)]), frame, rate, last), over


def _seconds(seconds: float) -> float:
    if not 0 <= seconds <= LONGEST:
        raise InvalidRequest(f"seconds is {seconds}, expected 0 (until told) to {LONGEST:.0f}")
    return seconds
