"""Utterances of timed speech: what recipes of voices learn from, listed, decoded once, and in order."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from riverrun.models.errors import ModelError
from riverrun.models.training import alignments, plans
from riverrun.models.training.corpus import decode
from riverrun.models.training.readings import readings

Samples = NDArray[np.int16]


class Plan(Protocol):
    """Where timed speech is: folders with a manifest, and what `riverrun train alignments` wrote for each of them."""

    @property
    def speech(self) -> tuple[str, ...]: ...

    @property
    def timings(self) -> tuple[str, ...]: ...


P = TypeVar("P", bound=Plan)


@dataclass(frozen=True)
class Line:
    """An utterance of a corpus: its sound, what is said in it, and when."""

    path: Path
    voice: str
    split: str
    timing: alignments.Timing

    @property
    def name(self) -> str:
        """The name of its voice; empty for a mix, and for one that the manifest does not name."""
        names = json.loads(self.voice)
        return next(iter(names)) if not isinstance(names, str) and len(names) == 1 else ""


def planned(kind: type[P], config: Path) -> P:
    """Parse a config file. Raises ModelError if it is missing, no TOML, or has unknown or missing keys."""
    plan = plans.read(kind, config)
    if len(plan.speech) != len(plan.timings) or not plan.speech:
        raise ModelError(
            f"{config} has {len(plan.speech)} folders of speech and {len(plan.timings)} of timings, expected as many"
        )
    return plan


def listed(plan: Plan, base: Path) -> Iterator[Line]:
    """Every utterance that is timed, the held-out ones too. Raises as `readings` and `alignments.read`."""
    for folder, timings in zip(plan.speech, plan.timings, strict=True):
        times = {timing.file: timing for timing in alignments.read(base / timings)}
        for reading in readings(base / folder):
            if timing := times.get(reading.file.name):
                voice = json.dumps(reading.voices or folder)
                yield Line(reading.file, voice, reading.split, timing)


def parted(plan: Plan, base: Path) -> tuple[list[Line], int]:
    """The same, those for training first, and how many these are. Raises ModelError if there is none of them."""
    lines = sorted(listed(plan, base), key=lambda line: line.split != "train")
    count = sum(line.split == "train" for line in lines)
    if not count:
        raise ModelError(f"{', '.join(plan.speech)} have no utterance that is timed and for training")
    return lines, count


def sound(lines: Sequence[Line], rate: int, path: Path) -> tuple[Samples, list[int]]:
    """All sound in a row, 16-bit, decoded once and kept for these files; and where each ends."""
    names = [line.path.name for line in lines]
    file, stamp = path.with_suffix(".npy"), path.with_suffix(".json")
    if not stamp.exists() or json.loads(stamp.read_text())["files"] != names:
        parts = [np.round(decode(line.path, rate).clip(-1, 1) * 32767).astype(np.int16) for line in lines]
        np.save(file, np.concatenate(parts))
        ends = np.cumsum([len(part) for part in parts]).tolist()
        stamp.write_text(json.dumps({"files": names, "ends": ends}))
    return np.load(file), json.loads(stamp.read_text())["ends"]
