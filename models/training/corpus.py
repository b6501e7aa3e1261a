"""Clean speech for training: folders of audio become one memory-mapped pool that crops are drawn from."""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.media import MediaError, UnsupportedMedia, open_media

RATE = 16_000  # Hz, of every pool
LEVEL = -20.0  # dBFS, active speech level of a crop
PEAK = 0.95  # largest sample of a crop
SUFFIXES = frozenset(
    ".wav .flac .opus .ogg .oga .mp3 .m4a .aac .aiff .aif .caf .webm .mka .mp4 .g722 .wv .au".split()
)
RAW = {".g722": "g722"}  # headerless: the suffix names the demuxer

log = logging.getLogger(__name__)
Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """A folder of audio, or one file; `weight` is its share of the draws (None: its duration in hours)."""

    path: Path
    weight: float | None = None
    licence: str = "not stated"
    voice: str = ""  # one name for all its files; empty: the manifest's voices, else the folder's name
    skip: tuple[str, ...] = ()  # files whose name holds one of these


@dataclass(frozen=True)
class Clip:
    """One file of a source, before it is decoded."""

    path: Path
    voice: str


def decode(path: Path, rate: int = RATE) -> Audio:
    """Decode the first audio stream to mono at `rate`.  # [t] float32

    Raises UnsupportedMedia if there is no audio, CorruptMedia if it cannot be decoded.
    """
    with open_media(path, format=RAW.get(path.suffix.lower())) as reader:
        sound = np.concatenate([chunk.data for chunk in reader.chunks()]).mean(axis=1)
        return resample(sound, reader.audio.rate, rate)


def resample(sound: Audio, given: int, wanted: int) -> Audio:
    """Change the rate by a polyphase filter; the first sample keeps its time."""
    if given == wanted:
        return sound
    from scipy.signal import resample_poly

    common = math.gcd(given, wanted)
    up, down = wanted // common, given // common
    return np.asarray(resample_poly(sound, up, down, window=("kaiser", 8.0)), np.float32)


def level(sound: Audio, rate: int = RATE) -> float:
    """Active speech level in dBFS: the power of the 20 ms frames within 25 dB of the loudest ones."""
    frame = rate // 50
    count = len(sound) // frame
    if count == 0:
        return 10 * math.log10(float(np.mean(sound**2)) + 1e-12) if len(sound) else -120.0
    power = np.square(sound[: count * frame].reshape(count, frame)).mean(axis=1)
    loud = np.quantile(power, 0.95)
    active = power[power >= loud * 10**-2.5]
    return 10 * math.log10(float(active.mean()) + 1e-12)


def clips(source: Source, split: str = "train") -> Iterator[Clip]:
    """Find the files of a source; a manifest.jsonl in its folder decides the files, the split and the voices.

    Rows without `split` count as every split. Raises UnsupportedMedia if the path does not exist.
    """
    if source.path.is_file():
        yield Clip(source.path, source.voice or source.path.stem)
        return
    if not source.path.is_dir():
        raise UnsupportedMedia(f"{source.path} is neither a folder nor a file; name a folder of sound files")
    manifest = source.path / "manifest.jsonl"
    if manifest.is_file():
        for line in manifest.read_text(encoding="utf-8").splitlines():
            row: dict[str, Any] = json.loads(line)
            if row.get("split", split) == split:
                yield Clip(
                    source.path / row["file"], source.voice or _voice(row.get("voices")) or row["file"]
                )
        return
    for path in sorted(source.path.rglob("*")):
        hidden = any(word in path.name for word in source.skip)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            yield Clip(path, source.voice or path.parent.name)


def _voice(voices: Any) -> str:
    """One name for a manifest's voices: a mix is a voice of its own."""
    if isinstance(voices, dict):
        return "+".join(f"{name}:{weight:g}" for name, weight in sorted(voices.items()))
    return str(voices or "")


def trim(sound: Audio, below: float = 50.0, keep: float = 0.1, rate: int = RATE) -> Audio:
    """Cut both ends where they lie `below` dB under the loudest 10 ms, all but `keep` seconds."""
    frame = rate // 100
    count = len(sound) // frame
    if count < 2:
        return sound
    power = np.square(sound[: count * frame].reshape(count, frame)).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-below / 10))
    if len(loud) == 0:
        return sound
    pad = int(keep * rate)
    return sound[max(0, loud[0] * frame - pad) : (loud[-1] + 1) * frame + pad]


def build(
    sources: Sequence[Path | Source],
    out: Path,
    *,
    name: str = "speech",
    split: str = "train",
    least: float = 0.6,
) -> dict[str, Any]:
    """Decode the sources to out/NAME.npy (int16, flat) and its index, and return the index.

    The index of "speech" is index.json, of any other name NAME.json. Files that cannot be decoded, are
    silent, or are shorter than `least` seconds are listed under "skipped" with the reason.
    Raises UnsupportedMedia if nothing is left.
    """
    given = [s if isinstance(s, Source) else Source(s) for s in sources]
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    total = 0
    with open(out / f"{name}.npy", "wb") as file:
        _header(file, 0)
        for number, source in enumerate(given):
            for clip in clips(source, split):
                try:
                    sound = trim(decode(clip.path))
                except MediaError as exc:
                    log.warning("skipped: %s", exc)
                    skipped[str(clip.path)] = str(exc)
                    continue
                loud = level(sound)
                if len(sound) < least * RATE or loud < -60:
                    skipped[str(clip.path)] = f"{len(sound) / RATE:.2f} s at {loud:.0f} dBFS"
                    continue
                # Quiet recordings would lose bits in int16, loud ones would clip: store all at one peak.
                stored = np.round(sound * (30_000 / np.abs(sound).max())).astype("<i2")
                stored.tofile(file)
                rows.append(dict(offset=total, length=len(stored), level=round(level(stored / 32768.0), 2),
                                 source=number, voice=clip.voice, file=clip.path.name))  # fmt: skip
                total += len(stored)
        file.seek(0)
        _header(file, total)
    if not rows:
        raise UnsupportedMedia(
            f"no usable audio in {[str(s.path) for s in given]}; {len(skipped)} files skipped"
        )
    index = _index(given, rows, skipped)
    (out / index_name(name)).write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")
    return index


def index_name(name: str) -> str:
    return "index.json" if name == "speech" else f"{name}.json"


def _header(file: Any, samples: int) -> None:
    """Write the .npy header: NumPy pads it so that a grown first axis still fits the same bytes."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": (samples,)})


def _index(given: list[Source], rows: list[dict[str, Any]], skipped: dict[str, str]) -> dict[str, Any]:
    hours = [sum(r["length"] for r in rows if r["source"] == i) / RATE / 3600 for i in range(len(given))]
    sources = [
        dict(
            name=s.path.name, licence=s.licence, hours=round(h, 4), weight=h if s.weight is None else s.weight
        )
        for s, h in zip(given, hours, strict=True)
    ]
    return {
        "rate": RATE,
        "sources": sources,
        **{key: [row[key] for row in rows] for key in rows[0]},
        "skipped": skipped,
    }


@dataclass
class Speech:
    """A pool, opened: crops are drawn by source weight, then by length. Pickles as its path alone."""

    path: Path
    name: str = "speech"
    _index: dict[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        file = self.path / index_name(self.name)
        if not file.is_file():
            raise UnsupportedMedia(f"{file} is missing; build the pool first with corpus.build")
        self._index = json.loads(file.read_text(encoding="utf-8"))
        self._samples: NDArray[np.int16] = np.load(self.path / f"{self.name}.npy", mmap_mode="r")
        self._offsets = np.array(self._index["offset"])
        self._lengths = np.array(self._index["length"])
        self._gains = 10 ** ((LEVEL - np.array(self._index["level"])) / 20) / 32768
        self._cumulative = np.cumsum(self._shares())
        names = sorted(set(self._index["voice"]))
        self._voices = np.searchsorted(names, self._index["voice"])
        order = np.argsort(self._voices, kind="stable")
        ends = np.cumsum(np.bincount(self._voices))
        self._same = [order[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def __reduce__(self) -> tuple[type["Speech"], tuple[Path, str]]:
        return Speech, (self.path, self.name)

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def seconds(self) -> float:
        return float(self._lengths.sum()) / RATE

    def _shares(self) -> NDArray[np.float64]:
        """The probability of each utterance."""
        source = np.array(self._index["source"])
        totals = np.bincount(source, self._lengths, minlength=len(self._index["sources"]))
        weights = np.array([s["weight"] for s in self._index["sources"]], float)
        share = (weights / np.maximum(totals, 1))[source] * self._lengths
        return np.asarray(share / share.sum())

    def pick(self, rng: np.random.Generator) -> int:
        """Draw one utterance."""
        return min(int(np.searchsorted(self._cumulative, rng.random(), "right")), len(self) - 1)

    def piece(self, rng: np.random.Generator, which: int, n: int) -> Audio:
        """At most n samples of an utterance from a random place, at LEVEL, faded where it was cut."""
        length = int(self._lengths[which])
        start = int(rng.integers(0, length - n + 1)) if length > n else 0
        at = int(self._offsets[which]) + start
        sound = self._samples[at : at + min(n, length)].astype(np.float32) * np.float32(self._gains[which])
        fade = min(80, len(sound) // 2)  # 5 ms
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        sound[:fade] *= ramp
        sound[len(sound) - fade :] *= ramp[::-1]
        return sound

    def crop(self, rng: np.random.Generator, n: int, vary: float = 0.0) -> Audio:
        """n samples of one voice; short utterances are joined with pauses of 0.1 to 0.6 s.  # [n] float32

        A `vary` above 0 plays half of the crops faster or slower by up to that part, so that pitch and
        formants move together and a few voices become many.
        """
        first = self.pick(rng)
        speed = float(rng.uniform(1 - 0.7 * vary, 1 + vary)) if vary and rng.random() < 0.5 else 1.0
        need = n
        if speed != 1.0:
            from scipy.fft import next_fast_len

            need = next_fast_len(int(n * speed), real=True)
        sound = self._join(rng, first, need)
        if need != n:
            from scipy.signal import resample as by_spectrum

            sound = np.asarray(by_spectrum(sound, n), np.float32)
        peak = float(np.abs(sound).max())
        return sound * np.float32(PEAK / peak) if peak > PEAK else sound

    def _join(self, rng: np.random.Generator, first: int, n: int) -> Audio:
        sound = np.zeros(n, np.float32)
        family = self._same[self._voices[first]]
        at = int(rng.integers(0, RATE // 2)) if rng.random() < 0.15 else 0
        which = first
        while at < n:
            part = self.piece(rng, which, n - at)
            sound[at : at + len(part)] = part
            at += len(part) + int(rng.integers(RATE // 10, RATE * 6 // 10))
            which = int(family[rng.integers(len(family))])
        return sound
