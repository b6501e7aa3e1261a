"""The bench of speech: every system says every sentence, one at a time, and all are judged alike, in one run."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.models.errors import ModelError
from riverrun.models.evaluation.hearing import distance, words
from riverrun.models.evaluation.likeness import Print, nearest, unit
from riverrun.models.evaluation.lines import TAUGHT, Line, Voice
from riverrun.models.evaluation.metrics import RATE, distill_mos, dnsmos
from riverrun.models.evaluation.speakers import Talker
from riverrun.models.evaluation.tables import cell, table
from riverrun.models.training.corpus import decode, resample

Sound = NDArray[np.float32]
AMONG = 4  # voices that the nearest is of, at least
HEAD = ("", "WER %", "CER %", "DNSMOS", "DistillMOS", "nearest %", "cosine", "TTFA ms, p50 / p99", "RTF")


@dataclass(frozen=True)
class Score:
    """One sentence of one system.

    `wrong_words` of `words` and so on. Units: `first` s until there was sound, `elapsed` s of work, `seconds` of sound.
    """

    text: str
    heard: str
    words: int
    wrong_words: int
    letters: int
    wrong_letters: int
    dnsmos: float
    distillmos: float
    seconds: float
    first: float
    elapsed: float
    voice: str = ""
    cosine: float | None = None
    nearest: str | None = None
    others: float | None = None  # mean cosine to the other voices


@dataclass(frozen=True)
class Judges:
    """Who hears what is said: a recogniser by its name, and how voices are made into prints, where that can be had."""

    recogniser: str
    hear: Callable[[Sound], str]
    embed: Callable[[Sound], Print] | None = None


@dataclass(frozen=True)
class Bench:
    """The scores of all systems, in the order of the table."""

    judges: Judges
    voices: Mapping[str, Voice]
    scores: dict[str, list[Score]]
    made: dict[str, bool]
    among: dict[str, int]  # voices that the nearest is of, by voice

    def table(self) -> str:
        """All in Markdown, and how to read it."""
        rows = [row for name, scores in self.scores.items() for row in _rows(name, scores, self.made[name])]
        count = len(next(iter(self.scores.values())))
        notes = [
            f"{count} sentences; 95 % bootstrap intervals over sentences. WER and CER by Whisper "
            f"{self.judges.recogniser}, int8, greedy; both texts in lower case, unpunctuated, numbers written out."
        ]
        if self.among:
            sizes = " to ".join(map(str, sorted({min(self.among.values()), max(self.among.values())})))
            notes += [
                f"Voices by Resemblyzer, against up to {TAUGHT} other recordings of each; nearest of {sizes} voices"
                + (
                    " of one gender: those held out, filled up with the likest others."
                    if any(voice.gender for voice in self.voices.values())
                    else "."
                )
            ]
        elif self.voices:
            notes += ["Voices are not compared: the package Resemblyzer is not here."]
        notes += [
            "TTFA and RTF in this process, one thread, one sentence at a time, from text to samples; programs of "
            "their own (Piper, espeak-ng) take the threads they like. A voice that is cloned is heard anew each time."
        ]
        return "\n".join([*table(HEAD, rows), *notes])

    def document(self) -> dict[str, Any]:
        """All scores, sentence by sentence."""
        return {
            "recogniser": self.judges.recogniser,
            "among": self.among,
            "scores": {name: [asdict(score) for score in scores] for name, scores in self.scores.items()},
        }


def bench(
    talkers: Iterable[Talker],
    lines: Sequence[Line],
    voices: Mapping[str, Voice],
    judges: Judges,
    keep: Callable[[str, Line, Sound, int], object] = lambda name, line, sound, rate: None,
    tell: Callable[[str], object] = print,
) -> Bench:
    """Judge systems on lines; `keep` gets all that they say. Raises ModelError if one says nothing."""
    prints = {name: printed(voice, judges.embed) for name, voice in voices.items()} if judges.embed else {}
    groups = {name: among(name, voices, prints) for name in prints}
    result = Bench(judges, voices, {}, {}, {})
    for talker in talkers:
        tell(f"judging {talker.name}")
        if talker.made:
            said(talker, lines[0])  # warm up
        scores = result.scores[talker.name] = []
        result.made[talker.name] = talker.made
        for line in lines:
            sound, first, elapsed = said(talker, line)
            keep(talker.name, line, sound, talker.rate)
            voice = talker.voice(line) if talker.voice(line) in groups else ""
            known = {name: prints[name] for name in groups[voice]} if voice else {}
            if voice:
                result.among[voice] = len(known)
            times = (len(sound) / talker.rate, first, elapsed)
            text = line.text if talker.made or line.same else ""
            scores.append(score(text, resample(sound, talker.rate, RATE), times, judges, voice, known))
    return result


def said(talker: Talker, line: Line) -> tuple[Sound, float, float]:
    """A line's sound, seconds until there was some, and until there was all. Raises ModelError if there is none."""
    begun, first, pieces = time.perf_counter(), 0.0, list[Sound]()
    for piece in talker.say(line):
        if len(piece):
            first = first or time.perf_counter() - begun
            pieces.append(piece)
    if not pieces:
        raise ModelError(f"{talker.name} says nothing of {line.text!r}")
    return np.concatenate(pieces).clip(-1, 1), first, time.perf_counter() - begun


def score(
    text: str,
    sound: Sound,
    times: tuple[float, float, float],
    judges: Judges,
    voice: str,
    known: Mapping[str, Print],
) -> Score:
    """Judge one sentence, or the sound of one that is not known; `sound` at 16 kHz.

    `known` are prints of the voices that it may be nearest to.
    """
    heard = judges.hear(sound) if text else ""
    wanted, found = words(text), words(heard)
    letters, found_letters = " ".join(wanted), " ".join(found)
    judged = (dnsmos(sound, sound), distill_mos(sound, sound))
    counts = (len(wanted), distance(wanted, found), len(letters), distance(letters, found_letters))
    if not voice or not judges.embed:
        return Score(text, heard, *counts, *judged, *times)
    own = judges.embed(sound)
    apart = [float(own @ known[name]) for name in known if name != voice]
    return Score(text, heard, *counts, *judged, *times, voice, float(own @ known[voice]), nearest(own, known),
                 float(np.mean(apart)) if apart else None)  # fmt: skip


def among(
    name: str, voices: Mapping[str, Voice], prints: Mapping[str, Print], count: int = AMONG
) -> list[str]:
    """A voice and those it must be told from: the held-out ones of its gender, and the likest others up to `count`."""
    gender = voices[name].gender
    others = [v for v in voices.values() if v.gender == gender and v.name != name]
    others.sort(key=lambda v: (not v.held_out, -float(prints[v.name] @ prints[name])))
    held_out = sum(v.held_out for v in others)
    return [name, *(v.name for v in others[: max(count - 1, held_out)])]


def printed(voice: Voice, embed: Callable[[Sound], Print]) -> Print:
    """What a voice sounds like in the recordings that it is known by."""
    return unit([embed(decode(row.path, RATE)) for row in voice.known])


def _rows(name: str, scores: Sequence[Score], made: bool) -> list[list[str]]:
    """A system's row; after the recordings' one more, of how like one voice's are to others."""
    alike = [s for s in scores if s.cosine is not None]
    first = np.quantile([s.first for s in scores], [0.5, 0.99]) * 1e3
    row = [
        name,
        cell([100.0 * s.wrong_words for s in scores], [s.words for s in scores], 1),
        cell([100.0 * s.wrong_letters for s in scores], [s.letters for s in scores], 1),
        cell([s.dnsmos for s in scores]),
        cell([s.distillmos for s in scores]),
        cell([100.0 * (s.nearest == s.voice) for s in alike], digits=0),
        cell([s.cosine for s in alike if s.cosine is not None]),
        f"{first[0]:.0f} / {first[1]:.0f}" if made else "",
        cell([s.elapsed for s in scores], [s.seconds for s in scores], 3) if made else "",
    ]
    apart = [s.others for s in alike if s.others is not None]
    if made or not apart:
        return [row]
    return [row, [f"{name}, as another voice", *[""] * 5, cell(apart), "", ""]]
