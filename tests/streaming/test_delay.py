"""Live delay, on a virtual clock: what comes late is dropped, and the delay is what it was; it never creeps."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from riverrun.media import Chunk
from riverrun.streaming.batch import advance, sit
from riverrun.streaming.handle import pour
from riverrun.streaming.hub import Hub
from riverrun.streaming.session import HELD, Session
from riverrun.streaming.settings import Settings
from riverrun.streaming.stream import Stream
from riverrun.streaming.wire import Open
from tests.models.toys import Loudness
from tests.streaming.test_ledger import RATE, Clock, Slow

pytestmark = pytest.mark.anyio
FRAME = 320  # samples, 20 ms


class Inline:
    """An engine of one session, which steps when it is told to, and takes the clock's time for it."""

    alive = True

    def __init__(self, model: Slow) -> None:
        self.model, self.clock = model, model.clock

    async def open(
        self, model: str, request: Any, rate: int, channels: int, live: Any, band: Any, *_: Any
    ) -> None:
        self.session = Session(self.model.spec, rate, channels, band, live)
        self.seat = sit("here", self.model, Loudness(), self.session)

    async def feed(self, name: str, chunk: Chunk, captured: float | None = None) -> None:
        def put(piece: Chunk, final: bool) -> None:
            self.session.feed(piece, captured)

        await pour(chunk, self.session, asyncio.Event(), lambda: None, put)

    async def poll(self, name: str) -> list[Chunk]:
        return self.session.poll()

    async def save(self, name: str) -> bytes:
        return b""

    def latency(self, name: str) -> float:
        return self.session.latency

    def steps(self, name: str) -> list[tuple[int, int, float, float]]:
        return [self.session.steps.popleft() for _ in range(len(self.session.steps))]

    def given_up(self, name: str) -> tuple[str, ...]:
        return ()

    def step(self) -> bool:
        """Do one piece of work, if there is any."""
        if ready := self.session.ready():
            advance([self.seat], self.clock)
        return ready


async def heard(
    work: float, stalls: Sequence[tuple[float, float]]
) -> tuple[Stream, list[tuple[float, float]]]:
    """Six seconds of a live stream whose steps take `work` s for 2 ms: when each piece left, and its delay.

    What is captured in a stall comes all at once at the end of it.
    """
    clock = Clock()
    engine: Any = Inline(Slow(clock, work))
    hub = Hub(Settings(), lambda: None, ["slow"])  # type: ignore[arg-type, return-value]
    hub.clock, hub.engine = clock, engine
    stream = Stream(hub, Open("slow", rate=RATE, live=0.1), "ws")
    await stream.begin()
    ends = [(i + 1) * FRAME / RATE for i in range(6 * RATE // FRAME)]
    come = [(end, next((until for since, until in stalls if since < end < until), end)) for end in ends]
    left = list[tuple[float, float]]()
    while come or engine.session.ready():
        while come and come[0][1] <= clock.now:
            await stream.feed(np.zeros((FRAME, 1), np.float32), come.pop(0)[0])
        if not engine.step():
            clock.now = come[0][1] if come else clock.now
        for chunk in await stream.read() if engine.session.outboxes[0] else []:
            stream.sent(chunk.pts, clock.now)
            left.append((clock.now, clock.now - chunk.pts / RATE))
    return stream, left


def most(left: list[tuple[float, float]], since: float, until: float) -> float:
    """The most delay of what left in a time."""
    return max(delay for at, delay in left if since <= at < until)


async def test_after_a_stall_what_is_late_is_dropped_and_the_delay_is_what_it_was() -> None:
    stream, left = await heard(0.001, [(1.0, 2.0), (3.0, 4.5)])
    usual = most(left, 0, 1.0)
    assert usual < 0.05
    assert abs(stream.dropped / RATE - (1.0 - HELD) - (1.5 - HELD)) < 0.1
    for since, until in ((2.5, 3.0), (5.0, 6.0)):
        assert most(left, since, until) == pytest.approx(usual, abs=1e-6)
    told = [delays.total for delays in stream.ledger.delays][-100:]
    assert max(told) == pytest.approx(most(left, 5.8, 9), abs=1e-6), "and this is what the read-out shows"


async def test_on_a_machine_that_is_too_slow_the_delay_is_bounded_by_what_may_wait() -> None:
    stream, left = await heard(0.003, [])
    soon, later = most(left, 1.5, 2.5), most(left, 5.0, 6.0)
    assert later == pytest.approx(soon, abs=0.03) and later < 1.5 * HELD + 0.1
    assert stream.dropped / RATE == pytest.approx(6 * (1 - 1 / 1.5), rel=0.2)
