"""Videos and pictures of one's own, with a caption each: listed, measured, and cut to a size and a length."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.media import cover, picture, video
from riverrun.models.errors import ModelError
from riverrun.models.video import prompts
from riverrun.models.video.resolutions import PICTURE

VIDEOS = frozenset(".mp4 .m4v .mov .mkv .webm .avi".split())
PICTURES = frozenset(".png .jpg .jpeg .webp .gif .bmp".split())  # of a moving one, its first picture
SCORES = {"aes": "aesthetic", "flow": "motion"}  # columns of a list, and what captions say of them
CAMERA = "camera_motion"  # another one
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A file, and its caption as prompts are read: with scores, and cleaned."""

    path: Path
    text: str

    @property
    def still(self) -> bool:
        return self.path.suffix.lower() in PICTURES


@dataclass(frozen=True)
class Measure:
    """How long and how large a clip is. Units: frames, pixels, frames a second: 120 where there is only one."""

    frames: int
    height: int
    width: int
    rate: float


def listed(sources: Sequence[Path], aesthetic: float, apart: Path | None = None) -> list[Clip]:
    """All clips of folders, and of lists that name them.

    In a folder, or one below it, the caption of clip.mp4 is clip.txt beside it. A list is a .csv or .jsonl file whose
    lines have `path`, from the folder of the list on, and `text`, and may have `aes`, `flow` and `camera_motion`;
    the rest of it is not looked at. `aesthetic` is the score of clips that have none, and what lies in `apart`, which
    a training writes, is not taken for a clip.
    Raises ModelError for what is no folder and no list, clips that lack a caption, or have one of which cleaning
    leaves nothing, and where there are no clips.
    """
    rows = [
        row for source in sources for row in (_beside(source, apart) if source.is_dir() else _lines(source))
    ]
    if bare := [where for _, row, where in rows if not str(row["text"] or "").strip()]:
        more = f", and {len(bare) - 1} others" if len(bare) > 1 else ""
        raise ModelError(f"{bare[0]} has no caption{more}: say what is to be seen in it")
    if not rows:
        raise ModelError(f"{', '.join(map(str, sources))} has no clips: expected {_known()}")
    return [Clip(path, _text(row, where, aesthetic)) for path, row, where in rows]


def _text(row: dict[str, Any], where: str, aesthetic: float) -> str:
    text = str(row["text"]).strip()
    if not prompts.cleaned(text):
        raise ModelError(
            f"{where} has the caption {text!r:.60}, of which cleaning leaves nothing: say it in English"
        )
    try:
        given: dict[str, Any] = {ours: row.get(name) for name, ours in SCORES.items()}
        scores = {name: float(value) for name, value in given.items() if value not in (None, "")}
        told: dict[str, Any] = {"aesthetic": aesthetic, **scores, "camera": row.get(CAMERA) or None}
        return prompts.cleaned(prompts.scored(text, **told))
    except (TypeError, ValueError, ModelError) as error:
        raise ModelError(f"{where}: {error}") from error


Row = tuple[Path, dict[str, Any], str]
"""A file, what is said of it, and where."""


def _beside(folder: Path, apart: Path | None) -> Iterator[Row]:
    for path in sorted(folder.rglob("*")):
        if apart and path.resolve().is_relative_to(apart.resolve()):
            continue
        if path.suffix.lower() in VIDEOS | PICTURES and path.is_file():
            yield (
                path,
                {"text": _content(told) if (told := path.with_suffix(".txt")).exists() else ""},
                str(path),
            )


def _lines(file: Path) -> Iterator[Row]:
    if file.suffix.lower() not in (".csv", ".jsonl"):
        raise ModelError(
            f"{file} is no folder and no list: expected {_known()}, or a .csv or .jsonl that names them"
        )
    content, rows = StringIO(_content(file), newline=""), list[Any]()
    try:
        if file.suffix.lower() == ".csv":
            rows += csv.DictReader(content)
        else:
            rows += [json.loads(line) for line in content if line.strip()]
    except (ValueError, csv.Error) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    for number, row in enumerate(rows, 1):
        where = f"{file}, clip {number}"
        named = row.get("path") if isinstance(row, dict) and "text" in row else None
        if not isinstance(named, str) or not named:
            raise ModelError(f"{where} holds {row!r:.60}, expected path and text")
        if (path := file.parent / named).suffix.lower() not in VIDEOS | PICTURES:
            raise ModelError(f"{where} is {path}, expected {_known()}")
        yield path, row, where


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error


def _known() -> str:
    return f"videos ({', '.join(sorted(VIDEOS))}) or pictures ({', '.join(sorted(PICTURES))})"


def measure(clip: Clip) -> Measure:
    """Decode a clip to see how much there is of it. Raises MediaError where that cannot be done."""
    if clip.still:
        height, width, _ = picture(clip.path).shape
        return Measure(1, height, width, PICTURE)
    frames, (height, width), rate = 0, (0, 0), 0.0
    for chunk in video(clip.path):
        frames, (height, width), rate = chunk.end, chunk.data.shape[1:3], float(chunk.rate)
    return Measure(frames, height, width, rate if frames > 1 else PICTURE)


def cut(clip: Clip, start: int, frames: int, size: tuple[int, int]) -> Frames:
    """As many frames of a clip from one on, each scaled to cover a size and cut to it.  # [f, *size, 3]

    Raises MediaError where it cannot be decoded.
    """
    pictures: Iterable[Frames] = (
        [picture(clip.path)] if clip.still else _some(clip.path, start, start + frames)
    )
    return np.stack([cover(one, size) for one in pictures])


def _some(path: Path, start: int, end: int) -> Iterator[Frames]:
    for chunk in video(path):
        yield from chunk.data[max(start - chunk.pts, 0) : max(end - chunk.pts, 0)]
        if chunk.end >= end:
            return
