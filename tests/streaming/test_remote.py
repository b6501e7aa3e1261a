"""The engine in a process of its own: the same handle, the same sound; what kills it hurts nobody else."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from riverrun.media import Chunk, join
from riverrun.models import InvalidRequest, registry
from riverrun.models.contract import Port, Spec
from riverrun.speaker import found
from riverrun.streaming import pipe
from riverrun.streaming.engine import Engine
from riverrun.streaming.errors import AtCapacity, ProtocolError, SessionEnded, Stuck, TooSlow
from riverrun.streaming.handle import Handle
from riverrun.streaming.remote import Remote
from riverrun.streaming.session import Live
from tests.streaming.test_engine import everything
from tests.streaming.test_session import Audio, pieces, sound

pytestmark = pytest.mark.anyio
MODEL = "restore-lite"


@asynccontextmanager
async def remote(**settings: object) -> AsyncIterator[Remote]:
    engine = await Remote.start([MODEL], **settings)  # type: ignore[arg-type]
    try:
        yield engine
    finally:
        await engine.shut()


async def restored(engine: Handle, data: Audio, sizes: list[int], strength: float = 1.0) -> Audio:
    session = await engine.open(MODEL, {"strength": strength}, 16_000, data.shape[1])

    async def feed() -> None:
        for chunk in pieces(data, sizes, 16_000):
            await engine.feed(session, chunk)
        await engine.finish(session)

    out, _ = await asyncio.gather(everything(engine, session), feed())
    await engine.close(session)
    return join(out).data


async def test_the_handle_is_the_same_across_the_pipe() -> None:
    """One worker for all of it, since a process takes its time to start."""
    data = sound(40_000, 2)
    async with remote(capacity=4) as engine:
        assert (await engine.check(MODEL, {})).takes == Port("audio", 16_000, 256)
        await engine.warm(MODEL)
        with Engine() as here:
            from riverrun.models import load

            here.add(MODEL, load(MODEL))
            alone = await restored(here, data[:20_000], [700], 0.5)
        got = await asyncio.gather(*(restored(engine, data[:20_000], [size], 0.5) for size in (333, 5_000)))
        for one in got:
            assert np.abs(one - alone).max() < 1e-5

        session = await engine.open(MODEL, {}, 16_000, 1)
        assert engine.latency(session) == pytest.approx(0.032) and engine.given_up(session) == ()
        for refused, error, why in [
            (engine.open("other", {}), InvalidRequest, "expected one of restore-lite"),
            (engine.open(MODEL, {"strength": 9.0}), InvalidRequest, "strength is 9.0"),
            (engine.open(MODEL, {"loudness": 9}), InvalidRequest, "has no loudness"),
            (engine.open(MODEL, {}, 16_000, 99), ProtocolError, "99 channels"),
            (engine.update(session, {"strength": 2.0}), InvalidRequest, "strength is 2.0"),
            (engine.feed("nobody", Chunk(data[:8, :1], 0, 16_000)), SessionEnded, "not open"),
        ]:
            with pytest.raises(error, match=why):
                await refused
        live = await engine.open(MODEL, {}, 16_000, 1, Live())
        with pytest.raises(TooSlow, match="ticks wait"):
            for i in range(100):
                await engine.feed(live, Chunk(data[:4_799, :1], i * 4_799, 16_000))
        more = [await engine.open(MODEL, {}) for _ in range(2)]
        with pytest.raises(AtCapacity, match="4 sessions"):
            await engine.open(MODEL, {})
        figures = await engine.figures()
        assert [lane["name"] for lane in figures["lanes"]] == ["live", "rest"] and figures["process"]
        for name in (session, live, *more):
            await engine.close(name)
        assert sum(sum(lane["sessions"].values()) for lane in (await engine.figures())["lanes"]) == 0


async def test_what_is_not_read_is_not_made_without_bound() -> None:
    data = sound(160_000)
    async with remote() as engine:
        session = await engine.open(MODEL, {}, 16_000, 1)
        feeding = asyncio.create_task(engine.feed(session, Chunk(data, 0, 16_000, last=True)))
        await asyncio.sleep(1)
        far = engine.sessions[session]
        assert sum(map(len, far.outboxes[0])) <= 2 * far.limit and not feeding.done()
        assert len(join(await everything(engine, session))) == len(data)
        await feeding


async def test_a_killed_worker_ends_its_sessions_and_a_saved_one_goes_on_elsewhere() -> None:
    data = sound(30_000)
    async with remote() as first, remote() as second:
        session = await first.open(MODEL, {}, 16_000, 1)
        await first.feed(session, Chunk(data[:10_000], 0, 16_000))
        begun = await first.poll(session)
        saved = await first.save(session)
        waiting = asyncio.create_task(everything(first, await first.open(MODEL, {}, 16_000, 1)))
        os.kill(first.process.pid, signal.SIGKILL)
        with pytest.raises(SessionEnded, match="the engine has stopped"):
            await waiting
        assert not first.alive
        with pytest.raises(SessionEnded, match="the engine has stopped"):
            while True:  # what had come is not lost
                begun += await first.poll(session)
        with pytest.raises(SessionEnded, match="the engine has stopped"):
            await first.open(MODEL, {})
        again = await second.open(MODEL, {}, 16_000, 1, saved=saved)
        known = second.polled(again)
        await second.feed(again, Chunk(data[10_000:], 10_000, 16_000, last=True))
        rest = join(await everything(second, again))
        got = np.concatenate([join(begun).data[:known], rest.data])
        assert np.abs(got - await restored(second, data, [16_000])).max() < 1e-5


async def test_a_saved_session_goes_on_though_each_piece_that_follows_is_small() -> None:
    data = sound(60_000)
    async with remote() as engine:
        session = await engine.open(MODEL, {}, 16_000, 1)
        for chunk in pieces(data[:40_000], [8_000], 16_000):
            await engine.feed(session, chunk)
            while engine.polled(session) < chunk.end - 1_000:
                await engine.poll(session)
        saved = await engine.save(session)
        await engine.close(session)
        again = await engine.open(MODEL, {}, 16_000, 1, saved=saved)
        for chunk in pieces(data[40_000:], [512], 16_000, 40_000):
            await engine.feed(again, chunk)
            async with asyncio.timeout(10):
                while engine.polled(again) < chunk.end - 1_000:
                    await engine.poll(again)


async def test_a_step_that_does_not_end_ends_its_session_for_good() -> None:
    async with remote(stuck=1e-6) as engine:
        session = await engine.open(MODEL, {}, 16_000, 1)
        other = await engine.open(MODEL, {}, 16_000, 1)
        with pytest.raises(Stuck, match="step took more than"):
            for i in range(100):
                await engine.feed(session, Chunk(sound(16_000), i * 16_000, 16_000))
                await engine.poll(session)
        with pytest.raises(SessionEnded) as ended:
            await engine.poll(other)
        assert not isinstance(ended.value, Stuck), "who was not in the step may go on elsewhere"


async def test_a_worker_that_does_not_answer_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riverrun.streaming.remote.SILENCE", 0.2)
    async with remote(stuck=0.2) as engine:
        session = await engine.open(MODEL, {}, 16_000, 1)
        os.kill(engine.process.pid, signal.SIGSTOP)
        with pytest.raises(SessionEnded, match="the engine has stopped"):
            await engine.poll(session)
        assert await engine.process.wait() == -signal.SIGKILL


@pytest.mark.skipif(
    not registry.MODELS["convert-lite"].path.exists(), reason="no weights of convert-lite here"
)
async def test_a_recording_of_two_people_is_told_across_the_pipe_and_one_of_one_is_not() -> None:
    two = Path(str(files("riverrun.assets") / "sample-clean.flac"))
    one = Path(__file__).parents[1] / "webui" / "am_onyx.opus"
    engine = await Remote.start(["convert-lite"])
    try:
        spec = await engine.check("convert-lite", {})
        assert spec.discerns and spec.takes
        for path, told in ((two, True), (one, False)):
            heard = found(str(path), (), int(spec.takes.rate)).sound
            assert heard is not None and await engine.several("convert-lite", heard) is told
        with pytest.raises(InvalidRequest, match="recording is silent"):
            await engine.several("convert-lite", np.zeros(48_000, np.float32))
    finally:
        await engine.shut()


def test_what_crosses_the_pipe_comes_out_as_it_went_in() -> None:
    ports = Port("video", Fraction(24_000, 1001), 17), Port("audio", 24_000, 480, 2)
    spec = Spec(None, ports, 5, 3, discerns=True)
    assert pipe.unspec(pipe.spec(spec)) == spec
    made = [Chunk(sound(7, 2), -3, 48_000), Chunk(np.zeros((2, 4, 5, 3), np.uint8), 9, Fraction(25, 2), True)]
    back = pipe.unchunk(*pipe.chunks(made))
    for before, after in zip(made, back, strict=True):
        assert np.array_equal(before.data, after.data) and before.data.dtype == after.data.dtype
        assert (before.pts, before.rate, before.last) == (after.pts, after.rate, after.last)
    full = pipe.unerror(pipe.error(AtCapacity("full", 7)))
    assert isinstance(full, AtCapacity) and full.retry_after == 7
    assert "ZeroDivisionError" in str(pipe.unerror(pipe.error(ZeroDivisionError("secret"))))
    assert "secret" not in str(pipe.unerror(pipe.error(ZeroDivisionError("secret"))))
