"""Speech through the codecs of telephones, calls and music files, by FFmpeg, with their delay taken out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

from riverrun.media.lines import available, delay, there_and_back
from riverrun.models.training.sounds import RATE, Audio, Rng, fit


def mulaw(sound: Audio) -> Audio:
    """G.711 µ-law there and back, in 8 bits."""
    squeezed = np.sign(sound) * np.log1p(255 * np.minimum(np.abs(sound), 1)) / np.log(256)
    coarse = np.round(squeezed * 127) / 127
    return np.asarray(np.sign(coarse) * (256 ** np.abs(coarse) - 1) / 255, np.float32)


@dataclass(frozen=True)
class Line:
    """A codec by its FFmpeg names, and the rates and bit rates that are drawn for it."""

    encoder: str
    decoder: str
    rates: tuple[int, ...]  # Hz
    bits: tuple[int, int]  # bit/s, drawn between
    share: float
    options: tuple[tuple[str, tuple[str, ...]], ...] = ()  # each drawn among its values

    def coded(self, sound: Audio, rate: int, bits: int, options: dict[str, str] | None = None) -> Audio:
        """There and back at a rate, in time: its delay is measured at the highest bit rate.  # [t] -> [t]"""
        late = delay(self.encoder, self.decoder, rate, self.bits[1])
        return fit(there_and_back(sound, self.encoder, self.decoder, rate, bits, options, late), len(sound))


OPUS = (("application", ("voip", "audio", "lowdelay")), ("compression_level", ("0", "3", "6")))
LINES = (
    Line("libopus", "libopus", (8000, 16000, 16000), (6000, 24000), 0.4, OPUS),
    Line("libmp3lame", "mp3float", (16000,), (16000, 48000), 0.2),
    Line("aac", "aac", (16000,), (12000, 32000), 0.08),
    Line("g722", "g722", (16000,), (64000, 64000), 0.06),
    Line("adpcm_ms", "adpcm_ms", (8000, 16000), (0, 0), 0.08),
    Line("g723_1", "g723_1", (8000,), (6300, 6300), 0.03),
)
MULAW = 0.15  # share of codec draws that are µ-law at 8 or 16 kHz


def codec(rng: Rng, sound: Audio) -> Audio:
    """Encode and decode by a random codec at a low rate; its delay is taken out.

    Codecs that this FFmpeg has no encoder for are not drawn.
    """
    peak = float(np.abs(sound).max(initial=0))
    if peak < 1e-5:
        return sound
    scale = np.float32(rng.uniform(0.1, 0.95) / peak)
    lines = [line for line in LINES if available(line.encoder)]
    weights = np.array([MULAW] + [line.share for line in lines])
    drawn = int(rng.choice(len(weights), p=weights / weights.sum()))
    if drawn == 0:
        coded = _through(sound * scale, int(rng.choice([8000, 8000, RATE])), mulaw)
        return coded / scale
    line = lines[drawn - 1]
    rate = line.rates[int(rng.integers(len(line.rates)))]
    bits = int(rng.integers(line.bits[0], line.bits[1] + 1))
    options = {key: str(values[int(rng.integers(len(values)))]) for key, values in line.options}
    return _through(sound * scale, rate, lambda low: line.coded(low, rate, bits, options)) / scale


def _through(sound: Audio, rate: int, change: Callable[[Audio], Audio]) -> Audio:
    """Apply a change at another rate."""
    if rate == RATE:
        return fit(change(sound), len(sound))
    low = np.asarray(resample_poly(sound, rate, RATE), np.float32)
    return fit(np.asarray(resample_poly(fit(change(low), len(low)), RATE, rate), np.float32), len(sound))
