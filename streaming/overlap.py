"""Overlap: hold back the tail of each chunk and fade it into the head of the next."""

from dataclasses import replace

import numpy as np

from riverrun.media import Chunk, crossfade, cut, join
from riverrun.media.chunk import Array


class Overlap:
    """Join chunks that overlap into a stream without seams, sound or pictures alike.

    Each chunk starts where the last `ticks` of the one before started. With `search` (sound alone), each chunk
    carries that many ticks more at its end, and is moved up to that many ticks earlier, to where it resembles
    the tail most (SOLA); the length of the stream does not change by it.
    """

    def __init__(self, ticks: int, search: int = 0) -> None:
        if ticks < 1 or search < 0:
            raise ValueError(f"overlap of {ticks} ticks with a search of {search}, expected >= 1 and >= 0")
        self.ticks, self.search = ticks, search
        self.tail: Chunk | None = None

    def push(self, chunk: Chunk) -> Chunk:
        """What is final now: all but the tail, or everything if the chunk is the last.

        Raises ValueError if the chunk is too short or does not start at the tail.
        """
        wanted = self.ticks + self.search
        if len(chunk) < wanted:
            raise ValueError(f"chunk has {len(chunk)} ticks, expected {wanted} or more")
        if self.tail is not None:
            if chunk.pts != self.tail.pts:
                raise ValueError(f"chunk starts at tick {chunk.pts}, expected {self.tail.pts}")
            shift = best_shift(self.tail.data, chunk.data[:wanted]) if self.search else 0
            chunk = replace(chunk, data=chunk.data[shift : len(chunk) - self.search + shift])
            head, rest = cut(chunk, chunk.pts + self.ticks)
            chunk = join([crossfade(self.tail, head), rest])
        elif self.search:
            chunk = replace(chunk, data=chunk.data[: len(chunk) - self.search])
        if chunk.last:
            self.tail = None
            return chunk
        done, self.tail = cut(chunk, chunk.end - self.ticks)
        return done


def best_shift(tail: Array, head: Array) -> int:
    """Where in `head` the sound resembles `tail` most, by normalised cross-correlation.

    Shapes: `[t, c]` in `[t + search, c]`; the result is 0 to search, and 0 for silence.
    """
    windows = np.lib.stride_tricks.sliding_window_view(head, len(tail), axis=0)  # [search + 1, c, t]
    products = np.einsum("sct,tc->s", windows, tail)
    energies = np.einsum("sct,sct->s", windows, windows)
    return int(np.argmax(products / np.sqrt(energies + 1e-8)))
