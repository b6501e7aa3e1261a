"""Link: a WebSocket stream that outlives its connections, and the journal of what they were sent."""

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from riverrun.media import Chunk
from riverrun.media.chunk import Array
from riverrun.streaming import wire
from riverrun.streaming.errors import ProtocolError
from riverrun.streaming.forms import Form, Pictures, Sound, number
from riverrun.streaming.inbox import Inbox
from riverrun.streaming.journal import Intake, Journal
from riverrun.streaming.player import Player
from riverrun.streaming.problems import EXPECTED
from riverrun.streaming.projector import Projector
from riverrun.streaming.show import Show
from riverrun.streaming.speech import Speech
from riverrun.streaming.stream import Stream

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub


class Link:
    """A stream, the journal of its output, and whichever connection it has now."""

    def __init__(
        self, hub: "Hub", wanted: wire.Open, stream: Stream, player: Player | Projector | None = None
    ) -> None:
        """`player` has what comes out heard by others, too."""
        limits = hub.settings.streams
        if isinstance(stream, Speech | Show):
            wanted = replace(wanted, live=None)  # of speech and pictures, nothing is left out
        self.hub, self.wanted, self.stream, self.player = hub, wanted, stream, player
        stream.notice = self.say
        self.session, self.token = stream.name, secrets.token_urlsafe(24)
        self.epoch = 0  # of the connection that may write; older ones are fenced off
        self.journal = Journal(wanted.rate, limits.journal, limits.journal_bytes)
        self.intake = Intake()
        self.news: deque[str] = deque(maxlen=256)  # control messages for the client
        self.updated = ""  # the last of them that answers an update
        self.changed = asyncio.Event()  # there is something to send, or to leave for
        self.room = asyncio.Event()  # the journal has room again
        self.over: str | None = None  # why the stream has ended
        self.failure: Exception | None = None
        self.form: Form = Pictures(wanted, stream) if isinstance(stream, Show) else Sound(wanted)
        self.inbox = Inbox(stream, self.say)
        self.waiting = 0  # ticks in it
        self.made = 0  # the tick after all output so far
        self.tasks = [asyncio.create_task(self._guard(part())) for part in (self._pump, self.inbox.run)]
        self.grace: asyncio.Task[None] | None = None

    def opened(self) -> str:
        """The message that begins a connection."""
        limits, wanted = self.hub.settings.streams, self.wanted
        return wire.message(
            "opened",
            session=self.session,
            token=self.token,
            epoch=self.epoch,
            model=wanted.model,
            rate=number(wanted.rate),
            channels=wanted.channels,
            format=wanted.format,
            latency=self.stream.latency,
            window=round(limits.window * wanted.rate),
            input=self.intake.next,
            output=self.journal.next,
            resume=limits.resume,
            frame=self.form.longest,
            **self.form.about(),
        )

    def attach(self) -> int:
        """Take the stream for a new connection; give its epoch."""
        self.epoch += 1
        if self.grace:
            self.grace.cancel()
            self.grace = None
        self.changed.set()  # wakes the connection before, which then leaves
        return self.epoch

    def detach(self, epoch: int) -> None:
        """Wait for another connection, if this was the last one."""
        if epoch == self.epoch and self.session in self.hub.links:
            self.grace = asyncio.create_task(self._expire())
            if not self.over:
                self.stream.log.info("stream %s has lost its connection", self.session)

    def say(self, kind: str, **values: Any) -> None:
        """Have a control message sent; of updates of a prompt that wait to be answered, the last answers all."""
        message = wire.message(kind, **values)
        if isinstance(self.stream, Show) and kind == "updated":
            if self.news and self.news[-1] == self.updated:
                self.news.pop()
            self.updated = message
        self.news.append(message)
        self.changed.set()

    async def end(self, why: str) -> None:
        """Free the stream. Twice is once."""
        self.hub.links.pop(self.session, None)
        for task in self.tasks:
            task.cancel()
        await self.stream.close(self.over or why)
        self.over = self.over or why
        self._hush()
        self.changed.set()

    async def settle(self, why: str) -> None:
        """Free the compute; keep what was not acknowledged, which may be lost on its way, for another connection."""
        if not self.journal.frames:
            await self.end(why)
            return
        for task in self.tasks:
            task.cancel()
        self.over = self.over or why
        self._hush()
        await self.stream.close(self.over)
        settled = [link for link in self.hub.links.values() if link.stream.closed]
        for oldest in settled[: len(settled) - self.hub.settings.streams.sessions]:
            await oldest.end("expired")

    def _hush(self) -> None:
        """End it for all others who hear it, unless it is only to be heard to its end."""
        if self.player and self.over != "finished":
            self.player.cast.close()

    async def _expire(self) -> None:
        await asyncio.sleep(self.hub.settings.streams.resume)
        await self.end("expired")

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a part of the work; what goes wrong in it ends the stream."""
        try:
            await work
        except Exception as error:
            if not isinstance(error, EXPECTED):
                self.stream.log.exception("stream %s failed", self.session)
            self.over, self.failure = self.over or "failed", self.failure or error
            self.changed.set()

    async def _pump(self) -> None:
        """Bring the stream's output into the journal; wait, or drop the oldest, when it is full."""
        while True:
            chunks = await self.stream.read()
            begun = self.stream.round
            for chunk in self.form.gathered(chunks):
                if self.stream.round == begun:
                    await self._keep(chunk)
                if self.stream.round == begun and self.player:
                    await self.player.put(chunk)
            if self.stream.round != begun:
                continue
            if not chunks or chunks[-1].last:
                self.over = self.over or "finished"
                self.changed.set()
                if self.player:
                    self.player.finish()
                return

    async def _feed(self, frame: wire.Frame, data: Array, arrived: float) -> None:
        """Feed a frame, and say that it is safe."""
        dropped = 0
        if len(data):
            dropped = await self.stream.feed(data, frame.at / 1e6 if frame.at else None, arrived)
        if frame.last:
            await self.stream.finish()
        self.waiting -= len(data)
        self.say("ack", seq=frame.seq)
        if dropped:
            self.say("event", name="overrun", ticks=dropped)

    async def _keep(self, chunk: Chunk) -> None:
        at = round(1e6 * self.hub.clock())
        for pts, ticks, data, last in await self.form.parts(chunk):
            self.journal.add(pts, ticks, data, at, last, self.form.kind)
        self.made = chunk.end
        self.changed.set()
        if self.wanted.live is not None:
            self.journal.trim()  # what of it was not sent yet is missed when the next frame is
            return
        while self.journal.full:
            self.room.clear()
            await self.room.wait()

    # What a client says

    def again(self) -> None:
        """Tell a client who comes back what of its text is said, and words and prompts it may not have heard of."""
        if isinstance(self.stream, Show):
            for shown in self.stream.shown:
                if shown["tick"] >= self.journal.safe - self.wanted.rate:
                    self.say("shown", **shown)
        if not isinstance(self.stream, Speech):
            return
        if self.inbox.said >= 0:
            self.say("said", seq=self.inbox.said)
        heard = self.journal.frames[0][0].pts if self.journal.frames else self.made
        late = [word for word in self.stream.words if word.ends > heard - self.wanted.rate]
        for context, words in groupby(late, lambda word: word.context):
            self.say("words", context=context, words=[word.told() for word in words])

    async def clear(self, sent: int, control: wire.Clear) -> None:
        """Drop what waits to be said, and what was said and not sent; `sent` is the last frame that was."""
        start = self.journal.cut(sent)
        self.made = self.made if start is None else start
        self.room.set()
        if isinstance(self.player, Player):
            self.player.clear()
        await self.inbox.clear(control, self.made)

    def take(self, frame: wire.Frame) -> None:
        """Take a frame, once however often it comes. Raises ProtocolError."""
        longest = self.form.longest
        limit = 2 * round(self.hub.settings.streams.window * self.wanted.rate) + longest
        if isinstance(self.stream, Show):
            raise ProtocolError(f"{self.wanted.model} takes {self.stream.takes}, no sound or pictures")
        if frame.kind != self.form.kind:
            raise ProtocolError(f"frame {frame.seq} is of kind {frame.kind}, expected {self.form.kind}")
        data = wire.samples(frame.payload, self.wanted.format, self.wanted.channels)
        if len(data) > longest:
            raise ProtocolError(f"frame {frame.seq} has {len(data)} ticks, the limit is {longest}")
        if self.waiting + len(data) > limit:
            raise ProtocolError(f"{self.waiting} ticks wait already, the limit is {limit}: wait for acks")
        if self.intake.take(frame, len(data)):
            self.inbox.add(partial(self._feed, frame, np.clip(data, -1, 1), self.hub.clock()))
            self.waiting += len(data)

    def acknowledged(self, ack: wire.Ack) -> bool:
        """Forget what the client has; tell whether any of it was news. Raises ProtocolError."""
        before = len(self.journal.frames)
        self.journal.acknowledge(ack.seq)
        self.stream.ledger.buffered = buffered = max(0.0, min(ack.buffered, 60.0))
        if isinstance(self.stream, Show):
            self.stream.watched(self.journal.safe - math.ceil(buffered * self.wanted.rate))
        self.room.set()
        return len(self.journal.frames) < before
