"""WebRTC: a `Call` joins a peer to a stream, as `Duplex`, `Spoken` or `Watched`; a `Listener` gets what one gives."""

import asyncio
import math
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from aiortc import RTCDataChannel

from riverrun.media import Chunk
from riverrun.streaming import wire
from riverrun.streaming.cast import Cast, Track
from riverrun.streaming.controls import Controls
from riverrun.streaming.errors import ProtocolError, StreamError
from riverrun.streaming.forms import number
from riverrun.streaming.inbox import Inbox
from riverrun.streaming.opus import OWN_AHEAD, RATE, Ear, Mouth
from riverrun.streaming.peer import Peer
from riverrun.streaming.player import Player
from riverrun.streaming.problems import EXPECTED, body
from riverrun.streaming.projector import Projector
from riverrun.streaming.show import Show
from riverrun.streaming.stream import Stream

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

PARTING = 0.5  # seconds a peer has to hear that it is over
TOLD = ("finished", "failed", "shutdown", "idle")  # ends that it may not know of
BUFFER = "_RTCRtpReceiver__jitter_buffer"  # what aiortc gives a packet to
UNREAD = 1 << 17  # characters of messages that may wait
BACKLOG = 1 << 16  # bytes unsent on a data channel from which on it gets no more figures


class Call(Peer):
    """A peer that opened a stream: it is told, and may tell, on a data channel; it and others hear what comes out."""

    kind = "call"

    cast: Cast
    rate: float = RATE  # of the ticks that are told

    def __init__(self, hub: "Hub", stream: Stream) -> None:
        super().__init__(hub, stream.log)
        self.stream = stream
        stream.notice = self.say
        self.own: Track | None = None  # what goes back to the caller
        self.channel: RTCDataChannel | None = None
        self.controls = Controls(stream, self.say, hub.settings.streams.controls, hub.clock)
        self.messages, self.unread = asyncio.Queue[str](), 0  # characters that wait
        self.connection.on("datachannel", self._open)

    def say(self, kind: str, **values: Any) -> None:
        """Send a message on the data channel, if there is one."""
        channel = self.channel
        if not channel or channel.readyState != "open":
            return
        if kind != "stats" or channel.bufferedAmount < BACKLOG:
            channel.send(wire.message(kind, **values))

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What is done from the answer on."""
        return [self._obey()]

    async def obey(self, control: wire.Control) -> None:
        """Do what a message asks for."""
        match control:
            case wire.Ack():
                self.stream.ledger.buffered = max(0.0, min(control.buffered, 60.0))
            case wire.Cancel():
                self.end("cancelled")
            case _:
                await self.controls.obey(control)

    async def _answer(self, offer: str) -> str:
        """As every peer's; the work begins."""
        answer = await super()._answer(offer)
        if self.own and not self._sends():
            self.own.stop()
        self.tasks += [asyncio.create_task(self._guard(part)) for part in self.work()]
        return answer

    def _sends(self) -> bool:
        return any("send" in (t.currentDirection or "") for t in self.connection.getTransceivers())

    def _media(self, transceiver: Any) -> None:
        source = self.cast.source
        self.own = Track(
            source.kind, self._sent, lambda: self.say("event", name="skipped", ticks=source.frame)
        )
        self.cast.listen(self.own)
        self.connection.addTrack(self.own)

    def _sent(self, pts: int) -> None:
        """A packet that starts at a tick was sent."""

    def _open(self, channel: RTCDataChannel) -> None:
        if self.channel:
            channel.close()  # one is enough
            return
        self.channel = channel
        channel.on("message", self._told)
        wanted = self.stream.wanted
        self.say("opened", session=self.id, model=wanted.model, rate=self.rate, channels=wanted.channels,
                 latency=self.stream.latency, name=self.cast.name)  # fmt: skip

    def _told(self, text: str | bytes) -> None:
        if not isinstance(text, str) or self.unread + len(text) > UNREAD:
            self._fail(ProtocolError(f"more than {UNREAD} characters of messages wait, or one is no text"))
            return
        self.messages.put_nowait(text)
        self.unread += len(text)

    async def _obey(self) -> None:
        while True:
            text = await self.messages.get()
            self.unread -= len(text)
            await self.obey(self.controls.parse(text))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a part of the work; what goes wrong in it ends the call, and no other."""
        try:
            await work
        except Exception as error:
            if not isinstance(error, EXPECTED):
                self.log.exception("call failed")
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.say("error", **body(error), fatal=True)
        self.end("failed")

    async def _end(self) -> None:
        self.cast.leave()
        self.controls.close()
        await self.stream.close(self.over or "closed")
        self.say("ended", reason=self.over)
        if self.over in TOLD and self.connection.connectionState == "connected":
            await asyncio.sleep(PARTING)
        self.cast.close()
        await super()._end()


class Duplex(Call):
    """A call whose sound goes into a stream, and what comes out goes back to it, if it listens."""

    def __init__(self, hub: "Hub", stream: Stream, name: str | None) -> None:
        """Raises Conflict, InvalidRequest."""
        super().__init__(hub, stream)
        mouth = Mouth(stream.channels, math.ceil(stream.latency * RATE))
        self.cast = Cast(hub, name, mouth, stream.log)
        self.ear = Ear(stream.channels, hub.clock)

    def gone(self, now: float) -> str:
        return "vanished" if now - self.ear.heard > self.limits.idle else ""

    def met(self) -> None:
        self.ear.heard = self.hub.clock()  # the time it took to connect was no silence

    def work(self) -> list[Coroutine[Any, Any, None]]:
        return [*super().work(), self._feed(), self._give()]

    def _media(self, transceiver: Any) -> None:
        if not hasattr(transceiver.receiver, BUFFER):
            raise RuntimeError(f"aiortc's receiver has no {BUFFER}: this release of it cannot be used")
        setattr(transceiver.receiver, BUFFER, self.ear)
        super()._media(transceiver)

    def _sent(self, pts: int) -> None:
        self.stream.sent(pts - OWN_AHEAD, self.hub.clock())

    async def _feed(self) -> None:
        while True:
            data, captured, arrived = await self.ear.hear()
            try:
                lost = await self.stream.feed(data, captured, arrived) + self.ear.dropped
            except StreamError:
                if self.stream.finished:
                    return  # packets go on coming after the caller has said that it is done
                raise
            self.ear.dropped = 0
            if lost:
                self.say("event", name="overrun", ticks=lost)

    async def _give(self) -> None:
        over = False
        while not over:
            chunks = await self.stream.read()
            for chunk in chunks:
                self._send(chunk)
            over = not chunks or chunks[-1].last
        self.end("finished")

    def _send(self, chunk: Chunk) -> None:
        if self.cast.tracks:
            self.cast.send(chunk)
        else:
            self.stream.sent(chunk.pts, self.hub.clock())


class Spoken(Call):
    """A call whose text is said as it comes; silence keeps its time while there is nothing to say.

    Who says nothing on the data channel for long, while nothing is heard, has gone as on a WebSocket.
    """

    def __init__(self, hub: "Hub", stream: Stream, name: str | None) -> None:
        """Raises Conflict, InvalidRequest."""
        super().__init__(hub, stream)
        self.player = Player(stream, name, self._began)
        self.cast = self.player.cast
        self.inbox = Inbox(stream, self.say)
        self.heard = hub.clock()

    def gone(self, now: float) -> str:
        if not self.player.quiet:
            self.heard = now
        return "idle" if now - self.heard > self.hub.settings.streams.idle else ""

    def met(self) -> None:
        self.player.start()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        return [*super().work(), self.inbox.run(), self._give()]

    async def obey(self, control: wire.Control) -> None:
        self.heard = self.hub.clock()
        match control:
            case wire.Text():
                self.inbox.text(control)
                self.controls.bucket.give()  # their characters are counted
            case wire.Clear():
                await self.inbox.clear(control, self.player.clear())
            case wire.Update() | wire.Finish():
                self.inbox.add(partial(super().obey, control))
            case _:
                await super().obey(control)

    def _media(self, transceiver: Any) -> None:
        super()._media(transceiver)
        transceiver.direction = "sendonly"

    def _began(self, tick: int) -> None:
        self.say("event", name="playing", tick=tick, at=round(1e6 * self.hub.clock()))

    async def _give(self) -> None:
        over = False
        while not over:
            chunks = await self.stream.read()
            begun = self.stream.round
            for chunk in chunks:
                if self.stream.round == begun:
                    await self.player.put(chunk)
            over = self.stream.round == begun and (not chunks or chunks[-1].last)
        self.player.finish()
        await self.player.end()
        self.end("finished")


class Watched(Call):
    """A call whose prompts come on the data channel, and whose pictures go back; none are made while it is paused."""

    medium = "video"

    def __init__(self, hub: "Hub", stream: Show, name: str | None) -> None:
        """Raises Conflict, InvalidRequest."""
        super().__init__(hub, stream)
        self.show, self.rate = stream, number(stream.rate)
        self.projector = Projector(stream, name, self._began)
        self.cast = self.projector.cast
        self.playing: dict[str, Any] = {}  # the latest event of that name
        self.heard = hub.clock()

    def gone(self, now: float) -> str:
        if not self.projector.quiet:
            self.heard = now
        return "idle" if now - self.heard > self.hub.settings.streams.idle else ""

    def met(self) -> None:
        self.projector.start()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        return [*super().work(), self._give()]

    async def obey(self, control: wire.Control) -> None:
        self.heard = self.hub.clock()
        if isinstance(control, wire.Pause):
            self.projector.pause(control.on)
        await super().obey(control)

    def _open(self, channel: RTCDataChannel) -> None:
        super()._open(channel)
        for shown in self.show.shown:  # before there was a channel
            self.say("shown", **shown)
        if self.playing:
            self.say("event", **self.playing)

    def _media(self, transceiver: Any) -> None:
        super()._media(transceiver)
        transceiver.direction = "sendonly"

    def _began(self, tick: int) -> None:
        self.playing = {"name": "playing", "tick": tick, "at": round(1e6 * self.hub.clock())}
        self.say("event", **self.playing)

    async def _give(self) -> None:
        over = False
        while not over:
            chunks = await self.stream.read()
            for chunk in chunks:
                await self.projector.put(chunk)
            over = not chunks or chunks[-1].last
        self.projector.finish()
        await self.projector.end()
        self.end("finished")


class Listener(Peer):
    """A peer that gets a cast, until either leaves."""

    kind = "listener"

    def __init__(self, hub: "Hub", cast: Cast) -> None:
        super().__init__(hub, cast.log)
        self.cast, self.medium = cast, cast.source.kind

    def _media(self, transceiver: Any) -> None:
        track = Track(self.medium)
        self.connection.addTrack(track)
        track.on("ended", lambda: self.end("finished"))
        self.cast.listen(track)
