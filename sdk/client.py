"""AsyncClient: a server as an async program uses it. `riverrun.Client` is the same without async."""

import asyncio
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack, cast, overload
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray

from riverrun import transfer, videos
from riverrun.arrays import given, taken
from riverrun.asked import (
    Converting,
    Form,
    Found,
    Look,
    Manner,
    Model,
    Picture,
    Settings,
    Talk,
    Voice,
    Watch,
)
from riverrun.link import Event
from riverrun.live import AsyncSpeech, AsyncStream, Running
from riverrun.media.errors import UnsupportedMedia
from riverrun.models.errors import InvalidRequest
from riverrun.shows import AsyncShow
from riverrun.streaming import wire
from riverrun.transfer import Progress
from riverrun.videos import Share

CONNECT, SILENCE = 10.0, 120.0  # seconds until a connection is there, and until a silent one counts as lost
STREAM = "/v1/stream"
SPEECH_RATE = 24_000  # Hz
CONSENTS, VOICES = "/v1/audio/voice_consents", "/v1/audio/voices"


class AsyncClient:
    """A Riverrun server at an address like `http://127.0.0.1:8000`. Use it in `async with`, or close it.

    Raises ValueError for another kind of address.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"url is {url!r}, expected http://HOST:PORT or https://HOST")
        self.url = url.rstrip("/")
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.AsyncClient(
            base_url=self.url,
            headers={**self.headers, "accept-encoding": "identity"},  # bytes are counted, to resume at one
            timeout=httpx.Timeout(SILENCE, connect=CONNECT),
        )
        self.streams: set[Running] = set()  # that run

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what streams there are, and hang up. Twice is once."""
        await asyncio.gather(*(stream.cancel() for stream in self.streams))
        await self.http.aclose()

    async def models(self) -> list[Model]:
        """The models of the server. Raises Unreachable, NotAllowed, TooMany."""
        return cast(list[Model], (await self._ask("GET", "/v1/models"))["data"])

    async def status(self) -> dict[str, Any]:
        """What the server does now: its streams, engine and refusals, as its schema documents `GET /v1/status`.

        Raises Unreachable, NotAllowed, TooMany.
        """
        return cast(dict[str, Any], await self._ask("GET", "/v1/status"))

    async def voices(self) -> list[Voice]:
        """The voices that the server's models know by name, then your own. Raises as `models`."""
        found, more, last = list[Voice](), True, dict[str, str]()
        while more:
            page = await self._ask("GET", VOICES, params=last)
            found += page["data"]
            more, last = page["has_more"], {"after": page["last_id"]}
        return found

    async def add_voice(
        self,
        name: str,
        sample: str | PathLike[str],
        *,
        consent: str | PathLike[str],
        language: str = "en-US",
        transcript: str = "",
    ) -> Voice:
        """Make a voice of a recording; `consent` is one in which its speaker agrees, in a `language` such as "de-DE".

        `transcript` is what is said in the recording, which some models need. If the voice is not taken, the consent is
        not kept, either. Raises MediaError and InvalidRequest for what is not usable, TooBig, Unreachable, AtCapacity,
        NotAllowed.
        """
        told = {"name": name, "language": language}
        agreed = str((await self._send(CONSENTS, "recording", consent, told))["id"])
        try:
            told = {"name": name, "consent": agreed, "transcript": transcript}
            return cast(Voice, await self._send(VOICES, "audio_sample", sample, told))
        except BaseException:
            await asyncio.shield(self._ask("DELETE", f"{CONSENTS}/{agreed}"))
            raise

    async def transcribe_voice(self, voice: str, transcript: str) -> Voice:
        """Say, or correct, what is said in the sample of a voice of yours, by its id.

        Raises NotFound, InvalidRequest, and as `models`.
        """
        path = f"{VOICES}/{quote(voice, safe='')}"
        return cast(Voice, await self._ask("POST", path, json={"transcript": transcript}))

    async def remove_voice(self, voice: str, *, withdraw: bool = False) -> None:
        """Erase a voice of yours by its id; `withdraw` its consent, and every voice made under that is erased, too.

        Raises NotFound, and as `models`.
        """
        path = f"{VOICES}/{quote(voice, safe='')}"
        if withdraw and (agreed := (await self._ask("GET", path)).get("consent")):
            path = f"{CONSENTS}/{agreed}"
        await self._ask("DELETE", path)

    async def _send(
        self, path: str, field: str, file: str | PathLike[str], fields: dict[str, str]
    ) -> dict[str, Any]:
        """What the server says to a file and what is told of it."""
        try:
            with Path(file).open("rb") as opened:
                upload = {field: (Path(file).name, opened)}
                return cast(dict[str, Any], await self._ask("POST", path, files=upload, data=fields))
        except OSError as error:
            raise UnsupportedMedia(f"{os.fspath(file)} cannot be read: {error.strerror}") from error

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        """The JSON of an answer. Raises what the server refuses with, or Unreachable."""
        reply = await transfer.ask(self.http, lambda: self.http.build_request(method, path, **request))
        await reply.aread()
        return reply.json()

    async def detect(self, source: str | PathLike[str]) -> Found:
        """Whether the speech in a recording is marked as generated.

        Raises MediaError if it is not usable, CheckpointError if the server has no weights for that, Unreachable,
        AtCapacity, NotAllowed.
        """
        return cast(Found, await transfer.detect(self.http, os.fspath(source)))

    def stream(
        self,
        model: str = "restore-lite",
        *,
        rate: int = 48_000,
        channels: int = 1,
        live: float | None = None,
        band: Literal["full", "8k"] = "full",
        format: Literal["pcm16", "f32"] = "f32",
        on_event: Callable[[Event], object] | None = None,
        **request: Any,
    ) -> AsyncStream:
        """A stream to enter with `async with`; `request` are values of the model's, such as `strength`.

        `live` is the delay wanted, in seconds: sound that comes too late is dropped then, and never without it.
        `format` is what samples travel in; `on_event` is told what befalls the stream, and must return soon.
        Raises InvalidRequest for another format; what else the server does not take is refused on entering.
        """
        wanted = wire.Open(model, request, rate, channels, format, band, live)
        return AsyncStream(self._socket(wanted), self.headers, wanted, on_event, self.streams)

    def speech(self, **talk: Unpack[Talk]) -> AsyncSpeech:
        """Live speech to enter with `async with`: text in as it comes, sound out, until it is cleared or finished.

        Raises InvalidRequest for another format; what else the server does not take is refused on entering.
        """
        told = dict[str, Any](talk)
        model, rate = told.pop("model", ""), told.pop("rate", SPEECH_RATE)
        form, live, on_event = told.pop("format", "f32"), told.pop("live", None), told.pop("on_event", None)
        wanted = wire.Open(model, told, rate, 1, form, live=live)
        return AsyncSpeech(self._socket(wanted), self.headers, wanted, on_event, self.streams)

    def show(self, prompt: str, *, image: Picture | None = None, **watch: Unpack[Watch]) -> AsyncShow:
        """Live pictures to enter with `async with`: of a prompt, and of others as it is updated, until they are over.

        `image` is the first picture. Raises MediaError, or InvalidRequest for one that is too large; what else the
        server does not take is refused on entering.
        """
        told = dict[str, Any](watch)
        model, live, on_event = told.pop("model", ""), told.pop("live", None), told.pop("on_event", None)
        told |= {"prompt": prompt} if image is None else {"prompt": prompt, "picture": videos.data_url(image)}
        wanted = wire.Open(model, told, format="rgb", live=live)
        return AsyncShow(self._socket(wanted), self.headers, wanted, on_event, self.streams)

    def _socket(self, wanted: wire.Open) -> str:
        if wanted.format not in (*wire.FORMATS, "rgb"):
            raise InvalidRequest(f"format is {wanted.format!r}, expected one of {', '.join(wire.FORMATS)}")
        return f"ws{self.url.removeprefix('http')}{STREAM}"

    @overload
    async def speak(self, text: str, *, format: Form = "wav", **manner: Unpack[Manner]) -> bytes: ...

    @overload
    async def speak(
        self,
        text: str,
        out: str | PathLike[str],
        *,
        format: Form | Literal["same"] = "same",
        force: bool = False,
        **manner: Unpack[Manner],
    ) -> Path: ...

    async def speak(
        self,
        text: str,
        out: str | PathLike[str] | None = None,
        *,
        format: Form | Literal["same"] = "same",
        force: bool = False,
        **manner: Unpack[Manner],
    ) -> bytes | Path:
        """Have a text said, which may be SSML: into a file, whose path is given, or else as the bytes of one.

        `format` goes by the suffix of `out`, and is wav without one; what is at `out` is kept unless `force`.
        Raises MediaError if the target is kept, InvalidRequest for what cannot be said, NotFound for a voice that is
        none of yours, TooBig, Unreachable, AtCapacity, NotAllowed.
        """
        form = "wav" if out is None and format == "same" else format
        target = None if out is None else os.fspath(out)
        return await transfer.speak(self.http, {"input": text, **manner}, target, form, force)

    @overload
    async def video(
        self,
        prompt: str,
        *,
        seconds: float = ...,
        image: Picture | None = None,
        progress: Share | None = None,
        **look: Unpack[Look],
    ) -> bytes: ...

    @overload
    async def video(
        self,
        prompt: str,
        out: str | PathLike[str],
        *,
        seconds: float = ...,
        image: Picture | None = None,
        force: bool = False,
        progress: Share | None = None,
        **look: Unpack[Look],
    ) -> Path: ...

    async def video(
        self,
        prompt: str,
        out: str | PathLike[str] | None = None,
        *,
        seconds: float = 4.0,
        image: Picture | None = None,
        force: bool = False,
        progress: Share | None = None,
        **look: Unpack[Look],
    ) -> bytes | Path:
        """Have a prompt shown in an MP4 file, whose path is given, or else as the bytes of one.

        `image` is the first picture; `progress` is told the share that is made, 0 to 1. The server may be away for a
        while; what it made is forgotten there in the end, and its making ended when this is cancelled. What is at `out`
        is kept unless `force`.
        Raises MediaError if the target is kept or the image is not usable, InvalidRequest for what cannot be shown,
        StreamError if making it failed, TooBig, Unreachable, AtCapacity, NotAllowed.
        """
        asked = {"prompt": prompt, "seconds": seconds, **look}
        target = None if out is None else os.fspath(out)
        return await videos.render(self.http, asked, image, target, force, progress)

    @overload
    async def image(self, prompt: str, **look: Unpack[Look]) -> NDArray[np.uint8]: ...

    @overload
    async def image(
        self, prompt: str, out: str | PathLike[str], *, force: bool = False, **look: Unpack[Look]
    ) -> Path: ...

    async def image(
        self,
        prompt: str,
        out: str | PathLike[str] | None = None,
        *,
        force: bool = False,
        **look: Unpack[Look],
    ) -> NDArray[np.uint8] | Path:
        """Have a prompt shown in a picture: a .png, .jpg or .webp file, whose path is given, or else pixels.

        Raises as `video`.
        Shapes: `[y, x, 3]`.
        """
        target = None if out is None else os.fspath(out)
        return await videos.draw(self.http, {"prompt": prompt, **look}, target, force)

    @overload
    async def restore(
        self,
        what: str | PathLike[str],
        out: str | PathLike[str] | None = None,
        *,
        format: str = "same",
        force: bool = False,
        progress: Progress | None = None,
        **settings: Unpack[Settings],
    ) -> Path: ...

    @overload
    async def restore(
        self, what: NDArray[Any], *, rate: int, **settings: Unpack[Settings]
    ) -> NDArray[Any]: ...

    async def restore(
        self,
        what: str | PathLike[str] | NDArray[Any],
        out: str | PathLike[str] | None = None,
        *,
        rate: int | None = None,
        format: str = "same",
        force: bool = False,
        progress: Progress | None = None,
        **settings: Unpack[Settings],
    ) -> Path | NDArray[Any]:
        """Clean the speech in a recording: a file into a file, whose path is given, or an array into an array.

        Shapes: an array `[t]` or `[t, c]` of `rate` samples a second gives one of the same shape and dtype.
        A file goes to `out`, by default `<name>.restored.<suffix>` beside it; what is there is kept unless `force`.
        `format` is wav, flac, opus or mp3; "same" goes by the suffix of `out`, or of the source where that is one of
        these, and else is wav. The reply is written to a temporary file that is renamed at the end.
        Raises MediaError if the recording is not usable or the target is kept, InvalidRequest for a setting,
        Unreachable, AtCapacity, NotAllowed, and ValueError if an array comes without its rate, or a file with one.
        """
        return await self._remade(
            transfer.RESTORATIONS, what, out, rate, format, force, progress, {**settings}
        )

    @overload
    async def convert(
        self,
        what: str | PathLike[str],
        out: str | PathLike[str] | None = None,
        *,
        format: str = "same",
        force: bool = False,
        progress: Progress | None = None,
        **settings: Unpack[Converting],
    ) -> Path: ...

    @overload
    async def convert(
        self, what: NDArray[Any], *, rate: int, **settings: Unpack[Converting]
    ) -> NDArray[Any]: ...

    async def convert(
        self,
        what: str | PathLike[str] | NDArray[Any],
        out: str | PathLike[str] | None = None,
        *,
        rate: int | None = None,
        format: str = "same",
        force: bool = False,
        progress: Progress | None = None,
        **settings: Unpack[Converting],
    ) -> Path | NDArray[Any]:
        """Give the speech in a recording another voice: a file into a file, whose path is given, or arrays alike.

        A file goes to `out`, by default `<name>.converted.<suffix>` beside it; all else, and what is raised, is as with
        `restore`, and NotFound for a voice that is none of yours.
        """
        if rate is not None and "model" not in settings:
            settings["model"] = next((m["id"] for m in await self.models() if "convert" in m["tasks"]), "")
            if not settings["model"]:
                raise InvalidRequest(f"{self.url} has no model that converts")
        return await self._remade(
            transfer.CONVERSIONS, what, out, rate, format, force, progress, {**settings}
        )

    async def _remade(
        self,
        path: str,
        what: str | PathLike[str] | NDArray[Any],
        out: str | PathLike[str] | None,
        rate: int | None,
        format: str,
        force: bool,
        progress: Progress | None,
        settings: dict[str, Any],
    ) -> Path | NDArray[Any]:
        """A file by an upload to a path, or an array by a stream."""
        named = isinstance(what, str | PathLike)
        if named == (rate is not None) or (not named and out is not None):
            raise ValueError("give a path, and `out` if you like, or an array and its `rate`")
        if rate is not None:
            return await self._array(np.asarray(what), rate, settings)
        fields = {name: str(value) for name, value in settings.items()}
        source, target = os.fspath(cast("str | PathLike[str]", what)), None if out is None else os.fspath(out)
        return await transfer.remake(self.http, path, source, target, format, fields, force, progress)

    async def _array(self, data: NDArray[Any], rate: int, settings: dict[str, Any]) -> NDArray[Any]:
        sound = taken(data)
        async with self.stream(rate=rate, channels=sound.shape[1], **settings) as stream:
            made = [chunk.data async for chunk in stream.through([sound])]
        return given(np.concatenate(made), data)
