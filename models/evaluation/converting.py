"""The bench of voice conversion: every system converts every pair, and all are judged alike, in one run."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.models.evaluation.clicks import clicks
from riverrun.models.evaluation.converters import System, follows
from riverrun.models.evaluation.hearing import distance, words
from riverrun.models.evaluation.likeness import Print, nearest
from riverrun.models.evaluation.lines import TAUGHT, Row
from riverrun.models.evaluation.metrics import RATE, distill_mos, dnsmos
from riverrun.models.evaluation.pairs import HEARD, Material, Pair
from riverrun.models.evaluation.speaking import AMONG, Judges, among, printed
from riverrun.models.evaluation.tables import cell, table
from riverrun.models.training.corpus import decode, resample

Sound = NDArray[np.float32]
HEAD = ("", "WER %", "above the source's", "DNSMOS", "DistillMOS", "nearest %", "nearer to target %", "cosine, target",
        "cosine, source", "F0 correlation", "clicks a minute", "RTF", "latency ms")  # fmt: skip


@dataclass(frozen=True)
class Score:
    """One pair of one system.

    `wrong_words` of `words`, `own_wrong` in the source itself; `to_target` and `to_source` are cosines, `nearest` the
    voice it is most like; `f0` is the correlation of pitches. Units: `elapsed` s of processor time, `seconds` of sound.
    """

    number: int
    part: str
    source: str
    target: str
    text: str
    heard: str
    words: int
    wrong_words: int
    own_wrong: int
    dnsmos: float
    distillmos: float
    f0: float | None
    clicks: int
    seconds: float
    elapsed: float
    to_target: float | None = None
    to_source: float | None = None
    nearest: str | None = None


@dataclass(frozen=True)
class Converted:
    """What a system made of a source, both at `rate` Hz, in `elapsed` s of processor time."""

    pair: Pair
    source: Sound
    made: Sound
    rate: int
    elapsed: float
    own_wrong: int


@dataclass(frozen=True)
class Bench:
    """The scores of all systems, in the order of the table."""

    judges: Judges
    systems: dict[str, System]
    scores: dict[str, list[Score]]
    among: dict[str, int]  # voices that the nearest is of, by voice

    def table(self) -> str:
        """All in Markdown, a table a part, and how to read them."""
        lines = list[str]()
        for part in dict.fromkeys(score.part for scores in self.scores.values() for score in scores):
            rows = {n: [s for s in scores if s.part == part] for n, scores in self.scores.items()}
            count = len(next(iter(rows.values())))
            lines += [f"**{part.capitalize()}** ({count} pairs; 95 % bootstrap intervals over pairs)\n"]
            lines += table(HEAD, (_row(self.systems[name], scores) for name, scores in rows.items()))
        lines += [
            f"Targets are heard for {HEARD:g} s. WER by Whisper {self.judges.recogniser}, int8, greedy; both texts in "
            "lower case, unpunctuated, numbers written out."
        ]
        if self.among:
            sizes = " to ".join(map(str, sorted({min(self.among.values()), max(self.among.values())})))
            lines += [
                f"Voices by Resemblyzer, against up to {TAUGHT} other recordings of each; nearest of {sizes} voices of "
                f"the target's gender: those held out, filled up with the likest; of less than {AMONG} it is not told."
            ]
        else:
            lines += ["Voices are not compared: the package Resemblyzer is not here."]
        lines += [
            "F0 by WORLD, where both have one. RTF is processor time on one thread, each voice heard once."
        ]
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """All scores, pair by pair."""
        return {
            "recogniser": self.judges.recogniser,
            "among": self.among,
            "latency": {name: system.latency for name, system in self.systems.items()},
            "scores": {name: [asdict(score) for score in scores] for name, scores in self.scores.items()},
        }


def bench(
    systems: Iterable[System],
    material: Material,
    judges: Judges,
    keep: Callable[[str, Pair, Sound, int], object] = lambda name, pair, sound, rate: None,
    tell: Callable[[str], object] = print,
) -> Bench:
    """Judge systems on pairs; `keep` gets all that they make. Raises what a system or a decoder raises."""
    voices, embed = material.voices, judges.embed
    prints = {name: printed(voice, embed) for name, voice in voices.items()} if embed else {}
    targets = sorted({pair.target for pair in material.pairs})
    groups = {name: among(name, voices, prints) for name in targets if prints}
    own: dict[Row, int] = {}  # words that are wrong in a recording itself
    result = Bench(judges, {}, {}, {name: len(group) for name, group in groups.items()})
    for system in systems:
        tell(f"judging {system.name}")
        result.systems[system.name] = system
        scores = result.scores[system.name] = []
        for pair in material.pairs:
            source = decode(pair.row.path, system.rate)
            voice = spoken(material.heard[pair.source if system.own else pair.target], system.rate)
            begun = time.process_time()
            made = system.convert(source, voice)
            elapsed = time.process_time() - begun
            keep(system.name, pair, made, system.rate)
            if pair.row not in own:
                own[pair.row] = wrong(pair.row.text, judges.hear(resample(source, system.rate, RATE)))
            converted = Converted(pair, source, made, system.rate, elapsed, own[pair.row])
            known = {name: prints[name] for name in groups.get(pair.target, [])}
            scores.append(score(converted, judges, known, prints.get(pair.source)))
    return result


def spoken(rows: Sequence[Row], rate: int) -> Sound:
    """The first seconds of recordings, one after the other."""
    return np.concatenate([decode(row.path, rate) for row in rows])[: round(HEARD * rate)]


def wrong(text: str, heard: str) -> int:
    """How many words are."""
    return distance(words(text), words(heard))


def score(result: Converted, judges: Judges, known: Mapping[str, Print], source: Print | None) -> Score:
    """Judge one result; `known` are prints of the voices that it may be nearest to, `source` that of whose it was."""
    pair, rate, sound = result.pair, result.rate, resample(result.made, result.rate, RATE)
    text, heard = pair.row.text, judges.hear(sound)
    judged = Score(
        number=pair.number,
        part=pair.part,
        source=pair.source,
        target=pair.target,
        text=text,
        heard=heard,
        words=len(words(text)),
        wrong_words=wrong(text, heard),
        own_wrong=result.own_wrong,
        dnsmos=dnsmos(sound, sound),
        distillmos=distill_mos(sound, sound),
        f0=follows(result.made, result.source, rate),
        clicks=clicks(result.made, rate),
        seconds=len(result.made) / rate,
        elapsed=result.elapsed,
    )
    if source is None or not judges.embed:
        return judged
    own = judges.embed(sound)
    likest = nearest(own, known) if len(known) >= AMONG else None
    return replace(
        judged, to_target=float(own @ known[pair.target]), to_source=float(own @ source), nearest=likest
    )


def _row(system: System, scores: Sequence[Score]) -> list[str]:
    """A system's row of one part."""
    said, spent = [s.words for s in scores], [s.seconds for s in scores]
    alike = [
        (s.to_target, s.to_source) for s in scores if s.to_target is not None and s.to_source is not None
    ]
    return [
        system.name,
        cell([100.0 * s.wrong_words for s in scores], said, 1),
        cell([100.0 * (s.wrong_words - s.own_wrong) for s in scores], said, 1) if system.made else "",
        cell([s.dnsmos for s in scores]),
        cell([s.distillmos for s in scores]),
        cell([100.0 * (s.nearest == s.target) for s in scores if s.nearest], digits=0),
        cell([100.0 * (target > source) for target, source in alike], digits=0),
        cell([target for target, _ in alike]),
        cell([source for _, source in alike]),
        cell([s.f0 for s in scores if s.f0 is not None]) if system.made else "",
        cell([60.0 * s.clicks for s in scores], spent, 1),
        cell([s.elapsed for s in scores], spent, 3) if system.made else "",
        "" if not system.made else "all" if system.latency is None else f"{system.latency:.0f}",
    ]
