"""Stream: one session at the engine as every transport uses it, with its ledger and its saved states."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from riverrun.media import Chunk, cut
from riverrun.media.chunk import Array
from riverrun.streaming.errors import SessionEnded, Stuck, TooSlow
from riverrun.streaming.handle import Handle
from riverrun.streaming.ledger import Ledger
from riverrun.streaming.session import Live
from riverrun.streaming.wire import Open

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

log = logging.getLogger(__name__)
AGAIN = 0.005  # seconds until live input is tried again that a recovering engine has no room for


class Stream:
    """Ticks in, chunks out. One task may feed and another read.

    Live input that the engine has no room for is dropped: the newest wins, delay does not grow. Ticks of the output
    are those of the input, so that a gap stays where it was.

    Every few seconds the session is saved; with the input since, it goes on at another engine when its own has failed,
    and gives the same samples.
    """

    takes = "sound"

    def __init__(self, hub: "Hub", wanted: Open, transport: str, address: str = "", owner: str = "") -> None:
        self.hub, self.engine, self.wanted, self.transport = hub, hub.engine, wanted, transport
        self.address, self.owner = address, owner  # of the client, and of the voices it may have
        self.name = secrets.token_hex(8)  # of the session, here, at the engine and in the log
        self.log = logging.LoggerAdapter(log, {"session": self.name})
        self.rate, self.channels, self.live = wanted.rate, wanted.channels, wanted.live
        self.values = dict(wanted.request)
        # That of a voice is sent once, as the engine's session then knows the voice.
        self.recording = str(self.values.pop("recording", ""))
        self.latency, self.ledger = 0.0, Ledger(wanted.rate)
        self.fed = self.dropped = self.out = 0  # ticks: of the caller's input, not fed of it, given
        # from a tick of the engine's on, how many were dropped
        self.gaps: deque[tuple[int, int]] = deque(maxlen=64)
        self.closed = self.finished = False
        self.round = 0  # how often what it was to say was cleared, if it says anything
        self.less: tuple[str, ...] = ()  # what the engine does with less of
        self.notice: Callable[..., None] = lambda kind, **values: None  # has a control message sent
        self.saved: bytes | None = None
        self.begun = self.saved_at = hub.clock()
        self.since: deque[Chunk] = deque()  # input that the saved state has not seen
        self.skip = 0  # ticks that come a second time, after a recovery
        self.turn = asyncio.Lock()  # held by who changes what the engine's session has seen
        self.replay: asyncio.Task[None] | None = None

    async def begin(self, saved: bytes | None = None) -> None:
        """Open the session at the hub's engine, or take up a saved one there."""
        self.engine, band = self.hub.engine, self.wanted.band
        await self.engine.open(
            self.wanted.model,
            self._asked(saved),
            self.rate,
            self.channels,
            self._due(),
            band,
            saved,
            self.name,
        )
        self.latency = self.engine.latency(self.name)

    def _asked(self, saved: bytes | None) -> dict[str, Any]:
        """The request that opens the session; a saved one knows its voice."""
        return self.values if saved or not self.recording else {**self.values, "recording": self.recording}

    def _due(self) -> Live | None:
        """When its output is due."""
        return None if self.live is None else Live(delay=self.live)

    async def feed(self, data: Array, captured: float | None = None, arrived: float | None = None) -> int:
        """Take the next ticks, waiting for room unless live; give how many were dropped.

        Shapes: `[t, c]` float32. `captured` is when the end of it was, in seconds on the hub's clock.
        Raises ProtocolError, SessionEnded.
        """
        arrived = self.hub.clock() if arrived is None else arrived
        captured = arrived if captured is None else min(captured, arrived)
        self.fed += len(data)
        self.ledger.came(self.fed, captured, arrived)
        async with self.turn:
            pts = self.fed - len(data) - self.dropped
            chunk = Chunk(np.ascontiguousarray(data, np.float32), pts, self.rate)
            try:
                if self.hub.clock() - self.saved_at > self.hub.settings.streams.snapshot:
                    await self._save()
                await self.engine.feed(self.name, chunk, captured)
            except TooSlow:
                return self._drop(chunk)
            except SessionEnded:
                if self.engine.alive:
                    raise  # else whoever reads will recover, and feed this too
            self.since.append(chunk)
        return 0

    async def read(self) -> list[Chunk]:
        """Wait for the next chunks; none at the end. Raises SessionEnded."""
        while True:
            engine = self.engine
            try:
                chunks = await engine.poll(self.name)
            except SessionEnded as error:
                if not self._lost(engine, error):
                    raise
                await self._recover(engine)
                continue
            if engine is not self.engine:
                continue  # it was taken up elsewhere meanwhile, where the same comes again
            self._note()
            if not chunks:
                return []
            if fresh := [chunk for chunk in map(self._fresh, chunks) if len(chunk) or chunk.last]:
                self.out += sum(len(chunk) for chunk in fresh)
                return [part for chunk in fresh for part in self._placed(chunk)]

    async def update(self, values: Mapping[str, Any], name: str = "") -> None:
        """Change some values of the request, or whose voice it is. Raises InvalidRequest, NotFound, SessionEnded.

        What is found wrong later is told under the name.
        """
        if self.hub.converts(self.wanted.model):
            values = await self.hub.voiced(self.wanted.model, values, self.owner)
        while True:
            async with self.turn:
                engine, wanted = self.engine, self._changed(values)
                try:
                    await engine.update(self.name, wanted)
                    await self._save()  # input before and after a change is not replayed across it
                    self.recording = wanted.pop("recording", "" if "voice" in values else self.recording)
                    self.values = wanted
                    return
                except SessionEnded as error:
                    if not self._lost(engine, error):
                        raise
            await self._recover(engine)

    def _changed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The request that changes some values."""
        return {**self.values, **values}

    async def finish(self) -> None:
        """The input is over; the rest still comes out. Twice is once."""
        async with self.turn:
            self.finished = True
            try:
                await self.engine.finish(self.name)
            except SessionEnded:
                if self.engine.alive:
                    raise

    async def close(self, why: str = "closed") -> None:
        """Free the compute, after the step in progress at the latest; `why` is one word. Twice is once."""
        if self.closed:
            return
        self.closed = True
        if self.replay:
            self.replay.cancel()
        self.saved = None
        self.since.clear()  # now: transport and stream know one another, so that they may go much later
        self.hub.left(self, why)
        try:
            await self.engine.close(self.name)
        except SessionEnded:
            self.log.debug("stream %s ended with its engine", self.name)

    def sent(self, pts: int, at: float) -> None:
        """Note when the output that starts at a tick was handed to the network, on the hub's clock."""
        delays = self.ledger.sent(pts, at)
        if delays is not None:
            self.hub.metrics.delayed(self.transport, delays)

    def stats(self) -> dict[str, Any]:
        """Figures of this stream, as the message `stats` gives them."""
        waiting = self.fed - self.dropped - self.out
        return {
            "delay": self.ledger.figures(),
            "ticks_in": self.fed,
            "ticks_out": self.out,
            "dropped": self.dropped,
            "queue": round(waiting / self.rate, 4),
            "sessions": len(self.hub.streams),
        }

    def _drop(self, chunk: Chunk) -> int:
        if not self.dropped:
            self.log.warning("stream %s is late, and live input is dropped", self.name)
        self.dropped += len(chunk)
        if self.gaps and self.gaps[-1][0] == chunk.pts:
            self.gaps.pop()  # the same gap, longer now
        self.gaps.append((chunk.pts, self.dropped))
        self.hub.metrics.dropped(chunk.seconds)
        return len(chunk)

    def _note(self) -> None:
        """Enter into the ledger when the steps were made."""
        try:
            steps, less = self.engine.steps(self.name), self.engine.given_up(self.name)
        except SessionEnded:
            return  # it gave its last and has left
        if less != self.less:
            self.less = less
            self.notice("event", name="degraded", less=list(less))
        for end, needs, start, stop in steps:
            self.ledger.stepped(self._outer(end), self._outer(needs), start, stop)
            self.hub.metrics.stepped(stop - start)

    def _fresh(self, chunk: Chunk) -> Chunk:
        """What of a chunk was not given before the engine failed."""
        known = min(self.skip, len(chunk))
        self.skip -= known
        return cut(chunk, chunk.pts + known)[1]

    def _placed(self, chunk: Chunk) -> Iterator[Chunk]:
        """A chunk in the caller's ticks, cut where input was dropped; the last ends where the input did."""
        for start, _ in list(self.gaps):
            if chunk.pts < start < chunk.end + chunk.last:
                before, chunk = cut(chunk, start)
                yield replace(before, pts=self._outer(before.pts))
        yield replace(chunk, pts=self._outer(chunk.pts))

    def _outer(self, tick: int) -> int:
        """The caller's tick of one of the engine's, which does not know what was dropped."""
        return tick + next((total for start, total in reversed(self.gaps) if tick >= start), 0)

    async def _save(self) -> None:
        """Remember the state, and forget the input it has seen. Who holds `turn` may call this.

        Raises SessionEnded if the engine has failed.
        """
        try:
            self.saved = await self.engine.save(self.name)
        except SessionEnded:
            if self.engine.alive:
                return  # it is over
            raise
        self.saved_at = self.hub.clock()
        self.since.clear()

    def _lost(self, engine: Handle, error: SessionEnded) -> bool:
        """Whether an engine has failed that the session was at, and not the session itself."""
        if engine is not self.engine:
            return True  # it was, and the session is taken up elsewhere
        return not (engine.alive or self.closed or self.hub.draining or isinstance(error, Stuck))

    async def _recover(self, failed: Handle) -> None:
        """Take the session up at another engine than the failed one: its last saved state, then the input since."""
        await self.turn.acquire()
        if self.engine is not failed:
            self.turn.release()
            return
        try:
            await self._again(failed)
            self.skip = self.out - self.engine.polled(self.name)
        except BaseException:
            self.turn.release()
            raise
        self.log.warning("stream %s goes on at another engine", self.name)
        self.replay = asyncio.create_task(self._replay())  # keeps the turn: input that comes now comes after

    async def _again(self, failed: Handle) -> None:
        """Begin at another engine, or at one after that, if that has failed meanwhile, too."""
        while True:
            await self.hub.another(failed)
            try:
                await self.begin(self.saved)
                return
            except SessionEnded:
                if self.engine.alive:
                    raise
                failed = self.engine

    async def _replay(self) -> None:
        try:
            for chunk in list(self.since):
                while True:
                    try:
                        await self.engine.feed(self.name, chunk)
                        break
                    except TooSlow:
                        await asyncio.sleep(AGAIN)
            if self.finished:
                await self.engine.finish(self.name)
        except SessionEnded as error:
            self.log.warning("stream %s could not be taken up: %s", self.name, error)
        finally:
            self.turn.release()
