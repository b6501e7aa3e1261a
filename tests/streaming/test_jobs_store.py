"""The store of jobs: whatever ends the process, what is done stays done, nothing is lost, nothing runs twice."""

import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from riverrun.streaming.errors import StreamError
from riverrun.streaming.jobs.lines import Line
from riverrun.streaming.jobs.states import TRIES, Counts, Known, State, compare
from riverrun.streaming.jobs.store import Row, Store
from riverrun.streaming.problems import Conflict, Reused


def lines(count: int) -> list[Line]:
    return [Line(i + 1, f"l{i}", "restore", f"{i}.wav", {"input": "in.wav"}) for i in range(count)]


def opened(folder: Path) -> Store:
    store = Store(folder / "jobs.sqlite")
    store.open()
    return store


@settings(max_examples=40, stateful_step_count=30)
class Life(RuleBasedStateMachine):
    """Jobs come, lines are taken and end, jobs are cancelled, and the process is killed at any point."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store, self.now, self.jobs = opened(self.folder), 0.0, 0
        self.held: list[Row] = []  # taken, and not ended
        self.states: dict[tuple[str, str], State] = {}
        self.ghosts: list[Row] = []  # taken by a process, or a task, that is no more

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def key(self, row: Row) -> tuple[str, str]:
        return row.job, row.line.id

    @rule(count=st.integers(1, 4))
    def post(self, count: int) -> None:
        job, self.jobs = f"job{self.jobs}", self.jobs + 1
        self.store.add(job, lines(count), self.now)
        self.states.update({(job, line.id): State.queued for line in lines(count)})

    @rule()
    def take(self) -> None:
        self.now += 1
        row = self.store.take(self.now)
        queued = [key for key, state in self.states.items() if state is State.queued]
        if row is None:
            assert not queued
            return
        assert self.key(row) in queued and row.state is State.running
        assert int(row.job.removeprefix("job")) == min(int(job.removeprefix("job")) for job, _ in queued)
        self.states[self.key(row)] = State.running
        self.held.append(row)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), well=st.booleans())
    def end(self, data: st.DataObject, well: bool) -> None:
        row = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        taken = (
            self.store.done(row, self.now, {"seconds": 1.0})
            if well
            else self.store.fail(row, self.now, "?", True)
        )
        assert taken
        self.states[self.key(row)] = State.done if well else State.failed

    @precondition(lambda self: self.ghosts)
    @rule(data=st.data())
    def end_too_late(self, data: st.DataObject) -> None:
        row = self.ghosts.pop(data.draw(st.integers(0, len(self.ghosts) - 1)))
        current = self.store.line(*self.key(row))
        if current and (current.started != row.started or current.state is not State.running):
            assert not self.store.done(row, self.now, {})

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = f"job{data.draw(st.integers(0, self.jobs))}"
        self.store.cancel(job, self.now)
        for key, state in self.states.items():
            if key[0] == job and state in (State.queued, State.running):
                self.states[key] = State.cancelled
        self.ghosts += [row for row in self.held if row.job == job]
        self.held = [row for row in self.held if row.job != job]

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job = f"job{data.draw(st.integers(0, self.jobs))}"
        again = [k for k, s in self.states.items() if k[0] == job and s in (State.failed, State.cancelled)]
        assert self.store.retry(job) == len(again)
        self.states.update(dict.fromkeys(again, State.queued))

    @rule(inside=st.booleans())
    def kill(self, inside: bool) -> None:
        if inside:  # in the middle of a transaction
            torn = sqlite3.connect(self.store.path, isolation_level=None)
            torn.execute("BEGIN IMMEDIATE")
            torn.execute("DELETE FROM lines")
            torn.close()
        self.store.close()
        self.store = opened(self.folder)
        back = {self.key(row): row for row in self.store.recover(self.now)}
        assert set(back) == {key for key, state in self.states.items() if state is State.running}
        for key, row in back.items():
            self.states[key] = State.failed if row.attempts >= TRIES else State.queued
        self.held = []

    @rule()
    def stop(self) -> None:
        self.store.release()
        self.states = {k: State.queued if s is State.running else s for k, s in self.states.items()}
        self.held = []

    @invariant()
    def what_is_stored_is_what_happened(self) -> None:
        rows = [row for job in self.store.jobs(limit=-1) for row in self.store.lines(job.id)]
        assert {self.key(row): row.state for row in rows} == self.states
        assert all((row.made is not None) == (row.state is State.done) for row in rows)


TestLife = Life.TestCase


def test_a_job_is_what_its_lines_are() -> None:
    assert Counts(queued=3).state is State.queued
    assert Counts(queued=1, running=1).state is Counts(queued=1, done=1).state is State.running
    assert Counts(done=2).state is State.done
    assert Counts(done=2, cancelled=1).state is State.cancelled
    assert Counts(done=2, cancelled=1, failed=1).state is State.failed


def test_another_look_finds_what_is_new_changed_gone_and_worth_another_try() -> None:
    known = {
        "same": Known("a", State.done),
        "changed": Known("a", State.done),
        "lost": Known("a", State.done),
        "gone": Known("a", State.queued),
        "failed": Known("a", State.failed),
        "full": Known("a", State.failed, again=True),
        "cancelled": Known("a", State.cancelled),
    }
    wanted = {name: "a" for name in known if name != "gone"} | {"changed": "b", "new": "a"}
    found = compare(known, wanted, lost={"lost"})
    assert (found.new, found.changed, found.gone) == (["new"], ["changed", "lost"], ["gone"])
    assert (found.again, found.kept) == (["full", "cancelled"], ["same", "failed"])
    assert compare(known, wanted, retry=True).again == ["failed", "full", "cancelled"]
    assert str(found) == "1 new, 2 changed, 2 tried again, 2 as before, 1 no longer there"


def test_a_key_stands_for_one_job_of_one_owner(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.add("first", lines(1), 0, "anna", "key", "body") == "first"
    assert store.add("second", lines(1), 0, "anna", "key", "body") == "first"
    assert store.add("third", lines(1), 0, "bert", "key", "other") == "third"
    with pytest.raises(Reused, match="'key' was used for another job, first"):
        store.add("fourth", lines(1), 0, "anna", "key", "other")
    assert [job.id for job in store.jobs()] == ["third", "first"]
    assert store.job("first", "bert") is None and store.job("first", "anna")
    store.close()


def test_jobs_tell_how_many_are_before_them(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for name in "abc":
        store.add(name, lines(1), 0)
    assert [store.job(name).position for name in "abc"] == [0, 1, 2]  # type: ignore[union-attr]
    row = store.take(1)
    assert row and store.done(row, 2, {})
    assert [store.job(name).position for name in "abc"] == [0, 0, 1]  # type: ignore[union-attr]
    assert store.old(3) == ["a"] and store.old(2) == []
    store.remove("a")
    assert store.job("a") is None and store.lines("a") == []
    store.close()


def test_one_process_at_a_time_has_a_store(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(Conflict, match="another riverrun is at work on"):
        opened(tmp_path)
    store.close()
    opened(tmp_path).close()


@pytest.mark.parametrize("content", [b"this is no database at all" * 99, b"\x00" * 5000])
def test_what_is_no_store_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(content)
    with pytest.raises(StreamError, match=r"jobs\.sqlite cannot be opened"):
        opened(tmp_path)
    assert (tmp_path / "jobs.sqlite").read_bytes() == content


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    db = sqlite3.connect(tmp_path / "jobs.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StreamError, match="is of form 99, expected 1"):
        opened(tmp_path)


def test_a_line_that_ends_the_process_again_and_again_fails_and_lets_the_next_one_come(
    tmp_path: Path,
) -> None:
    for _ in range(TRIES):
        store = opened(tmp_path)
        store.recover(1)
        if not store.jobs():
            store.add("job", lines(2), 0)
        row = store.take(1)
        assert row and row.line.id == "l0"
        store.close()
    store = opened(tmp_path)
    store.recover(2)
    row = store.take(3)
    assert row and row.line.id == "l1"
    failed = store.line("job", "l0")
    assert failed and failed.state is State.failed and "the process ended 5 times" in str(failed.error)
    store.close()
