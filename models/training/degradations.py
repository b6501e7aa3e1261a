"""What happens to speech on its way: rooms, noise, microphones, clipping, narrow bands, codecs, lost packets.

Every function keeps time: sample t of its output belongs to sample t of its input.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import butter, cheby1, ellip, fftconvolve, resample_poly, sosfiltfilt

from riverrun.models.training.corpus import level
from riverrun.models.training.noises import Sound, db, noise, unit, white
from riverrun.models.training.rooms import room

RATE = 16_000  # Hz
CEILING = 0.99  # largest sample of anything that is handed out
Audio = NDArray[np.float32]
Rng = np.random.Generator


class Bank(Protocol):
    """Where rooms come from: rooms.Rooms is one."""

    def draw(self, rng: Rng) -> tuple[Audio, Audio]: ...


@dataclass(frozen=True)
class Recipe:
    """How often each thing happens to an example; ranges in dB are drawn evenly."""

    noise: float = 0.0
    snr: tuple[float, float] = (-5.0, 20.0)  # dB, against the active speech level
    light: float = 0.15  # of the noisy ones: 20 to 40 dB instead
    reverb: float = 0.0
    tone: float = 0.3  # another voice colour, in the noisy and the clean alike
    microphone: float = 0.0  # a coloured microphone, in the noisy alone
    rumble: float = 0.0  # DC and rumble below 60 Hz
    clip: float = 0.0
    band: float = 0.0
    codec: float = 0.0
    lose: float = 0.0  # lost packets
    mute: float = 0.04  # a stretch of digital silence
    clean: float = 0.08  # nothing happens
    absent: float = 0.04  # no speech at all: the target is silent
    gain: tuple[float, float] = (-24.0, 0.0)  # dB, the same for both
    vary: float = 0.15  # playing speed of the speech, at most this part off


ENHANCE = Recipe(noise=0.97, microphone=0.15, rumble=0.05, clip=0.02, reverb=0.1)
DEREVERB = Recipe(reverb=1.0, noise=0.4, snr=(5.0, 30.0), light=0.5, microphone=0.1, absent=0.02)
CODEC = Recipe(codec=1.0, noise=0.2, snr=(10.0, 30.0), light=0.5, absent=0.02, lose=0.03)
BANDWIDTH = Recipe(band=1.0, noise=0.2, snr=(10.0, 30.0), light=0.5, microphone=0.1, absent=0.02)
RESTORE = Recipe(
    noise=0.85, reverb=0.45, microphone=0.25, rumble=0.08, clip=0.10, band=0.25, codec=0.12, lose=0.03
)
RECIPES = {
    "enhance": ENHANCE,
    "dereverb": DEREVERB,
    "codec": CODEC,
    "bandwidth": BANDWIDTH,
    "restore": RESTORE,
    "clean": Recipe(tone=0.0, mute=0.0, clean=1.0, absent=0.0, gain=(0.0, 0.0), vary=0.0),
}


def degrade(
    rng: Rng,
    clean: Audio,
    recipe: Recipe,
    speech: Sound | None = None,
    textures: Sound | None = None,
    rooms: Bank | None = None,
) -> tuple[Audio, Audio]:
    """Damage clean speech: what a microphone and a line make of it, and what should be given back.

    The order is the physical one: talker, room, noise, microphone, line. The two are aligned to the sample
    and share one gain; the target is the clean speech with its direct sound and earliest reflections.
    Shapes: [t] -> [t], [t]
    """
    if rng.random() < recipe.clean:
        return _level(rng, clean, clean, recipe)
    if rng.random() < recipe.tone:
        clean = equalise(rng, clean, 5.0)
    target, noisy = clean, clean
    if rng.random() < recipe.reverb:
        response, head = rooms.draw(rng) if rooms is not None else room(rng)
        target, noisy = convolve(clean, head), convolve(clean, response)
    absent = rng.random() < recipe.absent
    if absent:
        target, noisy = np.zeros_like(clean), np.zeros_like(clean)
    if absent or rng.random() < recipe.noise:
        noisy = add_noise(rng, noisy, recipe, speech, textures, rooms)
    noisy = _record(rng, noisy, recipe)
    noisy = _transmit(rng, noisy, recipe)
    if rng.random() < recipe.mute:
        start, end = np.sort(rng.integers(0, len(clean) + 1, 2))
        noisy, target = noisy.copy(), target.copy()
        noisy[start:end] = target[start:end] = 0
    return _level(rng, noisy, target, recipe)


def _record(rng: Rng, noisy: Audio, recipe: Recipe) -> Audio:
    """What the microphone and its amplifier do."""
    if rng.random() < recipe.microphone:
        noisy = equalise(rng, noisy, 6.0)
    if rng.random() < recipe.rumble:
        noisy = noisy + rumble(rng, len(noisy))
    if rng.random() < recipe.clip:
        noisy = clip(rng, noisy)
    return noisy


def _transmit(rng: Rng, noisy: Audio, recipe: Recipe) -> Audio:
    """What the line does."""
    if rng.random() < recipe.band:
        noisy = narrow(rng, noisy)
    if rng.random() < recipe.codec:
        noisy = codec(rng, noisy)
    if rng.random() < recipe.lose:
        noisy = lose(rng, noisy)
    return noisy


def _level(rng: Rng, noisy: Audio, target: Audio, recipe: Recipe) -> tuple[Audio, Audio]:
    """Draw one gain for both, lower where a sample would pass the ceiling."""
    gain = db(rng.uniform(*recipe.gain))
    peak = max(float(np.abs(noisy).max(initial=0)), float(np.abs(target).max(initial=0))) * gain
    scale = np.float32(gain * min(1.0, CEILING / max(peak, 1e-9)))
    return noisy * scale, target * scale


def convolve(sound: Audio, response: Audio) -> Audio:
    """Convolve and keep the length: the response's first tap is time zero."""
    return np.asarray(fftconvolve(sound, response)[: len(sound)], np.float32)


def add_noise(
    rng: Rng, sound: Audio, recipe: Recipe, speech: Sound | None, textures: Sound | None, rooms: Bank | None
) -> Audio:
    """Add noise at an SNR of the recipe, now and then from another corner of a room; also to silence."""
    added = noise(rng, len(sound), speech, textures)
    if rooms is not None and rng.random() < 0.2:
        added = convolve(added, rooms.draw(rng)[0])
    snr = rng.uniform(20, 40) if rng.random() < recipe.light else rng.uniform(*recipe.snr)
    loud = level(sound)
    if loud < -70:  # no speech to compare with
        loud = rng.uniform(-40, -14)
    # Sparse noise, as knocks, is loud only in moments: halfway between its mean and its active level.
    mean = 10 * np.log10(float(np.mean(added**2)) + 1e-12)
    own = 0.5 * (level(added) + mean)
    return sound + added * np.float32(db(float(np.clip(loud - snr - own, -90, 60))))


def equalise(rng: Rng, sound: Audio, strength: float) -> Audio:
    """A smooth random response of about ±strength dB, without delay (zero phase)."""
    size = next_fast_len(len(sound) + 512, real=True)
    octave = np.log2(np.maximum(np.arange(size // 2 + 1) * (RATE / size), 30.0) / 1000)
    knots = np.linspace(-5, 3, 9)
    gains = np.interp(octave, knots, rng.normal(0, strength / 3, 9) + rng.normal(0, strength / 10) * knots)
    response = (10 ** (np.clip(gains, -2 * strength, 2 * strength) / 20)).astype(np.float32)
    return np.asarray(irfft(rfft(sound, size) * response, size)[: len(sound)], np.float32)


def rumble(rng: Rng, n: int) -> Audio:
    """An offset and noise below 60 Hz."""
    size = next_fast_len(n, real=True)
    spectrum = rfft(white(rng, size))
    spectrum[int(rng.uniform(15, 60) / RATE * size) :] = 0
    low = unit(irfft(spectrum, size)[:n]) * np.float32(db(rng.uniform(-60, -24)))
    return np.asarray(low + np.float32(rng.uniform(-0.03, 0.03)), np.float32)


def clip(rng: Rng, sound: Audio) -> Audio:
    """Overload, hard or soft, at a threshold that the loudest 0.1 to 15 % of the active samples pass."""
    loud = np.abs(sound)
    busy = loud[loud > 0.05 * loud.max(initial=0)]
    if len(busy) < 100:
        return sound
    limit = max(float(np.quantile(busy, 1 - np.exp(rng.uniform(np.log(0.001), np.log(0.15))))), 1e-4)
    if rng.random() < 0.6:
        low = limit * rng.uniform(0.6, 1) if rng.random() < 0.2 else limit
        return np.clip(sound, -np.float32(low), np.float32(limit))
    return np.asarray(limit * np.tanh(sound / limit), np.float32)


def narrow(rng: Rng, sound: Audio) -> Audio:
    """Take away the upper band, and for telephones the lowest: by a filter or by way of a lower rate."""
    draw = rng.random()
    if draw < 0.2:  # a telephone
        edges = [rng.uniform(200, 350), rng.uniform(3000, 3700)]
        return _filtered(butter(int(rng.integers(2, 6)), edges, "bandpass", fs=RATE, output="sos"), sound)
    if draw < 0.55:
        return _resampled(rng, sound)
    cut = float(np.exp(rng.uniform(np.log(1800), np.log(7200))))
    kind = rng.integers(4)
    order = int(rng.integers(2, 9))
    if kind == 0:
        return _filtered(butter(order, cut, fs=RATE, output="sos"), sound)
    if kind == 1:
        return _filtered(cheby1(order, 0.5, cut, fs=RATE, output="sos"), sound)
    if kind == 2:
        return _filtered(ellip(order, 0.5, rng.uniform(25, 60), cut, fs=RATE, output="sos"), sound)
    size = next_fast_len(len(sound) + 1024, real=True)  # a brick wall, as codecs have
    frequency = np.arange(size // 2 + 1) * (RATE / size)
    wall = np.clip((cut - frequency) / rng.uniform(20, 400) + 0.5, 0, 1).astype(np.float32)
    return np.asarray(irfft(rfft(sound, size) * wall, size)[: len(sound)], np.float32)


def _filtered(sos: NDArray[np.float64], sound: Audio) -> Audio:
    return np.asarray(sosfiltfilt(sos, sound, padlen=0), np.float32)


def _resampled(rng: Rng, sound: Audio) -> Audio:
    """Down to 4 to 12 kHz and up again, by good resamplers or by ones that alias or leave images."""
    up, down = [(1, 2), (1, 2), (1, 2), (1, 4), (3, 8), (3, 4), (5, 8)][int(rng.integers(7))]
    window = ("kaiser", float(rng.uniform(3, 12)))
    if rng.random() < 0.12 and up == 1:
        low = sound[::down]
    else:
        low = resample_poly(sound, up, down, window=window)
    if rng.random() < 0.15:
        at = np.arange(len(sound)) * (up / down)
        return np.interp(at, np.arange(len(low)), low).astype(np.float32)
    return _fit(np.asarray(resample_poly(low, down, up, window=window), np.float32), len(sound))


def _fit(sound: Audio, n: int) -> Audio:
    """Cut or pad with zeros at the end to n samples."""
    return sound[:n] if len(sound) >= n else np.pad(sound, (0, n - len(sound)))


def lose(rng: Rng, sound: Audio) -> Audio:
    """Drop one to four packets of 10 to 60 ms; now and then the one before is played again in their place."""
    out = sound.copy()
    for _ in range(rng.integers(1, 5)):
        size = int(rng.choice([160, 320, 640, 960]))
        at = int(rng.integers(0, max(1, len(out) // size))) * size
        again = rng.random() < 0.25 and at >= size
        gap = out[at : at + size]
        gap[:] = 0.7 * out[at - size : at - size + len(gap)] if again else 0
    return out


def mulaw(sound: Audio) -> Audio:
    """G.711 µ-law there and back, in 8 bits."""
    squeezed = np.sign(sound) * np.log1p(255 * np.minimum(np.abs(sound), 1)) / np.log(256)
    coarse = np.round(squeezed * 127) / 127
    return np.asarray(np.sign(coarse) * (256 ** np.abs(coarse) - 1) / 255, np.float32)


@dataclass(frozen=True)
class Line:
    """A codec as a line: encoder and decoder by their FFmpeg names, and the rates and bit rates it runs at."""

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
        return _fit(change(sound), len(sound))
    low = np.asarray(resample_poly(sound, rate, RATE), np.float32)
    return _fit(np.asarray(resample_poly(_fit(change(low), len(low)), RATE, rate), np.float32), len(sound))


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
    return _fit(whole[delay:], len(sound))


@cache
def delay_of(line: Line, rate: int) -> int:
    """Samples at `rate` by which a line is late, measured at its highest bit rate.

    Which delays FFmpeg removes by itself differs between its versions, so that no table would hold.
    """
    probe = 0.1 * np.random.default_rng(0).standard_normal(rate)
    probe = np.asarray(np.convolve(probe, [0.5, 1, 0.5], "same"), np.float32)
    heard = _decoded(_packets(probe, line, rate, line.bits[1], {}), line, rate)
    product = np.fft.rfft(heard, 4 * rate) * np.conj(np.fft.rfft(probe, 4 * rate))
    return int(np.argmax(np.abs(np.fft.irfft(product)[: rate // 4])))


def _packets(sound: Audio, line: Line, rate: int, bits: int, options: dict[str, str]) -> tuple[list[Any], Any]:
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


def recipe(task: str, **changes: Any) -> Recipe:
    """The recipe of a task, with some of its fields changed.

    Raises ValueError for an unknown task.
    """
    if task not in RECIPES:
        raise ValueError(f"task is {task!r}, expected one of {', '.join(RECIPES)}")
    return replace(RECIPES[task], **changes)
