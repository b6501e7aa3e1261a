"""Where the delay arises: on a virtual clock, the stages of every chunk sum to what the listener waits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.media import Chunk
from riverrun.streaming.batch import advance, sit
from riverrun.streaming.ledger import STAGES, Ledger
from riverrun.streaming.session import Session
from tests.models.toys import Loudness, Smooth

RATE = 16_000


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(Smooth):
    """Takes so many seconds a step."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def step(self, inputs, state):  # type: ignore[no-untyped-def]
        self.clock.now += self.seconds
        return super().step(inputs, state)


@settings(deadline=None, max_examples=30)
@given(
    rate=st.sampled_from([8_000, 16_000, 48_000]),
    frame=st.integers(40, 2_000),
    travel=st.floats(0, 0.2),
    work=st.floats(0, 0.005),
    sending=st.floats(0, 0.01),
    buffer=st.floats(0, 0.1),
)
def test_the_stages_of_a_chunk_sum_to_its_delay(
    rate: int, frame: int, travel: float, work: float, sending: float, buffer: float
) -> None:
    clock = Clock()
    model = Slow(clock, work)
    session = Session(model.spec, rate, 1, queue=10)
    seat = sit("a", model, Loudness(), session)
    ledger = Ledger(rate)
    ledger.buffered = buffer
    heard = 0
    for i in range(12):
        data = np.zeros((frame, 1), np.float32)
        captured = (i + 1) * frame / rate  # of its end; the first sample was captured at 0
        clock.now = max(clock.now, captured + travel)
        ledger.came((i + 1) * frame, captured, clock.now)
        session.feed(Chunk(data, i * frame, rate))
        while seat.piece(clock.now):
            advance([seat], clock)
        chunks = session.poll()
        for step in (session.steps.popleft() for _ in range(len(session.steps))):
            ledger.stepped(*step)
        for chunk in chunks:
            clock.now += sending
            delays = ledger.sent(chunk.pts, clock.now)
            assert delays is not None
            heard += 1
            assert delays.total == pytest.approx(clock.now + buffer - chunk.pts / rate, abs=1e-9)
            assert all(getattr(delays, stage) >= -1e-9 for stage in STAGES), delays
            assert delays.compute == pytest.approx(work, abs=1e-9)
            assert delays.transport >= travel - 1e-9
    assert heard
    assert ledger.figures()["total"] > 0  # type: ignore[operator]


def test_what_was_never_stepped_or_came_has_no_delay() -> None:
    ledger = Ledger(RATE)
    assert ledger.figures() == {}
    assert ledger.sent(0, 1.0) is None
    ledger.stepped(320, 320, 0.1, 0.2)
    assert ledger.sent(0, 1.0) is None


def test_a_clock_that_runs_ahead_makes_no_negative_transport() -> None:
    ledger = Ledger(RATE)
    ledger.came(320, captured=9.0, arrived=1.0)
    ledger.stepped(320, 320, 1.1, 1.2)
    delays = ledger.sent(0, 1.3)
    assert delays is not None and delays.transport == 0
