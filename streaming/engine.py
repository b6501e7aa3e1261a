"""Engine: the only place with a thread, and that waits for a model.

A transport sees async `open, feed, update, finish, poll, close` over session ids. The engine's thread owns models
and states: it answers calls between steps, and otherwise steps whatever `pick` says. `run` does the same for one
stream in the caller's thread.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, Self, TypeVar

import torch

from riverrun.media import Chunk, cut
from riverrun.models.contract import StreamModel
from riverrun.models.errors import InvalidRequest
from riverrun.streaming.batch import Seat, advance, pick, save, sit, update
from riverrun.streaming.errors import AtCapacity, ProtocolError, SessionEnded, TooSlow
from riverrun.streaming.session import Live, Rate, Session

log = logging.getLogger(__name__)
T = TypeVar("T")
Band = Literal["full", "8k"]


class Engine:
    """Steps the sessions of some models, many in one step, in a thread of its own.

    Use it in a `with`, or call `stop`. Any event loop may use it; one session belongs to one loop.
    """

    def __init__(
        self,
        device: str = "cpu",
        threads: int = 1,
        capacity: int = 64,  # sessions open at once
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device, self.threads, self.capacity, self.clock = device, threads, capacity, clock
        self.models: dict[str, StreamModel] = {}
        self.seats: dict[str, Seat] = {}  # changed by the engine's thread alone
        self.events: dict[str, asyncio.Event] = {}
        self._awake = threading.Condition()
        self._calls: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._nudged = self._stopping = False
        self._turn = 0
        self._thread = threading.Thread(target=self._work, name="riverrun-engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add(self, name: str, model: StreamModel) -> None:
        """Make a model available under a name."""
        self.models[name] = model

    def stop(self) -> None:
        """End every session and the thread, after the step in progress. Twice is once."""
        with self._awake:
            self._stopping = True
            self._awake.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether it still takes sessions."""
        return not self._stopping

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
    ) -> str:
        """Start a session and give its id. `rate` and `channels` are the caller's; without them, the model's.

        `saved` resumes what `save` gave, and then the request is not looked at.
        Raises InvalidRequest, ProtocolError, AtCapacity.
        """
        if model not in self.models:
            raise InvalidRequest(f"model is {model!r}, expected one of {', '.join(self.models) or 'none'}")
        if live is not None:
            live = replace(live, arrival=self.clock())
        name, loop, event = secrets.token_hex(8), asyncio.get_running_loop(), asyncio.Event()

        def changed() -> None:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                log.warning("session %s: its event loop is gone, so it is closed", name)
                self._leave(name)

        def enter() -> None:
            if len(self.seats) >= self.capacity:
                raise AtCapacity(f"{self.capacity} sessions are open, and no more are taken: try again later")
            session = Session(self.models[model].spec, rate, channels, band, live)
            seat = sit(name, self.models[model], request, session, saved, self.device)
            seat.changed, self.events[name], self.seats[name] = changed, event, seat

        try:
            await asyncio.wrap_future(self._call(enter))
        except asyncio.CancelledError:
            self._call(lambda: self._leave(name))
            raise
        return name

    async def feed(self, session: str, chunk: Chunk, captured: float | None = None) -> None:
        """Take the next ticks of a session's input, waiting for credit piece by piece.

        `captured` is when the chunk's end was captured, on the engine's clock; without it, now.
        Raises ProtocolError, SessionEnded; TooSlow if the session is live, for which waiting is no use.
        """
        seat, event = self._heard(session)
        while True:
            event.clear()
            if seat.error:
                raise seat.error
            credit, limit = seat.session.credit, seat.session.limit
            if seat.session.live and credit < len(chunk) <= limit:
                raise TooSlow(f"{limit - credit} of {limit} ticks wait already, no room for {len(chunk)}")
            head, chunk = cut(chunk, chunk.pts + min(credit, len(chunk)))
            final = not len(chunk)
            if seat.session.live and captured is None:
                captured = self.clock()
            seat.session.feed(replace(head, last=final and chunk.last), captured if final else None)
            self._nudge()
            if final:
                return
            await event.wait()

    async def update(self, session: str, request: Any) -> None:
        """Change a running session, or give it text. Raises InvalidRequest, SessionEnded."""
        seat = self._seat(session)
        await asyncio.wrap_future(self._call(lambda: update(seat, request)))

    async def finish(self, session: str) -> None:
        """Say that a session's input is over; the rest still comes out."""
        self._seat(session).session.finish()
        self._nudge()

    async def poll(self, session: str, port: int = 0) -> list[Chunk]:
        """Wait for the next chunks of a session; none means that the last one was given.

        Raises SessionEnded.
        """
        seat, event = self._heard(session)
        while True:
            event.clear()
            over = seat.session.ended[port]
            chunks = seat.session.poll(port)
            if chunks:
                self._nudge()  # there is room for more
                return chunks
            if over:
                return []
            if seat.error:
                raise seat.error
            await event.wait()

    async def close(self, session: str) -> None:
        """Free a session, after the step in progress at the latest. Twice is once."""
        await asyncio.shield(asyncio.wrap_future(self._call(lambda: self._leave(session))))

    async def save(self, session: str) -> bytes:
        """A running session as bytes for `open(..., saved=...)`, here or elsewhere; it goes on."""
        seat = self._seat(session)
        return await asyncio.wrap_future(self._call(lambda: save(seat)))

    def polled(self, session: str) -> int:
        """How many ticks of a session were polled so far, those before it was saved included."""
        return self._seat(session).session.polled

    def steps(self, session: str) -> list[tuple[int, int, float, float]]:
        """What `Session.stepped` noted since the last call."""
        steps = self._seat(session).session.steps
        return [steps.popleft() for _ in range(len(steps))]

    def played(self, session: str, at: float) -> None:
        """Say when play-out of a session began, on the engine's clock."""
        self._seat(session).session.played(at)

    def latency(self, session: str) -> float:
        """Seconds from a sample's going in to its coming out, computing left out."""
        return self._seat(session).session.latency

    # Any thread

    def _seat(self, session: str) -> Seat:
        seat = self.seats.get(session)
        if seat is None:
            raise SessionEnded(f"session {session} is not open")
        return seat

    def _heard(self, session: str) -> tuple[Seat, asyncio.Event]:
        """A seat and what is set when something about it has changed."""
        seat, event = (
            self.seats.get(session),
            self.events.get(session),
        )  # the engine's thread may end it between
        if seat is None or event is None:
            raise SessionEnded(f"session {session} is not open")
        return seat, event

    def _nudge(self) -> None:
        with self._awake:
            self._nudged = True
            self._awake.notify()

    def _call(self, work: Callable[[], T]) -> "Future[T]":
        """Have the engine's thread do something between steps."""
        future: Future[T] = Future()
        with self._awake:
            if self._stopping:
                raise SessionEnded("the engine has stopped")
            self._calls.append((future, work))
            self._awake.notify()
        return future

    # The engine's thread

    def _work(self) -> None:
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                while not self._stopping:
                    self._answer()
                    self._step()
        except Exception:
            log.exception("the engine failed")
            raise
        finally:
            with self._awake:
                self._stopping = True
            self._answer()
            for name in list(self.seats):
                self._leave(name, "the engine has stopped")

    def _step(self) -> None:
        """Step until there is nothing to do, or a call to answer."""
        while not self._calls and not self._stopping:
            seats = pick(list(self.seats.values()), self.clock())
            if not seats:
                return
            self._turn += 1
            for seat in seats:
                seat.turn = self._turn
            advance(seats, self.clock)

    def _answer(self) -> None:
        """Wait for something to do, and do the calls among it."""
        with self._awake:
            self._awake.wait_for(lambda: self._calls or self._nudged or self._stopping)
            self._nudged = False
            calls, self._calls = self._calls, []
        for future, work in calls:
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

    def _leave(self, name: str, why: str = "it was closed") -> None:
        seat = self.seats.pop(name, None)
        self.events.pop(name, None)
        if seat is not None:
            seat.error = seat.error or SessionEnded(f"session {name} is over: {why}")
            seat.leave()
            seat.changed()


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


@contextmanager
def _inference(threads: int) -> Iterator[None]:
    """No derivatives and so many threads, the caller's settings back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def _steps(seat: Seat, threads: int) -> Iterator[Chunk]:
    """Step a seat until it needs more input."""
    while True:
        with _inference(threads):  # not around the yield, which would set it in the caller
            seats = pick([seat], 0.0)
            if seats:
                advance(seats)
        if seat.error:
            raise seat.error
        yield from seat.session.poll()
        if not seats:
            return
