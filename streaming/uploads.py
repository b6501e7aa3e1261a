"""Recordings: decoded in a child process that can be killed, sent through a stream, encoded on the way out."""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, ParamSpec, TypeVar, cast

import numpy as np

from riverrun.media import Chunk, Writer
from riverrun.media.chunk import Array
from riverrun.media.errors import CorruptMedia, MediaError, UnsupportedMedia
from riverrun.streaming.problems import TooBig
from riverrun.streaming.settings import Files

if TYPE_CHECKING:
    from fastapi import UploadFile

    from riverrun.streaming.hub import Hub
    from riverrun.streaming.stream import Stream

P = ParamSpec("P")
T = TypeVar("T")
BLOCK = 1 << 16  # bytes read from the child at once
FORMATS = {  # response_format -> container, codec, content type
    "wav": ("wav", "pcm_s16le", "audio/wav"),
    "flac": ("flac", "flac", "audio/flac"),
    "opus": ("opus", "libopus", "audio/ogg"),
    "mp3": ("mp3", "libmp3lame", "audio/mpeg"),
    "aac": ("adts", "aac", "audio/aac"),
    "pcm": ("s16le", "pcm_s16le", "audio/pcm"),
}
LIKE = {"flac": "flac", "mp3": "mp3", "ogg": "opus", "opus": "opus"}  # of an input's container, for "same"


def admit(hub: "Hub", file: "UploadFile") -> None:
    """Raises TooBig if a file is, AtCapacity if too many are worked on."""
    limits = hub.settings.files
    if (file.size or 0) > limits.bytes:
        raise TooBig(f"the file has {file.size} bytes, the limit is {limits.bytes}: cut it")
    hub.decoder()


@dataclass(frozen=True)
class Head:
    """What the child says of an upload before its sound."""

    rate: int
    channels: int
    codec: str
    format: str

    def reply(self, wanted: str) -> str:
        """The response_format of "same"."""
        return wanted if wanted in FORMATS else LIKE.get(self.format.split(",")[0], "wav")


class Decoding:
    """An upload as it comes out of its child process. Use `close` in a finally."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.head = Head(0, 0, "", "")

    @classmethod
    async def start(cls, file: BinaryIO, limits: Files) -> "Decoding":
        """Begin decoding; the head is there when this returns. Raises MediaError."""
        decoding = await cls._spawn(file, limits)
        try:
            assert decoding.process.stdout
            line = await asyncio.wait_for(decoding.process.stdout.readline(), limits.cpu)
            if not line.endswith(b"\n"):
                await decoding._failed()
            decoding.head = Head(**json.loads(line))
        except TimeoutError as error:
            await decoding.close()
            raise UnsupportedMedia(f"the file took more than {limits.cpu} s to open") from error
        except BaseException:
            await decoding.close()
            raise
        return decoding

    @classmethod
    async def _spawn(cls, file: BinaryIO, limits: Files) -> "Decoding":
        arguments = ["-m", "riverrun.streaming.decode", limits.memory, limits.cpu, limits.seconds]
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                sys.executable,
                *map(str, arguments),
                stdin=file,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )
        try:
            return cls(await asyncio.shield(starting))
        except asyncio.CancelledError:  # half started, it would leave its pipes open
            await cls(await starting).close()
            raise

    async def blocks(self) -> AsyncIterator[Array]:
        """The sound `[t, c]` as it is decoded. Raises MediaError."""
        assert self.process.stdout
        left, size = b"", 4 * self.head.channels
        while data := await self.process.stdout.read(BLOCK):
            data = left + data
            whole = len(data) // size * size
            left = data[whole:]
            if whole:
                yield np.frombuffer(data[:whole], "<f4").reshape(-1, self.head.channels)
        if await self.process.wait():
            await self._failed()

    async def _failed(self) -> None:
        """Raise what the child said, or what its end means."""
        assert self.process.stderr
        said = (await self.process.stderr.read()).decode(errors="replace").strip().splitlines()
        code = await self.process.wait()
        try:
            told: dict[str, Any] = json.loads(said[-1])
            kind = {"UnsupportedMedia": UnsupportedMedia}.get(told["error"], CorruptMedia)
            raise kind(told["message"])
        except (IndexError, ValueError, KeyError, TypeError) as error:
            raise MediaError(f"the file could not be decoded within its limits (status {code})") from error

    async def close(self) -> None:
        """Kill the child if it still runs, and close its pipes."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


def copied(file: BinaryIO) -> BinaryIO:
    """A real file with what was uploaded, at its start, for the child to read."""
    copy = tempfile.TemporaryFile()
    file.seek(0)
    shutil.copyfileobj(file, copy)
    copy.seek(0)
    return copy


async def through(stream: "Stream", decoding: Decoding) -> AsyncGenerator[Chunk, None]:
    """Send a recording through a stream, and give the chunks that come out; both are closed at the end.

    Use it in an `aclosing`. Raises MediaError, SessionEnded.
    """
    try:
        async with aclosing(fed(stream, _feed(stream, decoding))) as chunks:
            async for chunk in chunks:
                yield chunk
    finally:
        await asyncio.shield(decoding.close())


async def fed(stream: "Stream", work: Coroutine[Any, Any, None]) -> AsyncGenerator[Chunk, None]:
    """Give the chunks of a stream while `work` feeds it; it is closed at the end, and what fails in either is raised.

    Use it in an `aclosing`.
    """
    feeding, why = asyncio.create_task(work), "cancelled"
    try:
        over = False
        while not over:
            chunks = await _either(stream, feeding)
            for chunk in chunks:
                if len(chunk):
                    yield chunk
            over = not chunks or chunks[-1].last
        await feeding
        why = "finished"
    except Exception:
        why = "failed"
        raise
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await asyncio.shield(stream.close(why))


async def _either(stream: "Stream", feeding: "asyncio.Task[None]") -> list[Chunk]:
    """The next chunks, unless feeding has failed, which would let one wait for ever."""
    reading = asyncio.create_task(stream.read())
    try:
        await asyncio.wait({reading, feeding}, return_when=asyncio.FIRST_COMPLETED)
        if feeding.done():
            feeding.result()
        return await reading
    finally:
        reading.cancel()


async def _feed(stream: "Stream", decoding: Decoding) -> None:
    async for block in decoding.blocks():
        await stream.feed(block)
    await stream.finish()


class Sink:
    """A binary file that only collects what is written."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def take(self) -> bytes:
        """All that was written since the last call."""
        data, self.parts = b"".join(self.parts), []
        return data


class Encoding:
    """Chunks in, bytes of a container out; what it does takes time and belongs into a thread."""

    def __init__(self, form: str, rate: int, channels: int) -> None:
        self.sink = Sink()
        self.writer = writer(cast(BinaryIO, self.sink), form, rate, channels)

    def add(self, chunk: Chunk) -> bytes:
        """Encode a chunk; nothing may come out yet."""
        self.writer.put(chunk)
        return self.sink.take()

    def end(self) -> bytes:
        """What is left."""
        self.writer.close()
        return self.sink.take()


def writer(file: BinaryIO, form: str, rate: int, channels: int) -> Writer:
    """What writes sound into an open file in one of FORMATS."""
    container, codec, _ = FORMATS[form]
    return Writer(file, rate=rate, channels=channels, codec=codec, format=container)


async def settled(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do in a thread what blocks; when cancelled, end only after it has, so that what it uses can be freed."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    finally:
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                continue  # it is raised already
