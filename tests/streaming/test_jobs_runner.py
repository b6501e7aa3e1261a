"""The runner: one line at a time or several, whole outputs, and what happens when something in it gives way."""

import asyncio
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from riverrun.streaming.errors import StreamError
from riverrun.streaming.jobs.lines import Line
from riverrun.streaming.jobs.runner import Halt, Place, Runner, recover
from riverrun.streaming.jobs.states import State
from riverrun.streaming.jobs.store import Row, Store
from riverrun.streaming.jobs.tasks import Made

pytestmark = pytest.mark.anyio
MADE = Made(1.0, "model", None, {}, {})


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A store with a job of four lines."""
    store = Store(tmp_path / "jobs.sqlite")
    store.open()
    store.add("job", [Line(i + 1, f"l{i}", "speak", f"deep/{i}.wav", {"text": "?"}) for i in range(4)], 0)
    yield store
    store.close()


def states(store: Store) -> str:
    return " ".join(row.state for row in store.lines("job"))


def runner(store: Store, do: Any, at_once: int = 1, **options: Any) -> Runner:
    return Runner(store, lambda row: Place(None, store.path.parent / "out"), do, at_once, **options)


async def make(row: Row, file: BinaryIO | None, out: BinaryIO) -> Made:
    """Writes half, lets others work, and writes the rest."""
    out.write(row.line.id.encode())
    await asyncio.sleep(0)
    out.write(b"!" * 100_000)
    return MADE


def outputs(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted((folder / "out").rglob("*")) if path.is_file()}


WHOLE = {f"{i}.wav": 100_002 for i in range(4)}


async def test_every_line_is_made_and_told(store: Store, tmp_path: Path) -> None:
    told: list[Row] = []
    await runner(store, make, 2, told=told.append).run()
    assert states(store) == "done done done done" and outputs(tmp_path) == WHOLE
    assert sorted(row.line.id for row in told) == ["l0", "l1", "l2", "l3"]
    assert all(row.made and row.made["output"]["bytes"] == 100_002 for row in told)


async def test_no_more_than_so_many_are_made_at_once(store: Store) -> None:
    now = most = 0

    async def do(row: Row, file: BinaryIO | None, out: BinaryIO) -> Made:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        return MADE

    await runner(store, do, 3).run()
    assert most == 3 and states(store) == "done done done done"


async def test_a_bug_fails_its_line_alone_and_is_in_the_log(store: Store, caplog: Any) -> None:
    async def do(row: Row, file: BinaryIO | None, out: BinaryIO) -> Made:
        if row.line.id == "l1":
            raise ZeroDivisionError("secret")
        return await make(row, file, out)

    await runner(store, do).run()
    assert states(store) == "done failed done done" and "secret" in caplog.text
    failed = store.line("job", "l1")
    assert failed and failed.error == "something failed; the log tells what"


async def test_what_every_line_needs_stops_the_run_and_fails_none(store: Store, tmp_path: Path) -> None:
    async def do(row: Row, file: BinaryIO | None, out: BinaryIO) -> Made:
        if row.line.id == "l2":
            raise Halt("the server is gone")
        return await make(row, file, out)

    with pytest.raises(Halt):
        await runner(store, do, 2).run()
    assert states(store).startswith("done done") and "running" not in states(store)
    assert not [name for name in outputs(tmp_path) if name.startswith(".")]
    await runner(store, make).run()
    assert states(store) == "done done done done" and outputs(tmp_path) == WHOLE


@pytest.mark.parametrize("call", ["take", "done"])
async def test_a_store_that_fails_ends_the_run_and_loses_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real, calls = getattr(store, call), 0

    def full(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StreamError("jobs.sqlite cannot be used: database or disk is full")
        return real(*arguments)

    monkeypatch.setattr(store, call, full)
    with pytest.raises(StreamError, match="disk is full"):
        await runner(store, make).run()
    monkeypatch.undo()
    assert states(store) == "done done queued queued"
    await runner(store, make).run()
    assert states(store) == "done done done done" and outputs(tmp_path) == WHOLE


async def test_what_a_crash_has_left_is_removed_and_made_again(store: Store, tmp_path: Path) -> None:
    row = store.take(1)
    assert row
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / ".0.wav.part").write_bytes(b"half")
    recover(store, lambda row: Place(None, tmp_path / "out"), 2)
    assert outputs(tmp_path) == {} and states(store) == "queued queued queued queued"
    await runner(store, make).run()
    assert outputs(tmp_path) == WHOLE


async def test_a_runner_that_waits_takes_what_comes(store: Store) -> None:
    waiting = runner(store, make, 2)
    work = asyncio.create_task(waiting.run(forever=True))
    while states(store) != "done done done done":
        await waiting.wait(waiting.version)
    store.add("next", [Line(1, "x", "speak", "x.wav", {"text": "?"})], 0)
    await waiting.changes()
    while not (row := store.line("next", "x")) or row.state is not State.done:
        await waiting.wait(waiting.version)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
