"""What noises are built of: colours, slow curves, event times, struck bodies, harmonic tones."""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

RATE = 16_000  # Hz
Audio = NDArray[np.float32]
Rng = np.random.Generator


def unit(sound: NDArray[np.floating]) -> Audio:
    """Scale to an RMS of 1; silence stays silent."""
    power = float(np.mean(np.square(sound, dtype=np.float64)))
    return np.asarray(sound * (1 / np.sqrt(power)) if power > 1e-12 else sound, np.float32)


def db(gain: float) -> float:
    return float(10 ** (gain / 20))


def shape(rng: Rng, frequency: NDArray[np.float64], tilt: float | None = None) -> NDArray[np.float64]:
    """A random magnitude response: a tilt in dB an octave, a broken line, and a few peaks or dips."""
    octave = np.log2(np.maximum(frequency, 30.0) / 1000)
    slope = float(rng.uniform(-7, 1.5)) if tilt is None else tilt
    points = np.sort(rng.uniform(-5, 3, 5))
    gains = slope * octave + np.interp(octave, points, rng.normal(0, rng.uniform(0, 7), 5))
    for _ in range(rng.integers(0, 4)):
        centre, width = rng.uniform(-4, 3), np.exp(rng.uniform(-3.5, 0))
        gains += rng.normal(0, 10) * np.exp(-(((octave - centre) / width) ** 2))
    if rng.random() < 0.35:  # a low cut
        gains += -12 * np.maximum(0, rng.uniform(-4.5, -1) - octave)
    if rng.random() < 0.35:  # a high cut
        gains += -rng.uniform(6, 30) * np.maximum(0, octave - rng.uniform(-1.5, 2.5))
    return np.asarray(10 ** (np.clip(gains, -80, 40) / 20))


def tone(rng: Rng, sound: NDArray[np.floating], tilt: float | None = None) -> Audio:
    """Filter by a random response, in the frequency domain."""
    size = next_fast_len(len(sound), real=True)
    coarse = np.geomspace(30, RATE / 2, 96)
    response = np.interp(np.arange(size // 2 + 1) * (RATE / size), coarse, shape(rng, coarse, tilt))
    spectrum = rfft(sound.astype(np.float32, copy=False), size) * response.astype(np.float32)
    return np.asarray(irfft(spectrum, size)[: len(sound)], np.float32)


def white(rng: Rng, n: int) -> Audio:
    return rng.standard_normal(n, dtype=np.float32)


def wander(rng: Rng, n: int, rate: float) -> Audio:
    """A smooth random curve with about `rate` turns a second, normal values."""
    knots = int(n / RATE * rate) + 3
    at = np.linspace(0, knots - 1.001, n)
    low = at.astype(int)
    part = at - low
    bend = (part * part * (3 - 2 * part)).astype(np.float32)
    values = rng.standard_normal(knots, dtype=np.float32)
    return np.asarray(values[low] * (1 - bend) + values[low + 1] * bend, np.float32)


def gate(rng: Rng, n: int) -> Audio:
    """On and off in time, with ramps of 5 to 200 ms."""
    rate = np.exp(rng.uniform(np.log(0.4), np.log(4)))
    level = 0.5 + 0.5 * np.tanh(wander(rng, n, rate) * rng.uniform(3, 30) + rng.uniform(-1, 2))
    floor = db(rng.uniform(-60, -10))
    return np.asarray(floor + (1 - floor) * level, np.float32)


def times(rng: Rng, n: int, rate: float, regular: float = 0.0) -> NDArray[np.int64]:
    """Event times: a Poisson process, or steadier where `regular` nears 1."""
    count = int(n / RATE * rate * 1.5) + 4
    gaps = (1 - regular) * rng.exponential(1, count) + regular * (1 + 0.05 * rng.standard_normal(count))
    at = np.cumsum(np.maximum(gaps, 0.01)) * (RATE / rate) - rng.uniform(0, RATE / rate)
    return np.asarray(at[(at >= 0) & (at < n)], np.int64)


def stamp(out: Audio, at: int, grain: NDArray[np.floating], gain: float = 1.0) -> None:
    """Add a grain in place, cut at the end."""
    part = grain[: len(out) - at]
    out[at : at + len(part)] += part * np.float32(gain)


def decays(rng: Rng, length: int, low: float, high: float, modes: int, ring: float) -> Audio:
    """A struck body: decaying inharmonic modes with a short noisy attack.  # [length] float32"""
    t = np.arange(length, dtype=np.float32) / RATE
    frequency = np.exp(rng.uniform(np.log(low), np.log(high), modes)).astype(np.float32)
    decay = (ring * rng.uniform(0.2, 1, modes) * (low / frequency) ** 0.3).astype(np.float32)
    weight = rng.exponential(1, modes).astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi, modes).astype(np.float32)
    waves = np.sin(2 * np.pi * frequency[:, None] * t + phase[:, None]) * np.exp(-t / decay[:, None])
    attack = white(rng, length) * np.exp(-t / rng.uniform(0.0005, 0.008)) * rng.uniform(0, 2)
    return np.asarray(weight @ waves + attack, np.float32)


def harmonic(rng: Rng, phase: NDArray[np.floating], f0: float, fall: float, odd: bool = False) -> Audio:
    """Sum harmonics of a phase, in cycles, up to 7 kHz.

    A table of one period keeps it cheap; its interpolation is linear.
    """
    count = max(1, min(140, int(7000 / f0)))
    order = np.arange(1, count + 1, 2 if odd else 1)
    table = np.zeros(2049, np.complex128)
    table[order] = (
        rng.exponential(1, len(order)) * order ** (-fall) * np.exp(2j * np.pi * rng.random(len(order)))
    )
    wave = np.fft.irfft(table, 4096).astype(np.float32)
    at = (np.asarray(phase, np.float64) % 1.0) * 4096
    low = at.astype(np.int64) & 4095
    part = (at - at.astype(np.int64)).astype(np.float32)
    return unit(wave[low] * (1 - part) + wave[(low + 1) & 4095] * part)


def smear(rng: Rng, sound: Audio) -> Audio:
    """Diffuse reverberation of 0.2 to 1 s."""
    length = int(rng.uniform(0.2, 1.0) * RATE)
    tail = white(rng, length) * np.exp(-np.arange(length) * (6.9 / length)).astype(np.float32)
    size = next_fast_len(len(sound) + length, real=True)
    return unit(irfft(rfft(sound, size) * rfft(tail, size), size)[: len(sound)])


def fit(sound: Audio, n: int) -> Audio:
    """Cut or pad with zeros at the end to n samples."""
    return sound[:n] if len(sound) >= n else np.pad(sound, (0, n - len(sound)))
