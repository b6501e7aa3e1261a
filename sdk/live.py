"""A live stream as a program uses it: feed and read, change it, ask about it, leave it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from riverrun.arrays import taken
from riverrun.link import HELD, LEAVE, Event, Link, Opened
from riverrun.media import Chunk
from riverrun.streaming import wire
from riverrun.streaming.errors import ProtocolError, SessionEnded
from riverrun.streaming.wire import Word

T = TypeVar("T")
PIECE = 1000  # characters that are sent at once
TYPED = 20_000  # characters that may wait to be said
Sound = NDArray[Any] | Chunk
"""Samples `[t]` or `[t, c]`, floats in [-1, 1] or whole numbers of full range; of a Chunk, `pts` is not looked at."""


class Stats(TypedDict):
    """Figures of a stream: `delay` in ms by where it arises, `queue` in seconds, the rest counted."""

    delay: dict[str, Any]
    ticks_in: int
    ticks_out: int
    dropped: int
    queue: float
    sessions: int


class Running:
    """A stream at a server, as long as it runs. Use it in `async with`; leaving before the end cancels it there."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        wanted: wire.Open,
        on_event: Callable[[Event], object] | None = None,
        among: "set[Running] | None" = None,
    ) -> None:
        """`among` are the streams that run, this one too while it does."""
        self.link = Link(url, headers, wanted, on_event)
        self.rate: int | Fraction = wanted.rate
        self.channels, self.live = wanted.channels, wanted.live
        self.among = set() if among is None else among
        self.task: asyncio.Task[None] | None = None
        self.turn = asyncio.Lock()  # of who feeds or says
        self.finished = self.read = False
        self.number = 0  # of the last question
        self.heard = 0  # the tick after what was read

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.link.run())
        self.among.add(self)
        try:
            await self.link.until(lambda: self.link.opened is not None)
        except BaseException:
            await self.cancel()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cancel()

    @property
    def latency(self) -> float:
        """Seconds from a sample's going in to its coming out, computing and transport left out."""
        return self._opened.latency

    @property
    def _opened(self) -> Opened:
        if self.link.opened is None:
            raise ProtocolError("the stream is not open: use it in a with")
        return self.link.opened

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if (chunk := await self.next()) is None:
            raise StopAsyncIteration
        return chunk

    async def next(self) -> Chunk | None:
        """The next output, None at the end; of what was fed it is `[t, c]` float32, with the ticks of its input.

        Raises what ended the stream.
        """
        self.read, link = True, self.link
        await link.until(lambda: bool(link.chunks) or link.over in ("finished", "cancelled"))
        if not link.chunks:
            return None
        chunk = link.take()
        self.heard = chunk.end
        return chunk

    def _flows(self) -> bool:
        """Whether more input may be sent."""
        if self.link.full and not self.read and self.live is None:
            raise ProtocolError(
                f"more than {HELD:g} s of output are there and nobody reads it: read in another task, or use through"
            )
        return not self.link.over

    async def finish(self) -> None:
        """The input is over; the rest still comes out. Twice is once."""
        async with self.turn:
            if not self.finished:
                self.finished = True
                self.link.put(np.zeros((0, self.channels), np.float32), 0, last=True)

    async def _through(
        self, source: Iterable[T] | AsyncIterable[T], give: Callable[[T], Awaitable[None]]
    ) -> AsyncGenerator[Chunk, None]:
        feeding = asyncio.create_task(self._pour(source, give))
        try:
            async for chunk in self:
                yield chunk
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _pour(
        self, source: Iterable[T] | AsyncIterable[T], give: Callable[[T], Awaitable[None]]
    ) -> None:
        try:
            if isinstance(source, AsyncIterable):
                async for item in source:
                    await give(item)
            else:
                for item in source:
                    await give(item)
            await self.finish()
        except Exception:
            await self.cancel()  # so that reading ends
            raise

    async def update(self, **values: Any) -> None:
        """Change some values of the request, such as `strength`, `bypass` or `speed`; returns when they act.

        Raises InvalidRequest if one is refused, and what ended the stream if it is over.
        """
        key = self._key("update")
        await self.link.ask(key, wire.Update(values, key))

    async def stats(self) -> Stats:
        """Ask the server for figures of this stream. Raises what ended the stream."""
        return cast(Stats, await self.link.ask(self._key("stats"), wire.Stats()))

    def _key(self, what: str) -> str:
        self.number += 1
        return f"{what} {self.number}"

    async def cancel(self) -> None:
        """End at once, and free what the server has for it. Twice is once."""
        self.among.discard(self)
        if self.task is None:
            return
        if self.link.connected and not self.link.over:
            self.link.cancelled = True
            self.link.say(wire.Cancel())
        if self.link.connected:
            await asyncio.wait([self.task], timeout=LEAVE)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class AsyncStream(Running):
    """Sound in, chunks out. Use it in `async with`; leaving before the end cancels it at the server.

    A lost connection is dialled again and goes on where it was, for as long as the server waits for it; not a sample
    is lost or comes twice. One task may feed while another reads.
    Entering raises Unreachable, AtCapacity, InvalidRequest, NotAllowed.
    """

    async def feed(self, sound: Sound, captured: float | None = None) -> None:
        """Take the next ticks; wait while as much as the server allows is under way.

        `captured` is when the end of it was, in seconds of `time.monotonic()`: by default now.
        Cancel: what was taken by then stays taken.
        Raises ValueError for another shape, dtype or rate, CorruptMedia for NaN, what ended the stream if it is over,
        and ProtocolError after `finish`, or if so much output is there unread that nothing would ever move again.
        """
        opened, data = self._opened, self._sound(sound)
        async with self.turn:
            if self.finished:
                raise ProtocolError("the input is finished: open another stream")
            end = asyncio.get_running_loop().time() if captured is None else captured
            size = max(1, min(opened.frame, opened.window))
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                await self.link.until(partial(self._room, opened.window - len(piece)))
                self.link.put(piece, self._at(end - (len(data) - start - len(piece)) / self.rate))
        if isinstance(sound, Chunk) and sound.last:
            await self.finish()

    def _sound(self, sound: Sound) -> NDArray[np.float32]:
        if isinstance(sound, Chunk) and sound.rate != self.rate:
            raise ValueError(f"the chunk has a rate of {sound.rate}, expected the stream's, {self.rate}")
        data = np.asarray(sound.data if isinstance(sound, Chunk) else sound)
        if not data.size:
            return np.zeros((0, self.channels), np.float32)
        data = taken(data)
        if data.shape[1] != self.channels:
            raise ValueError(
                f"the sound has {data.shape[1]} channels, expected the stream's, {self.channels}"
            )
        return data

    def _room(self, most: int) -> bool:
        """Whether no more than so many ticks are under way."""
        return self._flows() and self.link.journal.ticks <= max(0, most)

    def _at(self, captured: float) -> int:
        """A moment of ours on the server's clock, in microseconds; 0 if that is not known, or of no interest."""
        offset = self.link.clock.offset
        return 0 if offset is None or self.live is None else round(1e6 * captured) + offset

    def through(self, source: Iterable[Sound] | AsyncIterable[Sound]) -> AsyncGenerator[Chunk, None]:
        """Feed what a source gives and give what comes, both at once, to the end of both.

        A source that makes one wait must be an async one. Raises what the source raises, or what ended the stream.
        """
        return self._through(source, self.feed)


class AsyncSpeech(Running):
    """Text in, chunks of speech out. Use it in `async with`; leaving before the end cancels it at the server.

    A lost connection is dialled again and goes on where it was, for as long as the server waits for it; not a word or
    a sample is lost or comes twice. One task may say while another reads.
    Entering raises Unreachable, AtCapacity, InvalidRequest, NotAllowed.
    """

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        wanted: wire.Open,
        on_event: Callable[[Event], object] | None = None,
        among: "set[Running] | None" = None,
    ) -> None:
        super().__init__(url, headers, wanted, on_event, among)
        self.link.skips = False
        self.round = 0  # how often what was to be said was cleared
        self.clearing = asyncio.Lock()

    @property
    def words(self) -> list[Word]:
        """The words of what is said, each known before it sounds; those since the last `clear`."""
        return list(self.link.words)

    async def say(self, text: str, context: str = "", flush: bool = False) -> None:
        """Say more; wait while much is still to be said. A sentence is said when it is whole, or with `flush` at once.

        Another `context` ends the one before; words tell which characters of their context's text they are.
        Text that cannot be said is an event, and the rest is said. Raises what ended the speech if it is over, and
        ProtocolError after `finish`, or if so much output is there unread that nothing would ever move again.
        """
        async with self.turn:
            if self.finished:
                raise ProtocolError("the text is finished: open another speech")
            begun, starts = self.round, range(0, max(len(text), int(flush)), PIECE)
            for start in starts:
                await self.link.until(self._room)
                if self.round != begun:
                    return
                self.link.type(text[start : start + PIECE], context, flush and start == starts[-1])

    def _room(self) -> bool:
        """Whether little of the text waits, and none is being cleared."""
        return self._flows() and not self.clearing.locked() and self.link.unsaid <= TYPED

    async def clear(self, played: int | None = None) -> list[Word]:
        """Say nothing more of what came, forget what is unread, and give the words that were over by tick `played`.

        By default all counts as played that was read. What is said next may follow at once. Raises as `say`.
        """
        link = self.link
        played = self.heard if played is None else played
        self.round += 1
        async with self.clearing:
            link.said(link.typed)
            link.mute()
            try:
                await link.ask("clear", wire.Clear(played))
            except SessionEnded:
                if link.over != "finished":  # then there is nothing to clear
                    raise
            heard = [word for word in link.words if word.ends <= played]
            link.words.clear()
        link.moved.set()  # who waits to say more may
        return heard

    def through(self, source: Iterable[str] | AsyncIterable[str]) -> AsyncGenerator[Chunk, None]:
        """Say what a source gives, such as the tokens of a language model, and give the sound as it comes.

        A source that makes one wait must be an async one. Raises what the source raises, or what ended the speech.
        """
        return self._through(source, self.say)
