"""The band above a model's own: split off, delayed, and passed with the gain the model applied below it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.media.chunk import Array
from riverrun.media.resampling import Resampler
from riverrun.streaming.buffer import Buffer

FRAME_S = 0.004  # seconds between two gains
FRAMES = 4  # energies are summed over so many, 16 ms
RELEASE_S = 0.04  # seconds in which a closing gain falls to 1/e
FLOOR = 1e-12  # power per tick, -120 dB: below it nothing is known and the gain stays
TAPS = 31


class Gain:
    """The gain a model applied in the upper half of its band, as a line over its ticks, one a channel.

    It is the root of the energy ratio out/in over 16 ms, at most 1, known anew every 4 ms. Fricatives are
    strongest above 8 kHz and start abruptly: so the gain opens at once (a ramp of 4 ms), and as energies are
    summed before they are divided, a loud onset outweighs the noise before it in the same 16 ms. It closes
    within 40 ms, which neither clips the end of an /s/ nor flutters; what noise that lets through is masked
    by the sound that opened it. A model that changes nothing has a gain of exactly 1.
    """

    def __init__(self, hop: int, rate: float, channels: int, latency: int) -> None:
        self.frame = hop // max(n for n in range(1, max(2, round(hop / rate / FRAME_S) + 1)) if hop % n == 0)
        self.release = float(np.exp(-self.frame / rate / RELEASE_S))
        self.past = np.zeros((2, TAPS - 1, channels))  # in and out
        self.energies = np.zeros((2, FRAMES - 1, channels))
        self.known = np.zeros(channels, bool)  # whether anything was loud enough to tell
        self.start = -latency  # tick of the first knot kept
        self.knots: Array = np.empty((0, channels))  # one a frame

    def push(self, before: Array, after: Array) -> None:
        """Take what the model was given and what it gave for the same ticks, a whole hop `[t, c]`."""
        sound = np.concatenate([self.past, np.stack([before, after])], axis=1)
        self.past = sound[:, -(TAPS - 1) :]
        windows = np.lib.stride_tricks.sliding_window_view(sound, TAPS, axis=1)  # [2, t, c, taps]
        power = (windows @ high_pass()) ** 2
        frames = power.reshape(2, -1, self.frame, power.shape[2]).sum(2)  # [2, frames, c]
        energies = np.concatenate([self.energies, frames], axis=1)
        self.energies = energies[:, -(FRAMES - 1) :]
        sums = np.lib.stride_tricks.sliding_window_view(energies, FRAMES, axis=1).sum(3)
        floor = FLOOR * FRAMES * self.frame
        ratios = np.minimum(np.sqrt((sums[1] + floor) / (sums[0] + floor)), 1)  # [frames, c]
        knots = list(self.knots) or [np.ones(ratios.shape[1])]
        for ratio, heard in zip(ratios, sums[0] > floor, strict=True):
            closing = np.where(self.known, ratio + (knots[-1] - ratio) * self.release, ratio)
            knots.append(np.where(heard, np.maximum(ratio, closing), knots[-1]))
            self.known |= heard
        self.knots = np.stack(knots)

    def at(self, ticks: NDArray[np.floating[Any]]) -> Array:
        """The gain at rising, possibly fractional ticks; earlier ones are forgotten.  # [t] -> [t, c]"""
        drop = min(max(int(ticks[0] - self.start) // self.frame, 0), len(self.knots) - 1)
        self.start, self.knots = self.start + drop * self.frame, self.knots[drop:]
        places = self.start + self.frame * np.arange(len(self.knots))
        return np.stack([np.interp(ticks, places, knots) for knots in self.knots.T], axis=1)


def high_pass() -> NDArray[np.float64]:
    """A linear-phase half-band high-pass: passes the upper half of any band.  # [taps]"""
    n = np.arange(TAPS) - TAPS // 2
    taps = -0.5 * np.sinc(n / 2) * np.blackman(TAPS)
    taps[TAPS // 2] += 1
    return taps


class HighBand:
    """What a model of `rate` cannot hear of a stream of a higher `outer` rate, delayed until it is needed.

    The band is the input less what comes back of it through the resamplers alone; so a model that passes its
    input through gives the input back, whatever the resamplers do near the edge.
    """

    def __init__(self, outer: int, rate: int, hop: int, channels: int, latency: int) -> None:
        self.mirror = Resampler(rate, outer, channels)
        self.whole, self.low, self.heard = (Buffer((channels,)) for _ in range(3))
        self.heard.pad(latency)
        self.gain = Gain(hop, rate, channels, latency)
        self.ratio, self.tick = rate / outer, 0  # the next tick out, of the outer rate

    def feed(self, whole: Array | None, low: Array) -> None:
        """Take input, None at its end, and what its resampler gave for it."""
        self.low.push(self.mirror.push(low) if len(low) else low)
        if whole is None:
            self.low.push(self.mirror.flush())
        else:
            self.whole.push(whole)

    def take(self, block: Array) -> None:
        """See the hop that goes into the model."""
        self.heard.push(block)

    def give(self, block: Array) -> None:
        """See the hop that comes out of the model."""
        self.gain.push(self.heard.pop(len(block)), block)

    def add(self, data: Array) -> Array:
        """Put the band, with its gain, back on the next ticks of what the model gave.  # [t, c]"""
        if not len(data):
            return data
        high = self.whole.pop(len(data)) - self.low.pop(len(data))
        gain = self.gain.at((self.tick + np.arange(len(data))) * self.ratio)
        self.tick += len(data)
        return np.asarray(data + gain * high, np.float32)
