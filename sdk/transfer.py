"""What a server makes of a recording or a text, fetched: asked again when refused, taken up where it was cut."""

import asyncio
import io
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

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


async def pieces(
    http: httpx.AsyncClient,
    reply: httpx.Response,
    rest: Callable[[int], httpx.Request],
    came: Callable[[int], object] = lambda size: None,
) -> AsyncGenerator[bytes, None]:
    """The bytes of a reply as they come, however often it is cut: `rest` asks for those after so many.

    `came` is told how many came. Raises what the server fails with, and Unreachable if it does not come back.
    """
    received = 0
    while True:
        try:
            async for piece in reply.aiter_raw():
                received += len(piece)
                came(received)
                yield piece
            return
        except httpx.TransportError as error:
            log.info("the reply at %s was cut after %d bytes: %s", reply.url, received, error)
        finally:
            await reply.aclose()
        lost = f"the {received} bytes of the result that came are dropped; ask for it again"
        reply = await patient(http, partial(rest, received), lost)


async def patient(http: httpx.AsyncClient, build: Callable[[], httpx.Request], lost: str) -> httpx.Response:
    """An answer of a server that may be away for a while.

    Raises what it refuses with, or Unreachable, which says what is `lost`.
    """
    loop = asyncio.get_running_loop()
    begun, tries = loop.time(), 0
    while True:
        await asyncio.sleep(AGAIN[min(tries, len(AGAIN) - 1)])
        tries += 1
        try:
            return await ask(http, build, 1)
        except (Unreachable, AtCapacity, TooMany) as error:
            if (spent := loop.time() - begun) > PATIENCE:
                raise Unreachable(
                    f"{http.base_url} did not come back in {spent:.0f} s and {tries} attempts: {lost}"
                ) from error


class Fetch:
    """A reply of the server as it is made, in the end forgotten there. Use it in `async with`."""

    def __init__(
        self, http: httpx.AsyncClient, path: str, came: Callable[[int], object] = lambda size: None
    ) -> None:
        """`came` is told how many bytes of it came."""
        self.http, self.path, self.came = http, path, came
        self.at, self.token = "", ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.forget()

    async def pieces(self, build: Callable[[], httpx.Request]) -> AsyncGenerator[bytes, None]:
        """Ask; give the bytes of the reply as they come. Raises what the server fails with."""
        reply = await ask(self.http, build)
        self.at = f"{self.path}/{reply.headers['riverrun-session']}"
        self.token = reply.headers["riverrun-token"]
        async with aclosing(pieces(self.http, reply, self._rest, self.came)) as came:
            async for piece in came:
                yield piece

    def _rest(self, received: int) -> httpx.Request:
        headers = {"riverrun-token": self.token, "range": f"bytes={received}-"}
        return self.http.build_request("GET", self.at, headers=headers)

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
            upload, data = {"file": (Path(source).name, file)}, {**fields, "response_format": form}
            async with Fetch(http, path, lambda came: note(2, came)) as work:
                made = work.pieces(lambda: http.build_request("POST", path, files=upload, data=data))
                return cast(Path, await kept(made, target, form))
    except OSError as error:
        raise UnsupportedMedia(f"{source} cannot be read: {error.strerror}") from error


async def speak(
    http: httpx.AsyncClient, asked: Mapping[str, Any], out: str | None, form: str, force: bool
) -> bytes | Path:
    """Have a text said: into a file, whole or not at all, whose path is given, or else as bytes."""
    form = form if out is None else place(out, out, form)[1]
    target, body = None if out is None else Path(guard(PIPE, out, force)), {**asked, "response_format": form}
    async with Fetch(http, SPEECH) as work:
        made = work.pieces(lambda: http.build_request("POST", SPEECH, json=body))
        return await kept(made, target, form)


async def kept(made: AsyncGenerator[bytes, None], target: Path | None, form: str) -> bytes | Path:
    """Write a reply into a file, whole or not at all, and give its path; without one, give its bytes."""
    if target is None:
        with io.BytesIO() as whole:
            await _fill(made, whole, form)
            return whole.getvalue()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(target)
        try:
            with part.open("x+b") as file:
                await _fill(made, file, form)
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


async def _fill(made: AsyncGenerator[bytes, None], file: BinaryIO, form: str) -> None:
    """Write a reply into an empty file."""
    async with aclosing(made):
        async for piece in made:
            file.write(piece)
    if form == "wav":
        measure(file)


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
