"""When everything in a corpus is said: an aligner's view of each utterance, in one file, and how well it hears."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from riverrun.media import MediaError
from riverrun.models.errors import ModelError
from riverrun.models.speech.aligner import MARKS, PAUSES, Aligner, Span, spell
from riverrun.models.training.corpus import decode
from riverrun.models.training.readings import Pool, readings

LEAST = 0.5  # confidence; a fitting text has 0.9, another one 0.02


@dataclass(frozen=True)
class Timing:
    """When the symbols of one file are spoken. Units: `seconds` a frame."""

    file: str
    spans: tuple[Span, ...]
    confidence: float
    seconds: float


def write(model: Aligner, folder: Path, out: Path, least: float = LEAST) -> tuple[int, int]:
    """Align every file a folder's manifest lists, whatever its split; give how many were, and how many were not.

    Writes out/alignments.jsonl, a line a file: its phonemes, the confidence, the seconds of a frame, the first
    symbol's first frame, and the frames of each symbol. Files that cannot be decoded or aligned, or whose
    confidence is under `least`, go to out/skipped.jsonl with the reason. Raises as `readings` does.
    """
    out.mkdir(parents=True, exist_ok=True)
    kept = lost = 0
    with (
        open(out / "alignments.tmp", "w", encoding="utf-8") as file,
        open(out / "skipped.jsonl", "w", encoding="utf-8") as skipped,
    ):
        for reading in readings(folder):
            try:
                sound = torch.from_numpy(decode(reading.file, model.config.rate))
                found = model.align(sound, reading.phonemes)
                reason = f"confidence {found.confidence:.3f}, expected {least:g} or more"
            except (MediaError, ModelError) as error:
                found, reason = None, str(error)
            if found is None or found.confidence < least:
                lost += 1
                _line(skipped, {"file": reading.file.name, "reason": reason})
                continue
            kept += 1
            row = {
                "file": reading.file.name,
                "phonemes": reading.phonemes,
                "confidence": round(found.confidence, 3),
                "seconds": model.config.seconds,
                "first": found.spans[0].start,
                "frames": [span.end - span.start for span in found.spans],
            }
            _line(file, row)
    (out / "alignments.tmp").replace(out / "alignments.jsonl")
    return kept, lost


def _line(out: Any, row: dict[str, Any]) -> None:
    out.write(json.dumps(row, ensure_ascii=False) + "\n")


def read(folder: Path) -> Iterator[Timing]:
    """What `write` wrote. Raises ModelError if there is nothing."""
    file = folder / "alignments.jsonl"
    if not file.is_file():
        raise ModelError(f"{file} is missing; write it first with alignments.write")
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        ends = row["first"] + np.cumsum([0, *row["frames"]])
        places = zip(row["phonemes"], ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        yield Timing(row["file"], tuple(Span(*place) for place in places), row["confidence"], row["seconds"])


@torch.inference_mode()
def errors(model: Aligner, pool: Pool) -> float:
    """Phoneme error rate without the text: sounds wrong, missing or too many, for each that is spoken."""
    wrong = total = 0
    for which, phonemes in enumerate(pool.phonemes):
        heard = spell(model(pool.mel(which)[None])[0], model.config.symbols)
        spoken = "".join(symbol for symbol in phonemes if symbol not in MARKS + PAUSES)
        wrong, total = wrong + distance(spoken, heard), total + len(spoken)
    return wrong / max(total, 1)


def distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many insertions, deletions and changes lead from one to the other.

    Source: Wagner and Fischer 1974.
    """
    row = np.arange(len(b) + 1)
    for i, one in enumerate(a, 1):
        changed = row[:-1] + np.array([one != other for other in b], int)
        best = np.concatenate([[i], np.minimum(row[1:] + 1, changed)])
        # What is left, insertions, is a running minimum once the way along the row is taken off.
        steps = np.arange(len(b) + 1)
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])
