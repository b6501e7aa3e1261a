"""Whole videos: write pictures into an MP4 file that says how they were made, and read those of any file."""

import json
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import numpy as np

from riverrun.media.chunk import Array, Chunk
from riverrun.media.codecs import BT709, even, frames
from riverrun.media.errors import CorruptMedia, UnsupportedMedia
from riverrun.media.limits import DEFAULT, Limits
from riverrun.media.reader import Source, opened
from riverrun.media.writer import abandon, part_of, writing

HOP = 16  # frames of a chunk that is read
RATES = range(1, 241)  # frames a second that are read


class VideoWriter:
    """One MP4 file being written. In a `with`, it appears under its name when all went well, and else not at all.

    An open binary file that can seek is written as it is.

    `title` and `settings` are kept in its tags, where `settings_of` and other programs find them.
    Raises UnsupportedMedia if it cannot be written.
    """

    def __init__(
        self,
        target: str | Path | BinaryIO,
        rate: int | Fraction,
        size: tuple[int, int],
        title: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """`size` is rows and columns; an odd one is made even, as Fragments does."""
        import av

        self.path = Path(target) if isinstance(target, str | Path) else None
        self.name, self.rate = self.path or "the video", Fraction(rate)
        self.part = part_of(self.path) if self.path else None
        try:
            with writing(self.name):
                # what players need first is written last, and brought to the begin where that can be done
                options = {"movflags": "faststart"} if self.part else {}
                file = cast(Any, str(self.part) if self.part else target)
                self.container = av.open(file, "w", format="mp4", container_options=options)
                self.container.metadata.update(tagged(title, settings))
                self.stream: Any = self.container.add_stream("libx264", rate=self.rate, options=BT709)
                self.stream.height, self.stream.width = even(size)
                self.stream.pix_fmt, self.stream.time_base = "yuv420p", 1 / self.rate
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.discard() if kind else self.close()

    def put(self, chunk: Chunk) -> None:
        """Write the next pictures. Raises UnsupportedMedia if that fails."""
        with writing(self.name):
            for frame in frames(chunk, "bt709"):
                self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Finish; the file now appears under its name. Raises UnsupportedMedia if that fails."""
        try:
            with writing(self.name):
                self.container.mux(self.stream.encode(None))
                self.container.close()
                if self.part and self.path:
                    os.replace(self.part, self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing behind. Twice is once."""
        abandon(getattr(self, "container", None), self.part)


def tagged(title: str, settings: Mapping[str, Any] | None) -> dict[str, str]:
    """The tags of a video: its title, and its settings as JSON in the comment."""
    comment = {} if settings is None else {"comment": json.dumps(settings, ensure_ascii=False)}
    return ({"title": title} if title else {}) | comment


def settings_of(source: Source, limits: Limits = DEFAULT) -> dict[str, Any] | None:
    """What a video says of how it was made; None if it does not. Raises MediaError."""
    with opened(source, limits) as (container, _):
        comment = str(container.metadata.get("comment", ""))
    try:
        found = json.loads(comment)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def video(source: Source, limits: Limits = DEFAULT) -> Iterator[Chunk]:
    """The pictures of a file as chunks from tick 0 at its mean rate; the last one is `last`.

    Where a file's times are uneven, pictures are repeated or left out, so that each stays at its time.
    Raises UnsupportedMedia if it has none or exceeds a limit, CorruptMedia if it is damaged.
    """
    with opened(source, limits) as (container, name):
        stream = _stream(container, name, limits)
        rate, start, held = Fraction(stream.average_rate), 0, list[Array]()
        for picture in _paced(_timed(container, stream, rate, limits.seconds, name)):
            if len(held) == HOP:
                yield Chunk(np.stack(held), start, rate)
                start, held = start + HOP, []
            held.append(picture)
        if not held:
            raise CorruptMedia(f"{name} holds no picture that can be decoded")
        yield Chunk(np.stack(held), start, rate, last=True)


def _stream(container: Any, name: str, limits: Limits) -> Any:
    """The pictures of a container, held against the limits."""
    if not container.streams.video:
        raise UnsupportedMedia(f"{name} holds no pictures: name a video")
    stream = container.streams.best("video") or container.streams.video[0]
    rate, (rows, columns) = stream.average_rate or 0, (stream.height or 0, stream.width or 0)
    if not RATES[0] <= rate <= RATES[-1]:
        raise UnsupportedMedia(
            f"{name} has {float(rate):g} pictures a second, expected {RATES[0]} to {RATES[-1]}"
        )
    if not 0 < rows * columns <= limits.pixels:
        raise UnsupportedMedia(
            f"{name} has pictures of {columns} x {rows}, the limit is {limits.pixels} pixels"
        )
    return stream


def _timed(
    container: Any, stream: Any, rate: Fraction, seconds: float, name: str
) -> Iterator[tuple[int, Array]]:
    """Each picture, and the tick it begins nearest to, from that of the first on."""
    first: Fraction | None = None
    for frame in container.decode(stream):
        at = Fraction(frame.pts or 0) * frame.time_base
        first = at if first is None else first
        tick = round((at - first) * rate)
        if tick >= seconds * rate:
            raise UnsupportedMedia(f"{name} lasts more than the limit of {seconds:g} s: cut it")
        yield tick, frame.to_ndarray(format="rgb24")


def _paced(timed: Iterator[tuple[int, Array]]) -> Iterator[Array]:
    """One picture a tick: the one before while there is none, the first of several."""
    made, last = 0, None
    for tick, picture in timed:
        for _ in range(made, tick):
            yield picture if last is None else last
        if tick >= made:
            yield picture
            made, last = tick + 1, picture
