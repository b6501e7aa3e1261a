"""Change the rate of sound as it streams: the same result however it is cut, aligned, of exact length."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from riverrun.media.chunk import Array

HALF = 24  # samples of the lower rate on either side of the filter: 1.5 ms at 16 kHz
BETA = 8.0  # of the Kaiser window: 80 dB
ROLL = 1.08  # of the lower rate, times samples: how far below half of it the response is halved
PHASES = 1024  # filters at most; ratios that need more, as of 44,099 Hz, go between two of them


@lru_cache(maxsize=32)
def bank(up: int, down: int, length: int = HALF) -> NDArray[np.float32]:
    """A Kaiser-windowed sinc, cut into one filter a phase, newest sample last.  # [phases + 1, taps]

    `length` is in samples of the lower rate, on either side: the response falls from 0.5 - 2.16 / `length` of that rate
    to half of it.
    """
    half = math.ceil(length * max(1.0, down / up))  # input samples
    cutoff = 2 * (0.5 - ROLL / length) * min(1.0, up / down)
    phases = min(up, PHASES)
    offsets = (
        np.arange(phases + 1)[:, None] / phases - np.arange(-half + 1, half + 1)[None]
    )  # [phases + 1, taps]
    window = np.i0(BETA * np.sqrt(np.clip(1 - (offsets / half) ** 2, 0, None))) / np.i0(BETA)
    taps = cutoff * np.sinc(cutoff * offsets) * window
    return np.ascontiguousarray(taps / taps.sum(1, keepdims=True), np.float32)


class Resampler:
    """Resample `[t, c]` float32 from one rate to another, piece by piece.

    Output tick n lies at input time n rate_in / rate_out; n input ticks give ceil(n rate_out / rate_in) in all.
    `latency` is how many input ticks after its own an output tick is known. Flat within 0.1 dB up to 0.41 of
    the lower rate, 80 dB down at 0.5 of it and above. All it remembers are plain numbers and arrays.
    Raises ValueError if a rate is not positive.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int = 1) -> None:
        if rate_in <= 0 or rate_out <= 0:
            raise ValueError(f"rates are {rate_in} and {rate_out}, expected positive ones")
        common = math.gcd(rate_in, rate_out)
        self.up, self.down = rate_out // common, rate_in // common
        self.latency = 0 if self.up == self.down else bank(self.up, self.down).shape[1] // 2
        self.past: Array = np.zeros((max(self.latency - 1, 0), channels), np.float32)
        self.start = -len(self.past)  # input tick of past[0]
        self.entered = self.left = 0  # ticks so far

    def push(self, data: Array) -> Array:
        """Take the next ticks; give what is known now.  # [t, c] -> [t', c]"""
        if self.up == self.down:
            return data
        self.entered += len(data)
        known = -(-(self.entered - self.latency) * self.up // self.down)
        return self._give(np.asarray(data, np.float32), max(known, self.left))

    def flush(self) -> Array:
        """End the input; give the rest.  # [t', c]"""
        if self.up == self.down:
            return self.past[:0]
        silence = np.zeros((self.latency, self.past.shape[1]), np.float32)
        return self._give(silence, -(-self.entered * self.up // self.down))

    def _filters(self, taps: Array, phase: NDArray[np.int64]) -> Array:
        """The filter of each output tick.  # [t] -> [t, taps]"""
        if self.up <= PHASES:
            return taps[phase]
        below, rest = np.divmod(phase * PHASES, self.up)
        share = (rest / self.up).astype(np.float32)[:, None]
        mixed: Array = (1 - share) * taps[below] + share * taps[below + 1]
        return mixed

    def _give(self, data: Array, until: int) -> Array:
        """Output ticks up to `until`; keep of the input what later ones need."""
        joined = np.concatenate([self.past, data])
        taps = bank(self.up, self.down)
        base, phase = np.divmod(np.arange(self.left, until) * self.down, self.up)
        out: Array = np.empty((0, joined.shape[1]), np.float32)
        if len(base):
            windows = np.lib.stride_tricks.sliding_window_view(joined, taps.shape[1], axis=0)
            out = np.einsum(
                "tck,tk->tc", windows[base - self.latency + 1 - self.start], self._filters(taps, phase)
            )
        keep = max(0, until * self.down // self.up - self.latency + 1 - self.start)
        self.past, self.start, self.left = joined[keep:].copy(), self.start + keep, until
        return out
