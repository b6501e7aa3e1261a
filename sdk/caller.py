"""A caller over WebRTC for the load tester: it sends packets made beforehand, and only notes when some come."""

import asyncio
import json
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from riverrun.answers import Unreachable, told
from riverrun.link import Event
from riverrun.streaming.errors import SessionEnded
from riverrun.transfer import ask

if TYPE_CHECKING:
    from riverrun.client import AsyncClient
    from riverrun.load import Session, Sound

RATE, FRAME = 48_000, 960  # Hz; ticks of 20 ms
PACKET = 480  # ticks of what the server sends
AHEAD, ITS_AHEAD = 312, 120  # ticks that the encoders, ours and the server's, put sound later
CONNECT = 15.0  # seconds
PARTING = 3.0  # seconds in which the server has to say that it is over
BUFFER = "_RTCRtpReceiver__jitter_buffer"  # what aiortc gives a packet to
LOCAL = ("127.0.0.1", "localhost", "::1")


def packets(sound: "Sound") -> list[bytes]:
    """Sound as packets of 20 ms, as browsers encode it.  # [t, 1]"""
    codec: Any = av.CodecContext.create("libopus", "w")
    codec.bit_rate, codec.format, codec.layout, codec.sample_rate = 32_000, "flt", "mono", RATE
    codec.options = {"application": "voip", "frame_duration": "20"}
    made = []
    for start in range(0, len(sound) // FRAME * FRAME, FRAME):
        data = np.ascontiguousarray(sound[start : start + FRAME, 0][None])
        frame = av.AudioFrame.from_ndarray(data, "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        made += [bytes(packet) for packet in codec.encode(frame)]
    return made


class Voice(MediaStreamTrack):
    """The packets over and over, at the pace of the session."""

    kind = "audio"

    def __init__(self, session: "Session", sent: Sequence[bytes]) -> None:
        super().__init__()
        self.pace, self.sent = session.paced(), sent
        self.said: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # all of it

    async def recv(self) -> Any:
        """The next packet; after the last one, nothing."""
        try:
            number, _ = await anext(self.pace)
        except StopAsyncIteration:
            self.said.set_result(None)
            await asyncio.get_running_loop().create_future()  # silent until the call is over
        packet = av.Packet(self.sent[number % len(self.sent)])
        packet.pts, packet.time_base = number * FRAME, Fraction(1, RATE)
        return packet


class Ear:
    """In place of aiortc's jitter buffer, which would hold packets back: notes which tick came when."""

    def __init__(self, session: "Session") -> None:
        self.session = session
        self.first: int | None = None  # RTP time
        self.lead = 0  # ticks by which the server's first packet begins before the sound

    def add(self, packet: Any) -> tuple[bool, None]:
        """Take an RTP packet; there is nothing to decode."""
        self.first = packet.timestamp if self.first is None else self.first
        ticks = (packet.timestamp - self.first + (1 << 31)) % (1 << 32) - (1 << 31)
        spoken = ticks - self.lead - ITS_AHEAD - AHEAD
        self.session.hear(spoken, PACKET, asyncio.get_running_loop().time())
        return False, None


class Caller:
    """One call, both ways, to a server that speaks Riverrun's offer and answer."""

    def __init__(self, client: "AsyncClient", model: str, session: "Session", sent: Sequence[bytes]) -> None:
        self.client, self.model, self.session = client, model, session
        self.connection = RTCPeerConnection(RTCConfiguration([]))
        self.voice, self.ear = Voice(session, sent), Ear(session)
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Call, speak and listen to the end. Raises StreamError."""
        try:
            channel = self.connection.createDataChannel("controls")
            channel.on("message", self._told)
            self.connection.on("connectionstatechange", self._changed)
            self.connection.addTrack(self.voice)
            await self._dial()
            await asyncio.wait([self.voice.said, self.over], return_when=asyncio.FIRST_COMPLETED)
            if not self.over.done():
                channel.send(json.dumps({"type": "finish"}))
                await asyncio.wait({self.over}, timeout=PARTING)
            if not self.over.done():
                raise SessionEnded(f"the server did not say within {PARTING:g} s that the call is over")
            self.over.result()
            self.session.over -= AHEAD + FRAME  # of its end the encoders keep some
        finally:
            if not self.over.cancel():
                self.over.exception()  # whatever ended this, it has been told
            self.voice.stop()
            await self.connection.close()

    async def _dial(self) -> None:
        connection, http = self.connection, self.client.http
        if urlsplit(self.client.url).hostname in LOCAL:
            self._stay()
        await connection.setLocalDescription(await connection.createOffer())
        offer = {"sdp": connection.localDescription.sdp, "type": "offer", "model": self.model}
        reply = await ask(http, lambda: http.build_request("POST", "/v1/webrtc/offer", json=offer), 1)
        answer = RTCSessionDescription((await _json(reply))["sdp"], "answer")
        (transceiver,) = connection.getTransceivers()
        setattr(transceiver.receiver, BUFFER, self.ear)
        await connection.setRemoteDescription(answer)
        until = asyncio.get_running_loop().time() + CONNECT
        while connection.connectionState != "connected":
            if asyncio.get_running_loop().time() > until or connection.connectionState in (
                "failed",
                "closed",
            ):
                raise Unreachable(f"the call is {connection.connectionState} after {CONNECT:g} s at most")
            await asyncio.sleep(0.01)

    def _stay(self) -> None:
        """Offer the loopback address alone, which aioice never offers by itself."""
        transports = [t.receiver.transport.transport for t in self.connection.getTransceivers()]
        if self.connection.sctp:
            transports.append(self.connection.sctp.transport.transport)
        for transport in transports:
            ice: Any = transport.iceGatherer._connection
            ice.get_component_candidates = partial(_loopback, ice)

    def _changed(self) -> None:
        if self.connection.connectionState in ("failed", "closed") and not self.over.done():
            self.over.set_exception(SessionEnded(f"the call is {self.connection.connectionState}"))

    def _told(self, text: str) -> None:
        message = json.loads(text)
        match message["type"]:
            case "opened":
                self.ear.lead = math.ceil(message["latency"] * RATE) % PACKET
            case "event":
                self.session.tell(Event(str(message["name"]), int(message.get("ticks") or 0)))
            case "error" if message.get("fatal") and not self.over.done():
                self.over.set_exception(told(message))
            case "ended" if not self.over.done():
                if message["reason"] == "finished":
                    self.over.set_result(None)
                else:
                    self.over.set_exception(SessionEnded(f"the server ended the call: {message['reason']}"))


async def _json(reply: Any) -> Any:
    await reply.aread()
    return reply.json()


async def _loopback(ice: Any, component: int, addresses: list[str]) -> Any:
    return await type(ice).get_component_candidates(ice, component, ["127.0.0.1"])
