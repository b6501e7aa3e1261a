"""POST /v1/audio/restorations: a recording in, the restored one out as it is made; a cut reply can be resumed."""

import asyncio
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

from fastapi import APIRouter, File, Form, Header, Request, UploadFile
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from riverrun.models.errors import InvalidRequest
from riverrun.streaming import wire
from riverrun.streaming.access import address
from riverrun.streaming.errors import AtCapacity, StreamError
from riverrun.streaming.problems import EXPECTED, NotFound, TooBig
from riverrun.streaming.stream import Stream
from riverrun.streaming.uploads import FORMATS, Decoding, Encoding, through

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

router = APIRouter()
PIECE = 1 << 16  # bytes sent at once


class Reply:
    """The bytes of one restored recording: made ahead of the client by so much, kept behind it by as much."""

    def __init__(self, hub: "Hub", form: str, rate: int, session: str) -> None:
        self.hub, self.form, self.rate = hub, form, rate
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
        super().__init__(reply.read(start, self.epoch), status, headers, FORMATS[reply.form][2])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.reply.leave(self.epoch)


@router.post(
    "/v1/audio/restorations",
    response_class=StreamingResponse,
    responses={200: {"content": {"audio/wav": {}}, "description": "The restored recording."}},
)
async def restore(
    request: Request,
    file: Annotated[UploadFile, File(description="A recording, or a video whose sound is wanted.")],
    model: Annotated[str, Form()] = "restore-lite",
    strength: Annotated[float, Form(ge=0, le=1)] = 1.0,
    seed: Annotated[int, Form(ge=-(2**63), lt=2**63)] = 0,
    band: Annotated[Literal["full", "8k"], Form()] = "full",
    response_format: Annotated[Literal["same", "wav", "flac", "opus", "mp3"], Form()] = "same",
) -> StreamingResponse:
    """Restore a recording; the reply begins as soon as its first second is done."""
    hub: Hub = request.app.state.hub
    limits = hub.settings.files
    if (file.size or 0) > limits.bytes:
        raise TooBig(f"the file has {file.size} bytes, the limit is {limits.bytes}: cut it")
    if len(hub.replies) >= limits.at_once + hub.settings.streams.sessions:
        raise AtCapacity("too many replies wait for their clients", 10.0)
    if hub.decoding >= limits.at_once:
        raise AtCapacity(f"{hub.decoding} recordings are worked on, which is the limit: try again later", 5.0)
    values = {"strength": strength, "seed": seed}
    await hub.willing().check(model, values)  # refused before anything is decoded
    asked = wire.Open(model, values, band=band)
    reply = await _begin(hub, file.file, asked, response_format, address(request))
    async with reply.changed:  # an upload damaged at its start is an error with a status, not a cut reply
        await reply.changed.wait_for(lambda: reply.ticks >= reply.rate or reply.ahead or reply.done)
    if reply.failure:
        await reply.stop()
        raise reply.failure
    return _response(reply, 0)


@router.get("/v1/audio/restorations/{session}", response_class=StreamingResponse)
async def resume(
    request: Request,
    session: str,
    riverrun_token: Annotated[str, Header()] = "",
    range: Annotated[str, Header()] = "bytes=0-",
) -> StreamingResponse:
    """Take up a reply that was cut, from byte N: `Range: bytes=N-`, with the token that came with it."""
    hub: Hub = request.app.state.hub
    reply = hub.replies.get(session)
    if reply is None or not hmac.compare_digest(reply.token.encode(), riverrun_token.encode()):
        raise NotFound(
            "there is no such reply, or its token is another, or it was taken whole: send the file again"
        )
    wanted = re.fullmatch(r"bytes=(\d{1,15})-", range)
    if not wanted:
        raise InvalidRequest(f"Range is {range!r}, expected 'bytes=N-'")
    start = int(wanted[1])
    if not reply.base <= start <= reply.end:
        raise NotFound(f"byte {start} is wanted, {reply.base} to {reply.end} are kept: send the file again")
    if reply.failure and start == reply.end:  # it can be told why, now that no reply is under way
        raise reply.failure
    hub.metrics.resumed("http")
    return _response(reply, start)


@router.delete("/v1/audio/restorations/{session}", status_code=204)
async def cancel(request: Request, session: str, riverrun_token: Annotated[str, Header()] = "") -> None:
    """End a restoration, and free what it uses."""
    hub: Hub = request.app.state.hub
    reply = hub.replies.get(session)
    if reply is None or not hmac.compare_digest(reply.token.encode(), riverrun_token.encode()):
        raise NotFound("there is no such reply, or its token is another")
    await reply.stop()


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


async def _begin(hub: "Hub", file: BinaryIO, asked: wire.Open, form: str, host: str) -> Reply:
    """Decode a file and restore it as it comes; if anything fails, nothing is left of either."""
    decoding: Decoding | None = None
    hub.decoding += 1
    try:
        with await asyncio.to_thread(_kept, file) as copy:
            decoding = await Decoding.start(copy, hub.settings.files)  # has the file open by now
        head = decoding.head
        stream = await hub.open(replace(asked, rate=head.rate, channels=head.channels), "http", host)
    except BaseException:
        hub.decoding -= 1
        if decoding:
            await decoding.close()
        raise
    reply = Reply(hub, head.reply(form), head.rate, stream.name)
    hub.replies[reply.session] = reply
    reply.work = asyncio.create_task(_work(reply, stream, decoding))
    return reply


def _kept(file: BinaryIO) -> BinaryIO:
    """A real file with what was uploaded, at its start, for the child to read."""
    import shutil
    import tempfile

    copy = tempfile.TemporaryFile()
    file.seek(0)
    shutil.copyfileobj(file, copy)
    copy.seek(0)
    return copy


async def _work(reply: Reply, stream: Stream, decoding: Decoding) -> None:
    """Decode, restore and encode, all at once, each as far as the next lets it."""
    failure: Exception | None = None
    try:
        encoding = Encoding(reply.form, stream.rate, stream.channels)
        async with aclosing(through(stream, decoding)) as chunks:
            async for chunk in chunks:
                await reply.put(await asyncio.to_thread(encoding.add, chunk), len(chunk))
        await reply.put(await asyncio.to_thread(encoding.end))
    except asyncio.CancelledError:
        failure = StreamError("the restoration was cancelled")
        raise
    except Exception as error:
        failure = error
        if not isinstance(error, EXPECTED):
            stream.log.exception("the reply of stream %s failed", stream.name)
    finally:
        reply.hub.decoding -= 1
        await asyncio.shield(decoding.close())  # where it was ended before it began
        await asyncio.shield(stream.close("cancelled"))
        await asyncio.shield(reply.close(failure))
