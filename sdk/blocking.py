"""Client: the async one, run on a thread of its own, for programs without async."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from riverrun import live
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
from riverrun.client import AsyncClient
from riverrun.link import Event
from riverrun.live import AsyncSpeech, AsyncStream, Sound, Stats
from riverrun.media import Chunk
from riverrun.shots import Cue
from riverrun.shows import AsyncShow
from riverrun.streaming.errors import SessionEnded
from riverrun.streaming.wire import Word
from riverrun.transfer import Progress
from riverrun.videos import Share

T = TypeVar("T")
A = TypeVar("A", bound=live.Running)


class Client:
    """A Riverrun server at an address like `http://127.0.0.1:8000`. Use it in `with`, or close it.

    Threads: any may use it. What it is given to call (`progress`, `on_event`) is called on its own one and must
    return soon, without using the client. Raises ValueError for another kind of address.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self._async = AsyncClient(url, key)
        self._begun, self._lock, self._closed = threading.Event(), threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="riverrun-client", daemon=True)
        self._thread.start()
        self._begun.wait()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        async with self._async:
            await self._stop.wait()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work on the client's thread. Raises what it raises, SessionEnded if the client is closed."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("progress and on_event must not use the client: pass on what they are told")
        with self._lock:  # what is begun before the end is ended by it
            if self._closed:
                work.close()
                raise SessionEnded("the client is closed: make another")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException as error:
            if future.cancelled():
                raise SessionEnded("the client was closed meanwhile") from error
            future.cancel()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what streams there are, hang up, and end the thread. Twice is once."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def models(self) -> list[Model]:
        """The models of the server. Raises Unreachable, NotAllowed, TooMany."""
        return self.do(self._async.models())

    def status(self) -> dict[str, Any]:
        """What the server does now, as AsyncClient.status. Raises Unreachable, NotAllowed, TooMany."""
        return self.do(self._async.status())

    def voices(self) -> list[Voice]:
        """The voices that the server's models know by name, then your own. Raises as `models`."""
        return self.do(self._async.voices())

    def add_voice(
        self,
        name: str,
        sample: str | PathLike[str],
        *,
        consent: str | PathLike[str],
        language: str = "en-US",
        transcript: str = "",
    ) -> Voice:
        """Make a voice of a recording, under a consent in which its speaker agrees. As AsyncClient.add_voice."""
        adding = self._async.add_voice(
            name, sample, consent=consent, language=language, transcript=transcript
        )
        return self.do(adding)

    def transcribe_voice(self, voice: str, transcript: str) -> Voice:
        """Say, or correct, what is said in a voice's sample. As AsyncClient.transcribe_voice."""
        return self.do(self._async.transcribe_voice(voice, transcript))

    def remove_voice(self, voice: str, *, withdraw: bool = False) -> None:
        """Erase a voice of yours, or `withdraw` its consent. As AsyncClient.remove_voice."""
        self.do(self._async.remove_voice(voice, withdraw=withdraw))

    def detect(self, source: str | PathLike[str]) -> Found:
        """Whether the speech in a recording is marked as generated, as AsyncClient.detect."""
        return self.do(self._async.detect(source))

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
    ) -> "Stream":
        """A stream to enter with `with`; the arguments are those of AsyncClient.stream."""
        options: dict[str, Any] = {"rate": rate, "channels": channels, "live": live, "band": band, **request}
        return Stream(self, self._async.stream(model, format=format, on_event=on_event, **options))

    def speech(self, **talk: Unpack[Talk]) -> "Speech":
        """Live speech to enter with `with`; the arguments are those of AsyncClient.speech."""
        return Speech(self, self._async.speech(**talk))

    def show(self, prompt: str, *, image: Picture | None = None, **watch: Unpack[Watch]) -> "Show":
        """Live pictures to enter with `with`; the arguments are those of AsyncClient.show."""
        return Show(self, self._async.show(prompt, image=image, **watch))

    @overload
    def video(
        self,
        prompt: str,
        *,
        seconds: float = ...,
        image: Picture | None = None,
        progress: Share | None = None,
        **look: Unpack[Look],
    ) -> bytes: ...

    @overload
    def video(
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

    def video(self, prompt: str, out: Any = None, **options: Any) -> Any:
        """Have a prompt shown in an MP4 file, whose path is given, or else as the bytes of one.

        The arguments, and what is raised, are those of AsyncClient.video.
        """
        return self.do(self._async.video(prompt, out, **options))

    @overload
    def image(self, prompt: str, **look: Unpack[Look]) -> NDArray[np.uint8]: ...

    @overload
    def image(
        self, prompt: str, out: str | PathLike[str], *, force: bool = False, **look: Unpack[Look]
    ) -> Path: ...

    def image(self, prompt: str, out: Any = None, **options: Any) -> Any:
        """Have a prompt shown in a picture: a file, whose path is given, or else pixels `[y, x, 3]`.

        The arguments, and what is raised, are those of AsyncClient.image.
        """
        return self.do(self._async.image(prompt, out, **options))

    @overload
    def speak(self, text: str, *, format: Form = "wav", **manner: Unpack[Manner]) -> bytes: ...

    @overload
    def speak(
        self,
        text: str,
        out: str | PathLike[str],
        *,
        format: Form | Literal["same"] = "same",
        force: bool = False,
        **manner: Unpack[Manner],
    ) -> Path: ...

    def speak(self, text: str, out: Any = None, **options: Any) -> Any:
        """Have a text said: into a file, whose path is given, or else as the bytes of one.

        The arguments, and what is raised, are those of AsyncClient.speak.
        """
        return self.do(self._async.speak(text, out, **options))

    @overload
    def restore(
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
    def restore(self, what: NDArray[Any], *, rate: int, **settings: Unpack[Settings]) -> NDArray[Any]: ...

    def restore(self, what: Any, out: Any = None, **options: Any) -> Any:
        """Clean the speech in a recording: a file into a file, whose path is given, or an array into an array.

        The arguments, and what is raised, are those of AsyncClient.restore.
        """
        return self.do(self._async.restore(what, out, **options))

    @overload
    def convert(
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
    def convert(self, what: NDArray[Any], *, rate: int, **settings: Unpack[Converting]) -> NDArray[Any]: ...

    def convert(self, what: Any, out: Any = None, **options: Any) -> Any:
        """Give the speech in a recording another voice, from file to file or from array to array.

        The arguments, and what is raised, are those of AsyncClient.convert.
        """
        return self.do(self._async.convert(what, out, **options))


class Running(Generic[A]):
    """A stream at a server, as long as it runs. Use it in `with`; leaving before the end cancels it there."""

    def __init__(self, client: Client, stream: A) -> None:
        self._client, self._async = client, stream

    def __enter__(self) -> Self:
        self._client.do(self._async.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    @property
    def latency(self) -> float:
        """Seconds from a sample's going in to its coming out, computing and transport left out."""
        return self._async.latency

    def finish(self) -> None:
        """The input is over; the rest still comes out. Twice is once."""
        self._client.do(self._async.finish())

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        """The next output, `[t, c]` float32 or `[t, y, x, 3]` uint8. Raises what ended the stream."""
        chunk = self._client.do(self._async.next())
        if chunk is None:
            raise StopIteration
        return chunk

    def _through(self, source: Iterable[T], give: Callable[[T], None]) -> Iterator[Chunk]:
        pouring = Pouring(self, source, give)
        pouring.thread.start()
        try:
            yield from self
            if pouring.failure:
                raise pouring.failure
        finally:
            pouring.over = True

    def update(self, **values: Any) -> None:
        """Change some values of the request, such as `strength`, `bypass`, `voice` or `speed`; returns when they act.

        Raises InvalidRequest if one is refused, and what ended the stream if it is over.
        """
        self._client.do(self._async.update(**values))

    def stats(self) -> Stats:
        """Ask the server for figures of this stream. Raises what ended the stream."""
        return self._client.do(self._async.stats())

    def cancel(self) -> None:
        """End at once, and free what the server has for it. Twice is once."""
        self._client.do(self._async.cancel())


class Stream(Running[AsyncStream]):
    """Sound in, chunks out. Use it in `with`; leaving before the end cancels it at the server.

    A lost connection is dialled again and goes on where it was, for as long as the server waits for it; not a sample
    is lost or comes twice. Threads: one may feed while another reads.
    Entering raises Unreachable, AtCapacity, InvalidRequest, NotAllowed.
    """

    def feed(self, sound: Sound, captured: float | None = None) -> None:
        """Take the next ticks; wait while as much as the server allows is under way. As AsyncStream.feed."""
        self._client.do(self._async.feed(sound, captured))

    def through(self, source: Iterable[Sound]) -> Iterator[Chunk]:
        """Feed what a source gives and give what comes, both at once, to the end of both.

        Threads: the source is read on one of its own, which ends with the item it waits for when this is left early.
        Raises what the source raises, or what ended the stream.
        """
        return self._through(source, self.feed)


class Speech(Running[AsyncSpeech]):
    """Text in, chunks of speech out. Use it in `with`; leaving before the end cancels it at the server.

    A lost connection is dialled again and goes on where it was, for as long as the server waits for it; not a word or
    a sample is lost or comes twice. Threads: one may say while another reads.
    Entering raises Unreachable, AtCapacity, InvalidRequest, NotAllowed.
    """

    @property
    def words(self) -> list[Word]:
        """The words of what is said, each known before it sounds; those since the last `clear`."""
        return self._async.words

    def say(self, text: str, context: str = "", flush: bool = False) -> None:
        """Say more; wait while much is still to be said. As AsyncSpeech.say."""
        self._client.do(self._async.say(text, context, flush))

    def clear(self, played: int | None = None) -> list[Word]:
        """Say nothing more of what came, and give the words that were over by tick `played`. As AsyncSpeech.clear."""
        return self._client.do(self._async.clear(played))

    def through(self, source: Iterable[str]) -> Iterator[Chunk]:
        """Say what a source gives, such as the tokens of a language model, and give the sound as it comes.

        Threads and errors are as with Stream.through.
        """
        return self._through(source, self.say)


class Show(Running[AsyncShow]):
    """Prompts in, chunks of pictures out. Use it in `with`; leaving before the end cancels it at the server.

    What is not read is not made. A lost connection is dialled again and goes on where it was, for as long as the server
    waits for it; not a picture is lost or comes twice. Threads: one may update while another reads.
    Entering raises Unreachable, AtCapacity, InvalidRequest, NotAllowed.
    """

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return float(self._async.rate)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the pictures."""
        return self._async.size

    @property
    def cues(self) -> list[Cue]:
        """The prompts that took effect, each with the seconds from which on it is seen. As AsyncShow.cues."""
        return self._async.cues


class Pouring(Generic[T]):
    """A source given to a stream, on a thread of its own."""

    def __init__(self, stream: Running[Any], source: Iterable[T], give: Callable[[T], None]) -> None:
        self.stream, self.source, self.give = stream, source, give
        self.failure: Exception | None = None
        self.over = False
        self.thread = threading.Thread(target=self.run, name="riverrun-source", daemon=True)

    def run(self) -> None:
        """Feed to the end; an error ends the stream and is kept for whoever reads it."""
        try:
            for item in self.source:
                if self.over:
                    return
                self.give(item)
            self.stream.finish()
        except Exception as error:
            self.failure = error
            self._leave()

    def _leave(self) -> None:
        try:
            self.stream.cancel()  # so that reading ends
        except SessionEnded:
            pass  # with the client
