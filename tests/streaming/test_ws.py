"""Streams over WebSocket: what comes back, what survives, who is refused, and that nobody else is hurt."""

import asyncio
import gc
import json
import weakref
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from riverrun.media import Chunk
from riverrun.streaming import wire
from riverrun.streaming.access import digest
from riverrun.streaming.engine import run
from riverrun.streaming.hub import Hub
from riverrun.streaming.ws import Connection
from tests.models.toys import Loudness, Smooth
from tests.streaming.calling import murmur
from tests.streaming.serving import RATE, Audio, Peer, call, dial, noise, server

pytestmark = pytest.mark.anyio


def offline(sound: Audio) -> Audio:
    chunks = run(Smooth(), Loudness(), [Chunk(sound, 0, RATE)])
    return np.concatenate([chunk.data for chunk in chunks])


async def test_sound_comes_back_as_offline_and_the_end_is_told() -> None:
    sound = noise(RATE)
    async with server() as (at, hub), call(at) as peer:
        await peer.send(sound)
        ended = await peer.until("ended")
        assert ended["reason"] == "finished"
        assert np.allclose(peer.sound(), offline(sound), atol=1e-6)
        assert [f.seq for f in peer.frames] == list(range(len(peer.frames))) and peer.frames[-1].last
        with pytest.raises(ConnectionClosed):
            await peer.socket.recv()
        assert peer.socket.close_code == 1000
        assert not hub.streams and not hub.engine.sessions


@pytest.mark.parametrize("cut", [0, 1, 17, 49])
async def test_a_cut_connection_resumes_without_losing_or_repeating_a_sample(cut: int) -> None:
    sound = noise(RATE)
    async with server() as (at, hub):
        async with call(at) as first:
            await first.send(sound[: 320 * cut], last=False)
            while cut and not first.frames:
                await first.hear()
            first.socket.transport.abort()
        received = first.frames[-1].seq if first.frames else -1
        async with dial(at) as second:
            await second.say(wire.Resume(first.opened["session"], first.opened["token"], received))
            opened = await second.until("opened")
            assert opened["session"] == first.opened["session"] and opened["epoch"] == 2
            start = opened["input"]
            assert start <= cut, "what had not arrived is sent again"
            second.frames = list(first.frames)
            await second.send(sound[320 * start :], first=start)
            await second.until("ended")
        assert np.allclose(second.sound(), offline(sound), atol=1e-6)
        assert [f.seq for f in second.frames] == list(range(len(second.frames)))


async def test_what_was_on_its_way_when_the_stream_ended_can_still_be_had() -> None:
    sound = noise(RATE)
    async with server(streams={"sessions": 2}) as (at, hub):
        ended = []
        for _ in range(4):
            async with call(at) as first:
                await first.send(sound)
                while hub.streams or hub.engine.sessions:
                    await asyncio.sleep(0.01)
                first.socket.transport.abort()
            ended.append(first.opened)
        assert not hub.engine.sessions and len(hub.links) == 2, (
            "no compute, and no more memory than live streams"
        )
        async with dial(at) as second:
            await second.say(wire.Resume(ended[-1]["session"], ended[-1]["token"], -1))
            await second.say(wire.Update({"strength": 0.5}, "late"))
            await second.until("ended")
            assert np.allclose(second.sound(), offline(sound), atol=1e-6)
        async with dial(at) as late:
            await late.say(wire.Resume(ended[0]["session"], ended[0]["token"], -1))
            assert (await late.until("error"))["error"]["code"] == "not_found"


async def test_acks_of_what_is_new_are_no_flood() -> None:
    async with server(streams={"controls": 1}) as (at, _), call(at) as peer:
        for i in range(50):
            await peer.send(noise(320), first=i, last=i == 49)
            while not isinstance(message := await peer.hear(), wire.Frame):
                pass
            await peer.acknowledge(message.seq)
        assert (await peer.until("ended"))["reason"] == "finished"


async def test_frames_sent_twice_are_taken_once() -> None:
    sound = noise(3200)
    async with server() as (at, _), call(at) as peer:
        await peer.send(sound[:1600], last=False)
        await peer.send(sound[:1600], last=False)
        await peer.send(sound[1600:], first=5)
        await peer.until("ended")
        assert np.allclose(peer.sound(), offline(sound), atol=1e-6)


async def test_a_newer_connection_fences_the_older_one_off() -> None:
    async with server() as (at, _), call(at) as old:
        async with dial(at) as new:
            await new.say(wire.Resume(old.opened["session"], old.opened["token"]))
            await new.until("opened")
            with pytest.raises(ConnectionClosed):
                while True:
                    await old.hear()
            assert old.socket.close_code == 4009
            await new.send(noise(320))
            await new.until("ended")


@pytest.mark.parametrize(
    ("change", "close"), [({"token": "x"}, 4004), ({"session": "y"}, 4004), ({"received": 7}, 4000)]
)
async def test_a_stranger_resumes_nothing(change: dict[str, Any], close: int) -> None:
    async with server() as (at, hub), call(at) as owner:
        right = {"session": owner.opened["session"], "token": owner.opened["token"], "received": -1}
        async with dial(at) as peer:
            await peer.say(wire.Resume(**{**right, **change}))
            with pytest.raises(ConnectionClosed):
                while True:
                    await peer.hear()
            assert peer.socket.close_code == close
        await owner.send(noise(320))
        await owner.until("ended")


async def test_a_client_that_does_not_come_back_frees_its_stream() -> None:
    async with server(streams={"resume": 0.1}) as (at, hub):
        async with call(at) as peer:
            assert len(hub.streams) == 1
            peer.socket.transport.abort()
        await asyncio.sleep(0.4)
        assert not hub.streams and not hub.links and not hub.engine.sessions


async def test_cancel_ends_at_once_and_frees_the_stream() -> None:
    async with server() as (at, hub), call(at) as peer:
        await peer.send(noise(RATE // 2), last=False)
        await peer.say(wire.Cancel())
        assert (await peer.until("ended"))["reason"] == "cancelled"
        assert not hub.engine.sessions


async def test_update_acts_and_a_wrong_one_is_told_without_ending_the_stream() -> None:
    async with server() as (at, _), call(at) as peer:
        await peer.say(wire.Update({"gain": 0.0}, "a"))
        assert (await peer.until("updated"))["id"] == "a"
        await peer.say(wire.Update({"volume": 1}, "b"))
        error = await peer.until("error")
        assert not error["fatal"] and "volume" in error["error"]["message"] and error["id"] == "b"
        await peer.send(noise(3200))
        await peer.until("ended")
        assert not np.abs(peer.sound()).max()


@pytest.mark.parametrize(
    ("message", "close"),
    [
        ("no json", 4000),
        ('{"type": "ack", "seq": 1}', 4000),
        ('{"type": "open", "model": "none"}', 4001),
        ('{"type": "open", "model": "smooth", "rate": 5}', 4001),
        ('{"type": "open", "model": "smooth", "live": -1}', 4001),
        ('{"type": "open", "model": "smooth", "request": {"gain": "loud"}}', 4001),
        ('{"type": "open", "model": "smooth", "version": 2}', 4000),
        (b"\x00" * 30, 4000),
    ],
)
async def test_a_wrong_beginning_is_told_and_closed(message: str | bytes, close: int) -> None:
    async with server() as (at, hub), dial(at) as peer:
        await peer.socket.send(message)
        error = await peer.until("error")
        assert error["fatal"] and error["error"]["message"]
        with pytest.raises(ConnectionClosed):
            await peer.hear()
        assert peer.socket.close_code == close and not hub.streams


@pytest.mark.parametrize("kind", ["gap", "pts", "kind", "odd", "nan", "long", "unknown ack"])
async def test_a_frame_that_breaks_the_rules_ends_its_own_stream_only(kind: str) -> None:
    good = wire.payload(noise(320), "f32")
    nan = np.full((320, 1), np.nan, "f4").tobytes()
    bad = {
        "gap": wire.Frame(1, 0, good, kind=2),
        "pts": wire.Frame(0, 5, good, kind=2),
        "kind": wire.Frame(0, 0, good, kind=1),
        "odd": wire.Frame(0, 0, good[:-1], kind=2),
        "nan": wire.Frame(0, 0, nan, kind=2),
        "long": wire.Frame(0, 0, bytes(4 * RATE), kind=2),
    }
    async with server() as (at, hub), call(at) as neighbour, call(at) as peer:
        await peer.socket.send(bad[kind].pack() if kind in bad else wire.text(wire.Ack(99)))
        with pytest.raises(ConnectionClosed):
            while True:
                await peer.hear()
        assert peer.socket.close_code == 4000
        await neighbour.send(noise(3200))
        await neighbour.until("ended")
        assert len(neighbour.sound()) == 3200 and not hub.streams


async def test_a_flood_of_controls_ends_the_flooder_only() -> None:
    async with server() as (at, _), call(at) as neighbour, call(at) as peer:
        with pytest.raises(ConnectionClosed):
            for i in range(5000):
                await peer.say(wire.Clock(i))
            while True:
                await peer.hear()
        assert peer.socket.close_code == 4029
        await neighbour.send(noise(3200))
        assert (await neighbour.until("ended"))["reason"] == "finished"


async def test_a_full_server_says_so_and_when_to_come_back() -> None:
    async with server(streams={"sessions": 1}) as (at, _), call(at):
        async with dial(at) as peer:
            await peer.say(wire.Open("smooth", rate=RATE))
            error = await peer.until("error")
            assert error["error"]["code"] == "at_capacity" and error["retry_after"] == 5
            with pytest.raises(ConnectionClosed):
                await peer.hear()
            assert peer.socket.close_code == 1013


async def test_an_address_has_so_many_streams_and_no_more() -> None:
    async with server(streams={"per_address": 1}) as (at, hub), call(at) as peer:
        async with dial(at) as other:
            await other.say(wire.Open("smooth", rate=RATE))
            assert (await other.until("error"))["error"]["code"] == "too_many"
        await peer.send(noise(320))
        await peer.until("ended")
        async with call(at) as other:
            assert other.opened


async def test_an_engine_that_dies_is_replaced_and_not_a_sample_differs() -> None:
    sound = noise(2 * RATE)
    async with server(streams={"snapshot": 0.05}) as (at, hub), call(at) as peer:
        for i in range(20):
            await peer.send(sound[1600 * i : 1600 * (i + 1)], first=5 * i, last=i == 19)
            await asyncio.sleep(0.02)
            if i in (4, 11):
                await hub.engine.shut()
        assert (await peer.until("ended"))["reason"] == "finished"
        assert np.allclose(peer.sound(), offline(sound), atol=1e-6)


async def test_a_reader_that_takes_nothing_holds_up_a_file_but_bounds_memory() -> None:
    sound, acked = noise(8 * RATE), 0
    async with server(streams={"journal": 0.5}) as (at, hub), call(at) as peer:

        async def send() -> None:
            for i in range(80):
                while i * 5 - max([m["seq"] for m in peer.told if m["type"] == "ack"], default=-1) > 50:
                    await asyncio.sleep(0.005)  # no more than the window is under way
                await peer.send(sound[1600 * i : 1600 * (i + 1)], first=5 * i, last=i == 79)

        sending = asyncio.create_task(send())
        await asyncio.sleep(0.5)
        (link,) = hub.links.values()
        assert link.journal.ticks < 1.5 * RATE, "what is not acknowledged stops the stream"
        while not peer.told or peer.told[-1]["type"] != "ended":
            if isinstance(message := await peer.hear(), wire.Frame) and message.pts >= acked + 4000:
                acked = message.pts
                await peer.acknowledge(message.seq)
        await sending
        assert len(peer.sound()) == 8 * RATE


async def crowd(peer: Peer, sound: Audio) -> int:
    """Send sound and acknowledge none, until there is no room for more; give how many frames were sent."""
    acked = -1
    for i in range(len(sound) // 320):
        while i - acked > 90:
            try:
                async with asyncio.timeout(0.3):
                    message = await peer.hear()
            except TimeoutError:
                return i
            if isinstance(message, dict) and message["type"] == "ack":
                acked = message["seq"]
        await peer.send(sound[320 * i : 320 * (i + 1)], first=i, last=False)
    raise AssertionError("there is room for all of it")


@pytest.mark.parametrize("last", [wire.Update({"gain": 1.0}, "a"), wire.Finish()], ids=["update", "finish"])
async def test_a_control_that_has_to_wait_for_room_does_not_stop_acks(last: wire.Control) -> None:
    sound = noise(8 * RATE)
    async with server(streams={"journal": 0.2, "resume": 0.1}) as (at, hub), call(at) as peer:
        sound = sound[: 320 * await crowd(peer, sound)]
        await peer.say(last)
        await asyncio.sleep(0.1)
        if isinstance(last, wire.Update):
            await peer.say(wire.Finish())
        await peer.acknowledge(peer.frames[-1].seq)
        while not peer.told or peer.told[-1]["type"] != "ended":
            if isinstance(message := await peer.hear(), wire.Frame):
                await peer.acknowledge(message.seq)
        assert np.allclose(peer.sound(), offline(sound), atol=1e-6)
        assert [m["id"] for m in peer.told if m["type"] == "updated"] == ["a"] * isinstance(last, wire.Update)


@pytest.mark.parametrize("kind", ["empty frames", "controls"])
async def test_what_waits_to_be_fed_is_bounded_however_small_it_is(kind: str) -> None:
    async with server(streams={"journal": 0.2, "controls": 10_000}) as (at, hub), call(at) as peer:
        sent = await crowd(peer, noise(8 * RATE))
        with pytest.raises(ConnectionClosed):
            for i in range(4000):
                empty = wire.Frame(sent + i, 320 * sent, kind=2).pack()
                await peer.socket.send(empty if kind == "empty frames" else wire.text(wire.Finish()))
            while True:
                await peer.hear()
        assert peer.socket.close_code == 4000 and not hub.streams


async def test_a_client_that_says_nothing_for_long_may_come_back() -> None:
    async with server(streams={"idle": 0.2}) as (at, _), call(at) as first:
        await first.send(noise(320), last=False)
        error = await first.until("error")
        assert "nothing came for 0.2 s" in error["error"]["message"]
        with pytest.raises(ConnectionClosed):
            await first.hear()
        assert first.socket.close_code == 4008
        async with dial(at) as second:
            await second.say(wire.Resume(first.opened["session"], first.opened["token"], -1))
            await second.until("opened")
            await second.say(wire.Finish())
            assert (await second.until("ended"))["reason"] == "finished"
            assert len(second.sound()) == 320


async def kept_up(hub: Hub) -> None:
    """Wait until little of what is live waits for the engine, which would drop more."""
    await asyncio.sleep(0.005)
    while any(stream.fed - stream.dropped - stream.out > RATE / 8 for stream in hub.streams.values()):
        await asyncio.sleep(0.005)


async def test_a_live_client_that_acknowledges_nothing_is_not_told_of_sound_it_has() -> None:
    async with server(streams={"journal": 0.1}) as (at, hub), call(at, live=0.5) as peer:
        for i in range(50):
            await peer.send(noise(320), first=i, last=i == 49)
            await kept_up(hub)
        await peer.until("ended")
        assert len(peer.sound()) == 50 * 320
        assert "skipped" not in [m.get("name") for m in peer.told]


async def test_where_live_input_was_dropped_the_output_has_a_gap_of_that_place_and_length() -> None:
    sound = noise(4 * RATE)
    async with server() as (_, hub):
        stream = await hub.open(wire.Open("smooth", rate=RATE, live=0.5), "test")
        got, fed, lost = list[Chunk](), list[Audio](), list[range]()

        async def listen() -> None:
            while chunks := await stream.read():
                got.extend(chunks)

        listening = asyncio.create_task(listen())
        for i in range(40):
            data = sound[1600 * i : 1600 * (i + 1)]
            if i % 15 == 0:  # so that some of what follows has room
                await kept_up(hub)
            if await stream.feed(data):
                lost.append(range(1600 * i, 1600 * (i + 1)))
            else:
                fed.append(data)
        await stream.finish()
        await listening
        await stream.close()
    assert lost[-1].stop == len(sound) == got[-1].end and got[-1].last, "the last to come was dropped"
    assert lost[0].stop < got[-1].pts
    heard = np.concatenate([np.arange(chunk.pts, chunk.end) for chunk in got])
    missed = np.concatenate([np.array(part) for part in lost])
    assert np.array_equal(np.sort(np.concatenate([heard, missed])), np.arange(len(sound)))
    assert np.array_equal(heard, np.setdiff1d(np.arange(len(sound)), missed)), "in order"
    assert np.allclose(np.concatenate([c.data for c in got]), offline(np.concatenate(fed)), atol=1e-6)


@pytest.mark.parametrize("journal", [10.0, 0.5], ids=["all is kept", "the oldest is not"])
async def test_where_a_slow_live_listener_misses_sound_the_joint_does_not_click(
    journal: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, send = asyncio.Event(), Connection._send
    way.set()

    async def slow(self: Connection, message: str | bytes) -> None:
        await way.wait()
        await send(self, message)

    monkeypatch.setattr(Connection, "_send", slow)
    said = murmur(4)[: 4 * RATE]
    async with server(streams={"journal": journal}) as (at, hub), call(at, live=0.5) as peer:
        for i in range(200):
            if i in (50, 150):
                (way.clear if i == 50 else way.set)()
            await peer.send(said[320 * i : 320 * (i + 1)], first=i, last=i == 199)
            await kept_up(hub)
        await peer.until("ended")
        (skipped,) = [m["ticks"] for m in peer.told if m.get("name") == "skipped"]
        heard = peer.sound()
        assert skipped > RATE and len(heard) == 4 * RATE - skipped
        own = np.abs(np.diff(offline(said)[:, 0])).max()
        assert np.abs(np.diff(heard[:, 0])).max() <= own


async def test_a_server_that_stops_tells_its_streams_and_waits_for_nobody() -> None:
    running = server()
    at, hub = await running.__aenter__()
    async with call(at) as lost, call(at) as peer:
        lost.socket.transport.abort()
        await peer.send(noise(3200), last=False)
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        assert (await peer.until("event"))["name"] == "draining"
        assert (await peer.until("ended"))["reason"] == "shutdown"
        with pytest.raises(ConnectionClosed):
            await peer.hear()
        assert peer.socket.close_code == 1001
        await stopping
        assert not hub.links and not hub.engine.sessions


async def test_the_ledger_is_told_when_asked() -> None:
    async with server() as (at, _), call(at, live=0.1) as peer:
        await peer.send(noise(3200), last=False)
        await asyncio.sleep(0.1)
        await peer.say(wire.Stats())
        stats = await peer.until("stats")
        delay = stats["delay"]
        assert delay["total"] > 0 and stats["ticks_in"] == 3200
        assert set(delay) == {"lookahead", "transport", "wait", "compute", "send", "buffer", "total", "p99"}


async def test_clocks_are_compared() -> None:
    async with server() as (at, hub), call(at) as peer:
        await peer.say(wire.Clock(123))
        told = await peer.until("clock")
        assert told["at"] == 123 and abs(told["server"] / 1e6 - hub.clock()) < 1


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}], ids=["another page", "no page"]
)
async def test_pages_of_others_may_not_connect(headers: dict[str, str]) -> None:
    async with server() as (at, _):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://{at}/v1/stream", additional_headers=headers):
                pass
        assert refused.value.response.status_code == 403


async def test_a_refused_connection_is_told_why_and_when_to_come_back() -> None:
    access = {"keys": [digest("right")], "burst": 1, "requests": 0.5}
    async with server(access=access) as (at, _):
        for key, status in (("wrong", 401), ("right", None), ("right", 429)):
            try:
                async with connect(
                    f"ws://{at}/v1/stream", additional_headers={"Authorization": f"Bearer {key}"}
                ):
                    assert status is None
            except InvalidStatus as refused:
                assert refused.response.status_code == status
                assert json.loads(refused.response.body)["error"]["message"]
                assert ("Retry-After" in refused.response.headers) == (status == 429)


async def test_two_hundred_connects_at_once_leave_the_server_well() -> None:
    async with server(access={"requests": 1000, "burst": 1000}, streams={"start": 0.5}) as (at, hub):

        async def knock(i: int) -> None:
            async with dial(at) as peer:
                if i % 3 == 0:
                    await peer.say(wire.Open("smooth", rate=RATE))
                    await peer.hear()
                if i % 3 == 1:
                    await peer.socket.send("{")
                peer.socket.transport.abort()

        await asyncio.gather(*(knock(i) for i in range(200)), return_exceptions=True)
        for link in list(hub.links.values()):
            await link.end("cancelled")
        async with call(at) as peer:
            await peer.send(noise(3200))
            await peer.until("ended")
            assert len(peer.sound()) == 3200


async def test_a_silent_client_is_let_go() -> None:
    async with server(streams={"start": 0.1}) as (at, _), dial(at) as peer:
        error = await peer.until("error")
        assert "within 0.1 s" in error["error"]["message"]


def test_messages_of_the_server_are_json() -> None:
    assert json.loads(wire.message("ack", seq=3)) == {"type": "ack", "seq": 3}


async def test_what_a_stream_has_heard_goes_as_soon_as_it_ends() -> None:
    gc.disable()  # or what it leaves behind might be found by chance

    try:
        async with server() as (at, hub), call(at) as peer:
            await peer.send(noise(3200), last=False)
            (stream,) = hub.streams.values()
            while len(peer.sound()) < 3100:
                await peer.hear()
            heard = [weakref.ref(chunk.data) for chunk in stream.since]
            await peer.say(wire.Cancel())
            await peer.until("ended")
            while hub.streams or hub.engine.sessions:
                await asyncio.sleep(0.01)
            left = sum(data() is not None for data in heard)
            assert left <= 2, "but for what its tasks had in hand"
    finally:
        gc.enable()
