"""Peer: a WebRTC connection from its offer to its end, whatever is sent over it."""

import asyncio
import functools
import logging
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from aioice.ice import get_host_addresses
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

from riverrun.streaming import sdp
from riverrun.streaming.errors import ProtocolError
from riverrun.streaming.opus import BITS, FRAME, RATE

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

Log: TypeAlias = "logging.LoggerAdapter[logging.Logger]"
CHECK = 0.5  # seconds between looks at whether a peer is still there


class Peer:
    """A peer connection from its offer to its end, however it ends."""

    kind = "peer"
    medium: Literal["audio", "video"] = "audio"  # of which the first that is offered counts

    def __init__(self, hub: "Hub", log: Log) -> None:
        self.hub, self.limits, self.log = hub, hub.settings.webrtc, log
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
            await connection.setRemoteDescription(
                RTCSessionDescription(sdp.offer(offer, self.medium), "offer")
            )
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
        """Say what is sent and received, now that the offer is known; the first of its kind counts, no other."""
        first = next(t for t in self.connection.getTransceivers() if t.kind == self.medium)
        for transceiver in self.connection.getTransceivers():
            if transceiver is first:
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
        """Give and take what it is for."""
        raise NotImplementedError

    async def _watch(self) -> None:
        """End what does not connect, or has gone without a word."""
        while True:
            await asyncio.sleep(CHECK)
            now = self.hub.clock()
            if self.connection.connectionState != "connected":
                if now - self.since > self.limits.ice_timeout:
                    self.end("unreachable")
            elif why := self.gone(now):
                self.end(why)

    def gone(self, now: float) -> str:
        """Why a connected peer counts as gone, in a word, if it does. Those that ICE does not reach any more do."""
        return ""

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
            self.log.info("%s is over: %s", self.kind, why)
            self.ending = asyncio.create_task(self._end())
        return self.ending

    async def _end(self) -> None:
        self.hub.calls.pop(self.id, None)
        async with self.answering:
            for task in self.tasks:
                task.cancel()
            await self.connection.close()


def _offer(transport: Any, hosts: list[str]) -> None:
    """Have ICE offer these addresses; aioice has no setting for it, and never offers loopback."""
    connection = transport.iceGatherer._connection
    connection.get_component_candidates = functools.partial(_gather, connection, hosts)


async def _gather(connection: Any, hosts: list[str], component: int, addresses: list[str]) -> Any:
    return await type(connection).get_component_candidates(connection, component, hosts)


async def stop(peers: Iterable[Peer]) -> None:
    """End peers as the server stops, and wait until they are."""
    await asyncio.gather(*[peer.end("shutdown") for peer in list(peers)], return_exceptions=True)
