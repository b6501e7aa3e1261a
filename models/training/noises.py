"""Seeded noise of many families, so that a model meets more kinds of sound than any recording set holds."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import butter, lfilter, sosfilt

from riverrun.models.training.sounds import (
    RATE,
    Audio,
    Rng,
    db,
    decays,
    gate,
    harmonic,
    smear,
    stamp,
    times,
    tone,
    unit,
    wander,
    white,
)


class Sound(Protocol):
    """Where recorded material comes from: corpus.Speech is one."""

    def crop(self, rng: Rng, n: int, vary: float = 0.0) -> Audio: ...
    def pick(self, rng: Rng) -> int: ...
    def piece(self, rng: Rng, which: int, n: int) -> Audio: ...


def noise(rng: Rng, n: int, speech: Sound | None = None, recordings: Sound | None = None) -> Audio:
    """Draw n samples of noise of a random family, at an RMS of 1.  # [n] float32

    Babble and interfering talkers need `speech`, granular textures need `recordings`; without them those
    families are not drawn. Two in five are mixtures of two families, one in six switches on and off in time.
    """
    sound = _draw(rng, n, speech, recordings)
    if rng.random() < 0.4:
        other = unit(coloured(rng, n)) if rng.random() < 0.5 else _draw(rng, n, speech, recordings)
        sound = sound + other * np.float32(db(rng.uniform(-15, 3)))
    if rng.random() < 0.16:
        sound = sound * gate(rng, n)
    if not sound.any():  # sparse events may all fall outside a short stretch
        sound = coloured(rng, n)
    return unit(sound)


def _draw(rng: Rng, n: int, speech: Sound | None, recordings: Sound | None) -> Audio:
    names, shares = zip(*FAMILIES, strict=True)
    weights = np.array(shares, float)
    if speech is None:
        weights[[name in (babble, talker, murmur, crowd) for name in names]] = 0
    if recordings is None:
        weights[[name is texture for name in names]] = 0
    family = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    material = recordings if family is texture else speech
    sound = unit(family(rng, n, material))
    return unit(tone(rng, sound)) if rng.random() < 0.3 else sound


def coloured(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Broad-band noise of any colour, steady or modulated slowly or fast."""
    sound = tone(rng, white(rng, n))
    draw = rng.random()
    if draw < 0.3:
        sound = sound * np.exp(rng.uniform(0.2, 1.2) * wander(rng, n, np.exp(rng.uniform(-1, 2.5))))
    elif draw < 0.4:
        t = np.arange(n, dtype=np.float32) / RATE
        depth = rng.uniform(0.2, 1)
        sound = sound * (1 + depth * np.sin(2 * np.pi * np.exp(rng.uniform(0, 4.5)) * t))
    return np.asarray(sound, np.float32)


def crossfaded(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """A spectrum that changes in time: two colours that take turns."""
    share = 0.5 + 0.5 * np.tanh(1.5 * wander(rng, n, np.exp(rng.uniform(-0.5, 2.5))))
    one, two = unit(tone(rng, white(rng, n))), unit(tone(rng, white(rng, n)))
    return np.asarray(one * share + two * (1 - share) * db(rng.uniform(-12, 12)), np.float32)


def hum(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Mains hum and buzz with its harmonics, over faint hiss."""
    f0 = float(rng.choice([50, 60])) * (1 + 0.002 * rng.standard_normal())
    t = np.arange(n) / RATE
    buzz = harmonic(rng, f0 * t, f0, rng.uniform(0.3, 2.5), rng.random() < 0.4)
    return buzz + unit(tone(rng, white(rng, n))) * np.float32(db(rng.uniform(-40, -5)))


def engine(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Fans, motors, vehicles: a wandering rotation with harmonics, and turbulence that follows it."""
    f0 = float(np.exp(rng.uniform(np.log(18), np.log(500))))
    drift = 1 + rng.uniform(0, 0.08) * wander(rng, n, rng.uniform(0.3, 3))
    if rng.random() < 0.25:  # speeding up or slowing down
        drift = drift * np.linspace(1, np.exp(rng.uniform(-0.7, 0.7)), n)
    phase = np.cumsum(f0 * drift / RATE)
    turbulence = unit(tone(rng, white(rng, n), rng.uniform(-7, -1)))
    if rng.random() < 0.5:
        turbulence = turbulence * (1 + rng.uniform(0, 0.8) * np.sin(2 * np.pi * phase)).astype(np.float32)
    wave = harmonic(rng, phase, f0, rng.uniform(0.3, 2)) * np.float32(db(rng.uniform(-20, 6)))
    if rng.random() < 0.3:
        wave = tone(rng, wave)
    return turbulence + wave


def crackle(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Rain, fire, vinyl, clicks: sparse impulses through resonators, over a bed of noise."""
    rate = np.exp(rng.uniform(np.log(3), np.log(4000)))
    impulses = np.zeros(n, np.float32)
    at = times(rng, n, rate)
    impulses[at] = rng.exponential(1, len(at)) ** rng.uniform(0.7, 2) * rng.choice([-1.0, 1.0], len(at))
    out = np.zeros(n, np.float32)
    for _i in range(rng.integers(1, 4)):
        centre = np.exp(rng.uniform(np.log(200), np.log(7000)))
        radius = np.exp(-np.pi * np.exp(rng.uniform(np.log(60), np.log(3000))) / RATE)
        poles = [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2]
        out += unit(lfilter([1, 0, -1], poles, impulses)) * np.float32(rng.exponential())
    bed = db(rng.uniform(-50, -3))
    return out + unit(tone(rng, white(rng, n))) * np.float32(bed)


def rustle(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Cloth, paper, steps, water, breath: bursts of coloured noise, irregular or steady."""
    longest = np.exp(rng.uniform(np.log(0.02), np.log(0.8)))
    bursts = []
    for _i in range(3):
        length = int(longest * rng.uniform(0.4, 1) * RATE)
        t = np.linspace(0, 1, length, dtype=np.float32)
        swell = t ** rng.uniform(0.05, 2) * (1 - t) ** rng.uniform(0.5, 5)
        bursts.append(unit(tone(rng, white(rng, length), rng.uniform(-6, 2)) * swell))
    out = np.zeros(n, np.float32)
    rate = np.exp(rng.uniform(np.log(0.7), np.log(4 / longest)))
    for at in times(rng, n, min(rate, 60), rng.uniform(0, 1)):
        stamp(out, int(at), bursts[int(rng.integers(3))], db(rng.uniform(-15, 0)))
    return unit(out) + unit(tone(rng, white(rng, n))) * np.float32(db(rng.uniform(-60, -10)))


def calls(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Birds, dogs, babies, horns, squeaks: tones whose pitch glides, in calls, through a fixed resonance."""
    base = np.exp(rng.uniform(np.log(150), np.log(3500)))
    bend = rng.uniform(0.02, 0.6) * wander(rng, n, np.exp(rng.uniform(0, 2.8)))
    pitch = np.clip(base * 2.0**bend, 60, 7000)
    rough = 1 + rng.uniform(0, 0.5) * wander(rng, n, rng.uniform(20, 90)) * (rng.random() < 0.4)
    sound = harmonic(rng, np.cumsum(pitch) / RATE, float(pitch.max()), rng.uniform(0.2, 2)) * rough
    breath = unit(white(rng, n)) * db(rng.uniform(-40, -8))
    voiced = tone(rng, sound + breath, rng.uniform(-3, 1)) * gate(rng, n)
    return np.asarray(voiced + tone(rng, white(rng, n)) * db(rng.uniform(-60, -25)), np.float32)


def typing(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Keyboards and switches: a press and a release, each a short knock of a few kinds of key."""
    keys = [decays(rng, 1600, 150, 6500, 12, rng.uniform(0.003, 0.02)) for _ in range(3)]
    keys = [
        key + tone(rng, white(rng, 1600)) * np.exp(-np.arange(1600) / 80).astype(np.float32) for key in keys
    ]
    out = np.zeros(n, np.float32)
    for at in times(rng, n, rng.uniform(2, 10), rng.uniform(0, 0.7)):
        key = unit(keys[int(rng.integers(3))])
        stamp(out, int(at), key, db(rng.uniform(-12, 0)))
        later = int(at + rng.uniform(0.04, 0.14) * RATE)
        if later < n:
            stamp(out, later, key[:800], db(rng.uniform(-18, -4)))
    return unit(out) + unit(tone(rng, white(rng, n))) * np.float32(db(rng.uniform(-60, -15)))


def knocks(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Dishes, doors, steps, tools: irregular strikes on bodies that ring."""
    low = np.exp(rng.uniform(np.log(60), np.log(2500)))
    ring = np.exp(rng.uniform(np.log(0.01), np.log(0.35)))
    length = int(min(1.2, 5 * ring) * RATE) + 200
    bodies = [
        unit(decays(rng, length, low, min(7500, low * 12), int(rng.integers(3, 14)), ring)) for _ in range(2)
    ]
    out = np.zeros(n, np.float32)
    for at in times(rng, n, np.exp(rng.uniform(np.log(0.8), np.log(9))), rng.uniform(0, 0.9)):
        stamp(out, int(at), bodies[int(rng.integers(2))], db(rng.uniform(-24, 0)))
    return out + tone(rng, white(rng, n)) * np.float32(db(rng.uniform(-60, -25)))


def alarm(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Beeps, sirens, chirps, ring tones: one or two tones that sweep, warble or switch."""
    t = np.arange(n) / RATE
    base = np.exp(rng.uniform(np.log(250), np.log(4000)))
    kind = rng.integers(4)
    period = np.exp(rng.uniform(np.log(0.08), np.log(2.5)))
    turn = (t / period + rng.random()) % 1
    if kind == 0:  # steady
        pitch = np.full(n, base)
    elif kind == 1:  # siren
        pitch = base * 2 ** (rng.uniform(0.1, 1) * np.sin(2 * np.pi * turn))
    elif kind == 2:  # two tones
        pitch = np.where(turn < 0.5, base, base * rng.uniform(0.6, 1.6))
    else:  # chirps
        pitch = base * 2 ** (rng.uniform(-1.5, 1.5) * turn)
    pitch = np.minimum(pitch, 7000)
    sound = harmonic(rng, np.cumsum(pitch) / RATE, float(pitch.max()), rng.uniform(0.5, 2.5))
    if rng.random() < 0.65:  # in bursts
        on = ((t / np.exp(rng.uniform(np.log(0.06), np.log(1.5))) + rng.random()) % 1) < rng.uniform(0.2, 0.8)
        sound = lfilter([0.02], [1, -0.98], on) * sound
    return np.asarray(sound + white(rng, n) * db(rng.uniform(-60, -30)), np.float32)


SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 3, 5, 7, 10), (0, 2, 4, 7, 9))


def music(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Chords, arpeggios, bass and drum loops with random timbres, at one tempo."""
    beat = 60 / rng.uniform(60, 170) * RATE
    scale, root = SCALES[int(rng.integers(len(SCALES)))], rng.uniform(80, 200)
    start = rng.uniform(0, beat)
    out = np.zeros(n, np.float32)
    kinds = rng.random(4) < [0.7, 0.6, 0.5, 0.55]
    if not kinds.any():
        kinds[0] = True
    if kinds[0]:
        out += _notes(rng, n, beat * rng.choice([2, 4]), start, scale, root * 2, int(rng.integers(2, 5)), 0.8)
    if kinds[1]:
        out += _notes(rng, n, beat * rng.choice([0.25, 0.5, 1]), start, scale, root * 4, 1, 0.25)
    if kinds[2]:
        out += _notes(rng, n, beat * rng.choice([0.5, 1, 2]), start, scale, root / 2, 1, 0.4)
    if kinds[3]:
        out += _drums(rng, n, beat, start)
    return tone(rng, out, rng.uniform(-2, 2)) if rng.random() < 0.4 else out


def _notes(
    rng: Rng,
    n: int,
    step: float,
    start: float,
    scale: tuple[int, ...],
    root: float,
    voices: int,
    sustain: float,
) -> Audio:
    """Notes at a fixed step from a scale; one timbre, plucked or held."""
    out = np.zeros(n, np.float32)
    fall, hold = rng.uniform(0.6, 2.5), bool(rng.random() < 0.4)
    at = start - step
    length = int(min(step * 1.1 if hold else max(step, RATE * sustain), 2.5 * RATE))
    t = np.arange(length, dtype=np.float32)
    attack = np.minimum(1, t / (RATE * rng.uniform(0.002, 0.08)))
    envelope = attack * (np.minimum(1, (length - t) / 400) if hold else np.exp(-t / (RATE * sustain * 0.5)))
    vibrato = 0.003 * rng.random() * np.sin(2 * np.pi * rng.uniform(4, 7) * t / RATE)
    turns = np.cumsum(1 + vibrato, dtype=np.float64) / RATE
    while at < n:
        for _ in range(voices):
            degree = int(rng.integers(0, 2 * len(scale)))
            f0 = root * 2 ** ((scale[degree % len(scale)] + 12 * (degree // len(scale))) / 12)
            note = harmonic(rng, turns * f0, f0, fall) * envelope * np.float32(db(rng.uniform(-9, 0)))
            first = max(0, int(-at))
            stamp(out, max(0, int(at)), note[first:])
        at += step
    return out


def _drums(rng: Rng, n: int, beat: float, start: float) -> Audio:
    t = np.arange(4800, dtype=np.float32) / RATE
    sweep = np.cumsum(rng.uniform(40, 70) + rng.uniform(60, 250) * np.exp(-t / 0.03)) / RATE
    kick = np.sin(2 * np.pi * sweep) * np.exp(-t / rng.uniform(0.05, 0.2))
    snare = tone(rng, white(rng, 4800), rng.uniform(-2, 3)) * np.exp(-t / rng.uniform(0.02, 0.12))
    hat = np.diff(white(rng, 4801)) * np.exp(-t / rng.uniform(0.008, 0.06))
    sounds = [unit(s) for s in (kick, snare, hat)]
    pattern = rng.random((16, 3)) < [0.25, 0.18, 0.5]
    pattern[0, 0] = pattern[4, 1] = pattern[12, 1] = True
    gains = [1.0, db(rng.uniform(-8, 2)), db(rng.uniform(-18, -4))]
    out = np.zeros(n, np.float32)
    for step in range(int((n + start) / (beat / 4)) + 1):
        at = int(step * beat / 4 - start)
        for drum in np.flatnonzero(pattern[step % 16]) if 0 <= at < n else ():
            stamp(out, at, sounds[drum], gains[drum] * db(rng.uniform(-4, 0)))
    return out


def wind(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Gusts: low noise whose strength wanders, with a hiss or a whistle that follows it."""
    strength = np.exp(rng.uniform(0.5, 1.4) * wander(rng, n, rng.uniform(0.5, 6)))
    low = sosfilt(butter(2, rng.uniform(60, 500), fs=RATE, output="sos"), white(rng, n))
    hiss = unit(tone(rng, white(rng, n), rng.uniform(-4, 0))) * strength * db(rng.uniform(-35, -10))
    return np.asarray(unit(low) * strength + hiss, np.float32)


def ambience(rng: Rng, n: int, _: Sound | None = None) -> Audio:
    """Room tone: dark steady noise, a trace of hum, rare faint knocks."""
    sound = unit(tone(rng, white(rng, n), rng.uniform(-7, -3)))
    if rng.random() < 0.6:
        sound = sound + hum(rng, n) * np.float32(db(rng.uniform(-25, -3)))
    if rng.random() < 0.4:
        sound = sound + unit(knocks(rng, n)) * np.float32(db(rng.uniform(-20, 0)))
    return np.asarray(sound, np.float32)


def babble(rng: Rng, n: int, speech: Sound | None) -> Audio:
    """Three to eight talkers at once, pitched up or down, some far off."""
    assert speech is not None
    out = np.zeros(n, np.float32)
    for _ in range(rng.integers(3, 9)):
        out += speech.crop(rng, n, 0.25) * np.float32(db(rng.uniform(-4, 0)))
    if rng.random() < 0.5:  # a hall smears them
        out = out + smear(rng, out) * np.float32(rng.uniform(0.3, 1.5))
    return tone(rng, out, rng.uniform(-3, 1)) if rng.random() < 0.4 else out


def talker(rng: Rng, n: int, speech: Sound | None) -> Audio:
    """One other talker, far off and 6 dB or more under other noise: louder, it could be the target itself."""
    assert speech is not None
    far = smear(rng, speech.crop(rng, n, 0.2))
    return far * np.float32(db(rng.uniform(-18, -6))) + unit(tone(rng, white(rng, n)))


def murmur(rng: Rng, n: int, speech: Sound | None) -> Audio:
    """Noise with the spectrum of speech, steady or with the loudness of another talker."""
    assert speech is not None
    size = next_fast_len(n, real=True)
    spectrum = np.abs(rfft(speech.crop(rng, n, 0.25), size))
    turns = np.exp(2j * np.pi * rng.random(len(spectrum), dtype=np.float32)).astype(np.complex64)
    sound = np.asarray(irfft(spectrum * turns, size)[:n], np.float32)
    if rng.random() < 0.4:
        loudness = lfilter([0.004], [1, -0.996], np.abs(speech.crop(rng, n)))
        sound = sound * np.asarray(loudness, np.float32)
    return unit(sound)


def crowd(rng: Rng, n: int, speech: Sound | None) -> Audio:
    """A hall full of people: short grains of many voices at many pitches, smeared."""
    assert speech is not None
    grain = int(rng.uniform(0.06, 0.25) * RATE)
    out = grains(rng, n, speech, 10, grain, rng.uniform(5, 12) * RATE / grain)
    return out + smear(rng, out) * np.float32(rng.uniform(0.3, 2))


def texture(rng: Rng, n: int, recordings: Sound | None) -> Audio:
    """Recorded sounds, cut into grains, stretched, turned around and laid over one another."""
    assert recordings is not None
    grain = int(np.exp(rng.uniform(np.log(0.05), np.log(1.5))) * RATE)
    rate = min(25.0, RATE / grain * np.exp(rng.uniform(np.log(0.7), np.log(4))))
    out = grains(rng, n, recordings, int(rng.integers(1, 4)), grain, rate)
    return out + tone(rng, white(rng, n)) * np.float32(db(rng.uniform(-60, -20)))


def grains(rng: Rng, n: int, source: Sound, files: int, grain: int, rate: float) -> Audio:
    """Grains from a few files, `rate` a second, each slower or faster, some backwards."""
    out = np.zeros(n, np.float32)
    which = [source.pick(rng) for _ in range(files)]
    for at in times(rng, n + grain, rate, rng.uniform(0, 0.9)):
        cut = source.piece(rng, which[int(rng.integers(files))], grain)
        steps = np.arange(0, len(cut) - 1, np.exp(rng.uniform(-0.9, 0.7)))
        played = np.interp(steps, np.arange(len(cut)), cut)
        played = played[::-1] if rng.random() < 0.3 else played
        played = played * np.sin(np.linspace(0, np.pi, len(played))) ** 0.5
        first = max(0, grain - int(at))
        stamp(out, max(0, int(at) - grain), played[first:], db(rng.uniform(-9, 0)))
    return unit(out)


Family = Callable[[Rng, int, Sound | None], Audio]
FAMILIES: tuple[tuple[Family, float], ...] = (
    (coloured, 0.15),
    (crossfaded, 0.05),
    (hum, 0.04),
    (engine, 0.10),
    (crackle, 0.06),
    (rustle, 0.08),
    (calls, 0.04),
    (typing, 0.05),
    (knocks, 0.06),
    (alarm, 0.04),
    (music, 0.11),
    (wind, 0.03),
    (ambience, 0.03),
    (babble, 0.08),
    (murmur, 0.03),
    (crowd, 0.03),
    (talker, 0.02),
    (texture, 0.06),
)
