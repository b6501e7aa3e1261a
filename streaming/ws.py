"""WebSocket streams: `Link` is a stream that outlives its connections, `serve` one connection of it."""

import asyncio
import hmac
import logging
import math
import secrets
from collections import deque
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from riverrun.media import Chunk
from riverrun.media.chunk import Array
from riverrun.streaming import wire
from riverrun.streaming.access import address, owner
from riverrun.streaming.controls import Controls
from riverrun.streaming.errors import ProtocolError, StreamError, TooSlow
from riverrun.streaming.forms import Form, Pictures, Sound, number
from riverrun.streaming.inbox import Inbox
from riverrun.streaming.journal import Intake, Journal
from riverrun.streaming.outgoing import Outgoing
from riverrun.streaming.player import Player, opened
from riverrun.streaming.problems import EXPECTED, NotFound, body, kind_of, retry_after
from riverrun.streaming.projector import Projector
from riverrun.streaming.show import Show
from riverrun.streaming.speech import Speech
from riverrun.streaming.stream import Stream

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

log = logging.getLogger(__name__)
PROTOCOL = "riverrun.v1"


class Replaced(StreamError):
    """A newer connection has taken the stream over."""


class Silent(TooSlow):
    """Nothing has come for so long that the connection counts as lost; its stream waits for another."""


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
