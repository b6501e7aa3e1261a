"""Speech with what is said in it: folders of sound with a manifest become one pool of features for an aligner."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riverrun.media import CorruptMedia, MediaError, UnsupportedMedia
from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.aligner import AlignerConfig, features, path
from riverrun.models.speech.reading.normal import normalise
from riverrun.models.speech.reading.phonemes import phonemes, written
from riverrun.models.training.corpus import SUFFIXES, decode

log = logging.getLogger(__name__)
HELDOUT = 50  # one in so many, where nobody says which


@dataclass(frozen=True)
class Reading:
    """One utterance: its file and split, what is said, as phonemes, and whose voices, as the manifest names them."""

    file: Path
    split: str
    phonemes: str
    voices: Any = None


def readings(folder: Path, split: str | None = None) -> Iterator[Reading]:
    """The utterances that a folder's manifest.jsonl lists, or whose text is beside them; None stands for every split.

    A line is a JSON object with `file`, and `phonemes` or `text`; without `split` it is for training. Where there is no
    manifest, it is of every sound NAME.wav (.flac, ...) with a NAME.txt, one in fifty held out. A text is pronounced as
    American English; one that cannot be is left out, which the log tells.
    Raises UnsupportedMedia if there is neither, InvalidRequest for a line that lacks something, ModelError where texts
    are to be pronounced and hibari is not installed.
    """
    manifest, pronounce = folder / "manifest.jsonl", cache(phonemes)
    rows = _listed(manifest) if manifest.is_file() else _beside(folder)
    for number, row in enumerate(rows, 1):
        if "file" not in row or not row.keys() & {"phonemes", "text"}:
            raise InvalidRequest(
                f"{manifest}, line {number} has no {'phonemes or text' if 'file' in row else 'file'}"
            )
        found = row.get("split", "train")
        if split not in (None, found):
            continue
        try:
            symbols = row["phonemes"] if "phonemes" in row else written(pronounce()(normalise(row["text"])))
        except InvalidRequest as error:
            log.warning("left out: %s: %s", row["file"], error)
            continue
        yield Reading(folder / row["file"], found, symbols, row.get("voices"))


def _listed(manifest: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, manifest.read_text(encoding="utf-8").splitlines())


def _beside(folder: Path) -> Iterator[dict[str, Any]]:
    """Sounds and their texts as rows of a manifest. Raises UnsupportedMedia if there are none."""
    sounds = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
    pairs = [(file, text) for file in sounds if (text := file.with_suffix(".txt")).is_file()]
    if not pairs:
        raise UnsupportedMedia(
            f"{folder} has no manifest.jsonl with a line for each file, and no sound with a .txt beside it"
        )
    for i, (file, text) in enumerate(pairs, 1):
        split = "train" if i % HELDOUT else "heldout"
        yield {"file": file.name, "text": text.read_text(encoding="utf-8"), "split": split}


def build(folders: Sequence[Path], out: Path, config: AlignerConfig) -> None:
    """Write the features of every utterance to out/mel.f16 (one after another) and what is said to out/index.json.

    Files that cannot be decoded are listed under "skipped" with the reason. Raises InvalidRequest for a symbol
    that the config does not know, UnsupportedMedia if nothing is left.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    with open(out / "mel.f16", "wb") as file:
        for reading in (reading for folder in folders for reading in readings(folder)):
            states = len(path(reading.phonemes, config.symbols).columns)
            try:
                sound = decode(reading.file, config.rate)
                if len(sound) < states * config.hop:
                    raise CorruptMedia(f"{reading.file} is too short for {states} sounds and pauses")
            except MediaError as error:
                log.warning("skipped: %s", error)
                skipped[str(reading.file)] = str(error)
                continue
            mel = features(torch.from_numpy(sound)[None], config)[0].half().numpy()
            mel.tofile(file)
            row = {"file": reading.file.name, "split": reading.split, "phonemes": reading.phonemes}
            rows.append(row | {"frames": len(mel)})
    if not rows:
        raise UnsupportedMedia(
            f"no usable speech in {[str(f) for f in folders]}; {len(skipped)} files skipped"
        )
    index = {"rows": rows, "skipped": skipped}
    (out / "index.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")


def splits(folder: Path) -> set[str]:
    """The splits of a pool. Raises UnsupportedMedia if there is none."""
    return {row["split"] for row in _rows(folder)}


def _rows(folder: Path) -> list[dict[str, Any]]:
    file = folder / "index.json"
    if not file.is_file():
        raise UnsupportedMedia(f"{file} is missing; build the pool first with readings.build")
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return rows


@dataclass
class Pool:
    """What `build` wrote, one split of it. Raises UnsupportedMedia if it is missing or the split is empty."""

    folder: Path
    split: str = "train"
    phonemes: list[str] = field(init=False, repr=False)
    frames: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = _rows(self.folder)
        ends = np.cumsum([row["frames"] for row in rows])
        chosen = [i for i, row in enumerate(rows) if row["split"] == self.split]
        if not chosen:
            raise UnsupportedMedia(f"the pool in {self.folder} has no utterance of split {self.split!r}")
        flat = np.memmap(self.folder / "mel.f16", "<f2", "r")
        self._mel = flat.reshape(ends[-1], -1)
        self.phonemes = [rows[i]["phonemes"] for i in chosen]
        self.frames = np.array([rows[i]["frames"] for i in chosen])
        self._starts = ends[chosen] - self.frames

    def __len__(self) -> int:
        return len(self.phonemes)

    def mel(self, which: int) -> Tensor:
        """Features of one utterance.  # [t, bands]"""
        start = self._starts[which]
        return torch.from_numpy(self._mel[start : start + self.frames[which]].astype(np.float32))

    def batches(self, frames: int, seed: int, epoch: int) -> list[list[int]]:
        """Every utterance once, in batches of at most so many frames with padding, alike in length, in random order.

        An utterance longer than `frames` is a batch alone.
        """
        rng = np.random.default_rng((seed, epoch))
        order = np.argsort(self.frames * rng.uniform(0.9, 1.1, len(self)))
        made: list[list[int]] = [[]]
        longest = 0
        for which in order.tolist():
            longest = max(longest, int(self.frames[which]))
            if made[-1] and longest * (len(made[-1]) + 1) > frames:
                made.append([])
                longest = int(self.frames[which])
            made[-1].append(which)
        return [made[i] for i in rng.permutation(len(made))]
