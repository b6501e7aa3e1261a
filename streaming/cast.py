"""Casts: sound or pictures that are there under a name, for all who listen or watch."""

import asyncio
import re
import secrets
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from riverrun.media import Chunk
from riverrun.models.errors import InvalidRequest
from riverrun.streaming.peer import Log
from riverrun.streaming.problems import Conflict

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

NAME = r"^[A-Za-z0-9_.-]{1,64}$"
HELD = 6  # packets that may wait to be sent, then the newest win


class Source(Protocol):
    """Makes of chunks what tracks send, all of one kind, `frame` ticks each."""

    kind: Literal["audio", "video"]
    frame: int

    def add(self, chunk: Chunk) -> list[Any]:
        """Take the next chunk; give the packets, or the frames, that are whole."""
        ...


class Track(MediaStreamTrack):
    """Encoded packets, or pictures, to one peer, sent as they are made; the newest win where the peer is too slow."""

    def __init__(
        self,
        kind: Literal["audio", "video"] = "audio",
        sent: Callable[[int], None] | None = None,
        missed: Callable[[], None] | None = None,
    ) -> None:
        """`sent` is told the first tick of each packet that is sent, `missed` of each that is not."""
        super().__init__()
        self.kind, self.sent, self.missed = kind, sent, missed
        self.waiting, self.filled = deque[Any](), asyncio.Event()

    def put(self, packet: Any) -> None:
        """Add a packet, which may cost an older one."""
        self.waiting.append(packet)
        self.filled.set()
        if len(self.waiting) > HELD:
            self.waiting.popleft()
            if self.missed:
                self.missed()

    async def recv(self) -> Any:
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


class Cast:
    """What many may listen to, or watch, until it is closed."""

    def __init__(self, hub: "Hub", name: str | None, source: Source, log: Log) -> None:
        """Without a name it gets one that nobody guesses. Raises Conflict if the name is in use, InvalidRequest."""
        free(hub, name)
        self.hub, self.name, self.source, self.log = hub, name or secrets.token_urlsafe(9), source, log
        self.tracks: list[Track] = []
        self.over = False
        hub.casts[self.name] = self

    def listen(self, track: Track) -> None:
        """Give a track all packets from now on, or its end if there are none any more."""
        if self.over:
            track.stop()
            return
        self.tracks.append(track)
        track.on("ended", lambda: self.tracks.remove(track) if track in self.tracks else None)

    def send(self, chunk: Chunk) -> None:
        """Give the next chunk to all who are there."""
        for packet in self.source.add(chunk):
            for track in self.tracks:
                track.put(packet)

    def leave(self) -> None:
        """Take no more listeners, and free the name. Twice is once."""
        self.over = True
        if self.hub.casts.get(self.name) is self:
            del self.hub.casts[self.name]

    def close(self) -> None:
        """End it for all who listen. Twice is once."""
        self.leave()
        for track in list(self.tracks):
            track.stop()


def free(hub: "Hub", name: str | None) -> None:
    """Raises Conflict if a name is in use, InvalidRequest if it is none."""
    if name is not None and not re.match(NAME, name):
        raise InvalidRequest(f"stream is {name[:80]!r}, expected 1 to 64 letters, digits, dots, - or _")
    if name in hub.casts:
        raise Conflict(f"stream {name!r} is being sent already: choose another name, or end that one")
