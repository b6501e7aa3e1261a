"""Projector: pictures, which are made faster than they are seen, are shown at their pace to all who watch a cast."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from riverrun.media import Chunk, cut
from riverrun.media.codecs import frames
from riverrun.streaming.cast import Cast
from riverrun.streaming.show import Show

CLOCK = 90_000  # Hz, of pictures in RTP
LATE = 0.1  # seconds that a busy loop makes up for at once; after more, all that follows is later
LOOK = 0.25  # seconds between looks at whether it is over
PARTING = 0.5  # seconds at the end, in which the last pictures get through what watchers buffer


class Screen:
    """Gives pictures as they are: each who watches has an encoder, whose codec and rate are the connection's."""

    kind: Literal["audio", "video"] = "video"
    frame = 1

    def add(self, chunk: Chunk) -> list[Any]:
        """The frames of a chunk."""
        return frames(chunk)


class Projector:
    """Takes the chunks of a stream that shows, and shows each picture at its time; where there is none, the last stays.

    It tells the stream what was seen. It ends with its cast, and the cast with it: soon after `finish`, or at once by
    `cast.close`.
    """

    def __init__(self, stream: Show, name: str | None, began: Callable[[int], None] | None = None) -> None:
        """`began` is told which tick is shown after none was. Raises Conflict, InvalidRequest."""
        self.stream, self.rate, self.clock = stream, stream.rate, stream.hub.clock
        self.cast = Cast(stream.hub, name, Screen(), stream.log)
        self.began = began
        self.waiting: deque[Chunk] = deque()
        self.changed, self.room = asyncio.Event(), asyncio.Event()
        self.finished = self.paused = False
        self.quiet = True  # nothing is being shown
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Twice is once."""
        self.task = self.task or asyncio.create_task(self._run())

    async def put(self, chunk: Chunk) -> None:
        """Show a chunk after all else; wait while that is more than a lead."""
        if len(chunk):
            self.waiting.append(chunk)
            self.changed.set()
        while sum(map(len, self.waiting)) > self.stream.lead + self.stream.hop and not self.cast.over:
            self.room.clear()
            await self.room.wait()

    def pause(self, on: bool) -> None:
        """Stay at a picture, or go on from there."""
        self.paused = on
        self.changed.set()

    def finish(self) -> None:
        """End once all was seen."""
        self.finished = True
        self.changed.set()

    async def end(self) -> None:
        """Wait until it has ended."""
        if self.task:
            await asyncio.wait([self.task])

    async def _run(self) -> None:
        start = due = self.clock()
        try:
            while not self.cast.over and not (self.finished and not self.waiting):
                if self.paused or not self.waiting:
                    self.quiet = True
                    self.changed.clear()
                    with suppress(TimeoutError):  # nobody says when the cast is over
                        await asyncio.wait_for(self.changed.wait(), LOOK)
                    due = max(due, self.clock())
                    continue
                await asyncio.sleep(max(0.0, due - self.clock()))
                self._show(round((due - start) * CLOCK))
                due = max(due + float(1 / self.rate), self.clock() - LATE)
            await asyncio.sleep(0 if self.cast.over else PARTING)
        finally:
            self.cast.close()
            self.room.set()

    def _show(self, pts: int) -> None:
        """Send the next picture, at a time of RTP's."""
        first = self.waiting.popleft()
        picture, rest = cut(first, first.pts + 1)
        if len(rest):
            self.waiting.appendleft(rest)
        if self.quiet and self.began:
            self.began(picture.pts)
        self.quiet = False
        self.room.set()
        self.stream.watched(picture.end)
        if self.cast.tracks:
            self.cast.send(replace(picture, pts=pts, rate=CLOCK))
