"""What happens to speech on its way: rooms, noise, microphones, clipping, narrow bands, codecs, lost packets.

Every function keeps time: sample t of its output belongs to sample t of its input.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import butter, cheby1, ellip, fftconvolve, resample_poly, sosfiltfilt

from riverrun.models.training.codecs import codec
from riverrun.models.training.corpus import level
from riverrun.models.training.noises import Sound, noise
from riverrun.models.training.rooms import room
from riverrun.models.training.sounds import RATE, Audio, Rng, db, fit, unit, white

CEILING = 0.99  # largest sample of anything that is handed out


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
    gain: tuple[float, float] = (-24.0, 6.0)  # dB, the same for both; never above the ceiling
    vary: float = 0.15  # playing speed of the speech, at most this part off


ENHANCE = Recipe(noise=0.97, microphone=0.15, rumble=0.05, clip=0.02, reverb=0.1)
DEREVERB = Recipe(reverb=1.0, noise=0.4, snr=(5.0, 30.0), light=0.5, microphone=0.1, absent=0.02)
CODEC = Recipe(codec=1.0, noise=0.2, snr=(10.0, 30.0), light=0.5, absent=0.02, lose=0.03)
BANDWIDTH = Recipe(band=1.0, noise=0.2, snr=(10.0, 30.0), light=0.5, microphone=0.1, absent=0.02)
RESTORE = Recipe(
    noise=0.85,
    reverb=0.45,
    microphone=0.25,
    rumble=0.08,
    clip=0.10,
    band=0.25,
    codec=0.12,
    lose=0.03,
    clean=0.12,
    vary=0.22,
)
RECIPES = {
    "enhance": ENHANCE,
    "dereverb": DEREVERB,
    "codec": CODEC,
    "bandwidth": BANDWIDTH,
    "restore": RESTORE,
    "voice": Recipe(clean=0.0, absent=0.0, mute=0.0),  # clean speech of any colour, level and speed
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
    weighted = rng.random() < 0.5
    loud, own = level(sound), _loudness(added)
    if loud < -70:  # no speech to compare with
        gain = rng.uniform(-40, -14) - own
    elif weighted:  # by high frequencies, so that dark noise is heard at all; but not above the speech + 10
        gain = min(level(_edge(sound)) - snr - _loudness(_edge(added)), loud + 10 - own)
    else:
        gain = loud - snr - own
    return sound + added * np.float32(db(float(np.clip(gain, -90, 60))))


def _edge(sound: Audio) -> Audio:
    return np.diff(sound, prepend=np.float32(0))


def _loudness(sound: Audio) -> float:
    """Level in dB, halfway between mean and active: sparse sounds, as knocks, are loud only in moments."""
    return 0.5 * (level(sound) + 10 * float(np.log10(float(np.mean(sound**2)) + 1e-12)))


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
        return np.asarray(np.interp(at, np.arange(len(low)), low), np.float32)
    return fit(np.asarray(resample_poly(low, down, up, window=window), np.float32), len(sound))


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


def recipe(task: str, **changes: Any) -> Recipe:
    """The recipe of a task, with some of its fields changed.

    Raises ValueError for an unknown task.
    """
    if task not in RECIPES:
        raise ValueError(f"task is {task!r}, expected one of {', '.join(RECIPES)}")
    return replace(RECIPES[task], **changes)
