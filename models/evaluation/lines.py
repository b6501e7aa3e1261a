"""What is said in a bench of speech: held-out sentences of a corpus, with their voices, or a few known ones."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from riverrun.media import UnsupportedMedia, write
from riverrun.models.errors import ModelError
from riverrun.models.evaluation.heldout import speakers
from riverrun.models.evaluation.recordings import Packages
from riverrun.models.training.corpus import RATE, decode

PROMPT = 5.0  # seconds of a recording that a voice is cloned from
TAUGHT = 5  # recordings that say how a voice sounds
TRIED = 20  # recordings of a voice that may become its prompt
KOKORO = re.compile(r"[ab]([fm])_")
HARVARD = (  # IEEE 1969, lists 1 and 2
    "The birch canoe slid on the smooth planks.",
    "Glue the sheet to the dark blue background.",
    "It's easy to tell the depth of a well.",
    "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls.",
    "The juice of lemons makes fine punch.",
    "The box was thrown beside the parked truck.",
    "The hogs were fed chopped corn and garbage.",
    "Four hours of steady work faced us.",
    "A large size in stockings is hard to sell.",
    "The boy was there when the sun rose.",
    "A rod is used to catch pink salmon.",
    "The source of the huge river is the clear spring.",
    "Kick the ball straight and follow through.",
    "Help the woman get back to her feet.",
    "A pot of tea helps to pass the evening.",
    "Smoky fires lack flame and heat.",
    "The soft cushion broke the man's fall.",
    "The salt breeze came across from the sea.",
    "The girl at the booth sold fifty bonds.",
)


@dataclass(frozen=True)
class Row:
    """One recording of one voice, and what is said in it."""

    path: Path
    text: str


@dataclass(frozen=True)
class Voice:
    """A voice of a corpus: recordings that it is known by, and for one that is held out a prompt of `PROMPT` s."""

    name: str
    gender: str
    held_out: bool
    known: tuple[Row, ...]
    prompt: Row | None = None


@dataclass(frozen=True)
class Line:
    """One sentence; with voices also whose it is, how that sounds, and what the voice may be cloned from.

    `same` tells whether the recording says this sentence, and not another one.
    """

    number: int
    text: str
    voice: str = ""
    recording: Path | None = None
    prompt: Row | None = None
    same: bool = True


def harvard(count: int) -> list[Line]:
    """The first of the Harvard sentences."""
    return [Line(i, text) for i, text in enumerate(HARVARD[:count])]


def read(folder: Path, count: int, seed: int = 0) -> tuple[list[Line], dict[str, Voice]]:
    """Held-out sentences of a folder with a manifest.jsonl, its voices in turn, and all its voices.

    Its rows hold `file`, `text`, `split` and `voices`; a mix of voices is left out. No recording serves twice.
    Raises UnsupportedMedia if there is no manifest, ModelError if it has nothing held out.
    """
    split: dict[bool, dict[str, list[Row]]] = {True: defaultdict(list), False: defaultdict(list)}
    genders: dict[str, str] = {}
    for row in _rows(folder):
        name = _single(row.get("voices"))
        if name and row.get("text"):
            split[row.get("split") == "heldout"][name].append(Row(folder / row["file"], row["text"]))
            named = KOKORO.match(name)
            genders[name] = str(row.get("gender") or (named[1] if named else ""))
    if not split[True]:
        raise ModelError(f"{folder} has no recording of one voice that is held out")
    rng, voices, tests = np.random.default_rng(seed), dict[str, Voice](), dict[str, list[Row]]()
    for held_out, rows in split.items():
        for name in sorted(set(rows) - set(voices)):
            mixed = [rows[name][i] for i in rng.permutation(len(rows[name]))]
            tests[name] = mixed[TAUGHT:] if held_out else []
            prompt = _prompt(tests[name]) if held_out else None
            tests[name] = [row for row in tests[name] if row != prompt]
            voices[name] = Voice(name, genders[name], held_out, tuple(mixed[:TAUGHT]), prompt)
    return _in_turn(voices, tests, count), voices


def _rows(folder: Path) -> list[dict[str, Any]]:
    manifest = folder / "manifest.jsonl"
    if not manifest.is_file():
        raise UnsupportedMedia(
            f"{manifest} is missing: a line for each file, with its text, voices and split"
        )
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def _single(voices: Any) -> str:
    """The name of a row's voice; empty for a mix."""
    if isinstance(voices, dict):
        return str(next(iter(voices))) if len(voices) == 1 else ""
    return str(voices or "")


def _prompt(rows: Sequence[Row]) -> Row | None:
    """The shortest recording that is long enough, of some; the longest if none is."""
    lengths = {row: len(decode(row.path)) / RATE for row in rows[:TRIED]}
    enough = [row for row in lengths if lengths[row] >= PROMPT]
    if enough:
        return min(enough, key=lambda row: lengths[row])
    return max(lengths, key=lambda row: lengths[row], default=None)


def _in_turn(voices: dict[str, Voice], tests: dict[str, list[Row]], count: int) -> list[Line]:
    lines: list[Line] = []
    for i in range(max(map(len, tests.values()))):
        for name, rows in tests.items():
            if i < len(rows) and len(lines) < count:
                row = rows[i]
                lines.append(Line(len(lines), row.text, name, row.path, voices[name].prompt))
    if not lines:
        raise ModelError(f"expected more than {TAUGHT + 1} recordings of a voice that is held out")
    return lines


def people(packages: Packages, lines: Sequence[Line]) -> tuple[list[Line], dict[str, Voice]]:
    """The same sentences in the voices of people in turn, who never said them, and these voices, as of one gender.

    Raises ModelError if one cannot be had.
    """
    folder, voices, rest = packages.folder / "people", dict[str, Voice](), dict[str, list[Path]]()
    folder.mkdir(parents=True, exist_ok=True)
    for name, clips in speakers(packages):
        paths = [folder / f"{name}-{i}.wav" for i in range(len(clips) + 1)]
        for path, sound in zip(paths, [np.concatenate(clips[:2]), *clips], strict=True):
            write(path, sound[:, None], RATE)
        prompt, *known = (Row(path, "") for path in [paths[0], *paths[-min(TAUGHT, len(clips) - 2) :]])
        voices[name] = Voice(name, "", True, tuple(known), prompt)
        rest[name] = paths[1 : -len(known)]
    names, found = list(voices), list[Line]()
    for i, line in enumerate(lines):
        name, turn = names[i % len(names)], i // len(names)
        recording = rest[name][turn % len(rest[name])]
        found.append(Line(line.number, line.text, name, recording, voices[name].prompt, same=False))
    return found, voices
