"""Simulated rooms: image sources for the early part, a frequency-dependent diffuse tail for the rest."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from riverrun.media.errors import UnsupportedMedia

RATE = 16_000  # Hz
SOUND = 343.0  # m/s
EARLY = 80  # samples, 5 ms: what the target keeps after the direct sound
ORDER = 5  # image sources up to this many reflections
CENTRES = (125.0, 500.0, 2000.0, 7000.0)  # Hz, where a room's decay times are drawn
Audio = NDArray[np.float32]


def room(rng: np.random.Generator) -> tuple[Audio, Audio]:
    """Draw a room: its impulse response, and the direct sound with the reflections of the first 5 ms.

    Both start at the direct sound, whose amplitude is 1: speech convolved with either stays aligned with the
    dry speech and equally loud in its direct part. Decay times (T60) are 0.15 to 1.2 s, shorter when high.
    Raises UnsupportedMedia if pyroomacoustics is not installed.
    """
    size = np.array([rng.uniform(2.5, 12), rng.uniform(2.5, 9), rng.uniform(2.3, 4.5)])
    t60 = float(np.exp(rng.uniform(np.log(0.15), np.log(1.2))))
    talker, ear, delay = _places(rng, size)
    absorption = _absorption(size, t60)
    response = _images(size, absorption, talker, ear)[40 + delay :]
    response /= response[0]
    times = t60 * np.array([rng.uniform(0.9, 1.5), 1.0, rng.uniform(0.7, 1.0), rng.uniform(0.35, 0.75)])
    whole = _with_tail(rng, response, np.minimum(times, 1.3))
    return whole, early(whole)


def early(response: Audio) -> Audio:
    """The direct sound and the reflections of the first 5 ms, faded out.  # [EARLY] float32"""
    head = np.zeros(EARLY, np.float32)
    count = min(EARLY, len(response))
    head[:count] = response[:count]
    head[EARLY // 2 :] *= np.linspace(1, 0, EARLY - EARLY // 2, dtype=np.float32)
    return head


def _places(
    rng: np.random.Generator, size: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Talker, microphone, and the way between them in whole samples: the direct sound is one tap."""
    while True:
        ear = rng.uniform(0.3, size - 0.3)
        delay = int(np.exp(rng.uniform(np.log(0.25), np.log(5.0))) / SOUND * RATE)
        way = rng.standard_normal(3) * [1, 1, 0.4]
        talker = ear + way / np.linalg.norm(way) * (delay / RATE * SOUND)
        if (talker > 0.3).all() and (talker < size - 0.3).all():
            return talker, ear, delay


def _absorption(size: NDArray[np.float64], t60: float) -> float:
    """Energy absorption of the walls that gives a decay time.  Source: Eyring's formula."""
    volume = float(np.prod(size))
    surface = 2 * float(size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    return float(np.clip(1 - np.exp(-0.161 * volume / (surface * t60)), 0.03, 0.97))


def _images(
    size: NDArray[np.float64], absorption: float, talker: NDArray[np.float64], ear: NDArray[np.float64]
) -> Audio:
    try:
        import pyroomacoustics
    except ImportError as exc:
        raise UnsupportedMedia(
            "simulating rooms needs pyroomacoustics: pip install 'riverrun[train]'"
        ) from exc
    box = pyroomacoustics.ShoeBox(
        size, fs=RATE, materials=pyroomacoustics.Material(absorption), max_order=ORDER, air_absorption=True
    )
    box.set_sound_speed(SOUND)
    box.add_source(talker)
    box.add_microphone(ear)
    box.compute_rir()
    return np.asarray(box.rir[0][0], np.float32)


def _with_tail(rng: np.random.Generator, response: Audio, times: NDArray[np.float64]) -> Audio:
    """Continue image sources, which thin out, by noise whose bands decay at their own T60.

    Before the mixing time only images count, after it only noise; their energies meet there.
    """
    length = int(times.max() * RATE)
    mix = int(rng.uniform(0.016, 0.03) * RATE)
    span = 320  # samples, 20 ms around the mixing time, where the energies are matched
    t = np.arange(length) / RATE
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    place = np.interp(np.log2(np.maximum(frequency, 20)), np.log2(CENTRES), np.arange(len(CENTRES)))
    tail = np.zeros(length)
    for band, t60 in enumerate(times):
        share = np.sqrt(np.clip(1 - np.abs(place - band), 0, 1))
        tail += np.fft.irfft(spectrum * share, length) * np.exp(-6.908 * t / t60)
    images = np.zeros(length, np.float32)
    images[: min(length, len(response))] = response[:length]
    window = slice(max(1, mix - span // 2), mix + span // 2)
    known = float(np.square(images[window]).mean())
    drawn = float(np.square(tail[window]).mean())
    tail *= np.sqrt(max(known, 1e-9) / max(drawn, 1e-12))
    turn = np.clip((np.arange(length) - mix + span // 2) / span, 0, 1)
    whole = images * np.sqrt(1 - turn) + tail * np.sqrt(turn)
    return np.asarray(whole, np.float32)


def bank(seed: int, count: int, path: Path) -> None:
    """Draw `count` rooms into one .npy of float16, [count, 1.2 s], to be opened as Rooms."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (count, int(1.2 * RATE)))
    for row in rows:
        whole, _ = room(rng)
        fit = whole[: len(row)]
        row[: len(fit)] = fit
    rows.flush()


@dataclass
class Rooms:
    """A bank of rooms, opened. Pickles as its path alone."""

    path: Path
    _rows: NDArray[np.float16] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise UnsupportedMedia(f"{self.path} is missing; draw the rooms first with rooms.bank")
        self._rows = np.load(self.path, mmap_mode="r")

    def __reduce__(self) -> tuple[type["Rooms"], tuple[Path]]:
        return Rooms, (self.path,)

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, rng: np.random.Generator) -> tuple[Audio, Audio]:
        """One of the rooms, as `room` gives them, without the digital silence at its end."""
        row = self._rows[int(rng.integers(len(self)))].astype(np.float32)
        heard = np.flatnonzero(np.abs(row) > 1e-4)
        whole = row[: heard[-1] + 1]
        return whole, early(whole)
