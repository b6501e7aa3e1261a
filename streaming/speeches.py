"""POST /v1/audio/speech: a text in, speech out as it is made, in OpenAI's form; a cut reply can be resumed."""

import asyncio
import base64
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading.script import SPEEDS
from riverrun.streaming import replies, wire
from riverrun.streaming.access import address, owner
from riverrun.streaming.errors import AtCapacity, StreamError
from riverrun.streaming.player import Player, opened
from riverrun.streaming.problems import EXPECTED, TooBig, body
from riverrun.streaming.projector import Projector
from riverrun.streaming.replies import Reply
from riverrun.streaming.speech import Speech
from riverrun.streaming.uploads import FORMATS, Encoding, fed

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

router = APIRouter()
replies.resumable(router, "/v1/audio/speech")
RATE = 24_000  # Hz, of pcm without a header, as OpenAI's
SSE = "text/event-stream"


class Voice(BaseModel):
    """A voice by its id."""

    model_config = ConfigDict(extra="forbid")
    id: str


class Asked(BaseModel):
    """What is to be said. `instructions` are taken and not followed: no model here understands them.

    Without `steps`, the model takes as many as it does.

    It is heard under the name `stream` over WebRTC, too, and is then not made faster than that.
    """

    model_config = ConfigDict(extra="forbid")
    input: str | list[str]
    model: str = ""
    voice: str | Voice = ""
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(default=1.0, ge=SPEEDS[0], le=SPEEDS[1])
    stream_format: Literal["audio", "sse"] = "audio"
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    steps: int | None = Field(default=None, ge=1, le=64)
    stream: str | None = None

    @property
    def texts(self) -> list[str]:
        """What is said, one after the other."""
        return [self.input] if isinstance(self.input, str) else self.input


@router.post(
    "/v1/audio/speech",
    response_class=StreamingResponse,
    responses={200: {"content": {"audio/mpeg": {}, SSE: {}}, "description": "The speech."}},
)
async def speak(request: Request, asked: Asked) -> StreamingResponse:
    """Say a text; the reply begins with its first sound. SSML is a text that begins with <speak>."""
    hub: Hub = request.app.state.hub
    count, most = sum(map(len, asked.texts)), hub.settings.speech.characters
    if count > most:
        raise TooBig(f"input has {count} characters, the limit is {most}: say it in parts")
    if not any(text.strip() for text in asked.texts):
        raise InvalidRequest("input is empty, expected a text")
    if len(hub.replies) >= hub.settings.files.at_once + hub.settings.streams.sessions:
        raise AtCapacity("too many replies wait for their clients", 10.0)
    hub.willing()
    model = hub.speaker(asked.model)
    voice = asked.voice if isinstance(asked.voice, str) else asked.voice.id
    values: dict[str, Any] = {"voice": voice, "speed": asked.speed, "seed": asked.seed}
    if asked.steps is not None:
        values["steps"] = asked.steps
    wanted = wire.Open(model, values, rate=RATE, stream=asked.stream)
    stream, player = await opened(hub, wanted, "http", address(request), owner(request))
    assert isinstance(stream, Speech)
    sse = asked.stream_format == "sse"
    kind = SSE if sse else FORMATS[asked.response_format][2]
    reply = Reply(hub, kind, stream.rate, stream.name)
    hub.replies[reply.session] = reply
    reply.work = asyncio.create_task(_work(reply, stream, asked, player))
    return await replies.begun(reply, 0.01)


async def _work(reply: Reply, stream: Speech, asked: Asked, player: Player | Projector | None) -> None:
    """Say and encode, each as far as the next lets it."""
    failure: Exception | None = None
    sse = asked.stream_format == "sse"

    async def put(data: bytes, ticks: int = 0) -> None:
        if not sse:
            await reply.put(data, ticks)
        elif data:
            await reply.put(event("speech.audio.delta", audio=base64.b64encode(data).decode()), ticks)

    try:
        encoding = Encoding(asked.response_format, stream.rate, stream.channels)
        async with aclosing(fed(stream, stream.recite(asked.texts))) as chunks:
            async for chunk in chunks:
                await put(await asyncio.to_thread(encoding.add, chunk), len(chunk))
                if player:
                    await player.put(chunk)
        await put(await asyncio.to_thread(encoding.end))
        if sse:
            await reply.put(event("speech.audio.done", usage=usage(asked, stream)))
    except asyncio.CancelledError:
        failure = StreamError("the speech was cancelled")
        raise
    except Exception as error:
        failure = error
        if not isinstance(error, EXPECTED):
            stream.log.exception("the reply of stream %s failed", stream.name)
        if sse and reply.end:
            await reply.put(event("speech.audio.error", **body(error)))
    finally:
        if player:
            player.cast.close() if failure else player.finish()
        await asyncio.shield(stream.close("cancelled"))
        await asyncio.shield(reply.close(failure))


def event(kind: str, **values: Any) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps({'type': kind, **values})}\n\n".encode()


def usage(asked: Asked, stream: Speech) -> dict[str, int]:
    """What was used: characters in, and a token out for each frame of the model."""
    count, made = sum(map(len, asked.texts)), round(stream.out / stream.rate * float(stream.pace))
    return {"input_tokens": count, "output_tokens": made, "total_tokens": count + made}
