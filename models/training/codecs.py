"""Speech through the codecs of telephones, calls and music files, by FFmpeg, with their delay taken out."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from riverrun.models.training.sounds import RATE, Audio, Rng, fit
from scipy.signal import resample_poly


def mulaw(sound: Audio) -> Audio:
    """G.711 µ-law there and back, in 8 bits."""
    squeezed = np.sign(sound) * np.log1p(255 * np.minimum(np.abs(sound), 1)) / np.log(256)
    coarse = np.round(squeezed * 127) / 127
    return np.asarray(np.sign(coarse) * (256 ** np.abs(coarse) - 1) / 255, np.float32)


@dataclass(frozen=True)
class Line:
    """A codec: encoder and decoder by their FFmpeg names, the rates and bit rates it runs at."""

    encoder: str
    decoder: str
    rates: tuple[int, ...]  # Hz
    bits: tuple[int, int]  # bit/s, drawn between
    share: float
    options: tuple[tuple[str, tuple[str, ...]], ...] = ()  # each drawn among its values


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
    return _through(sound * scale, rate, lambda low: coded_by(low, line, rate, bits, options)) / scale


def _through(sound: Audio, rate: int, change: Callable[[Audio], Audio]) -> Audio:
    """Apply a change at another rate."""
    if rate == RATE:
        return fit(change(sound), len(sound))
    low = np.asarray(resample_poly(sound, rate, RATE), np.float32)
    return fit(np.asarray(resample_poly(fit(change(low), len(low)), RATE, rate), np.float32), len(sound))


def available(encoder: str) -> bool:
    """Whether this FFmpeg can encode by that name."""
    import av

    try:
        return bool(av.Codec(encoder, "w").is_encoder)
    except (av.codec.codec.UnknownCodecError, ValueError):
        return False


def coded_by(sound: Audio, line: Line, rate: int, bits: int, options: dict[str, str] | None = None) -> Audio:
    """Encode and decode `sound`, at `rate`, in memory, without the delay.  # [t] -> [t] float32"""
    delay = delay_of(line, rate)
    padded = np.concatenate([sound, np.zeros(delay + 1200, np.float32)])
    whole = _decoded(_packets(padded, line, rate, bits, options or {}), line, rate)
    return fit(whole[delay:], len(sound))


@cache
def delay_of(line: Line, rate: int) -> int:
    """Samples at `rate` by which a line is late, measured at its highest bit rate.

    Which delays FFmpeg removes by itself differs between its versions, so that no table would hold.
    """
    hiss = 0.1 * np.random.default_rng(0).standard_normal(rate)
    probe = np.asarray(np.convolve(hiss, [0.5, 1, 0.5], "same"), np.float32)
    heard = _decoded(_packets(probe, line, rate, line.bits[1], {}), line, rate)
    product = np.fft.rfft(heard, 4 * rate) * np.conj(np.fft.rfft(probe, 4 * rate))
    return int(np.argmax(np.abs(np.fft.irfft(product)[: rate // 4])))


def _packets(
    sound: Audio, line: Line, rate: int, bits: int, options: dict[str, str]
) -> tuple[list[Any], Any]:
    """Encode: the packets, and the header the decoder needs."""
    import av

    encoder: Any = av.CodecContext.create(line.encoder, "w")
    names = [fmt.name for fmt in encoder.codec.audio_formats]
    encoder.format = next((name for name in ("fltp", "flt", "s16", "s16p") if name in names), names[0])
    encoder.sample_rate, encoder.layout, encoder.time_base = rate, "mono", Fraction(1, rate)
    if bits:
        encoder.bit_rate = bits
    encoder.options = options
    encoder.open()
    samples: NDArray[Any] = sound
    if encoder.format.name.startswith("s16"):
        samples = np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)
    size = encoder.frame_size or 512
    samples = np.pad(samples, (0, -len(samples) % size))
    packets = []
    for at in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, at : at + size], encoder.format.name, "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        packets += encoder.encode(frame)
    return packets + encoder.encode(None), encoder.extradata


def _decoded(coded: tuple[list[Any], Any], line: Line, rate: int) -> Audio:
    import av

    packets, header = coded
    decoder: Any = av.CodecContext.create(line.decoder, "r")
    decoder.sample_rate, decoder.layout = rate, "mono"
    if header:
        decoder.extradata = header
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    parts = [frame.to_ndarray().reshape(-1) for frame in frames]
    scale = np.float32(1 / 32768 if parts[0].dtype == np.int16 else 1)
    whole = np.concatenate(parts).astype(np.float32) * scale
    given = frames[0].sample_rate
    return whole if given == rate else np.asarray(resample_poly(whole, rate, given), np.float32)
