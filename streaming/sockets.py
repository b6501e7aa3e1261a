"""uvicorn's connections, for clients that stop: each wait for one has an end, after which its socket is dropped."""

import asyncio
import socket
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from riverrun.streaming.settings import Settings

CHECK = 0.25  # of the shortest wait: how often it is looked at
UNSENT = 1 << 14  # bytes that the kernel may hold unsent, so that a slow listener is noticed soon


def config(app: Any, settings: Settings, **given: Any) -> Config:
    """How uvicorn serves an application within its settings."""
    access, streams = settings.access, settings.streams

    class Bounded(Http):
        start, stall, most = access.start, access.stall, access.connections

    class Pinged(Socket):
        stall = access.stall

    return Config(
        app,
        http=Bounded,
        ws=Pinged,
        ws_max_size=1 << 19,
        ws_per_message_deflate=False,
        ws_ping_interval=streams.ping,
        ws_ping_timeout=streams.ping,
        access_log=False,
        server_header=False,
        **{"timeout_graceful_shutdown": 8, **given},
    )


class Http(H11Protocol):
    """HTTP whose client has `start` seconds for a request's head, and `stall` to send or take anything of what follows.

    An address has `most` connections at once.
    """

    start = stall = 30.0
    most = 1000
    watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.begun = self.heard = self.moved = self.loop.time()
        here = [getattr(other, "client", None) for other in self.connections]
        if (
            self.client
            and sum(other is not None and other[0] == self.client[0] for other in here) > self.most
        ):
            transport.abort()
            return
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._blink()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        if self.timeout_keep_alive_task:  # the first of another request
            self.begun = self.heard
        super().data_received(data)

    def resume_writing(self) -> None:
        self.moved = self.loop.time()
        super().resume_writing()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._blink()
        super().handle_websocket_upgrade(event)

    def _blink(self) -> None:
        if self.watch:
            self.watch.cancel()
            self.watch = None

    def _look(self) -> None:
        """Drop the connection if what is waited for is too late, else look again."""
        now, closing = self.loop.time(), self.transport.is_closing()
        if self.flow.read_paused:
            self.heard = now  # it is we who do not listen
        if not (closing or self.flow.write_paused):
            self.moved = now
        answered = self.cycle is None or self.cycle.response_complete
        head = answered and not closing and not self.timeout_keep_alive_task
        if (
            (head and now - self.begun > self.start)
            or (not answered and self.cycle.more_body and now - self.heard > self.stall)
            or now - self.moved > self.stall
        ):
            self.transport.abort()
        else:
            self.watch = self.loop.call_later(CHECK * min(self.start, self.stall), self._look)


class Socket(WebSocketsSansIOProtocol):
    """A WebSocket that ends with its ping, or `stall` seconds after its application, whatever is still unsent."""

    stall = 30.0
    last: asyncio.TimerHandle | None = None
    lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if unsent := getattr(socket, "TCP_NOTSENT_LOWAT", None):
            found = transport.get_extra_info("socket")
            if found is not None and found.family != getattr(socket, "AF_UNIX", None):
                found.setsockopt(socket.IPPROTO_TCP, unsent, UNSENT)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.last:
            self.last.cancel()  # it would hold all of the connection until then
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # a close would wait for what cannot be sent

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            if not self.lost:
                self.last = self.loop.call_later(self.stall, self.transport.abort)
