"""Playout: sound that waits to be heard, and at which tick that is. No clock, no I/O."""

from collections import deque

import numpy as np

from riverrun.media import Chunk, cut
from riverrun.media.chunk import Array, ramp

FADE = 240  # ticks in which sound ends that is cleared: 5 ms


class Playout:
    """Chunks of one rate and channel in, as many ticks out as are asked for, while there are some."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.parts: deque[Chunk] = deque()
        self.waiting = 0  # ticks
        self.tick = 0  # of what is heard next

    def put(self, chunk: Chunk) -> None:
        """Add what is heard after all else."""
        if not self.waiting:
            self.tick = chunk.pts
        self.parts.append(chunk)
        self.waiting += len(chunk)

    def take(self, count: int) -> Array:
        """The next `count` ticks, or all that there are.  # -> [t, 1]"""
        taken: list[Array] = [np.zeros((0, 1), np.float32)]
        while count and self.parts:
            part = self.parts.popleft()
            if len(part) > count:
                part, rest = cut(part, part.pts + count)
                self.parts.appendleft(rest)
            taken.append(part.data)
            count -= len(part)
            self.waiting -= len(part)
            self.tick = part.end
        return np.concatenate(taken)

    def clear(self) -> int:
        """Forget what waits, but for a fade; give the tick at which that ends."""
        rest = self.take(FADE)
        end, start = self.tick, self.tick - len(rest)
        self.parts.clear()
        self.waiting = 0
        if len(rest):
            self.put(Chunk(rest * (1 - ramp(len(rest)))[:, None], start, self.rate))
        return end
