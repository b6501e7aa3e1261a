"""Buffer: ticks first in, first out."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from riverrun.media.chunk import Array


class Buffer:
    """A line of ticks pushed in pieces of any size and popped in others."""

    def __init__(self, shape: Sequence[int] = (1,)) -> None:
        """`shape` is that of one tick, until the first data tells."""
        self.pieces: deque[Array] = deque()
        self.empty: Array = np.empty((0, *shape), np.float32)
        self.ticks = 0

    def __len__(self) -> int:
        return self.ticks

    def push(self, data: Array) -> None:
        """Add ticks at the end; they are kept, not copied."""
        if len(data):
            self.empty = data[:0]
            self.pieces.append(data)
            self.ticks += len(data)

    def pad(self, ticks: int) -> None:
        """Add silence, or black."""
        self.push(np.zeros((ticks, *self.empty.shape[1:]), self.empty.dtype))

    def pop(self, ticks: int) -> Array:
        """Remove the first ticks. Raises ValueError if there are fewer."""
        if ticks > self.ticks:
            raise ValueError(f"{ticks} ticks are wanted, {self.ticks} are there")
        parts, missing = [], ticks
        while missing:
            piece = self.pieces.popleft()
            if len(piece) > missing:
                self.pieces.appendleft(piece[missing:])
                piece = piece[:missing]
            parts.append(piece)
            missing -= len(piece)
        self.ticks -= ticks
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else self.empty
