"""What a server makes of a recording or a text, fetched: asked again when refused, taken up where it was cut."""

import asyncio
import io
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from riverrun.answers import AGAIN, Unreachable, refusal, retry_after
from riverrun.files import CONVERTED, PIPE, RESTORED, beside
from riverrun.local import guard
from riverrun.media.errors import UnsupportedMedia
from riverrun.media.writer import part_of
from riverrun.models.errors import InvalidRequest
from riverrun.streaming.errors import AtCapacity
from riverrun.streaming.problems import TooMany

log = logging.getLogger(__name__)
TRIES = 5  # of a request that is refused for now
PATIENCE = 30.0  # seconds that one is put off at most, and that a cut reply is tried to be taken up
RESTORATIONS, CONVERSIONS = "/v1/audio/restorations", "/v1/audio/conversions"
MARKS = {RESTORATIONS: RESTORED, CONVERSIONS: CONVERTED}  # of results
SPEECH = "/v1/audio/speech"
DETECT = "/v1/detect"
SUFFIXES = {".wav": "wav", ".flac": "flac", ".opus": "opus", ".ogg": "opus", ".oga": "opus", ".mp3": "mp3"}
BUSY = (429, 503)

Progress = Callable[[int, int, int], object]
"""Told the bytes sent, the bytes there are to send, and the bytes of the result that came."""


async def ask(
    http: httpx.AsyncClient, build: Callable[[], httpx.Request], tries: int = TRIES
) -> httpx.Response:
    """Ask, again if the server says when or the connection is cut; give the answer, its body still to be read.

    Raises what the server refuses with, or Unreachable.
    """
    for left in reversed(range(tries)):
        wait = AGAIN[min(tries - 1 - left, len(AGAIN) - 1)]
        try:
            reply = await http.send(build(), stream=True)
            if reply.is_success:
                return reply
            body = await reply.aread()
        except httpx.TransportError as error:
            cut = isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError)
            if not left or not cut:
                why = str(error) or type(error).__name__
                raise Unreachable(
                    f"{http.base_url} cannot be reached ({why}): does the server run there?"
                ) from error
        else:
            put_off = retry_after(reply.headers) if reply.status_code in BUSY else None
            if not left or put_off is None or put_off > PATIENCE:
                raise refusal(reply.status_code, reply.headers, body, str(http.base_url))
            wait = put_off
        await asyncio.sleep(wait)
    raise AssertionError("the last try returns or raises")


class Upload(io.FileIO):
    """A file that tells how far it was read."""

    def __init__(self, path: str, progress: Callable[[int], object]) -> None:
        super().__init__(path)
        self.progress = progress

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size)
        self.progress(self.tell())
        return data or b""


class Fetch:
    """A reply of the server as it is made: taken up however often it is cut, and in the end forgotten there."""

    def __init__(
        self, http: httpx.AsyncClient, path: str, came: Callable[[int], object] = lambda size: None
    ) -> None:
        """`came` is told how many bytes of it came."""
        self.http, self.path, self.came = http, path, came
        self.received = 0  # bytes
        self.at, self.token = "", ""

    async def pieces(self, build: Callable[[], httpx.Request]) -> AsyncGenerator[bytes, None]:
        """Ask; give the bytes of the reply as they come. Raises what the server fails with."""
        reply = await ask(self.http, build)
        self.at = f"{self.path}/{reply.headers['riverrun-session']}"
        self.token = reply.headers["riverrun-token"]
        while True:
            try:
                async for piece in reply.aiter_raw():
                    self.received += len(piece)
                    self.came(self.received)
                    yield piece
                return
            except httpx.TransportError as error:
                log.info("the reply at %s was cut after %d bytes: %s", self.at, self.received, error)
            finally:
                await reply.aclose()
            reply = await self._again()

    async def _again(self) -> httpx.Response:
        """Take the reply up where it was cut. Raises Unreachable, or why the server cannot."""
        loop = asyncio.get_running_loop()
        begun, tries = loop.time(), 0
        headers = {"riverrun-token": self.token, "range": f"bytes={self.received}-"}
        while True:
            await asyncio.sleep(AGAIN[min(tries, len(AGAIN) - 1)])
            tries += 1
            try:
                return await ask(
                    self.http, lambda: self.http.build_request("GET", self.at, headers=headers), 1
                )
            except (Unreachable, AtCapacity, TooMany) as error:
                if (spent := loop.time() - begun) > PATIENCE:
                    raise Unreachable(
                        f"{self.http.base_url} did not come back in {spent:.0f} s and {tries} attempts: the "
                        f"{self.received} bytes of the result that came are dropped; ask for it again"
                    ) from error

    async def forget(self) -> None:
        """Let the server free what it keeps of this; it does so by itself, if later."""
        if self.at:
            try:
                await self.http.delete(self.at, headers={"riverrun-token": self.token}, timeout=2.0)
            except httpx.HTTPError as error:
                log.debug("%s was not freed: %s", self.at, error)


def place(source: str, out: str | None, form: str, mark: str = RESTORED) -> tuple[str, str]:
    """Where a result goes, and the form it is asked for in. Raises InvalidRequest if no server makes that."""
    forms = dict.fromkeys(SUFFIXES.values())
    if form not in ("same", *forms):
        raise InvalidRequest(f"format is {form!r}, expected one of same, {', '.join(forms)}")
    suffix = Path(out or source).suffix.lower()
    if form == "same" and out and suffix not in SUFFIXES:
        raise InvalidRequest(
            f"out is {out!r}, expected a name in {', '.join(SUFFIXES)}, or a format beside it"
        )
    if form == "same":
        form = SUFFIXES.get(suffix, "wav")
    if out is None:
        kept = Path(beside(source, mark))
        out = str(kept if SUFFIXES.get(suffix) == form else kept.with_suffix(f".{form}"))
    return out, form


async def remake(
    http: httpx.AsyncClient,
    path: str,
    source: str,
    out: str | None,
    form: str,
    fields: Mapping[str, str],
    force: bool,
    progress: Progress | None,
) -> Path:
    """Have a file made anew at RESTORATIONS or CONVERSIONS into another, whole or not at all; give its path."""
    named, form = place(source, out, form, MARKS[path])
    target = Path(guard(source, named, force))
    tell, sizes = progress or (lambda *sizes: None), [0, 0, 0]

    def note(at: int, size: int) -> None:
        sizes[at] = size
        tell(*sizes)

    try:
        with Upload(source, lambda sent: note(0, sent)) as file:
            sizes[1] = os.fstat(file.fileno()).st_size
            work = Fetch(http, path, lambda came: note(2, came))
            upload, data = {"file": (Path(source).name, file)}, {**fields, "response_format": form}
            pieces = work.pieces(lambda: http.build_request("POST", path, files=upload, data=data))
            return await _kept(work, pieces, target, form)
    except OSError as error:
        raise UnsupportedMedia(f"{source} cannot be read: {error.strerror}") from error


async def speak(
    http: httpx.AsyncClient, asked: Mapping[str, Any], out: str | None, form: str, force: bool
) -> bytes | Path:
    """Have a text said: into a file, whole or not at all, whose path is given, or else as bytes."""
    form = form if out is None else place(out, out, form)[1]
    work, body = Fetch(http, SPEECH), {**asked, "response_format": form}
    pieces = work.pieces(lambda: http.build_request("POST", SPEECH, json=body))
    if out is not None:
        return await _kept(work, pieces, Path(guard(PIPE, out, force)), form)
    with io.BytesIO() as file:
        await _fill(work, pieces, file, form)
        return file.getvalue()


async def _kept(work: Fetch, pieces: AsyncGenerator[bytes, None], target: Path, form: str) -> Path:
    """Write a reply into a file, whole or not at all; give its path."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(target)
        try:
            with part.open("x+b") as file:
                await _fill(work, pieces, file, form)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UnsupportedMedia(f"{target} cannot be written: {error.strerror}") from error
    return target


async def detect(http: httpx.AsyncClient, source: str) -> Any:
    """What is found in a file. Raises MediaError, and what the server refuses with."""
    try:
        with Path(source).open("rb") as file:
            upload = {"file": (Path(source).name, file)}
            reply = await ask(http, lambda: http.build_request("POST", DETECT, files=upload))
            await reply.aread()
    except OSError as error:
        raise UnsupportedMedia(f"{source} cannot be read: {error.strerror}") from error
    return reply.json()


async def _fill(work: Fetch, pieces: AsyncGenerator[bytes, None], file: BinaryIO, form: str) -> None:
    """Write a reply into an empty file."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                file.write(piece)
        if form == "wav":
            measure(file)
    finally:
        await work.forget()


def measure(file: BinaryIO) -> None:
    """Write the sizes into a WAV file that could not know them when it began. Source: RIFF, chunks of tag and size."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(8) != b"RIFF\xff\xff\xff\xff":
        return
    at = 12  # after RIFF, its size and WAVE
    while at + 8 <= size:
        file.seek(at)
        tag, length = file.read(4), int.from_bytes(file.read(4), "little")
        if tag == b"data":
            file.seek(at + 4)
            file.write(min(size - at - 8, 0xFFFFFFFF).to_bytes(4, "little"))
            file.seek(4)
            file.write(min(size - 8, 0xFFFFFFFF).to_bytes(4, "little"))
            return
        at += 8 + length + length % 2
