"""WebRTC: `Call` joins a peer to a stream, `Listener` lets another peer hear what a stream gives."""

import asyncio
from typing import TYPE_CHECKING, Any

from aiortc import RTCDataChannel

from riverrun.media import Chunk
from riverrun.streaming import wire
from riverrun.streaming.cast import Cast, Track
from riverrun.streaming.controls import Controls
from riverrun.streaming.errors import ProtocolError, StreamError
from riverrun.streaming.opus import FRAME, OWN_AHEAD, RATE, Ear
from riverrun.streaming.peer import Peer
from riverrun.streaming.problems import EXPECTED, body
from riverrun.streaming.stream import Stream

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

PARTING = 0.5  # seconds a peer has to hear that it is over
BUFFER = "_RTCRtpReceiver__jitter_buffer"  # what aiortc gives a packet to
MESSAGES = 64  # controls that may wait
BACKLOG = 1 << 16  # bytes unsent on a data channel from which on it gets no more figures


class Call(Peer):
    """A peer whose sound goes into a stream; what comes out goes back to it, if it listens, and to listeners."""

    kind = "call"

    def __init__(self, hub: "Hub", stream: Stream, cast: Cast) -> None:
        super().__init__(hub, stream.log)
        self.stream, self.cast = stream, cast
        stream.notice = self.say
        self.ear = Ear(stream.channels, hub.clock)
        self.own: Track | None = None  # what goes back to the caller
        self.channel: RTCDataChannel | None = None
        self.controls = Controls(stream, self.say, hub.settings.streams.controls, hub.clock)
        self.messages: asyncio.Queue[str] = asyncio.Queue(MESSAGES)
        self.connection.on("datachannel", self._open)

    def say(self, kind: str, **values: Any) -> None:
        """Send a message on the data channel, if there is one."""
        channel = self.channel
        if not channel or channel.readyState != "open":
            return
        if kind != "stats" or channel.bufferedAmount < BACKLOG:
            channel.send(wire.message(kind, **values))

    def gone(self, now: float) -> str:
        return "vanished" if now - self.ear.heard > self.limits.idle else ""

    def met(self) -> None:
        self.ear.heard = self.hub.clock()  # the time it took to connect was no silence

    async def _answer(self, offer: str) -> str:
        """As every peer's; the work begins."""
        answer = await super()._answer(offer)
        if self.own and not self._sends():
            self.own.stop()
        parts = (self._feed(), self._give(), self._obey())
        self.tasks += [asyncio.create_task(self._guard(part)) for part in parts]
        return answer

    def _sends(self) -> bool:
        return any("send" in (t.currentDirection or "") for t in self.connection.getTransceivers())

    def _media(self, transceiver: Any) -> None:
        if not hasattr(transceiver.receiver, BUFFER):
            raise RuntimeError(f"aiortc's receiver has no {BUFFER}: this release of it cannot be used")
        setattr(transceiver.receiver, BUFFER, self.ear)
        self.own = Track(
            lambda pts: self.stream.sent(pts - OWN_AHEAD, self.hub.clock()),
            lambda: self.say("event", name="skipped", ticks=FRAME),
        )
        self.cast.listen(self.own)
        self.connection.addTrack(self.own)

    def _open(self, channel: RTCDataChannel) -> None:
        if self.channel:
            channel.close()  # one is enough
            return
        self.channel = channel
        channel.on("message", self._told)
        wanted = self.stream.wanted
        self.say("opened", session=self.id, model=wanted.model, rate=RATE, channels=wanted.channels,
                 latency=self.stream.latency, name=self.cast.name)  # fmt: skip

    def _told(self, text: str | bytes) -> None:
        try:
            self.messages.put_nowait(text if isinstance(text, str) else text.decode())
        except (asyncio.QueueFull, UnicodeDecodeError):
            self._fail(ProtocolError(f"more than {MESSAGES} messages wait, or one is no text"))

    async def _obey(self) -> None:
        while True:
            match control := self.controls.parse(await self.messages.get()):
                case wire.Ack():
                    self.stream.ledger.buffered = max(0.0, min(control.buffered, 60.0))
                case wire.Cancel():
                    self.end("cancelled")
                case _:
                    await self.controls.obey(control)

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

    async def _guard(self, work: Any) -> None:
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
        if self.over in ("finished", "failed", "shutdown") and self.connection.connectionState == "connected":
            await asyncio.sleep(PARTING)
        self.cast.close()
        await super()._end()


class Listener(Peer):
    """A peer that hears a cast, until either leaves."""

    kind = "listener"

    def __init__(self, hub: "Hub", cast: Cast) -> None:
        super().__init__(hub, cast.log)
        self.cast = cast

    def _media(self, transceiver: Any) -> None:
        track = Track()
        self.connection.addTrack(track)
        track.on("ended", lambda: self.end("finished"))
        self.cast.listen(track)
