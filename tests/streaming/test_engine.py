"""The engine: many sessions in one step, each as if alone; what fails, fails alone."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from riverrun.media import Chunk, join
from riverrun.models import InvalidRequest
from riverrun.models.contract import Outputs
from riverrun.models.state import State
from riverrun.streaming import saving
from riverrun.streaming.batch import sit
from riverrun.streaming.engine import Engine, run
from riverrun.streaming.errors import AtCapacity, ProtocolError, SessionEnded, TooSlow
from riverrun.streaming.handle import Handle
from riverrun.streaming.session import Live, Session
from tests.models.toys import Loudness, Smooth, Teller, Text
from tests.streaming.test_session import Audio, pieces, sound


class Gate:
    """Holds a model's steps back until it is opened, so that sessions meet."""

    def __init__(self) -> None:
        self.open = threading.Event()


class Gated(Smooth):
    """A Smooth whose first step waits for a gate, and which breaks on what it is told to."""

    def __init__(self, gate: Gate | None = None) -> None:
        super().__init__()
        self.gate, self.closed = gate, 0

    def close(self, state: State) -> None:
        self.closed += 1

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        if self.gate:
            assert self.gate.open.wait(20)
        if any(chunk is not None and (chunk.data > 5).any() for chunk in inputs):
            raise RuntimeError("too loud")
        return super().step(inputs, state)


@pytest.fixture
def engine() -> Iterator[Engine]:
    threads = torch.get_num_threads()
    with Engine() as engine:
        engine.add("smooth", Smooth())
        engine.add("teller", Teller())
        yield engine
    torch.set_num_threads(threads)


@pytest.mark.anyio
async def test_a_session_is_saved_whole_while_it_is_polled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze = saving._freeze

    def slow(value: object, arrays: dict[str, Audio]) -> object:
        if isinstance(value, Chunk):
            time.sleep(0.002)  # in which the other thread goes on
        return freeze(value, arrays)

    monkeypatch.setattr(saving, "_freeze", slow)
    name, saved = await engine.open("smooth", Loudness(), 16_000), []

    async def save() -> None:
        while True:
            saved.append(await engine.save(name))

    tasks = [
        asyncio.create_task(engine.feed(name, Chunk(sound(16_000), 0, 16_000))),
        asyncio.create_task(save()),
    ]
    polled = 0
    while polled < 15_000:
        polled += sum(map(len, await engine.poll(name)))
    tasks[1].cancel()
    _, ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError) and saved
    for data in saved:
        session = sit("again", Smooth(), Loudness(), Session(Smooth().spec, 16_000), data).session
        assert sum(map(len, session.outboxes[0])) == session.given - session.polled


async def everything(engine: Handle, session: str) -> list[Chunk]:
    out: list[Chunk] = []
    while chunks := await engine.poll(session):
        out += chunks
    return out


async def restored(
    engine: Engine, data: Audio, gain: float, sizes: list[int], model: str = "smooth"
) -> Audio:
    """A whole stream through the engine."""
    session = await engine.open(model, Loudness(gain), 16_000, data.shape[1])

    async def feed() -> None:
        for chunk in pieces(data, sizes, 16_000):
            await engine.feed(session, chunk)
            await asyncio.sleep(0)
        await engine.finish(session)

    out, _ = await asyncio.gather(everything(engine, session), feed())
    await engine.close(session)
    return join(out).data


def test_many_sessions_batch_and_each_is_as_if_alone() -> None:
    gate = Gate()
    model, sounds = Gated(gate), [sound(2_000 + 100 * i, 1 + i % 2, seed=i) for i in range(9)]

    async def main(engine: Engine) -> list[Audio]:
        sessions = [
            await engine.open("gated", Loudness(1 + i / 9), 16_000, x.shape[1]) for i, x in enumerate(sounds)
        ]
        for i, (session, x) in enumerate(zip(sessions, sounds, strict=True)):
            for chunk in pieces(x, [50 + 30 * i], 16_000):
                await engine.feed(session, chunk)
            await engine.finish(session)
        gate.open.set()
        results = [join(await everything(engine, session)).data for session in sessions]
        for session in sessions:
            await engine.close(session)
        return results

    with Engine() as engine:
        engine.add("gated", model)
        results = asyncio.run(main(engine))
    for i, (x, got) in enumerate(zip(sounds, results, strict=True)):
        for c in range(x.shape[1]):
            wanted = model.whole(x[:, c : c + 1], Loudness(1 + i / 9))[:, 0]
            assert got.shape == x.shape and np.abs(got[:, c] - wanted).max() < 1e-5
    assert max(model.batches) == 13 and model.closed == len(sounds) and not engine.seats


def test_generators_batch_and_take_text_in_pieces(engine: Engine) -> None:
    async def speak(*texts: Text) -> Audio:
        session = await engine.open("teller", texts[0])
        for text in texts[1:]:
            await engine.update(session, text)
            await asyncio.sleep(0.001)
        out = join(await everything(engine, session)).data
        await engine.close(session)
        return out

    async def main() -> list[Audio]:
        whole = [speak(Text("some words to say", seed=i)) for i in range(4)]
        parts = [
            speak(Text("some w", False, i), Text("ords to", False), Text(" say", False), Text(""))
            for i in range(4)
        ]
        return await asyncio.gather(*whole, *parts)

    results = asyncio.run(main())
    for i in range(4):
        assert np.abs(results[i] - results[4 + i]).max() < 1e-5 and len(results[i]) == 4 * 240


@pytest.mark.parametrize("bad", [np.float32("nan"), np.float32(9)])
def test_what_fails_ends_alone_with_an_id_in_the_log(
    bad: np.float32, caplog: pytest.LogCaptureFixture
) -> None:
    model, data = Gated(), sound(800)

    async def main(engine: Engine) -> tuple[str, Audio]:
        broken = await engine.open("gated", Loudness())
        steady = asyncio.create_task(restored(engine, data, 1, [80], "gated"))
        await engine.feed(broken, Chunk(np.full((64, 1), bad), 0, 16_000))
        with pytest.raises(SessionEnded, match=broken):
            await everything(engine, broken)
        with pytest.raises(SessionEnded):
            await engine.feed(broken, Chunk(data, 64, 16_000))
        await engine.close(broken)
        return broken, await steady

    with Engine() as engine, caplog.at_level(logging.ERROR):
        engine.add("gated", model)
        broken, got = asyncio.run(main(engine))
    assert np.abs(got - model.whole(data, Loudness())).max() < 1e-5
    (record,) = caplog.records
    assert broken in record.getMessage() and record.exc_info and model.closed == 2


def test_a_saved_session_goes_on_bit_for_bit(engine: Engine) -> None:
    data = sound(6_000, 2)

    async def main() -> tuple[Audio, Audio]:
        first = await engine.open("smooth", Loudness(2), 48_000, 2)
        for chunk in pieces(data[:2_500], [700], 48_000):
            await engine.feed(first, chunk)
        begun = await engine.poll(first)
        saved = await engine.save(first)
        second = await engine.open("smooth", Loudness(2), 48_000, 2, saved=saved)
        results = []
        for session in (first, second):
            await engine.feed(session, Chunk(data[2_500:], 2_500, 48_000, last=True))
            results.append(join([*begun, *await everything(engine, session)]).data)
        return results[0], results[1]

    first, second = asyncio.run(main())
    assert len(first) == 6_000 and np.array_equal(first, second)


def test_an_update_acts_or_is_refused_and_changes_nothing(engine: Engine) -> None:
    data = sound(640)

    async def main() -> Audio:
        session = await engine.open("smooth", Loudness())
        with pytest.raises(InvalidRequest, match="gain is 9"):
            await engine.update(session, Loudness(9))
        await engine.feed(session, Chunk(data[:320], 0, 16_000))
        out = await engine.poll(session)
        while sum(map(len, out)) < 300:
            out += await engine.poll(session)
        await engine.update(session, Loudness(2))
        await engine.feed(session, Chunk(data[320:], 320, 16_000, last=True))
        return join([*out, *await everything(engine, session)]).data

    got, alone = asyncio.run(main()), Smooth().whole(data, Loudness())
    assert np.allclose(got[:300], alone[:300], atol=1e-5) and np.allclose(
        got[300:], 2 * alone[300:], atol=1e-5
    )


def test_feeding_waits_for_credit_and_live_feeding_does_not() -> None:
    gate = Gate()

    async def main(engine: Engine) -> None:
        patient = await engine.open("gated", Loudness())
        live = await engine.open("gated", Loudness(), live=Live())
        long = asyncio.create_task(engine.feed(patient, Chunk(sound(40_000), 0, 16_000, last=True)))
        await engine.feed(live, Chunk(sound(4_000), 0, 16_000))
        with pytest.raises(TooSlow, match="of 4800 ticks wait"):
            await engine.feed(live, Chunk(sound(2_000), 4_000, 16_000))
        await asyncio.sleep(0.01)
        assert not long.done()
        gate.open.set()
        assert sum(map(len, await everything(engine, patient))) == 40_000
        await long

    with Engine() as engine:
        engine.add("gated", Gated(gate))
        asyncio.run(main(engine))


def test_closing_frees_and_ends_whoever_waits(engine: Engine) -> None:
    async def main() -> None:
        session = await engine.open("smooth", Loudness())
        waiting = asyncio.create_task(engine.poll(session))
        await asyncio.sleep(0.01)
        await engine.close(session)
        with pytest.raises(SessionEnded, match="closed"):
            await waiting
        with pytest.raises(SessionEnded, match="not open"):
            await engine.poll(session)
        await engine.close(session)

    asyncio.run(main())
    assert not engine.seats and not engine.events


def test_what_cannot_be_opened_is_refused(engine: Engine) -> None:
    async def main() -> None:
        engine.capacity = 1
        for refused, error, why in [
            (engine.open("other", None), InvalidRequest, "expected one of smooth, teller"),
            (engine.open("smooth", Loudness(5)), InvalidRequest, "gain is 5"),
            (engine.open("smooth", Loudness(), 16_000, 17), ProtocolError, "17 channels"),
            (engine.open("smooth", Loudness(), saved=b"nothing"), ProtocolError, "7 bytes"),
        ]:
            with pytest.raises(error, match=why):
                await refused
        session = await engine.open("smooth", Loudness())
        with pytest.raises(AtCapacity, match="1 sessions"):
            await engine.open("smooth", Loudness())
        await engine.close(session)
        assert await engine.open("smooth", Loudness())

    asyncio.run(main())


def test_live_sessions_that_would_not_keep_up_are_refused_at_once_and_batch_is_not(engine: Engine) -> None:
    async def main() -> None:
        await engine.warm("smooth")
        costs = engine.lanes[0].queue.costs
        engine.lanes[0].drag = engine.lanes[0].apart = 1.0
        for rows in (1, 2, 4, 8, 16):
            costs.typical["smooth"][rows] = 0.001 * rows**0.5  # in place of what was measured; a hop has 2 ms
        sessions = [await engine.open("smooth", Loudness(), live=Live()) for _ in range(2)]
        with pytest.raises(AtCapacity, match="85% of the time would be needed") as refused:
            await engine.open("smooth", Loudness(), live=Live())
        assert refused.value.retry_after > 0
        sessions.append(await engine.open("smooth", Loudness()))
        await engine.close(sessions[0])
        sessions.append(await engine.open("smooth", Loudness(), live=Live()))

    asyncio.run(main())


def test_live_rows_that_seldom_step_together_are_known_to_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions whose sound comes at different times: each hop is a step of its own."""

    class Slow(Smooth):
        def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
            time.sleep(0.006)
            return super().step(inputs, state)

    async def main(engine: Engine) -> None:
        engine.add("slow", Slow(hop=320))
        await engine.warm("slow")
        (lane,) = engine.lanes
        lane.apart = 1.0
        names = [await engine.open("slow", Loudness(), live=Live(delay=2.0 + i)) for i in range(2)]
        for i in range(30):
            for name in names:
                await engine.feed(name, Chunk(sound(320), 320 * i, 16_000))
                while engine.polled(name) < 320 * i:
                    await engine.poll(name)
        assert lane.apart > 1.2

    monkeypatch.setattr("riverrun.streaming.lane.BUSY", 0.0)
    with Engine(lanes=1) as engine:
        asyncio.run(main(engine))


def test_what_a_chunk_costs_is_all_its_pieces() -> None:
    class Slow(Teller):
        def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
            time.sleep(0.005)
            return super().step(inputs, state)

    async def main(engine: Engine) -> None:
        engine.add("slow", Slow())
        await everything(engine, await engine.open("slow", Text("one two three")))
        assert engine.lanes[0].queue.costs.step("slow", 1) >= 0.005 * Teller.evaluations

    with Engine() as engine:
        asyncio.run(main(engine))


def test_no_memory_for_a_state_is_no_room() -> None:
    class Hungry(Smooth):
        def open(self, request: Loudness) -> State:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    async def main(engine: Engine) -> None:
        engine.add("hungry", Hungry())
        with pytest.raises(AtCapacity, match="no memory for another session of hungry"):
            await engine.open("hungry", Loudness())
        assert not engine.seats and engine.alive

    with Engine() as engine:
        asyncio.run(main(engine))


def test_a_long_batch_step_holds_up_no_live_session() -> None:
    gate = Gate()

    async def main(engine: Engine) -> None:
        batch = await engine.open("slow", Loudness())
        await engine.feed(batch, Chunk(sound(64), 0, 16_000, last=True))
        live = await engine.open("quick", Loudness(), live=Live())
        await engine.feed(live, Chunk(sound(640), 0, 16_000, last=True))
        assert sum(map(len, await everything(engine, live))) == 640, "while the other is in its step"
        gate.open.set()
        assert sum(map(len, await everything(engine, batch))) == 64

    with Engine() as engine:
        engine.offer("slow", lambda: Gated(gate))
        engine.offer("quick", Smooth)
        asyncio.run(main(engine))


class Reader(Teller):
    """A Teller that first works for long on what it was told, a piece a step, and writes down whose turn it was."""

    def __init__(self, turns: list[str]) -> None:
        super().__init__()
        self.turns = turns

    def open(self, request: Text) -> State:
        return {**super().open(request), "unread": [40]}

    def key(self, state: State) -> Hashable:
        return "reading" if state["unread"][0] else super().key(state)

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        if not state["unread"][0]:
            return super().step(inputs, state)
        self.turns.append("reading")
        time.sleep(0.005)
        state["unread"] = [left - 1 for left in state["unread"]]
        return [(None,)] * len(inputs), state


class Noted(Smooth):
    """A Smooth that writes down when it had its turn."""

    def __init__(self, turns: list[str]) -> None:
        super().__init__()
        self.turns = turns

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        self.turns.append("live")
        return super().step(inputs, state)


async def share_turns(engine: Engine, turns: list[str], work: str) -> None:
    """Have a live session beside forty pieces of work, once these have begun."""
    while not turns:
        await asyncio.sleep(0.001)
    live = await engine.open("noted", Loudness(), live=Live(delay=1.0))
    await engine.feed(live, Chunk(sound(320), 0, 16_000, last=True))
    assert sum(map(len, await everything(engine, live))) == 320
    during = turns[turns.index("live") : len(turns) - turns[::-1].index("live")]
    assert during.count("live") == 11 and turns.count(work) < 40, "it was not over before"
    assert all("live" in pair for pair in pairwise(during)), "never two of its pieces at a stretch"


def test_between_the_pieces_of_a_long_beginning_live_sessions_have_their_turn() -> None:
    turns = list[str]()

    async def main(engine: Engine) -> None:
        told = await engine.open("reader", Text("one two"), live=Live())
        await share_turns(engine, turns, "reading")
        assert engine.lanes[0].queue.costs.longest("reader") >= 0.005, "as admission has to know"
        assert sum(map(len, await everything(engine, told))) == 480

    with Engine(lanes=1) as engine:
        engine.add("reader", Reader(turns))
        engine.add("noted", Noted(turns))
        asyncio.run(main(engine))


class Judge(Smooth):
    """Hears of more than one person in forty pieces."""

    def __init__(self, turns: list[str]) -> None:
        super().__init__()
        self.turns, self.spec = turns, replace(self.spec, discerns=True)

    def several(self, sound: Audio) -> Iterator[bool]:
        assert len(sound) == 320, "whole"
        for piece in range(40):
            self.turns.append("judging")
            time.sleep(0.005)
            yield piece == 39


def test_while_a_recording_is_judged_live_sessions_have_their_turn() -> None:
    turns = list[str]()

    async def main(engine: Engine) -> None:
        judged = asyncio.create_task(engine.several("judge", sound(320)[:, 0]))
        await share_turns(engine, turns, "judging")
        assert await judged and turns.count("judging") == 40

    with Engine(lanes=1) as engine:
        engine.add("judge", Judge(turns))
        engine.add("noted", Noted(turns))
        asyncio.run(main(engine))


def test_of_a_model_that_does_not_discern_nothing_is_said_nor_another_copy_loaded() -> None:
    with Engine() as engine:
        engine.offer("smooth", Smooth)
        asyncio.run(engine.warm("smooth"))
        assert not asyncio.run(engine.several("smooth", sound(320)[:, 0]))
        assert list(asyncio.run(engine.figures())["models"]) == ["smooth/live"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own here")
def test_what_is_not_live_gives_way_to_all_else() -> None:
    with Engine() as two, Engine(lanes=1) as one:
        live, rest, only = (lane.call(niceness).result() for lane in (*two.lanes, *one.lanes))
    assert live == only == niceness(), "what may be live is as urgent as who asks for it"
    assert rest >= max(10, live)


def niceness() -> int:
    """Of the thread that calls."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_models_are_loaded_when_wanted_and_let_go_when_others_need_the_room() -> None:
    class Heavy(Smooth):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.zeros(1_000)
            made.append(self)

    made: list[Heavy] = []

    async def main(engine: Engine) -> None:
        assert not made
        one = await engine.open("a", Loudness())
        two = await engine.open("a", Loudness())
        assert len(made) == 1
        other = await engine.open("b", Loudness())
        assert set(engine.shelf.loaded()) == {"a/rest", "b/rest"}, "what is in use stays, whatever the budget"
        await engine.close(one)
        assert "a/rest" in engine.shelf.loaded()
        await engine.close(two)
        assert set(engine.shelf.loaded()) == {"b/rest"}
        await engine.close(other)
        assert set(engine.shelf.loaded()) == {"b/rest"}, "there is room for one"
        await engine.open("a", Loudness())
        assert set(engine.shelf.loaded()) == {"a/rest"} and len(made) == 3

    with Engine(budget=6_000) as engine:
        engine.offer("a", Heavy)
        engine.offer("b", Heavy)
        asyncio.run(main(engine))


def test_stopping_ends_every_session(engine: Engine) -> None:
    async def main() -> None:
        session = await engine.open("smooth", Loudness())
        waiting = asyncio.create_task(engine.poll(session))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(engine.stop)
        with pytest.raises(SessionEnded, match="stopped"):
            await waiting
        with pytest.raises(SessionEnded, match="stopped"):
            await engine.open("smooth", Loudness())

    asyncio.run(main())


def test_a_session_whose_loop_is_gone_is_closed(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    sessions: list[str] = []

    async def leave() -> None:
        session = await engine.open("smooth", Loudness())
        engine.seats[session].session.feed(Chunk(sound(320), 0, 16_000))
        sessions.append(session)

    async def look() -> None:
        for _ in range(1_000):
            if not engine.seats:
                return
            await asyncio.sleep(0.001)

    asyncio.run(leave())
    engine._nudge(sessions[0])
    asyncio.run(look())
    assert not engine.seats


def test_run_streams_in_this_thread_with_bounded_memory() -> None:
    model, fed = Smooth(), 0

    def source() -> Iterator[Chunk]:
        nonlocal fed
        for chunk in pieces(sound(100_000), [30_000], 16_000, pts=10):
            fed = chunk.end - 10
            yield chunk

    out = []
    for chunk in run(model, Loudness(), source()):
        assert fed - (chunk.end - 10) < 60_000 and not torch.is_inference_mode_enabled()
        out.append(chunk)
    got = join(out)
    assert got.pts == 10 and got.last
    assert np.abs(got.data - model.whole(sound(100_000), Loudness())).max() < 1e-5


def test_run_takes_any_form_and_generators_too() -> None:
    stereo = join(list(run(Smooth(), Loudness(), [Chunk(sound(5_000, 2), 0, 44_100, last=True)])))
    assert stereo.data.shape == (5_000, 2) and stereo.rate == 44_100
    nothing = list(run(Smooth(), Loudness()))
    assert [(len(chunk), chunk.last) for chunk in nothing] == [(0, True)]
    assert len(join(list(run(Teller(), Text("one two"))))) == 480
    with pytest.raises(ProtocolError, match="waits for an update"):
        list(run(Teller(), Text("one two", end=False)))


def test_run_tells_what_failed() -> None:
    with pytest.raises(SessionEnded) as caught:
        list(run(Gated(), Loudness(), [Chunk(np.full((64, 1), 9, np.float32), 0, 16_000)]))
    assert "too loud" in str(caught.value.__cause__)
