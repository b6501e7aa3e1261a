"""Speech: a stream whose input is text, which is said as it comes; it tells when each word is heard."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from riverrun.media import Chunk
from riverrun.media.chunk import Array
from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading.script import Line, Script
from riverrun.streaming.errors import ProtocolError, SessionEnded
from riverrun.streaming.problems import body
from riverrun.streaming.session import Live
from riverrun.streaming.stream import Stream
from riverrun.streaming.wire import Open, Word

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

FIRST = 0.25  # seconds within which sound is due after the text, where no more is allowed
LEAD = 86_400.0  # seconds that speech may be ahead of its being played, where nobody listens to it live
KEPT = 10_000  # words that are remembered, about an hour of them
AHEAD = 600  # symbols that wait to be said at the engine, some 40 s of speech; no more are read meanwhile


@dataclass
class Waiting:
    """A line at the engine: its words, and the number of its first symbol."""

    line: Line
    context: str
    at: int  # characters of earlier contexts
    first: int


class Speech(Stream):
    """Text in, sound out. What is said follows on what was said before, until it is cleared.

    Words are kept for as long as they may be asked for, and told by `notice` as soon as it is known when they sound.
    """

    def __init__(
        self,
        hub: "Hub",
        wanted: Open,
        transport: str,
        address: str = "",
        owner: str = "",
        batch: bool = False,
    ) -> None:
        """Of a `batch`, nothing is due."""
        super().__init__(hub, wanted, transport, address, owner)
        self.batch = batch
        spec = hub.specs[wanted.model]
        self.pace = spec.gives[1].rate  # of the times that symbols end
        self.script = Script(spec.symbols)
        self.empty: bytes | None = None  # the session as it was opened
        self.values |= {"symbols": "", "end": False}
        self.speed = float(self.values.get("speed", 1.0))
        self.context, self.read_before = "", 0  # what is read now, and the characters of those before
        self.given = 0  # symbols given to the engine
        self.times = [0.0]  # the ends of symbols from number `known` - 1 on, in frames of the model
        self.known = 0
        self.waiting: deque[Waiting] = deque()
        self.words: deque[Word] = deque(maxlen=KEPT)  # the latest, that may be asked for
        self.base = 0  # the tick at which what the engine says now begins
        self.timed = asyncio.Event()
        self.clearing = asyncio.Lock()
        self.timing: asyncio.Task[None] | None = None

    async def begin(self, saved: bytes | None = None) -> None:
        """As Stream.begin; what is timed is told from then on."""
        await super().begin(saved)
        self.empty = self.empty or await self.engine.save(self.name)
        if self.timing is None or self.timing.done():
            self.timing = asyncio.create_task(self._listen(self.round))

    def _due(self) -> Live | None:
        """As Stream's; a new session is due at once."""
        if self.batch:
            return None
        if self.live is None:
            return Live(arrival=self.hub.clock(), first=FIRST, lead=LEAD)
        return Live(arrival=self.hub.clock(), first=self.live)

    async def say(self, text: str, context: str = "", flush: bool = False, whole: bool = False) -> None:
        """Take more text, waiting while much is to be said; `flush` says what is no sentence yet, too.

        A `whole` text may be markup. Another `context` ends the one before. Raises InvalidRequest, SessionEnded.
        """
        if self.finished:
            raise ProtocolError("the text is finished: open another stream for more")
        begun = self.round
        if context != self.context:
            await self._put(self.script.flush)
            self.context, self.read_before = context, self.script.count
        if self.round == begun:
            await self._put(lambda: self.script.whole(text) if whole else self.script.feed(text))
        if flush and self.round == begun:
            await self._put(self.script.flush)
            await super().update({"symbols": "", "pause": 0.0, "flush": True})

    async def recite(self, texts: Sequence[str]) -> None:
        """Say whole texts, one after the other, and no more. Raises InvalidRequest if nothing of them can be said."""
        for i, text in enumerate(texts):
            await self.say(text, str(i) if i else "", flush=True, whole=True)
        if not self.given:
            raise InvalidRequest("the text holds nothing that can be said")
        await self.finish()

    async def finish(self) -> None:
        """The text is over; the rest of it is said. Twice is once."""
        if self.finished:
            return
        self.finished, begun = True, self.round
        try:
            await self._put(self.script.flush)
        except InvalidRequest as error:  # what can be said is
            self.notice("error", **body(error), fatal=False, context=self.context)
        if self.round == begun:
            await super().update({"symbols": "", "pause": 0.0, "end": True})

    async def feed(self, data: Array, captured: float | None = None, arrived: float | None = None) -> int:
        """Raises ProtocolError: it takes text."""
        raise ProtocolError(f"{self.wanted.model} takes text, no sound")

    async def update(self, values: Mapping[str, Any], name: str = "") -> None:
        """Say what follows at another speed. Raises InvalidRequest for all else, SessionEnded."""
        if set(values) - {"speed"}:
            raise InvalidRequest(
                f"{', '.join(sorted(values))} cannot change now, only speed can: open another stream"
            )
        await super().update({"symbols": "", "pause": 0.0, **values})
        self.speed = float(values.get("speed", self.speed))

    async def clear(self, start: int, played: int) -> list[Word]:
        """Say nothing more of what came; what follows begins at tick `start`. Give the words over by tick `played`."""
        heard = [word for word in self.words if word.ends <= played]
        self.round += 1
        async with self.clearing:
            await self._anew(start)
        return heard

    async def _anew(self, start: int) -> None:
        """Begin again at a tick, as if nothing had been said."""
        self.timed.set()
        if self.timing:
            self.timing.cancel()
        async with self.hub.reading:
            self.script.clear()
        async with self.turn:
            try:
                await self.engine.close(self.name)
            except SessionEnded:
                self.log.debug("stream %s was cleared where its engine had failed", self.name)
            self.saved, self.skip, self.out, self.base = None, 0, 0, start
            self.given, self.known, self.times = 0, 0, [0.0]
            self.words.clear()
            self.waiting.clear()
            self.values = {
                **self.values,
                "symbols": "",
                "pause": 0.0,
                "end": self.finished,
                "speed": self.speed,
            }
            self.timing = None
            while True:
                engine = self.hub.engine
                try:
                    await self.begin(self.empty)  # which is taken, however full the engine is
                    if self.finished:
                        await self.engine.update(self.name, self.values)
                    break
                except SessionEnded:
                    if engine.alive:
                        raise
                    await self.hub.another(engine)

    async def read(self) -> list[Chunk]:
        """As Stream.read; what was cleared is left out."""
        while True:
            async with self.clearing:  # what is read before it is over would be of before
                begun = self.round
            try:
                chunks = await super().read()
            except SessionEnded:
                if begun == self.round:
                    raise
                continue
            if begun == self.round:
                return chunks

    async def close(self, why: str = "closed") -> None:
        """As Stream.close."""
        if self.timing:
            self.timing.cancel()
        await super().close(why)

    def stats(self) -> dict[str, Any]:
        """As Stream.stats; what waits is text."""
        return {**super().stats(), "queue": 0.0, "symbols": self.given - self.known}

    async def _put(self, lines: Callable[[], Iterator[Line]]) -> None:
        """Read lines, apart from what else the server does, and hand each to the engine when there is room."""
        begun, made = self.round, lines()
        while True:
            async with self.hub.reading:
                line = await asyncio.to_thread(next, made, None)
            if line is None:
                return
            while self.given - self.known > AHEAD and self.round == begun:
                self.timed.clear()
                await self.timed.wait()
            if self.round != begun or self.closed:
                return
            waiting = Waiting(line, self.context, self.read_before, self.given)
            self.waiting.append(waiting)
            self.given += len(line.symbols) + (line.pause > 0)
            await super().update(
                {"symbols": line.symbols, "pause": line.pause, "flush": False, "speed": line.pace(self.speed)}
            )

    async def _listen(self, begun: int) -> None:
        """Learn when symbols end, and tell it of words."""
        while self.round == begun and not self.closed:
            engine = self.engine
            try:
                chunks = await engine.poll(self.name, 1)
            except SessionEnded as error:
                if not self._lost(engine, error):
                    return
                await self._recover(engine)
                continue
            if not chunks:
                return
            for chunk in chunks:
                fresh = chunk.data[max(0, self.known - chunk.pts) :, 0]
                self.times += fresh.tolist()
                self.known += len(fresh)
            self._tell()
            self.timed.set()

    def _tell(self) -> None:
        """Tell of the words whose symbols all have a time."""
        while self.waiting and self.known >= self.waiting[0].first + len(self.waiting[0].line.symbols):
            waiting, news = self.waiting.popleft(), list[Word]()
            for word in waiting.line.words:
                begins, ends = (self._tick(waiting.first + place) for place in (word.first, word.last))
                news.append(
                    Word(
                        word.text,
                        waiting.context,
                        word.start - waiting.at,
                        word.end - waiting.at,
                        begins,
                        ends,
                    )
                )
            self.words += news
            if news:
                self.notice("words", context=waiting.context, words=[word.told() for word in news])
        dropped = (self.waiting[0].first if self.waiting else self.known) - (self.known - len(self.times) + 1)
        del self.times[: max(0, dropped)]

    def _tick(self, symbols: int) -> int:
        """The tick at which so many symbols have been said."""
        frames = self.times[symbols - (self.known - len(self.times) + 1)]
        return self.base + round(frames / self.pace * self.rate)

    def _outer(self, tick: int) -> int:
        """As Stream's: the engine counts from the beginning of what it says."""
        return super()._outer(tick) + self.base
