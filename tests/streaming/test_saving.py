"""Sessions as bytes: all of what they remember comes back, and nothing that is not theirs."""

from collections import deque
from fractions import Fraction

import numpy as np
import pytest

from riverrun.media import Chunk, join
from riverrun.models.state import load as load_state
from riverrun.models.state import save as save_state
from riverrun.streaming import saving
from riverrun.streaming.batch import Seat, advance, sit
from riverrun.streaming.session import Session
from tests.models.toys import Loudness, Smooth
from tests.streaming.test_session import sound, steps


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_a_session_goes_on_where_it_was_saved(rate: int, channels: int) -> None:
    model, data = Smooth(), sound(6_000, channels)
    first = sit("first", model, Loudness(), Session(model.spec, rate, channels))
    first.session.feed(Chunk(data[:2_000], 0, rate))
    for _ in range(3):
        assert first.piece(0)
        advance([first])
    assert first.session.ready() and first.session.outboxes[0]
    again = Session(model.spec, rate, channels)
    saving.load(saving.save(first.session), again)
    second = Seat("second", model, again, load_state(save_state(first.own())))
    out = []
    for seat in (first, second):
        seat.session.feed(Chunk(data[2_000:], 2_000, rate, last=True))
        out.append(join(steps(seat)))
    assert out[0].last and len(out[0]) == 6_000 and np.array_equal(out[0].data, out[1].data)


class Thing:
    """One of every value that can be saved."""

    def __init__(self) -> None:
        self.plain = [None, True, 2, 2.5, "text"]
        self.rate, self.line = Fraction(30_000, 1_001), deque([np.arange(3), np.zeros((0, 2))])
        self.chunk = Chunk(np.ones((2, 1), np.float32), 5, 16_000, last=True)


def test_every_kind_of_value_comes_back() -> None:
    thing, again = Thing(), Thing()
    thing.plain, thing.rate = [1, 2], Fraction(1, 3)
    thing.line.append(np.ones(4, bool))
    saving.load(saving.save(thing), again)
    assert (again.plain, again.rate, again.chunk.pts, again.chunk.last) == ([1, 2], Fraction(1, 3), 5, True)
    assert isinstance(again.line, deque)
    assert [a.tolist() for a in again.line] == [a.tolist() for a in thing.line]
    assert [a.dtype for a in again.line] == [a.dtype for a in thing.line]


def test_what_is_not_a_number_text_or_array_is_refused() -> None:
    thing = Thing()
    thing.line.append(len)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be saved"):
        saving.save(thing)


def test_bytes_of_something_else_are_refused() -> None:
    data = saving.save(Thing())
    for bad in (b"", data[:20], data[:-3], bytes(40), data[:8] + b"x" + data[9:]):
        with pytest.raises(ValueError, match="do not hold a saved Thing"):
            saving.load(bad, Thing())
    with pytest.raises(ValueError, match="it has the fields"):
        saving.load(data, Session(Smooth().spec))
    mono = Session(Smooth().spec)
    with pytest.raises(ValueError):
        saving.load(saving.save(Session(Smooth().spec, 48_000)), mono)
