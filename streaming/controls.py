"""Controls: what a client may ask of a running stream, the same on a WebSocket and on a data channel."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from riverrun.streaming import wire
from riverrun.streaming.access import Bucket
from riverrun.streaming.errors import ProtocolError, SessionEnded
from riverrun.streaming.problems import EXPECTED, TooMany, body
from riverrun.streaming.show import Show
from riverrun.streaming.stream import Stream

OFTEN = 0.1  # seconds, the least between two reports


class Say(Protocol):
    """Has a control message sent."""

    def __call__(self, kind: str, **values: Any) -> None: ...


class Controls:
    """Answers the messages of one connection about its stream. `close` it when the connection is over."""

    def __init__(self, stream: Stream, say: Say, rate: float, clock: Callable[[], float]) -> None:
        """`rate` is how many messages a second are taken."""
        self.stream, self.say, self.rate, self.clock = stream, say, rate, clock
        self.bucket = Bucket(rate, 4 * rate, clock())
        self.reports: asyncio.Task[None] | None = None

    def parse(self, text: str) -> wire.Control:
        """Read a message. Raises ProtocolError, TooMany."""
        if self.bucket.take(self.clock()):
            raise TooMany(f"more than {self.rate:g} control messages a second")
        return wire.parse(text)

    async def obey(self, control: wire.Control) -> None:
        """Do what every transport does alike. Raises ProtocolError, SessionEnded."""
        match control:
            case wire.Update():
                await self._update(control)
            case wire.Pause() if isinstance(self.stream, Show):
                self.stream.pause(control.on)
            case wire.Pause():
                raise ProtocolError(f"{self.stream.wanted.model} cannot be paused: only pictures can")
            case wire.Finish():
                await self.stream.finish()
            case wire.Clock():
                self.say("clock", at=control.at, server=round(1e6 * self.clock()))
            case wire.Stats():
                self._report(control.every)
            case wire.Text() | wire.Clear():
                raise ProtocolError(f"{self.stream.wanted.model} takes {self.stream.takes}, no text")
            case _:
                raise ProtocolError("the stream is open already")

    def close(self) -> None:
        """Send no more reports."""
        if self.reports:
            self.reports.cancel()
            self.reports = None

    async def _update(self, control: wire.Update) -> None:
        if isinstance(self.stream, Show):
            self.bucket.give()  # of those that wait only the last counts
        try:
            await self.stream.update(control.request, control.id)
        except EXPECTED as error:
            if isinstance(error, SessionEnded) and not self.stream.closed:
                raise
            self.say("error", **body(error), fatal=False, id=control.id)
        else:
            self.say("updated", id=control.id)

    def _report(self, every: float | None) -> None:
        self.close()
        if every is None:
            self.say("stats", **self.stream.stats())
        elif every > 0:
            self.reports = asyncio.create_task(self._repeat(max(every, OFTEN)))

    async def _repeat(self, every: float) -> None:
        while True:
            self.say("stats", **self.stream.stats())
            await asyncio.sleep(every)
