"""Chunk: consecutive ticks of sound or pictures, and the verbs that cut, join and fade them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive ticks of one stream, time first.

    Shapes: audio `[t, c]` float32 in [-1, 1]; video `[t, y, x, 3]` uint8.
    Units: `pts` is the tick of `data[0]`; one tick lasts 1/`rate` seconds.
    `last` marks the end of the stream; a last chunk may be empty.
    """

    data: Array
    pts: int
    rate: int | Fraction
    last: bool = False

    def __len__(self) -> int:
        return len(self.data)

    @property
    def end(self) -> int:
        """The tick after the last one held."""
        return self.pts + len(self.data)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return float(len(self.data) / self.rate)


def cut(chunk: Chunk, tick: int) -> tuple[Chunk, Chunk]:
    """Split at an absolute tick into what comes before and the rest, which keeps `last`.

    Raises ValueError if the tick lies outside the chunk.
    """
    if not chunk.pts <= tick <= chunk.end:
        raise ValueError(f"tick is {tick}, expected {chunk.pts} to {chunk.end}")
    at = tick - chunk.pts
    return (
        replace(chunk, data=chunk.data[:at], last=False),
        replace(chunk, data=chunk.data[at:], pts=tick),
    )


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Put consecutive chunks together; the result is `last` if the final one is.

    Raises ValueError if there is none, or if rates differ or ticks do not follow on.
    """
    if not chunks:
        raise ValueError("no chunk to join")
    first = chunks[0]
    for before, after in zip(chunks, chunks[1:], strict=False):
        if after.rate != first.rate or after.pts != before.end:
            raise ValueError(
                f"chunk at tick {after.pts}, rate {after.rate} does not follow {before.end}, rate {first.rate}"
            )
    if len(chunks) == 1:
        return first
    return replace(first, data=np.concatenate([c.data for c in chunks]), last=chunks[-1].last)


def ramp(ticks: int) -> NDArray[np.float32]:
    """The raised-cosine weights of a fade-in, symmetric, so that fade-in and fade-out add to 1.  # [t]"""
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * (np.arange(ticks) + 0.5) / max(ticks, 1)), np.float32)


def crossfade(old: Chunk, new: Chunk) -> Chunk:
    """Fade from one chunk into another of the same ticks, sound or pictures alike.

    Raises ValueError if ticks, rate or shape differ.
    """
    if (old.pts, old.rate, old.data.shape) != (new.pts, new.rate, new.data.shape):
        raise ValueError(
            f"cannot fade ticks {old.pts}+{old.data.shape} at {old.rate} into {new.pts}+{new.data.shape} at {new.rate}"
        )
    weight = ramp(len(old)).reshape(-1, *[1] * (old.data.ndim - 1))
    mixed = old.data * (1 - weight) + new.data * weight
    if np.issubdtype(old.data.dtype, np.integer):
        mixed = np.rint(mixed)
    return replace(new, data=mixed.astype(old.data.dtype))
