"""WebRTC: `Call` joins a peer to a stream, `Listener` lets another peer hear what a call gives."""

import asyncio
import functools
import logging
import math
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import av
import numpy as np
from aioice.ice import get_host_addresses
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp

from riverrun.media import Chunk
from riverrun.media.chunk import Array
from riverrun.streaming import sdp, wire
from riverrun.streaming.controls import Controls
from riverrun.streaming.errors import ProtocolError, StreamError
from riverrun.streaming.jitter import Order, Timeline, conceal
from riverrun.streaming.problems import EXPECTED, body
from riverrun.streaming.stream import Stream

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

Packet: TypeAlias = "av.Packet[Any]"
log = logging.getLogger(__name__)
RATE = 48_000  # of Opus in RTP, whatever it holds
FRAME = 480  # ticks of a packet: 10 ms
AHEAD = 312  # ticks that libopus delays sound by, as callers use it
OWN_AHEAD = 120  # the same, as we use it
BITS = 64_000  # a second and channel
HELD = 6  # packets that may wait to be sent: 60 ms, then the newest win
ECHO = 960  # ticks that stand in for lost ones
HEARD = 1.0  # seconds of sound that may wait to be fed
CHECK = 0.5  # seconds between looks at whether a peer is still there
PARTING = 0.5  # seconds a peer has to hear that it is over
BUFFER = "_RTCRtpReceiver__jitter_buffer"  # what aiortc gives a packet to
MESSAGES = 64  # controls that may wait
BACKLOG = 1 << 16  # bytes unsent on a data channel from which on it gets no more figures


class Track(MediaStreamTrack):
    """Encoded packets to one peer, sent as they are made; the newest win where the peer is too slow."""

    kind = "audio"

    def __init__(self, sent: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self.sent, self.waiting, self.filled = sent, deque[Packet](), asyncio.Event()

    def put(self, packet: Packet) -> int:
        """Add a packet; give how many older ones it cost."""
        self.waiting.append(packet)
        self.filled.set()
        dropped = max(0, len(self.waiting) - HELD)
        for _ in range(dropped):
            self.waiting.popleft()
        return dropped

    async def recv(self) -> Packet:
        """The next packet. Raises MediaStreamError at the end."""
        while not self.waiting:
            self.filled.clear()
            if self.readyState != "live":
                raise MediaStreamError
            await self.filled.wait()
        packet = self.waiting.popleft()
        if self.sent and packet.pts is not None:
            self.sent(packet.pts)
        return packet

    def stop(self) -> None:
        """End it, once what waits was sent."""
        super().stop()
        self.filled.set()


class Mouth:
    """Encodes what a stream gives, once for all who listen.

    Its packets end `latency` ticks before those that go in, so that each is whole as soon as one came in.
    """

    def __init__(self, channels: int, latency: int = 0) -> None:
        self.lead = latency % FRAME  # ticks of silence before the first
        self.layout = "mono" if channels == 1 else "stereo"
        self.codec: Any = av.CodecContext.create("libopus", "w")
        self.codec.bit_rate = BITS * channels
        self.codec.format, self.codec.layout, self.codec.sample_rate = "flt", self.layout, RATE
        self.codec.time_base = Fraction(1, RATE)
        self.codec.options = {
            "application": "lowdelay",
            "frame_duration": str(1000 * FRAME // RATE),
        }  # its look-ahead is 2.5 ms, not 6.5
        self.rest: Array = np.zeros((0, channels), np.float32)
        self.at: int | None = None  # tick of the rest's first sample

    def add(self, chunk: Chunk) -> list[Packet]:
        """Take the next chunk; give the packets that are whole, each with its first tick."""
        packets: list[Packet] = []
        if self.at is not None and chunk.pts != self.at + len(self.rest):  # a gap stays one
            packets += self._flush()
        if self.at is None:
            self.at = chunk.pts - self.lead
            self.rest = np.pad(self.rest, ((self.lead, 0), (0, 0)))
        self.rest = np.concatenate([self.rest, chunk.data])
        while len(self.rest) >= FRAME:
            packets += self._encode(self.rest[:FRAME], self.at)
            self.rest, self.at = self.rest[FRAME:], self.at + FRAME
        return packets + (self._flush() if chunk.last else [])

    def _flush(self) -> list[Packet]:
        rest, at = self.rest, self.at
        self.rest, self.at = self.rest[:0], None
        if at is None or not len(rest):
            return []
        return self._encode(np.pad(rest, ((0, FRAME - len(rest)), (0, 0))), at)

    def _encode(self, data: Array, at: int) -> list[Packet]:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(data, np.float32).reshape(1, -1), "flt", self.layout
        )
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        packets = []
        for made in self.codec.encode(frame):
            packet = av.Packet(bytes(made))
            packet.pts, packet.time_base = at, Fraction(1, RATE)
            packets.append(packet)
        return packets


class Ear:
    """Takes a peer's packets as they come, and gives its sound without gaps.

    It stands where aiortc has its jitter buffer. That one holds 80 ms back, keeps the delay of every packet that was
    ever lost, and does not say what is missing; a filter needs nothing held back, since the listener's end smooths.
    """

    def __init__(self, channels: int, clock: Callable[[], float]) -> None:
        self.channels, self.clock = channels, clock
        self.order, self.line = Order(), Timeline(RATE)
        self.codec: Any = av.CodecContext.create("libopus", "r")
        self.codec.layout, self.codec.sample_rate = "stereo", RATE
        self.last: Array = np.zeros((0, channels), np.float32)
        self.waiting: deque[tuple[Array, float, float]] = deque()  # sound, when captured, when arrived
        self.ticks = self.dropped = 0  # of those waiting; that were too many
        self.filled = asyncio.Event()
        self.heard = clock()  # when a packet last came
        self.trip = 0.0  # seconds that a packet takes at least

    def add(self, packet: Any) -> tuple[bool, None]:
        """Take an RTP packet, as aiortc's jitter buffer would; it has nothing left to decode."""
        self.heard = self.clock()
        for whole in self.order.put(packet.sequence_number, packet.timestamp, packet._data, self.heard):
            data = self._decode(whole.data)
            if not len(data):
                continue  # damaged: missing, then, as if it had been lost
            missing = self.line.place(whole.ticks, len(data))
            if missing:
                data = np.concatenate([conceal(self.last, missing), data])
            self.last = data[-ECHO:]
            # what the encoder's look-ahead put later was captured earlier
            captured = self.line.captured(whole.ticks + len(data) - missing - AHEAD, whole.arrived)
            self._keep(data, captured - self.trip, whole.arrived)
        return False, None

    async def hear(self) -> tuple[Array, float, float]:
        """Wait for the next sound."""
        while not self.waiting:
            self.filled.clear()
            await self.filled.wait()
        found = self.waiting.popleft()
        self.ticks -= len(found[0])
        return found

    def _decode(self, data: bytes) -> Array:
        """A packet's sound, empty if it is damaged.  # -> [t, c]"""
        try:
            frames = self.codec.decode(av.Packet(data)) if data else []
        except av.FFmpegError as error:
            log.debug("a packet cannot be decoded: %s", error)
            return np.zeros((0, self.channels), np.float32)
        parts = [frame.to_ndarray().reshape(-1, 2) for frame in frames]
        both = np.concatenate([np.zeros((0, 2), np.int16), *parts]).astype(np.float32) / 32768
        return both if self.channels == 2 else both.mean(1, keepdims=True)

    def _keep(self, data: Array, captured: float, arrived: float) -> None:
        self.waiting.append((data, captured, arrived))
        self.ticks += len(data)
        while self.ticks > HEARD * RATE and len(self.waiting) > 1:
            lost = len(self.waiting.popleft()[0])
            self.ticks -= lost
            self.dropped += lost
        self.filled.set()


class Peer:
    """A peer connection from its offer to its end, however it ends."""

    def __init__(self, hub: "Hub", stream: Stream) -> None:
        self.hub, self.limits, self.log = hub, hub.settings.webrtc, stream.log
        self.id = secrets.token_urlsafe(24)
        self.etag = self.remote = ""  # of its ICE session; the peer's user name in it
        self.candidates = 0  # that came later than the offer
        servers = [
            RTCIceServer(s.url, s.username or None, s.credential or None) for s in self.limits.ice_servers
        ]
        self.connection = RTCPeerConnection(RTCConfiguration(servers if self.limits.gather else []))
        self.connection.on("connectionstatechange", self._changed)
        self.since = hub.clock()
        self.over: str | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.ending: asyncio.Task[None] | None = None
        self.answering = asyncio.Lock()  # what is closed meanwhile would open sockets afterwards

    async def answer(self, offer: str) -> str:
        """Begin as an offer asks; give the answer. Raises InvalidRequest, ProtocolError."""
        async with self.answering:
            return await self._answer(offer)

    async def _answer(self, offer: str) -> str:
        connection, self.remote = self.connection, sdp.fragment(offer)
        try:
            await connection.setRemoteDescription(RTCSessionDescription(sdp.offer(offer), "offer"))
        except (ValueError, KeyError, IndexError, AssertionError, TypeError, AttributeError) as error:
            # what aiortc raises at text that is no SDP
            raise ProtocolError(f"the offer cannot be read as SDP: {error!r}") from error
        self._join()
        await connection.setLocalDescription(await connection.createAnswer())
        self.tasks.append(asyncio.create_task(self._watch()))
        answer = sdp.asking(connection.localDescription.sdp, FRAME * 1000 // RATE, BITS)
        self.etag = f'"{sdp.fragment(answer)}"'
        return sdp.public(answer, self.limits.nat)

    async def trickle(self, text: str) -> None:
        """Add the candidates of an SDP fragment. Raises InvalidRequest, ProtocolError."""
        for mid, line in sdp.trickled(text):
            try:
                candidate = candidate_from_sdp(line)
            except (ValueError, IndexError, AssertionError) as error:
                raise ProtocolError(f"candidate {line[:80]!r} cannot be read") from error
            self.candidates += 1
            if self.candidates > sdp.MOST:
                raise ProtocolError(f"more than {sdp.MOST} candidates came")
            candidate.sdpMid = mid
            await self.connection.addIceCandidate(candidate)

    def _join(self) -> None:
        """Say what is sent and received, now that the offer is known; the first sound counts, all else is refused."""
        sounds = [t for t in self.connection.getTransceivers() if t.kind == "audio"]
        for transceiver in self.connection.getTransceivers():
            if transceiver is sounds[0]:
                self._media(transceiver)
            else:
                transceiver.direction = "inactive"
            _offer(transceiver.receiver.transport.transport, self.hosts)
        if self.connection.sctp:
            _offer(self.connection.sctp.transport.transport, self.hosts)

    @property
    def hosts(self) -> list[str]:
        """The addresses that are offered."""
        local = ["127.0.0.1"] if self.hub.settings.loopback else []
        return self.limits.hosts or [*get_host_addresses(use_ipv4=True, use_ipv6=True), *local]

    def _media(self, transceiver: Any) -> None:
        """Give and take sound."""
        raise NotImplementedError

    async def _watch(self) -> None:
        """End what does not connect, or has gone without a word."""
        while True:
            await asyncio.sleep(CHECK)
            now = self.hub.clock()
            if self.connection.connectionState != "connected":
                if now - self.since > self.limits.ice_timeout:
                    self.end("unreachable")
            elif self.silent(now):
                self.end("vanished")

    def silent(self, now: float) -> bool:
        """Whether a peer that should be heard has not been for too long."""
        return False

    async def _changed(self) -> None:
        if self.connection.connectionState in ("failed", "closed"):
            self.end("left")
        if self.connection.connectionState == "connected":
            self.met()

    def met(self) -> None:
        """The peer is there."""

    def end(self, why: str) -> asyncio.Task[None]:
        """Free everything, soon. Twice is once; the task is done when it is."""
        if self.ending is None:
            self.over = why
            self.log.info("%s is over: %s", type(self).__name__.lower(), why)
            self.ending = asyncio.create_task(self._end())
        return self.ending

    async def _end(self) -> None:
        self.hub.calls.pop(self.id, None)
        async with self.answering:
            for task in self.tasks:
                task.cancel()
            await self.connection.close()


class Call(Peer):
    """A peer whose sound goes into a stream; what comes out goes back to it, if it listens, and to listeners."""

    def __init__(self, hub: "Hub", stream: Stream, name: str) -> None:
        super().__init__(hub, stream)
        self.stream, self.name = stream, name
        stream.notice = self.say
        self.ear = Ear(stream.channels, hub.clock)
        self.mouth = Mouth(stream.channels, math.ceil(stream.latency * RATE))
        self.own: Track | None = None  # what goes back to the caller
        self.tracks: list[Track] = []  # what goes to anybody
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

    def silent(self, now: float) -> bool:
        return now - self.ear.heard > self.limits.idle

    def met(self) -> None:
        self.ear.heard = self.hub.clock()  # the time it took to connect was no silence

    def listen(self, track: Track) -> None:
        """Give a track all packets from now on, or its end if there are none any more."""
        if self.ending:
            track.stop()
            return
        self.tracks.append(track)
        track.on("ended", lambda: self.tracks.remove(track) if track in self.tracks else None)

    async def _answer(self, offer: str) -> str:
        """As every peer's; the work begins."""
        answer = await super()._answer(offer)
        for track in self.tracks:
            if not self._sends():
                track.stop()
        parts = (self._feed(), self._give(), self._obey())
        self.tasks += [asyncio.create_task(self._guard(part)) for part in parts]
        return answer

    def _sends(self) -> bool:
        return any("send" in (t.currentDirection or "") for t in self.connection.getTransceivers())

    def _media(self, transceiver: Any) -> None:
        if not hasattr(transceiver.receiver, BUFFER):
            raise RuntimeError(f"aiortc's receiver has no {BUFFER}: this release of it cannot be used")
        setattr(transceiver.receiver, BUFFER, self.ear)
        self.own = Track(lambda pts: self.stream.sent(pts - OWN_AHEAD, self.hub.clock()))
        self.listen(self.own)
        self.connection.addTrack(self.own)

    def _open(self, channel: RTCDataChannel) -> None:
        if self.channel:
            channel.close()  # one is enough
            return
        self.channel = channel
        channel.on("message", self._told)
        wanted = self.stream.wanted
        self.say("opened", session=self.id, model=wanted.model, rate=RATE, channels=wanted.channels,
                 latency=self.stream.latency, name=self.name)  # fmt: skip

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
        if not self.tracks:
            self.stream.sent(chunk.pts, self.hub.clock())
            return
        for packet in self.mouth.add(chunk):
            for track in self.tracks:
                skipped = track.put(packet)
                if skipped and track is self.own:  # what others miss is not the caller's business
                    self.say("event", name="skipped", ticks=skipped * FRAME)

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
        self.hub.casts.pop(self.name, None)
        self.controls.close()
        await self.stream.close(self.over or "closed")
        self.say("ended", reason=self.over)
        if self.over in ("finished", "failed", "shutdown") and self.connection.connectionState == "connected":
            await asyncio.sleep(PARTING)
        for track in list(self.tracks):
            track.stop()
        await super()._end()


class Listener(Peer):
    """A peer that hears what a call gives, until either leaves."""

    def __init__(self, hub: "Hub", call: Call) -> None:
        super().__init__(hub, call.stream)
        self.call = call

    def _media(self, transceiver: Any) -> None:
        track = Track()
        self.connection.addTrack(track)
        track.on("ended", lambda: self.end("finished"))
        self.call.listen(track)


def _offer(transport: Any, hosts: list[str]) -> None:
    """Have ICE offer these addresses; aioice has no setting for it, and never offers loopback."""
    connection = transport.iceGatherer._connection
    connection.get_component_candidates = functools.partial(_gather, connection, hosts)


async def _gather(connection: Any, hosts: list[str], component: int, addresses: list[str]) -> Any:
    return await type(connection).get_component_candidates(connection, component, hosts)


async def stop(peers: Iterable[Peer]) -> None:
    """End peers as the server stops, and wait until they are."""
    await asyncio.gather(*[peer.end("shutdown") for peer in list(peers)], return_exceptions=True)
