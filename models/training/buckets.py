"""Buckets: each batch is of clips of one size and length, as Open-Sora was trained on all sizes and lengths at once.

A clip goes to the largest bucket that it fills: the highest resolution first, then the greatest length, then the shape
nearest to its own. Nothing here is read or written, and equal seeds give equal batches.
Source: arXiv 2412.20404 (Open-Sora), section on multi-resolution training.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from riverrun.models.video.resolutions import NAMES, RESOLUTIONS

ENOUGH = 0.8  # of the pixels of a resolution are those of a clip that is not too small for it
T = TypeVar("T")


@dataclass(frozen=True)
class Bucket:
    """Clips of `frames`, or pictures, which have 1, at a resolution by its name; `batch` of them a step and process.

    Of the clips that fill it a share `keep` stays, and the others go on to the next smaller bucket.
    Raises ValueError for what is not in these bounds.
    """

    resolution: str
    frames: int
    batch: int
    keep: float = 1.0

    def __post_init__(self) -> None:
        if self.resolution not in NAMES:
            raise ValueError(f"resolution is {self.resolution!r}, expected one of {', '.join(NAMES)}")
        if min(self.frames, self.batch) < 1 or not 0 < self.keep <= 1:
            raise ValueError(
                f"{self}, expected frames and batch of at least 1, and keep above 0, and 1 at most"
            )

    @property
    def pixels(self) -> int:
        """Those that its name stands for."""
        height, width = RESOLUTIONS[self.resolution]["9:16"]
        return height * width

    def takes(self, frames: int, height: int, width: int) -> bool:
        """Whether a clip fills it; pictures and videos are never in one bucket."""
        return (
            (self.frames == 1) == (frames == 1)
            and self.frames <= frames
            and height * width >= ENOUGH * self.pixels
        )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what becomes of a clip: of its shapes the one that is nearest to it."""
        return min(RESOLUTIONS[self.resolution].values(), key=lambda s: abs(s[0] / s[1] - height / width))


@dataclass(frozen=True)
class Slot:
    """A bucket at one of its sizes: what clips in a batch have in common."""

    bucket: Bucket
    size: tuple[int, int]

    def __str__(self) -> str:
        frames = f"{self.bucket.frames} frames of " if self.bucket.frames > 1 else "pictures of "
        return f"{self.bucket.resolution}, {frames}{self.size[0]} x {self.size[1]}"


def slot(
    buckets: Iterable[Bucket], frames: int, height: int, width: int, dice: Callable[[], float]
) -> Slot | None:
    """Where a clip belongs; None where it fills no bucket, or none of those keeps it.

    `dice` gives numbers from 0 to 1, one for each bucket that the clip fills, until one keeps it.
    """
    largest = sorted(buckets, key=lambda bucket: (bucket.pixels, bucket.frames), reverse=True)
    for bucket in largest:
        if bucket.takes(frames, height, width) and dice() < bucket.keep:
            return Slot(bucket, bucket.size(height, width))
    return None


def count(slot: Slot, there: int) -> int:
    """How many clips a batch has: what the bucket says, or all there are."""
    return min(slot.bucket.batch, there)


def batches(
    slots: Mapping[Slot, Sequence[T]], seed: int, start: int = 0, stride: int = 1
) -> Iterator[tuple[int, Slot, list[T]]]:
    """Batches without end, each with its number, from `start` on and every `stride`-th.

    In each round through all clips they are dealt anew; what is left over in a slot waits for the next. Processes
    whose `start` differ by less than `stride` have different batches. Raises ValueError where there is no clip.
    """
    a_round = sum(len(clips) // count(slot, len(clips)) for slot, clips in slots.items())
    if not a_round:
        raise ValueError("there are no clips, expected at least one")
    number, dealt, current = start, list[tuple[Slot, list[T]]](), -1
    while True:
        if current != number // a_round:
            current = number // a_round
            dealt = deal(slots, np.random.default_rng([seed, current]))
        yield number, *dealt[number % a_round]
        number += stride


def deal(slots: Mapping[Slot, Sequence[T]], dice: np.random.Generator) -> list[tuple[Slot, list[T]]]:
    """All clips in batches, both in an order of their own."""
    dealt = []
    for place, clips in slots.items():
        size, order = count(place, len(clips)), dice.permutation(len(clips))
        rows = [order[i : i + size] for i in range(0, len(clips) - size + 1, size)]
        dealt += [(place, [clips[i] for i in row]) for row in rows]
    return [dealt[i] for i in dice.permutation(len(dealt))]
