"""POST /v1/audio/restorations: a recording in, the restored one out as it is made; a cut reply can be resumed."""

import asyncio
import hmac
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

from fastapi import APIRouter, File, Form, Header, Request, UploadFile
from fastapi.responses import StreamingResponse

from riverrun.models.errors import InvalidRequest
from riverrun.streaming import wire
from riverrun.streaming.errors import AtCapacity, StreamError
from riverrun.streaming.problems import NotFound, TooBig
from riverrun.streaming.stream import Stream
from riverrun.streaming.uploads import FORMATS, Decoding, Encoding, through

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

log = logging.getLogger(__name__)
router = APIRouter()
PIECE = 1 << 16  # bytes sent at once


class Reply:
    """The bytes of one restored recording: made ahead of the client by so much, kept behind it by as much."""

    def __init__(self, hub: "Hub", form: str) -> None:
        self.hub, self.form = hub, form
        self.session, self.token = secrets.token_hex(8), secrets.token_urlsafe(24)
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

    async def put(self, data: bytes, ticks: int = 0) -> None:
        """Add bytes that so many ticks became; wait while the client is too far behind."""
        async with self.changed:
            self.data += data
            self.ticks += ticks
            self.changed.notify_all()
            await self.changed.wait_for(lambda: self.end - self.sent < self.size)

    async def close(self, failure: Exception | None = None) -> None:
        """Nothing follows."""
        async with self.changed:
            self.done, self.failure = True, failure
            self.changed.notify_all()

    async def read(self, start: int) -> AsyncIterator[bytes]:
        """The bytes from one on, as they are made, until a newer reader comes. Raises what ended them."""
        self.epoch += 1
        epoch, at = self.epoch, start
        if self.grace:
            self.grace.cancel()
        try:
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
                await self._passed(at)
            if self.failure:
                raise self.failure
        finally:  # what was sent whole may still be lost on its way, so it is kept for a while, too
            if self.epoch == epoch and self.session in self.hub.replies:
                self.grace = asyncio.create_task(self._expire())

    async def _passed(self, at: int) -> None:
        async with self.changed:
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
        """Forget it, and free what makes it."""
        self.hub.replies.pop(self.session, None)
        if self.work:
            self.work.cancel()


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
    await hub.engine.check(model, {"strength": strength, "seed": seed})  # refused before anything is decoded
    with await asyncio.to_thread(_kept, file.file) as copy:
        decoding = await Decoding.start(copy, limits)  # has the file open by now
    head = decoding.head
    wanted = wire.Open(model, {"strength": strength, "seed": seed}, head.rate, head.channels, band=band)
    try:
        stream = await hub.open(wanted, "http")
    except BaseException:
        await decoding.close()
        raise
    reply = Reply(hub, head.reply(response_format))
    hub.replies[reply.session] = reply
    reply.work = asyncio.create_task(_work(reply, stream, decoding))
    async with (
        reply.changed
    ):  # an upload that is damaged at its start is an error with a status, not a cut reply
        await reply.changed.wait_for(lambda: reply.ticks >= stream.rate or reply.done)
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
    kind = FORMATS[reply.form][2]
    return StreamingResponse(reply.read(start), 206 if start else 200, headers, kind)


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
    finally:
        await asyncio.shield(decoding.close())  # where it was ended before it began
        await asyncio.shield(stream.close())
        await asyncio.shield(reply.close(failure))
