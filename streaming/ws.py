"""WebSocket streams: one connection of a link (link.py), from its first message to its close."""

import asyncio
import hmac
import logging
from functools import partial
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect

from riverrun.streaming import wire
from riverrun.streaming.access import address, owner
from riverrun.streaming.controls import Controls
from riverrun.streaming.errors import ProtocolError, StreamError, TooSlow
from riverrun.streaming.link import Link
from riverrun.streaming.outgoing import Outgoing
from riverrun.streaming.player import opened
from riverrun.streaming.problems import EXPECTED, NotFound, body, kind_of, retry_after
from riverrun.streaming.show import Show

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

log = logging.getLogger(__name__)
PROTOCOL = "riverrun.v1"


class Replaced(StreamError):
    """A newer connection has taken the stream over."""


class Silent(TooSlow):
    """Nothing has come for so long that the connection counts as lost; its stream waits for another."""


class Connection:
    """One WebSocket: reads what a client says and writes what its link has, until either is over."""

    def __init__(self, hub: "Hub", socket: WebSocket) -> None:
        self.hub, self.socket, self.limits = hub, socket, hub.settings.streams
        self.link: Link | None = None
        self.epoch = 0
        self.out = Outgoing(wire.Open())
        self.controls: Controls | None = None

    async def serve(self) -> None:
        """Serve a connection from its first message to its close."""
        offered = self.socket.scope.get("subprotocols", [])
        await self.socket.accept(PROTOCOL if PROTOCOL in offered else None)
        tasks: list[asyncio.Task[None]] = []
        try:
            await asyncio.wait_for(self._begin(), self.limits.start)
            tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._settle(tasks)
        except (WebSocketDisconnect, asyncio.CancelledError):
            pass  # the client is gone, or the server is going
        except TimeoutError:
            await self._refuse(ProtocolError(f"nothing came within {self.limits.start:g} s of connecting"))
        except Exception as error:
            if not isinstance(error, EXPECTED):
                log.exception("a connection failed")
            await self._refuse(error)
        finally:
            for task in tasks:
                task.cancel()
            if self.controls:
                self.controls.close()
            if self.link:
                self.link.detach(self.epoch)

    async def _settle(self, tasks: "list[asyncio.Task[None]]") -> None:
        """End reading and writing, so that nothing writes beside us; raise what ended them."""
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _begin(self) -> None:
        first = wire.parse(await self._text(), wire.FIRST)
        if isinstance(first, wire.Open):
            if first.version != wire.VERSION:
                raise ProtocolError(f"version is {first.version}, this server speaks {wire.VERSION}")
            stream, player = await opened(self.hub, first, "ws", address(self.socket), owner(self.socket))
            self.link = Link(self.hub, stream.wanted, stream, player)
            self.hub.links[self.link.session] = self.link
            self.out = Outgoing(self.link.wanted)
        elif isinstance(first, wire.Resume):
            link = self.hub.links.get(first.session)
            if link is None or not hmac.compare_digest(link.token.encode(), first.token.encode()):
                raise NotFound("there is no such stream to resume, or its token is another: open a new one")
            link.journal.after(first.received)
            link.journal.acknowledge(first.received)
            link.room.set()
            link.again()
            self.link, self.out = link, Outgoing(link.wanted, first.received, link.journal.next)
            self.hub.metrics.resumed("ws")
            link.stream.log.info("stream %s has another connection", link.session)
        else:
            raise ProtocolError("the first message is neither open nor resume")
        self.epoch = self.link.attach()
        self.controls = Controls(self.link.stream, self.link.say, self.limits.controls, self.hub.clock)
        await self._send(self.link.opened())
        self.hub.warn(self.link.stream)

    async def _text(self) -> str:
        """The next message, which must be text."""
        message = await self._receive()
        if not isinstance(message, str):
            raise ProtocolError("sound came before the stream was opened")
        return message

    async def _receive(self) -> str | bytes:
        message = await self.socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text: str | None = message.get("text")
        return text if text is not None else bytes(message["bytes"])

    async def _read(self) -> None:
        link, controls, idle = self.link, self.controls, self.limits.idle
        assert link and controls
        while True:
            try:
                async with asyncio.timeout(idle):
                    message = await self._receive()
            except TimeoutError as error:
                raise Silent(
                    f"nothing came for {idle:g} s: send acks, or ask for stats now and then"
                ) from error
            self._fenced(link)
            if isinstance(message, bytes):
                link.take(wire.unpack(message))
                continue
            match control := controls.parse(message):
                case wire.Ack():
                    if link.acknowledged(control):
                        controls.bucket.give()  # there are no more of these than frames that we sent
                case wire.Cancel():
                    await link.end("cancelled")
                case wire.Text() if not link.stream.closed:
                    link.inbox.text(control)
                    controls.bucket.give()  # their characters are counted
                case wire.Clear() if not link.stream.closed:
                    await link.clear(self.out.sent, control)
                case wire.Update() if isinstance(link.stream, Show) and not link.stream.closed:
                    await controls.obey(control)  # which only notes it
                case wire.Update() | wire.Pause() | wire.Finish() if not link.stream.closed:
                    link.inbox.add(partial(controls.obey, control))
                case _:
                    await controls.obey(control)

    def _fenced(self, link: Link) -> None:
        """Raises Replaced if this connection has nothing to do with the stream any more."""
        if link.epoch != self.epoch:
            raise Replaced("a newer connection has resumed this stream")

    async def _write(self) -> None:
        link = self.link
        assert link is not None
        while True:
            self._fenced(link)  # before anything of the newer connection's is touched
            link.changed.clear()
            await self._tell(link)
            while due := self.out.next(link.journal):
                frame, skipped = due
                if skipped:
                    await self._send(wire.message("event", name="skipped", ticks=skipped))
                await self._send(self.out.passed(frame, skipped).pack())
                self._fenced(link)
                link.stream.sent(frame.pts, self.hub.clock())
                await self._tell(link)
            given = link.over == "cancelled" or self.out.sent == link.journal.next - 1
            if link.over and given and not link.news:
                await self._leave(link)
                return
            if not link.changed.is_set():
                await link.changed.wait()

    async def _tell(self, link: Link) -> None:
        """Send the control messages that wait."""
        while link.news:
            await self._send(link.news.popleft())
            self._fenced(link)

    async def _leave(self, link: Link) -> None:
        """Say why it is over, and close."""
        why = link.over or "finished"
        if link.failure:
            await self._send(wire.message("error", **body(link.failure), fatal=True))
        await self._send(wire.message("ended", reason=why))
        close = {"failed": 4010, "shutdown": 1001}.get(why, 1000)
        await (link.settle(why) if why in ("finished", "failed") else link.end(why))
        await self.socket.close(close)

    async def _send(self, message: str | bytes) -> None:
        """Send, waiting as long as a stalled client may take. Raises WebSocketDisconnect."""
        send = self.socket.send_text if isinstance(message, str) else self.socket.send_bytes
        try:
            async with asyncio.timeout(self.limits.stall):
                await send(message)  # type: ignore[arg-type]
        except (TimeoutError, RuntimeError) as error:
            raise WebSocketDisconnect(4008, str(error)) from error

    async def _refuse(self, error: Exception) -> None:
        """Tell what is wrong and close; a stream whose client broke the rules is freed."""
        close = 4009 if isinstance(error, Replaced) else kind_of(error).close
        self.hub.metrics.refused(kind_of(error).code)
        if self.link and not isinstance(error, Replaced | Silent):
            await self.link.end("failed")
        try:
            await self._send(wire.message("error", **body(error), fatal=True, retry_after=retry_after(error)))
            await self.socket.close(close, str(error)[:120])
        except (WebSocketDisconnect, RuntimeError):
            log.debug("a client left before it was told of a %s", type(error).__name__)
