"""The scheduler under a virtual clock: deadlines, shares, fences, costs, admission, the ladder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from riverrun.streaming.scheduler import (
    SHARE,
    Costs,
    Fence,
    Ladder,
    Load,
    Piece,
    Queue,
    demand,
    feasible,
    gather,
)

LIVE, INTERACTIVE, BATCH = Fence


def piece(name: str, due: float = 0, fence: Fence = LIVE, kind: str = "k", **values: float) -> Piece:
    return Piece(name, kind, fence, due, **values)  # type: ignore[arg-type]


def queue(*pieces: Piece, now: float = 0, **costs: float) -> Queue:
    table = Costs()
    for kind, seconds in costs.items():
        table.learn(kind, 1, seconds)
    made = Queue(table)
    for one in pieces:
        made.push(one, now)
    return made


def names(pieces: Sequence[Piece]) -> str:
    return "".join(one.session for one in pieces)


def test_the_first_due_goes_first_and_takes_its_kind_along() -> None:
    made = queue(piece("a", 3), piece("b", 2, kind="o"), piece("c", 4), piece("d", 1, kind="o"))
    assert [names(made.pop(0)) for _ in range(3)] == ["db", "ac", ""]


def test_no_class_waits_for_a_lower_one_nor_takes_it_along() -> None:
    made = queue(piece("b", 0, BATCH), piece("i", 5, INTERACTIVE), piece("l", 9), piece("m", 10))
    assert [names(made.pop(0)) for _ in range(3)] == ["lm", "i", "b"]


def test_a_step_has_no_more_rows_than_the_model_takes() -> None:
    made = queue(*(piece(name, i, rows=2, most=5) for i, name in enumerate("abc")))
    assert [names(made.pop(0)) for _ in range(2)] == ["ab", "c"]


def test_a_step_is_no_longer_than_others_can_wait() -> None:
    made = queue(*(piece(name, i) for i, name in enumerate("abcde")), k=0.01)
    made.longest = 0.025
    assert [names(made.pop(0)) for _ in range(3)] == ["ab", "cd", "e"]
    made.push(piece("f"), 0)
    made.longest = 0.001
    assert names(made.pop(0)) == "f", "one alone is never held back"


def test_of_equal_deadlines_who_came_first_goes_first() -> None:
    made = queue(piece("a", most=1), piece("b", most=1))
    assert names(made.pop(0)) == "a"
    made.push(piece("a", most=1), 0)
    assert names(made.pop(0)) == "b"


def test_of_those_that_are_late_the_one_goes_first_that_has_waited_longest() -> None:
    """Else one whose input comes too fast, or who lies about its time, would go before all others for good."""
    made, turns = queue(piece("honest", 9, most=1), piece("liar", -99, most=1)), ""
    for now in range(20):
        (one,) = made.pop(now)
        turns += one.session[0]
        made.push(piece(one.session, 9 if one.session == "honest" else -99, most=1), now)
    assert turns.startswith("llll") and "hlhlhl" in turns


def test_what_is_not_wanted_yet_is_left_alone_until_it_is() -> None:
    made = queue(piece("a", 9, INTERACTIVE, start=5), piece("b", 7, INTERACTIVE, start=6))
    assert not made.pop(4.9) and made.wakes() == 5
    assert names(made.pop(6)) == "ba" and made.wakes() is None
    made.push(piece("c", 9, INTERACTIVE, start=8), 6)
    made.cancel("c")
    assert not made.pop(9) and made.wakes() is None


@dataclass(frozen=True)
class Task:
    """A live session: a piece of `cost` seconds every `period`, the first at `phase`."""

    cost: float
    period: float
    phase: float

    def release(self, i: int) -> float:
        return self.phase + i * self.period


def simulate(
    tasks: Sequence[Task], batch: Sequence[float], until: float, share: float = SHARE
) -> tuple[float, float]:
    """Run one lane; batch work always waits. Give the worst lateness of live pieces and the time batch got."""
    costs = Costs()
    for name, cost in [
        *((f"l{i}", t.cost) for i, t in enumerate(tasks)),
        *((f"b{i}", c) for i, c in enumerate(batch)),
    ]:
        costs.learn(name, 1, cost)
    made, now, late, given, done = Queue(costs, share), 0.0, -math.inf, 0.0, [0] * len(tasks)
    for i in range(len(batch)):
        made.push(piece(f"b{i}", 0, BATCH, f"b{i}"), 0)
    while now < until:
        for i, task in enumerate(tasks):
            if f"l{i}" not in made and (at := task.release(done[i])) <= now:
                made.push(piece(f"l{i}", at + task.period, LIVE, f"l{i}"), now)
        chosen = made.pop(now)
        if not chosen:
            now = min(task.release(done[i]) for i, task in enumerate(tasks))
            continue
        (one,) = chosen
        cost = costs.step(one.kind, 1)
        now += cost
        made.spent(one.fence, cost)
        if one.fence is LIVE:
            done[int(one.session[1:])] += 1
            late = max(late, now - one.due)
        else:
            given += cost
            made.push(piece(one.session, now, BATCH, one.session), now)
    return late, given


tasks = st.lists(
    st.builds(Task, st.floats(0.0005, 0.02), st.floats(0.004, 0.1), st.floats(0, 0.1)), min_size=1, max_size=8
)
batches = st.lists(st.floats(0.0005, 0.03), max_size=3)


@settings(max_examples=200, deadline=None)
@given(tasks, batches, st.floats(0, 0.4))
def test_what_passes_the_admission_test_meets_every_deadline(
    tasks: list[Task], batch: list[float], share: float
) -> None:
    need = sum(task.cost / task.period for task in tasks)
    longest = max([task.cost for task in tasks] + batch)
    if not feasible(need, longest, min(task.period for task in tasks), share):
        scale = need + longest / min(task.period for task in tasks)
        tasks = [Task(t.cost * (1 - share) / scale, t.period, t.phase) for t in tasks]
        batch = [cost * (1 - share) / scale for cost in batch]
    late, _ = simulate(tasks, batch, 2.0, share)
    assert late <= 1e-6


@settings(max_examples=100, deadline=None)
@given(tasks, st.floats(0.001, 0.03), st.floats(0.05, 0.4))
def test_batch_work_has_its_share_however_much_is_live(tasks: list[Task], cost: float, share: float) -> None:
    crowd = [*tasks, Task(0.02, 0.004, 0)]  # more than there is time for
    _, given = simulate(crowd, [cost], 3.0, share)
    assert given >= share * 3.0 - 2 * max(cost, 0.02)


def test_whoever_waits_longest_is_next_of_batch_work() -> None:
    made, turns = queue(k=0.01), ""
    for i in range(5):
        made.push(piece(f"{i}", i, BATCH, most=1), i)
    for now in range(5, 20):
        (one,) = made.pop(now)
        turns += one.session
        made.push(piece(one.session, now, BATCH, most=1), now)
    assert turns == "01234" * 3


class Counted(float):
    """A deadline that counts how often it is compared."""

    count = 0

    def __lt__(self, other: float) -> bool:
        Counted.count += 1
        return float.__lt__(self, other)

    def __eq__(self, other: object) -> bool:
        Counted.count += 1
        return float.__eq__(self, other)

    __hash__ = float.__hash__


@pytest.mark.parametrize("sessions", [10, 100, 1_000, 10_000])
def test_a_pick_compares_few_pieces(sessions: int) -> None:
    made, picks = queue(), 500
    for i in range(sessions):
        made.push(piece(f"{i}", Counted(i * 7919 % sessions), kind=f"{i % 50}", most=1), 0)
    Counted.count = 0
    for i in range(picks):
        (one,) = made.pop(0)
        made.push(piece(one.session, Counted(sessions + i), kind=str(one.kind), most=1), 0)
    assert Counted.count / picks <= 20 * math.log2(sessions) + 40


class Waiting(RuleBasedStateMachine):
    """The queue against a plain list of what waits."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.now = Queue(Costs(), share=0), 0.0
        self.model: dict[str, tuple[float | None, Piece]] = {}  # with when it is due, once it is wanted

    @rule(
        name=st.sampled_from("abcdefgh"),
        due=st.integers(0, 5),
        fence=st.sampled_from(Fence),
        kind=st.sampled_from("xyz"),
        rows=st.integers(1, 3),
        ahead=st.integers(0, 3),
    )
    def push(self, name: str, due: int, fence: Fence, kind: str, rows: int, ahead: int) -> None:
        one = Piece(name, kind, fence, due, rows, 4, self.now + ahead)
        self.queue.push(one, self.now)
        self.model[name] = (None if ahead else max(self.now, due), one)

    @rule(name=st.sampled_from("abcdefgh"))
    def cancel(self, name: str) -> None:
        self.queue.cancel(name)
        self.model.pop(name, None)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    def want(self) -> None:
        """Those that are late when they are first wanted wait alike."""
        for name, (due, one) in self.model.items():
            if due is None and one.start <= self.now:
                self.model[name] = (max(self.now, one.due), one)

    @precondition(lambda self: self.model)
    @rule()
    def pop(self) -> None:
        chosen = self.queue.pop(self.now)
        self.want()
        wanted = {name: (one.fence, due) for name, (due, one) in self.model.items() if due is not None}
        assert bool(chosen) == bool(wanted)
        for one in chosen:
            assert self.model.pop(one.session)[1] is one, "only what waits, and only once"
        if chosen:
            first = chosen[0]
            assert wanted[first.session] == min(wanted.values())
            assert {(one.fence, one.kind) for one in chosen} == {(first.fence, first.kind)}
            assert sum(one.rows for one in chosen) <= 4

    @invariant()
    def bounded(self) -> None:
        assert len(self.queue) == len(self.model)
        heaps = [*self.queue._fences.values(), *self.queue._kinds.values(), self.queue._later]
        assert sum(map(len, heaps)) <= 3 * (64 + 2 * len(self.model) + 1)


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_a_thousand_cancels_leave_nothing_behind() -> None:
    made = queue()
    for i in range(1_000):
        made.push(piece(f"{i}", i), 0)
        made.cancel(f"{i}")
    assert not made.pop(0) and len(made) == 0
    assert sum(map(len, [*made._fences.values(), *made._kinds.values()])) < 200


def test_where_time_is_short_live_pieces_wait_for_one_another_but_never_too_long() -> None:
    one = piece("a", due=1.1)
    assert gather(one, 0.016, 0.3, 1.0) is one, "there is time for each alone"
    assert gather(piece("b", due=1.1, fence=BATCH), 0.016, 0.9, 1.0).start == -math.inf
    starts = [gather(one, 0.016, 0.9, now).start for now in (1.009, 1.012, 1.02)]
    assert starts == pytest.approx([1.024] * 3), "whatever comes within a period goes together"
    assert gather(piece("a", due=1.05), 0.016, 0.9, 1.02).start == -math.inf, "what is due soon goes at once"


def test_costs_are_read_between_and_beyond_what_was_measured() -> None:
    costs = Costs()
    assert costs.step("k", 3) == 0
    costs.learn("k", 2, 0.002)
    assert costs.step("k", 1) == 0.002 and costs.step("k", 4) == 0.004
    costs.learn("k", 4, 0.003)
    assert costs.step("k", 3) == pytest.approx(0.0025)
    costs.learn("k", 4, 0.007)
    assert costs.step("k", 4) == pytest.approx(0.004)


def test_demand_counts_sessions_that_step_together_as_steps() -> None:
    costs = Costs()
    for rows, seconds in ((1, 0.002), (4, 0.004)):
        costs.learn("k", rows, seconds)
    assert demand({"k": Load(9, 0.016, 4)}, costs) == pytest.approx((2 * 0.004 + 0.002) / 0.016)
    assert demand({}, costs) == 0


def run(ladder: Ladder, late: bool, start: float, seconds: float) -> tuple[list[int], float]:
    """Chunks of 20 ms, all late or none; give the rungs gone to, and the time after."""
    steps = [ladder.note(late, start + i * 0.02) for i in range(round(seconds / 0.02))]
    return [rung for rung in steps if rung is not None], start + seconds


def test_a_late_session_goes_down_and_up_again_and_then_is_slower_to() -> None:
    ladder = Ladder(2)
    rungs, now = run(ladder, True, 0, 10)
    assert rungs == [1, 2]
    rungs, now = run(ladder, False, now, 9)
    assert rungs == []
    rungs, now = run(ladder, False, now, 6)
    assert rungs == [1]
    rungs, now = run(ladder, True, now, 3)
    assert rungs == [2]
    rungs, now = run(ladder, False, now, 17)
    assert rungs == [], "what failed once is tried later the next time"
    rungs, now = run(ladder, False, now, 30)
    assert rungs == [1, 0]


def test_a_few_late_chunks_change_nothing() -> None:
    ladder = Ladder(1)
    assert not [rung for i in range(1_000) if (rung := ladder.note(i % 20 == 0, i * 0.02)) is not None]
