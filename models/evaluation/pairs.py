"""What a bench of conversion converts, and into whose voice: held-out voices of a corpus, and people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from riverrun.models.errors import ModelError
from riverrun.models.evaluation.lines import Row, Voice
from riverrun.models.evaluation.lines import read as sentences
from riverrun.models.evaluation.recordings import Packages
from riverrun.models.training.corpus import RATE, decode

HEARD = 8.0  # seconds of a recording that a voice is taken from
EVERY = 1_000_000  # sentences of a corpus


@dataclass(frozen=True)
class Pair:
    """A recording of one voice that is to be in another; `part` says of what kind both are."""

    number: int
    part: str
    source: str
    target: str
    row: Row


@dataclass(frozen=True)
class Material:
    """Pairs, all voices that a result may be like, and what a converter may hear of each that is in a pair."""

    pairs: tuple[Pair, ...]
    voices: Mapping[str, Voice]
    heard: Mapping[str, tuple[Row, ...]]

    def __add__(self, other: "Material") -> "Material":
        return Material(
            self.pairs + other.pairs, {**self.voices, **other.voices}, {**self.heard, **other.heard}
        )


@dataclass(frozen=True)
class Speaker:
    """Recordings of a person by their files' stems: what is said in some, some to hear, some to know the voice by."""

    package: str
    gender: str
    said: Mapping[str, str]
    heard: tuple[str, ...]
    known: tuple[str, ...]


AUSTEN = "sense_and_sensibility_01_austen_64kb-0"
PEOPLE = (
    Speaker(
        "allison",
        "f",
        {
            "agent-alreadyon": "That agent is already logged on. "
            "Please enter your agent number followed by the pound key.",
            "conf-invalid": "That is not a valid conference number. Please try again.",
            "agent-incorrect": "Login incorrect. Please enter your agent number followed by the pound key.",
            "conf-onlyone": "There is currently one other participant in the conference.",
            "agent-pass": "Please enter your password followed by the pound key.",
            "conf-onlyperson": "You are currently the only person in this conference.",
            "auth-incorrect": "Password incorrect. Please enter your password followed by the pound key.",
            "conf-waitforleader": "The conference will begin when the leader arrives.",
            "conf-getconfno": "Please enter your conference number followed by the pound key.",
            "confbridge-lock-no-join": "The conference is currently locked and cannot be joined.",
        },
        ("tt-allbusy",),
        ("vm-options", "queue-periodic-announce", "dir-intro", "conf-usermenu", "vm-opts-full"),
    ),
    Speaker(
        "librivox",
        "m",
        {
            f"{AUSTEN}880": "He was not an ill disposed young man.",
            f"{AUSTEN}890": "Unless to be rather cold hearted and rather selfish is to be ill disposed.",
            f"{AUSTEN}930": "He might even have been made amiable himself.",
        },
        (f"{AUSTEN}870",),
        (f"{AUSTEN}920",),
    ),
)


def corpus(folder: Path, count: int, seed: int = 0) -> Material:
    """Pairs of the held-out voices of a folder with a manifest.jsonl. No recording is both heard and said, or known.

    Raises UnsupportedMedia if there is no manifest, ModelError if it has no two voices held out.
    """
    lines, voices = sentences(folder, EVERY, seed)
    rows: dict[str, list[Row]] = {}
    for line in lines:
        assert line.recording
        rows.setdefault(line.voice, []).append(Row(line.recording, line.text))
    heard = {name: _enough(voices[name], said) for name, said in rows.items()}
    return Material(in_turn("held-out voices", rows, count), voices, heard)


def _enough(voice: Voice, rows: list[Row]) -> tuple[Row, ...]:
    """Some recordings of a voice that last as long as one is heard; they are taken off `rows`."""
    found = [voice.prompt] if voice.prompt else []
    seconds = sum(len(decode(row.path)) for row in found) / RATE
    while seconds < HEARD and len(rows) > 1:
        found.append(rows.pop())
        seconds += len(decode(found[-1].path)) / RATE
    return tuple(found)


def people(packages: Packages, count: int) -> Material:
    """Pairs of people whose recordings packages carry. Raises ModelError if one cannot be had."""

    def row(speaker: Speaker, stem: str) -> Row:
        folder = packages.deb(speaker.package)
        for path in folder.rglob(f"{stem}.*"):
            return Row(path, speaker.said.get(stem, ""))
        raise ModelError(f"{folder} has no recording {stem}: remove the folder and try again")

    rows = {person.package: [row(person, stem) for stem in person.said] for person in PEOPLE}
    heard = {person.package: tuple(row(person, stem) for stem in person.heard) for person in PEOPLE}
    voices = {
        person.package: Voice(
            person.package, person.gender, True, tuple(row(person, stem) for stem in person.known)
        )
        for person in PEOPLE
    }
    return Material(in_turn("people", rows, count), voices, heard)


def in_turn(part: str, rows: Mapping[str, Sequence[Row]], count: int) -> tuple[Pair, ...]:
    """Each voice speaks in turn, each time for another of the others; no pair twice, even if they are fewer then.

    Raises ModelError if there is no other voice.
    """
    names = list(rows)
    if len(names) < 2:
        raise ModelError(f"{part}: {', '.join(names) or 'nobody'} alone is no pair, expected two voices")
    found: dict[tuple[str, str, Row], Pair] = {}
    for turn in range(count):
        for who, name in enumerate(names):
            others, said = names[:who] + names[who + 1 :], rows[name]
            key = (name, others[(turn + who) % len(others)], said[turn % len(said)])
            found.setdefault(key, Pair(len(found), part, *key))
    return tuple(found.values())[:count]
