"""What a listener hears: silence wherever sound was not there in time, however it came to be missing."""

import json
from collections import Counter

import pytest

from riverrun.playout import LEAD, Playout, Spread, Take, report

RATE, FRAME = 1000, 20  # ticks are ms


def heard(late: dict[int, float] | None = None, missing: tuple[int, ...] = (), frames: int = 50) -> Playout:
    """A stream whose frames come every 20 ms, but for some that are late by so many seconds, or missing."""
    playout = Playout(RATE)
    for i in range(frames):
        if i not in missing:
            playout.hear(i * FRAME, FRAME, 5.0 + i * FRAME / RATE + (late or {}).get(i, 0.0))
    playout.end(frames * FRAME)
    return playout


def test_a_steady_stream_is_heard_whole() -> None:
    playout = heard()
    assert (playout.worst, playout.silent, playout.underruns) == (0, 0, 0)


def test_what_is_late_by_less_than_the_lead_is_heard() -> None:
    assert heard({10: LEAD}).silent == 0


@pytest.mark.parametrize(("late", "silent"), [(0.105, 5), (0.119, 19), (0.12, 20), (0.9, 20)])
def test_of_a_late_frame_that_is_lost_whose_turn_was_over(late: float, silent: int) -> None:
    playout = heard({10: late})
    assert (playout.worst, playout.silent, playout.underruns) == (silent, silent, 1)


def test_an_underrun_lasts_until_something_is_heard_again() -> None:
    stall = {
        i: 0.3 - 0.02 * (i - 10) for i in range(10, 25)
    }  # frames 10 to 24 all come 0.3 s after the tenth's time
    playout = heard(stall)
    assert (playout.worst, playout.underruns) == (200, 1), "the lead covers 100 ms of the 300"


def test_missing_and_late_ticks_are_one_underrun_where_they_meet() -> None:
    playout = heard({10: 0.5}, missing=(11, 12))
    assert (playout.worst, playout.silent, playout.underruns) == (60, 60, 1)
    playout = heard({10: 0.5}, missing=(12,))
    assert (playout.worst, playout.silent, playout.underruns) == (20, 40, 2)


def test_a_stream_that_stops_is_silent_to_its_end() -> None:
    playout = heard(frames=10)
    playout.end(1000)
    assert playout.worst == 800


def test_what_comes_twice_counts_once() -> None:
    playout = Playout(RATE)
    for pts in (0, 20, 0, 20, 40):
        playout.hear(pts, FRAME, 5.0 + pts / RATE)
    playout.end(60)
    assert playout.silent == 0


def test_lateness_is_what_a_listener_has_to_hold_back() -> None:
    playout = Playout(RATE)
    assert playout.hear(0, FRAME, 5.0) == 0
    assert playout.hear(20, FRAME, 5.05) == pytest.approx(0.03)
    assert playout.hear(40, FRAME, 5.03) == pytest.approx(-0.01)


def test_a_stream_without_any_sound_is_silent() -> None:
    playout = Playout(RATE)
    playout.end(500)
    assert playout.worst == 500


def test_a_spread_is_of_the_times_that_were_counted() -> None:
    assert Spread.over(Counter()) is None
    assert Spread.over(Counter({100: 98, 300: 1, 5000: 1})) == Spread(10.0, 30.0, 500.0)


def test_a_report_counts_every_stream_once() -> None:
    takes = [
        Take(seconds=10, silent=1.0, worst=0.1, underruns=3, dropped=0.5, delay=Counter({500: 9})),
        Take(seconds=10, worst=0.11, underruns=1, delay=Counter({700: 1}), lost=2, resumed=2),
        Take("failed", "Unreachable: gone", seconds=10, worst=6.0),
        Take("refused", "AtCapacity", retry_after=5.0),
        Take("refused", "AtCapacity", retry_after=2.0),
    ]
    found = report([Take.of(json.loads(json.dumps(vars(take)))) for take in takes])
    assert (found.sessions, found.opened, found.refused, found.failed) == (5, 3, 2, 1)
    assert found.continuity == pytest.approx(1 / 3), "of those opened, one had no underrun above 100 ms"
    assert (found.worst, found.underruns, found.dropped, found.lost, found.resumed) == (6.0, 4, 0.5, 2, 2)
    assert found.silent == pytest.approx(1 / 30)
    assert found.delay == Spread(50.0, 70.0, 70.0)
    assert found.retry_after == (2.0, 5.0)
    assert found.errors == {"AtCapacity": 2, "Unreachable: gone": 1}


def test_where_everybody_is_refused_nothing_is_continuous() -> None:
    assert report([Take("refused", "AtCapacity", retry_after=5.0)]).continuity == 0
