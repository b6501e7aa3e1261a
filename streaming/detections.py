"""POST /v1/detect: whether the speech in a recording carries the mark of generated speech."""

import asyncio
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, File, Request, UploadFile
from pydantic import BaseModel, Field

from riverrun.models.speech import perth
from riverrun.streaming.errors import StreamError
from riverrun.streaming.uploads import Decoding, admit, copied

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

router = APIRouter()


class Found(BaseModel):
    """What was found in a recording."""

    marked: bool = Field(description="Whether it, or five seconds of it, is marked.")
    confidence: float = Field(description="How sure that is, from 0 to 1.")
    seconds: float = Field(description="How long it is.")


@router.post("/v1/detect")
async def detect(
    request: Request,
    file: Annotated[UploadFile, File(description="A recording, or a video whose sound is meant.")],
) -> Found:
    """Look for the mark of generated speech in a recording."""
    hub: Hub = request.app.state.hub
    hub.willing()
    perth.weights()  # refused before anything is decoded
    admit(hub, file)
    hub.decoding += 1
    try:
        with await asyncio.to_thread(copied, file.file) as copy:
            decoding = await Decoding.start(copy, hub.settings.files)
        try:
            return await _hear(decoding)
        finally:
            await asyncio.shield(decoding.close())
    finally:
        hub.decoding -= 1


async def _hear(decoding: Decoding) -> Found:
    """Hear a recording in a child process as it is decoded in another. Raises MediaError."""
    arguments = ["-m", "riverrun.streaming.detect", decoding.head.rate, decoding.head.channels]
    pipe = asyncio.subprocess.PIPE
    hearing = await asyncio.create_subprocess_exec(
        sys.executable, *map(str, arguments), stdin=pipe, stdout=pipe,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert hearing.stdin
    try:
        with suppress(ConnectionError):  # its status tells that it has ended
            async for block in decoding.blocks():
                hearing.stdin.write(block.tobytes())
                await hearing.stdin.drain()
        hearing.stdin.close()
        said, _ = await hearing.communicate()
        if hearing.returncode:
            raise StreamError(f"the recording could not be heard (status {hearing.returncode})")
        return Found.model_validate_json(said)
    finally:
        if hearing.returncode is None:
            hearing.kill()
        hearing.stdin.close()
        await asyncio.shield(hearing.communicate())
