"""Replies that are sent as they are made, and can be taken up again where they were cut."""

import asyncio
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from riverrun.models.errors import InvalidRequest
from riverrun.streaming.problems import NotFound

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

PIECE = 1 << 16  # bytes sent at once


class Reply:
    """The bytes of one recording of a `kind`: made ahead of the client by so much, kept behind it by as much."""

    def __init__(self, hub: "Hub", kind: str, rate: int, session: str) -> None:
        self.hub, self.kind, self.rate = hub, kind, rate
        self.session, self.token = session, secrets.token_urlsafe(24)
        self.size = hub.settings.files.journal_bytes // 2
        self.data, self.base = bytearray(), 0  # what is kept, and at which byte of the whole it starts
        self.ticks = self.sent = self.epoch = 0
        self.done = False
        self.failure: Exception | None = None
        self.changed = asyncio.Condition()
        self.work: asyncio.Task[None] | None = None
        self.grace: asyncio.Task[None] | None = None

    @property
    def end(self) -> int:
        """How many bytes were made."""
        return self.base + len(self.data)

    @property
    def ahead(self) -> bool:
        """Whether the client is too far behind for more to be made."""
        return self.end - self.sent >= self.size

    async def put(self, data: bytes, ticks: int = 0) -> None:
        """Add bytes that so many ticks became; wait while the client is too far behind."""
        async with self.changed:
            self.data += data
            self.ticks += ticks
            self.changed.notify_all()
            await self.changed.wait_for(lambda: not self.ahead)

    async def close(self, failure: Exception | None = None) -> None:
        """Nothing follows."""
        async with self.changed:
            self.done, self.failure = True, failure
            self.changed.notify_all()

    def take(self) -> int:
        """Begin to read instead of whoever does; give the epoch to read in."""
        self.epoch += 1
        if self.grace:
            self.grace.cancel()
        return self.epoch

    def leave(self, epoch: int) -> None:
        """Wait for another reader if this was the newest: what was sent whole may still be lost on its way."""
        if epoch == self.epoch and self.session in self.hub.replies:
            self.grace = asyncio.create_task(self._expire())

    async def read(self, start: int, epoch: int) -> AsyncIterator[bytes]:
        """The bytes from one on, as they are made, until a newer reader comes. Raises what ended them."""
        at = start
        while True:
            async with self.changed:
                while not (self.end > at or self.done or self.epoch != epoch):
                    await self.changed.wait()
                if self.epoch != epoch:
                    return
                piece = bytes(self.data[at - self.base : at - self.base + PIECE])
            if not piece:
                break
            yield piece
            at += len(piece)
            await self._passed(at, epoch)
        if self.failure:
            raise self.failure

    async def _passed(self, at: int, epoch: int) -> None:
        async with self.changed:
            if self.epoch != epoch:
                return  # a newer reader may want what this one has
            self.sent = max(self.sent, at)
            drop = self.sent - self.size - self.base
            if drop > 0:
                del self.data[:drop]
                self.base += drop
            self.changed.notify_all()

    async def _expire(self) -> None:
        await asyncio.sleep(self.hub.settings.streams.resume)
        await self.stop()

    async def stop(self) -> None:
        """Forget it, and free what makes it, which takes until its decoder is gone."""
        self.hub.replies.pop(self.session, None)
        if self.work:
            self.work.cancel()
            await asyncio.gather(self.work, return_exceptions=True)


class Resumable(StreamingResponse):
    """A reply on its way to one reader. However that ends, even before it has begun, the reply is let go in time."""

    def __init__(self, reply: Reply, start: int, status: int, headers: Mapping[str, str]) -> None:
        self.reply, self.epoch = reply, reply.take()
        super().__init__(reply.read(start, self.epoch), status, headers, reply.kind)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.reply.leave(self.epoch)


async def begun(reply: Reply, seconds: float) -> StreamingResponse:
    """A reply on its way, once so much is made: what fails before that is an error with a status, not a cut reply.

    Raises what ended it.
    """
    async with reply.changed:
        await reply.changed.wait_for(lambda: reply.ticks >= seconds * reply.rate or reply.ahead or reply.done)
    if reply.failure:
        await reply.stop()
        raise reply.failure
    return _response(reply, 0)


def known(hub: "Hub", session: str, token: str) -> Reply:
    """A reply by its session and token. Raises NotFound."""
    reply = hub.replies.get(session)
    if reply is None or not hmac.compare_digest(reply.token.encode(), token.encode()):
        raise NotFound(
            "there is no such reply, or its token is another, or it was taken whole: ask for it anew"
        )
    return reply


def resumed(reply: Reply, wanted: str) -> StreamingResponse:
    """The rest of a reply, from where a header `Range` says. Raises InvalidRequest, NotFound, and what ended it."""
    found = re.fullmatch(r"bytes=(\d{1,15})-", wanted)
    if not found:
        raise InvalidRequest(f"Range is {wanted!r}, expected 'bytes=N-'")
    start = int(found[1])
    if not reply.base <= start <= reply.end:
        raise NotFound(f"byte {start} is wanted, {reply.base} to {reply.end} are kept: ask for it anew")
    if reply.failure and start == reply.end:  # it can be told why, now that no reply is under way
        raise reply.failure
    reply.hub.metrics.resumed("http")
    return _response(reply, start)


def _response(reply: Reply, start: int) -> StreamingResponse:
    headers = {
        "riverrun-session": reply.session,
        "riverrun-token": reply.token,
        "cache-control": "no-store",
        "x-accel-buffering": "no",
    }
    if start:
        headers["content-range"] = f"bytes {start}-*/*"
    return Resumable(reply, start, 206 if start else 200, headers)


def resumable(router: APIRouter, path: str) -> None:
    """Add the routes by which a reply of `path` is taken up again, and ended."""

    @router.get(f"{path}/{{session}}", response_class=StreamingResponse)
    async def resume(
        request: Request,
        session: str,
        riverrun_token: Annotated[str, Header()] = "",
        range: Annotated[str, Header()] = "bytes=0-",
    ) -> StreamingResponse:
        """Take up a reply that was cut, from byte N: `Range: bytes=N-`, with the token that came with it."""
        return resumed(known(request.app.state.hub, session, riverrun_token), range)

    @router.delete(f"{path}/{{session}}", status_code=204)
    async def cancel(request: Request, session: str, riverrun_token: Annotated[str, Header()] = "") -> None:
        """End the making of a reply, and free what it uses."""
        await known(request.app.state.hub, session, riverrun_token).stop()
