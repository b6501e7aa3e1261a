"""Engine: what steps the sessions of some models, and the handle by which transports see it.

A transport sees async `open, feed, update, finish, poll, close` over session ids; the work is done by lanes (lane.py).
`run` does the same for one stream in the caller's thread.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import Any, Self, cast

import torch

from riverrun.media import Chunk, cut
from riverrun.media.chunk import Array
from riverrun.models.contract import Discerns, Spec, StreamModel
from riverrun.models.inference import inference
from riverrun.models.voice.fitting import AUTO, fitting, ways
from riverrun.streaming.admission import admit, measure, seated
from riverrun.streaming.batch import Seat, advance, nobody, save, sit, update
from riverrun.streaming.errors import ProtocolError, SessionEnded
from riverrun.streaming.handle import Band, build, pour
from riverrun.streaming.lane import Lane
from riverrun.streaming.session import Live, Rate, Session
from riverrun.streaming.shelf import Shelf

log = logging.getLogger(__name__)


class Bell:
    """Wakes those who wait in one event loop, once for all that was noted before it gets to it. Threads: any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.asked = loop, False
        self.noted: deque[asyncio.Event] = deque()

    def ring(self) -> None:
        """Have what is noted set, soon; not in a loop that is closed."""
        if not self.asked:
            self.asked = True
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self.asked = False  # first: what is noted from now on rings again
        while self.noted:
            self.noted.popleft().set()


class Engine:
    """Steps the sessions of some models, many in one step, live ones in a lane of their own.

    Use it in a `with`, or call `stop`. Any event loop may use it; one session belongs to one loop.
    """

    def __init__(
        self,
        device: str = "cpu",
        threads: int = 1,
        capacity: int = 64,  # sessions open at once
        clock: Callable[[], float] = time.monotonic,
        lanes: int = 2,
        budget: int | None = None,  # bytes of models in memory
    ) -> None:
        self.device, self.capacity, self.clock = device, capacity, clock
        self.shelf = Shelf(budget)
        names = ("live", "rest")[:lanes]
        self.lanes = [Lane(name, clock, threads, device, urgent=name == "live") for name in names]
        self.homes: dict[str, Lane] = {}  # where each session is
        self.events: dict[str, asyncio.Event] = {}
        self.bells: dict[asyncio.AbstractEventLoop, Bell] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add(self, name: str, model: StreamModel) -> None:
        """Make a model available under a name; one lane has all its sessions."""
        self.shelf.add(name, model)

    def offer(self, name: str, load: Callable[[], StreamModel]) -> None:
        """Make a model available that is loaded when a session first wants it, for each lane that does."""
        self.shelf.offer(name, load)

    def stop(self, wait: bool = True) -> None:
        """End every session and all threads, after the steps in progress. Twice is once."""
        for lane in self.lanes:
            lane.stop(wait=False)
        for lane in self.lanes if wait else []:
            lane.stop()

    @property
    def alive(self) -> bool:
        """Whether it still takes sessions."""
        return all(lane.alive for lane in self.lanes)

    @property
    def sessions(self) -> list[str]:
        """The ids of those that are open."""
        return list(self.homes)

    @property
    def seats(self) -> dict[str, Seat]:
        """Every session's seat."""
        return {name: seat for lane in self.lanes for name, seat in list(lane.seats.items())}

    def stuck(self, limit: float) -> list[str]:
        """The sessions in a step that has taken more than `limit` seconds."""
        now, steps = self.clock(), [lane.stepping for lane in self.lanes]
        return [name for step in steps if step and now - step[0] > limit for name in step[1]]

    # The handle: what transports see

    async def open(
        self,
        model: str,
        request: Any,
        rate: Rate | None = None,
        channels: int | None = None,
        live: Live | None = None,
        band: Band = "full",
        saved: bytes | None = None,
        session: str | None = None,
    ) -> str:
        """Start a session and give its id: `session`, or one that is made up.

        `rate` and `channels` are the caller's; without them, the model's. `request` is the model's own kind, or its
        values by name. `saved` resumes what `save` gave, whatever the request says.
        Raises InvalidRequest, ProtocolError, AtCapacity.
        """
        if session in self.homes:
            raise ProtocolError(f"session {session} is open already")
        lane, made = await self._take(model, live)
        if live is not None:
            live = replace(live, arrival=self.clock())
        name, bell, event = session or secrets.token_hex(8), self._bell(), asyncio.Event()

        def changed() -> Callable[[], None]:
            if bell.loop.is_closed():
                log.warning(
                    "session %s: its event loop is gone, so it is closed", name, extra={"session": name}
                )
                self._leave(lane, name)
                return nobody
            bell.noted.append(event)
            return bell.ring

        def enter() -> None:
            session = Session(made.spec, rate, channels, band, live)
            if saved is None:
                admit(lane, model, session, len(self.homes), self.capacity)
            seat = seated(name, made, build(made.request, request), session, saved, self.device, model)
            seat.changed, self.events[name], self.homes[name] = changed, event, lane
            lane.enter(seat)

        try:
            await asyncio.wrap_future(lane.call(enter))
        except asyncio.CancelledError:
            lane.call(lambda: self._leave(lane, name))
            raise
        except BaseException:
            self.shelf.give_back(made)
            raise
        return name

    async def feed(self, session: str, chunk: Chunk, captured: float | None = None) -> None:
        """Take the next ticks of a session's input, waiting for credit piece by piece.

        `captured` is when the chunk's end was captured, on the engine's clock; without it, now.
        Raises ProtocolError, SessionEnded; TooSlow if the session is live, for which waiting is no use.
        """
        seat, event = self._heard(session)
        if seat.session.live and captured is None:
            captured = self.clock()

        def put(piece: Chunk, final: bool) -> None:
            seat.session.feed(piece, captured if final else None)
            self._nudge(session)

        await pour(chunk, seat.session, event, lambda: seat.error, put)

    async def update(self, session: str, request: Any) -> None:
        """Change a running session, or give it text. Raises InvalidRequest, SessionEnded."""
        seat, lane = self._seat(session), self.homes[session]
        wanted = build(seat.model.request, request)

        def change() -> None:
            update(seat, wanted)
            lane.look(seat)

        await asyncio.wrap_future(lane.call(change))

    async def finish(self, session: str) -> None:
        """Say that a session's input is over; the rest still comes out."""
        self._seat(session).session.finish()
        self._nudge(session)

    async def poll(self, session: str, port: int = 0) -> list[Chunk]:
        """Wait for the next chunks of a session; none means that the last one was given.

        Raises SessionEnded.
        """
        seat, event = self._heard(session)
        while True:
            event.clear()
            over = seat.session.ended[port]
            with seat.polling:
                chunks = seat.session.poll(port)
            if chunks:
                self._nudge(session)  # there is room for more
                return chunks
            if over:
                return []
            if seat.error:
                raise seat.error
            await event.wait()

    async def close(self, session: str) -> None:
        """Free a session, after the step in progress at the latest. Twice is once."""
        lane = self.homes.get(session)
        if lane is not None:
            await asyncio.shield(asyncio.wrap_future(lane.call(lambda: self._leave(lane, session))))

    async def save(self, session: str) -> bytes:
        """A running session as bytes for `open(..., saved=...)`, here or elsewhere; it goes on."""
        seat = self._seat(session)
        return await asyncio.wrap_future(self.homes[session].call(lambda: save(seat)))

    async def check(self, model: str, request: Any) -> Spec:
        """What a model takes and gives. Raises InvalidRequest if it would not take a request."""
        spec, kind = await asyncio.to_thread(self.shelf.kind, model)
        build(kind, request)
        return spec

    async def fit(self, model: str, preset: str = AUTO) -> dict[str, Any]:
        """As `Handle.fit`."""
        lane, made = await self._take(model, Live())
        try:
            if not made.spec.converts and preset == AUTO:
                return {}
            found = ways(made, preset)
            if not made.spec.converts:
                return {"preset": preset}
            work = partial(fitting, found, time.perf_counter)
            fit = await asyncio.wrap_future(lane.call(work))
        finally:
            self.shelf.give_back(made)
        log.log(logging.INFO if fit.fits else logging.WARNING, "model %s: %s", model, fit)
        return {**asdict(fit), "fits": fit.fits, "sessions": fit.sessions}

    async def several(self, model: str, sound: Array) -> bool:
        """As `Handle.several`: where what is not live is, in pieces, which hold up others no more than steps do."""
        spec, _ = await asyncio.to_thread(self.shelf.kind, model)
        if not spec.discerns:
            return False
        lane, made = await self._take(model, None)
        try:
            pieces, told = cast(Discerns, made).several(sound), False
            while (known := await asyncio.wrap_future(lane.call(partial(next, pieces, None)))) is not None:
                told = known
        finally:
            self.shelf.give_back(made)
        return told

    async def settle(self, model: str, preset: str) -> None:
        """As `Handle.settle`."""
        await asyncio.to_thread(self.shelf.settle, model, preset)

    async def warm(self, model: str) -> None:
        """Load a model for live use and measure its steps, so that nobody waits for that and all know the cost."""
        lane, made = await self._take(model, Live())
        try:
            await asyncio.wrap_future(lane.call(lambda: measure(lane, model, made)))
        finally:
            self.shelf.give_back(made)

    async def shut(self) -> None:
        """As `stop`, without blocking."""
        await asyncio.to_thread(self.stop)

    def polled(self, session: str) -> int:
        """How many ticks of a session were polled so far, those before it was saved included."""
        return self._seat(session).session.polled

    def steps(self, session: str) -> list[tuple[int, int, float, float]]:
        """What `Session.stepped` noted since the last call."""
        seat = self._seat(session)
        with seat.polling:
            return [seat.session.steps.popleft() for _ in range(len(seat.session.steps))]

    def given_up(self, session: str) -> tuple[str, ...]:
        """What a session does with less of now, since the machine is too slow."""
        return self._seat(session).given_up

    def played(self, session: str, at: float, until: int | None = None) -> None:
        """Say when play-out of a session began, on the engine's clock, and until which tick more may be begun."""
        self._seat(session).session.played(at, until)
        self._nudge(session)

    def latency(self, session: str) -> float:
        """Seconds from a sample's going in to its coming out, computing left out."""
        return self._seat(session).session.latency

    async def figures(self) -> dict[str, Any]:
        """What the lanes do: sessions, pieces that wait, time used, lateness, what steps cost, models in memory."""
        return {"lanes": [lane.figures() for lane in self.lanes], "models": dict(self.shelf.loaded())}

    def _bell(self) -> Bell:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        self.bells = {loop: bell for loop, bell in self.bells.items() if not loop.is_closed()}
        return self.bells.setdefault(loop, Bell(loop))

    async def _take(self, model: str, live: Live | None) -> tuple[Lane, StreamModel]:
        """The lane for a session and its instance of the model, in use from now on."""

        def take() -> tuple[Lane, StreamModel]:
            lane = self._lane(model, live)
            return lane, self.shelf.take(model, lane.name)

        work = asyncio.ensure_future(asyncio.to_thread(take))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._unwanted)
            raise

    def _unwanted(self, work: "asyncio.Future[tuple[Lane, StreamModel]]") -> None:
        if not work.cancelled() and not work.exception():
            self.shelf.give_back(work.result()[1])

    # Any thread

    def _lane(self, model: str, live: Live | None) -> Lane:
        """Live input goes to the first lane, and so does all of a model that there is one instance of."""
        if model in self.shelf.fixed:
            return self.lanes[0]
        takes = live is not None and self.shelf.kind(model)[0].takes is not None
        return self.lanes[0] if takes else self.lanes[-1]

    def _seat(self, session: str) -> Seat:
        lane = self.homes.get(session)
        seat = lane.seats.get(session) if lane else None
        if seat is None:
            raise SessionEnded(f"session {session} is not open")
        return seat

    def _heard(self, session: str) -> tuple[Seat, asyncio.Event]:
        """A seat and what is set when something about it has changed."""
        event, seat = self.events.get(session), self._seat(session)
        if event is None:
            raise SessionEnded(f"session {session} is not open")
        return seat, event

    def _nudge(self, session: str) -> None:
        if lane := self.homes.get(session):
            lane.nudge(session)

    # A lane's thread

    def _leave(self, lane: Lane, name: str) -> None:
        seat = lane.seats.get(name)
        lane.leave(name)
        self.homes.pop(name, None)
        self.events.pop(name, None)
        if seat is not None:
            self.shelf.give_back(seat.model)


def run(
    model: StreamModel,
    request: Any,
    chunks: Iterable[Chunk] = (),
    rate: Rate | None = None,
    channels: int | None = None,
    band: Band = "full",
    threads: int = 1,
) -> Iterator[Chunk]:
    """Stream one input through a model in the caller's thread, with bounded memory.

    Rate and channels are those of the first chunk, if any. `threads` torch may use while it steps: a small
    model is slower with more than one. Raises what `feed` and `poll` raise.
    """
    source = iter(chunks)
    first = next(source, None)
    if first is not None:
        rate, channels = first.rate, first.data.shape[1] if first.data.ndim == 2 else channels
    session = Session(model.spec, rate, channels, band)
    with torch.inference_mode():
        seat = sit("in this thread", model, request, session)
    try:
        for chunk in chain([first] if first else [], source):
            while len(chunk) > session.credit:
                head, chunk = cut(chunk, chunk.pts + session.credit)
                session.feed(head)
                yield from _steps(seat, threads)
            session.feed(chunk)
            yield from _steps(seat, threads)
        if model.spec.takes:
            session.finish()
        yield from _steps(seat, threads)
        if not session.done:
            raise ProtocolError(
                "the model waits for an update, and this stream has none: end it in its request"
            )
    finally:
        seat.leave()


def _steps(seat: Seat, threads: int) -> Iterator[Chunk]:
    """Step a seat until it needs more input."""
    while True:
        with inference(threads):  # not around the yield, which would set it in the caller
            more = seat.piece(0.0) is not None
            if more:
                advance([seat])
        if seat.error:
            raise seat.error
        yield from seat.session.poll()
        if not more:
            return
