"""Who steps next, with whom, and that a batch which stays together is not copied."""

import numpy as np
import pytest

from riverrun.media import Chunk
from riverrun.models.contract import StreamModel
from riverrun.models.state import State
from riverrun.streaming.batch import Rows, Seat, advance, gather, save, sit
from riverrun.streaming.scheduler import Fence
from riverrun.streaming.session import Live, Session
from tests.models.toys import Loudness, Smooth, Teller, Text
from tests.streaming.test_session import sound, steps


def seat(model: StreamModel, name: str = "", channels: int = 1, due: float | None = None) -> Seat:
    """A seat with two hops of input, due `due` seconds after nothing was captured."""
    session = Session(model.spec, channels=channels, live=None if due is None else Live(delay=due))
    made = sit(name, model, Loudness(), session)
    session.feed(Chunk(sound(64, channels, seed=len(name)), 0, 16_000), captured=0.004)
    return made


def test_a_piece_says_what_a_session_would_do_next_and_when_it_is_due() -> None:
    model = Smooth(max_batch=4)
    live, batch = seat(model, "a", 2, due=3), seat(model, "b")
    first, other = live.piece(0), batch.piece(7)
    assert (
        first
        and other
        and (first.rows, first.most, first.fence, other.fence) == (2, 4, Fence.LIVE, Fence.BATCH)
    )
    assert first.kind == other.kind and first.due == pytest.approx(3) and other.due == 7


def test_different_phases_do_not_mix() -> None:
    model = Smooth(evaluations=2)
    seats = [seat(model, "a"), seat(model, "b")]
    assert seats[0].piece(0)
    advance(seats[:1])
    first, other = (one.piece(0) for one in seats)
    assert first and other and first.kind != other.kind


def test_a_generator_without_words_is_left_alone() -> None:
    model = Teller()
    quiet = sit("q", model, Text("", end=False), Session(model.spec))
    loud = sit("l", model, Text("a word"), Session(model.spec))
    assert quiet.piece(0) is None and loud.piece(0)


def test_a_session_that_is_late_does_with_less_and_then_has_all_again() -> None:
    class Frugal(Smooth):
        rungs = ("steps",)

        def lighten(self, state: State, rung: int) -> State:
            return {**state, "gain": state["gain"] * (0 if rung else 9)}

    one = seat(Frugal(), "a", due=0.1)
    for i in range(120):
        one.judge(True, i * 0.02)
    assert list(one.given_up) == ["steps"]
    for i in range(120, 450):
        one.judge(True, i * 0.02)
    assert list(one.given_up) == ["steps"], "a hop that was begun with all steps tells nothing of fewer"
    for i in range(450, 900):
        one.session.given += 1
        one.judge(True, i * 0.02)
    assert list(one.given_up) == ["steps", "buffer"] and one.state and one.state["gain"] == 0
    assert one.session.due(0)[1] == pytest.approx(0.2)
    for i in range(900, 3_000):
        one.session.given += 1
        one.judge(False, i * 0.02)
    assert not one.given_up and one.session.due(0)[1] == pytest.approx(0.1)


def test_a_session_that_is_taken_up_again_does_with_all() -> None:
    class Frugal(Smooth):
        rungs = ("steps",)

        def open(self, request: Loudness) -> State:
            return {**super().open(request), "light": [0]}

        def lighten(self, state: State, rung: int) -> State:
            return {**state, "light": [rung]}

    one = seat(Frugal(), "a", due=0.1)
    for i in range(450):
        one.session.given += 1
        one.judge(True, i * 0.02)
    assert one.state and one.state["light"] == [1] and one.session.slack > 1
    session = Session(one.model.spec, live=Live(0.1))
    again = sit("a", one.model, Loudness(), session, save(one))
    assert again.state and again.state["light"] == [0] and session.slack == 1 and not again.given_up


def test_a_batch_that_stays_together_is_not_copied() -> None:
    model = Smooth()
    seats = [seat(model, "a"), seat(model, "bb")]
    for one in seats:
        assert one.session.ready()
    batch = gather(seats)
    advance(seats)
    assert gather(seats) is batch
    past = batch.state["past"]
    assert gather(seats[:1]).state["past"].data_ptr() == past.data_ptr()  # a row alone is cut out, not copied
    assert gather(seats) is not batch


def test_a_batch_that_meets_again_knows_what_was_done_apart() -> None:
    model, data = Smooth(), sound(32 * 30)
    seats = [sit(name, model, Loudness(), Session(model.spec)) for name in "abc"]
    for one in seats:
        one.session.feed(Chunk(data, 0, 16_000, last=True))
        assert one.session.ready()
    for group in ("ab", "bc", "ab", "c", "abc", "ac", "b", "abc", "b", "bc", "ab"):
        advance([one for one in seats if one.name in group])
    for one in seats:
        out = [*one.session.poll(), *steps(one)]
        got = np.concatenate([chunk.data for chunk in out])
        assert np.abs(got - model.whole(data, Loudness())).max() < 1e-5


def test_joining_and_leaving_changes_nothing_for_those_who_stay() -> None:
    model, data = Smooth(), sound(640)
    stays = sit("stays", model, Loudness(), Session(model.spec))
    stays.session.feed(Chunk(data, 0, 16_000, last=True))
    others, out = [seat(model, name) for name in ("a", "bb", "ccc")], []
    for turn in range(40):
        group = [*others[: turn % 4], stays] if turn % 2 else [stays, *others[turn % 3 :]]
        ready = [one for one in group if one.active and one.session.ready()]
        if stays in ready:
            advance(ready)
        out += stays.session.poll()
    got = np.concatenate([chunk.data for chunk in out])
    assert np.abs(got - model.whole(data, Loudness())).max() < 1e-5 and out[-1].last


def test_a_view_of_rows_cuts_what_is_looked_at() -> None:
    rows = Rows({"a": [1, 2, 3], "inner": {"b": [4, 5, 6]}}, 1, 2)
    assert rows["a"] == [2] and rows["inner"]["b"] == [5] and list(rows) == ["a", "inner"] and len(rows) == 2
