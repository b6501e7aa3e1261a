"""POST /v1/audio/restorations and conversions: a recording in, a filter's one out as it is made.

A cut reply can be resumed.
"""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import StreamingResponse

from riverrun.models.contract import PITCHES
from riverrun.streaming import replies, wire
from riverrun.streaming.access import address, owner
from riverrun.streaming.errors import AtCapacity, StreamError
from riverrun.streaming.problems import EXPECTED
from riverrun.streaming.replies import Reply
from riverrun.streaming.stream import Stream
from riverrun.streaming.uploads import FORMATS, Decoding, Encoding, admit, copied, through

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

router = APIRouter()
replies.resumable(router, "/v1/audio/restorations")
replies.resumable(router, "/v1/audio/conversions")
BEGUN = 1.0  # seconds of sound that are made before a reply begins

Recording = Annotated[UploadFile, File(description="A recording, or a video whose sound is wanted.")]
Name = Annotated[str, Form()]
Seed = Annotated[int, Form(ge=-(2**63), lt=2**63)]
Kind = Annotated[Literal["same", "wav", "flac", "opus", "mp3"], Form()]


def _made(what: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"audio/wav": {}}, "description": what}}


@router.post(
    "/v1/audio/restorations", response_class=StreamingResponse, responses=_made("The restored recording.")
)
async def restore(
    request: Request,
    file: Recording,
    model: Name = "restore-lite",
    strength: Annotated[float, Form(ge=0, le=1)] = 1.0,
    seed: Seed = 0,
    band: Annotated[Literal["full", "8k"], Form()] = "full",
    response_format: Kind = "same",
) -> StreamingResponse:
    """Restore a recording; the reply begins as soon as its first second is done."""
    asked = wire.Open(model, {"strength": strength, "seed": seed}, band=band)
    return await _reply(request, file, asked, response_format)


@router.post(
    "/v1/audio/conversions", response_class=StreamingResponse, responses=_made("The converted recording.")
)
async def convert(
    request: Request,
    file: Recording,
    model: Name = "",
    voice: Name = "",
    pitch: Annotated[float, Form(ge=PITCHES[0], le=PITCHES[1])] = 0.0,
    seed: Seed = 0,
    response_format: Kind = "same",
) -> StreamingResponse:
    """Give the speech in a recording another voice: one that the model knows by name, or one of the caller's.

    The reply begins as soon as its first second is done.
    """
    hub: Hub = request.app.state.hub
    hub.willing()
    asked = wire.Open(hub.converter(model), {"voice": voice, "pitch": pitch, "seed": seed})
    return await _reply(request, file, asked, response_format)


async def _reply(request: Request, file: UploadFile, asked: wire.Open, form: str) -> StreamingResponse:
    """What a model makes of a recording, as it is made."""
    hub: Hub = request.app.state.hub
    limits, who = hub.settings.files, owner(request)
    if len(hub.replies) >= limits.at_once + hub.settings.streams.sessions:
        raise AtCapacity("too many replies wait for their clients", 10.0)
    await hub.check(asked, who)  # refused before anything is decoded
    admit(hub, file)
    reply = await _begin(hub, file.file, asked, form, address(request), who)
    return await replies.begun(reply, BEGUN)


async def _begin(hub: "Hub", file: BinaryIO, asked: wire.Open, form: str, host: str, who: str) -> Reply:
    """Decode a file and filter it as it comes; if anything fails, nothing is left of either."""
    decoding: Decoding | None = None
    hub.decoding += 1
    try:
        with await asyncio.to_thread(copied, file) as copy:
            decoding = await Decoding.start(copy, hub.settings.files)  # has the file open by now
        head = decoding.head
        stream = await hub.open(replace(asked, rate=head.rate, channels=head.channels), "http", host, who)
    except BaseException:
        hub.decoding -= 1
        if decoding:
            await decoding.close()
        raise
    form = head.reply(form)
    reply = Reply(hub, FORMATS[form][2], head.rate, stream.name)
    hub.replies[reply.session] = reply
    reply.work = asyncio.create_task(_work(reply, form, stream, decoding))
    return reply


async def _work(reply: Reply, form: str, stream: Stream, decoding: Decoding) -> None:
    """Decode, filter and encode, all at once, each as far as the next lets it."""
    failure: Exception | None = None
    try:
        encoding = Encoding(form, stream.rate, stream.channels)
        async with aclosing(through(stream, decoding)) as chunks:
            async for chunk in chunks:
                await reply.put(await asyncio.to_thread(encoding.add, chunk), len(chunk))
        await reply.put(await asyncio.to_thread(encoding.end))
    except asyncio.CancelledError:
        failure = StreamError("the reply was cancelled")
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
