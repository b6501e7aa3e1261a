"""Who steps next, with whom, and that a batch which stays together is not copied."""

from collections.abc import Sequence

import numpy as np
import pytest

from riverrun.media import Chunk
from riverrun.models.contract import StreamModel
from riverrun.streaming.batch import Rows, Seat, advance, gather, pick, sit
from riverrun.streaming.session import Live, Session
from tests.models.toys import Loudness, Smooth, Teller, Text
from tests.streaming.test_session import sound, steps


def seat(model: StreamModel, name: str = "", channels: int = 1, due: float | None = None) -> Seat:
    """A seat with two hops of input, due `due` seconds after nothing was captured."""
    session = Session(model.spec, channels=channels, live=None if due is None else Live(delay=due))
    made = sit(name, model, Loudness(), session)
    session.feed(Chunk(sound(64, channels, seed=len(name)), 0, 16_000), captured=0.004)
    return made


def names(seats: Sequence[Seat]) -> str:
    return "".join(seat.name for seat in seats)


def test_the_first_due_goes_first_and_takes_others_along() -> None:
    one, other = Smooth(), Smooth(hop=16)
    seats = [seat(one, "a", due=3), seat(other, "b", due=2), seat(one, "c", due=4), seat(other, "d", due=1)]
    assert names(pick(seats, 0)) == "bd"
    seats[1].leave()
    seats[3].leave()
    assert names(pick(seats, 0)) == "ac"


def test_nobody_joins_whom_somebody_waits_for_unless_awaited_too() -> None:
    model = Smooth()
    seats = [seat(model, "a"), seat(model, "b", due=9), seat(model, "c")]
    assert names(pick(seats, 0)) == "b"
    seats[1].leave()
    assert names(pick(seats, 0)) == "ac"


def test_a_step_is_never_larger_than_the_model_takes_and_turns_go_round() -> None:
    model = Smooth(max_batch=4)
    seats = [seat(model, name, channels) for name, channels in (("a", 2), ("b", 1), ("c", 2), ("d", 1))]
    chosen = pick(seats, 0)
    assert names(chosen) == "abd"
    for one in chosen:
        one.turn = 1
    assert names(pick(seats, 0)) == "ac"


def test_different_phases_do_not_mix() -> None:
    model = Smooth(evaluations=2)
    seats = [seat(model, "a"), seat(model, "b")]
    advance(seats[:1])
    assert len(pick(seats, 0)) == 1


def test_a_generator_without_words_is_left_alone() -> None:
    model = Teller()
    quiet = sit("q", model, Text("", end=False), Session(model.spec))
    loud = sit("l", model, Text("a word"), Session(model.spec))
    assert names(pick([quiet, loud], 0)) == "l"


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


def test_a_session_that_cannot_go_on_does_not_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Smooth()
    seats = [seat(model, "a"), seat(model, "b")]
    monkeypatch.setattr(seats[0].session, "ready", lambda: 1 / 0)
    assert names(pick(seats, 0)) == "b" and seats[0].error and not seats[0].active
