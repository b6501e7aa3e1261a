"""Lossy codecs as lines: encode and decode samples in memory, with the delay taken out."""

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.media.errors import UnsupportedMedia

Audio = NDArray[np.float32]
Packets = tuple[list[Any], bytes | None]  # and the header the decoder needs


def available(encoder: str) -> bool:
    """Say whether this FFmpeg can encode by that name."""
    import av

    try:
        return bool(av.Codec(encoder, "w").is_encoder)
    except ValueError:  # PyAV's unknown codec
        return False


def there_and_back(
    sound: Audio,
    encoder: str,
    decoder: str,
    rate: int,
    bits: int,
    options: dict[str, str] | None = None,
    late: int = 0,
) -> Audio:
    """Encode and decode mono samples; `late` samples of delay are dropped.  # [t] -> [t or a little more]

    Units: rate in Hz, bits in bit/s (0: the codec's own). Encoder and decoder are FFmpeg's names.
    Raises UnsupportedMedia if the encoder is not in this FFmpeg or refuses the rate.
    """
    padded = np.concatenate([sound, np.zeros(late + 1200, np.float32)])
    return _decoded(_packets(padded, encoder, rate, bits, options or {}), decoder, rate)[late:]


@cache
def delay(encoder: str, decoder: str, rate: int, bits: int) -> int:
    """Measure by how many samples, at `rate`, what comes back is late.

    Which delays FFmpeg removes by itself differs between its versions, so that no table would hold.
    """
    hiss = 0.1 * np.random.default_rng(0).standard_normal(rate)
    probe = np.asarray(np.convolve(hiss, [0.5, 1, 0.5], "same"), np.float32)
    heard = there_and_back(probe, encoder, decoder, rate, bits)
    product = np.fft.rfft(heard, 4 * rate) * np.conj(np.fft.rfft(probe, 4 * rate))
    return int(np.argmax(np.abs(np.fft.irfft(product)[: rate // 4])))


def _packets(sound: Audio, name: str, rate: int, bits: int, options: dict[str, str]) -> Packets:
    import av

    try:
        encoder: Any = av.CodecContext.create(name, "w")
        names = [fmt.name for fmt in encoder.codec.audio_formats]
        encoder.format = next((n for n in ("fltp", "flt", "s16", "s16p") if n in names), names[0])
        encoder.sample_rate, encoder.layout, encoder.time_base = rate, "mono", Fraction(1, rate)
        if bits:
            encoder.bit_rate = bits
        encoder.options = options
        encoder.open()
    except (av.FFmpegError, ValueError) as exc:
        raise UnsupportedMedia(f"{name} at {rate} Hz, {bits} bit/s: {exc}; ask available() first") from exc
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


def _decoded(coded: Packets, name: str, rate: int) -> Audio:
    import av
    from scipy.signal import resample_poly

    packets, header = coded
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.sample_rate, decoder.layout = rate, "mono"
    if header:
        decoder.extradata = header
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    parts = [frame.to_ndarray().reshape(-1) for frame in frames]
    scale = np.float32(1 / 32768 if parts[0].dtype == np.int16 else 1)
    whole = np.concatenate(parts).astype(np.float32) * scale
    given = frames[0].sample_rate
    return whole if given == rate else np.asarray(resample_poly(whole, rate, given), np.float32)
