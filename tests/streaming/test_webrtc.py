"""Calls between aiortc peers: what is heard over good lines and bad ones, and what is left when they end."""

import asyncio
from typing import Any

import numpy as np
import pytest

from riverrun.streaming.hub import Hub
from tests.models.toys import Smooth
from tests.pace import kept_up
from tests.streaming.calling import RATE, Line, caller, loopback, murmur, shift
from tests.streaming.serving import server

__all__ = ["loopback"]
pytestmark = pytest.mark.anyio
LOCAL = {"hosts": ["127.0.0.1"]}
CLEAR = {"smooth": Smooth(hop=80, latency=2)}  # leaves what is below 1 kHz as it is
LIGHT = {"smooth": Smooth(RATE, 480, 2)}  # the same, and a slow machine time for all else
CODECS = 312 + 120  # ticks that the two encoders look ahead


async def gone(hub: Hub, wait: float = 3.0) -> None:
    """Everything of every call is freed."""
    for _ in range(int(wait / 0.02)):
        if not (hub.calls or hub.casts or hub.streams or hub.engine.sessions):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{hub.calls}, {hub.streams} are left")


async def test_a_call_gives_back_what_was_said_at_the_time_it_was_said() -> None:
    said = murmur(4)
    async with server(CLEAR, webrtc=LOCAL) as (at, hub), caller(at, said) as peer:
        await peer.duplex()
        opened = await peer.told_of("opened")
        assert (opened["model"], opened["rate"], opened["channels"]) == ("smooth", RATE, 1)
        await peer.until(3)
        heard = peer.sound()[: 3 * RATE]
        late = shift(said, heard) - CODECS
        with kept_up(peer.late):
            assert abs(late - opened["latency"] * RATE) < 20, "the lead of its first packet, and no more"
            parts = [
                (said[i : i + 960, 0], heard[i + late + CODECS :][:960, 0])
                for i in range(RATE // 2, 2 * RATE, 960)
            ]
            alike = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6) for a, b in parts]
            assert np.median(alike) > 0.98
            steps = np.diff([pts for pts, _ in peer.heard])
            assert np.mean(steps == 480) > 0.9, "nothing is left out, unless the machine was away for a while"
    await gone(hub)


@pytest.mark.parametrize(
    ("line", "share"),
    [
        (Line(loss=0.05, seed=1), 0.85),
        (Line(delay=0.03, jitter=0.015, seed=2), 0.85),
        (Line(loss=0.1, delay=0.02, jitter=0.05, seed=3), 0.6),
    ],
    ids=["loss", "reorder", "both"],
)
async def test_over_a_bad_line_speech_goes_on_and_delay_does_not_grow(line: Line, share: float) -> None:
    said = murmur(8)
    async with server(LIGHT, webrtc=LOCAL) as (at, _), caller(at, said) as peer:
        await peer.duplex()
        await peer.connected()
        peer.over(line)
        await peer.until(5)
        peer.say("stats", every=0.1)  # a machine may be busy for a moment, delay that grows is always there
        stats = [await peer.told_of("stats") for _ in range(10)]
        assert min(one["delay"]["total"] for one in stats) < 400 and min(one["queue"] for one in stats) < 0.2
        heard = peer.sound()[: 5 * RATE]
        late = shift(said[: 5 * RATE], heard)
        good = [
            np.corrcoef(said[i : i + 960, 0], heard[i + late : i + late + 960, 0])[0, 1] > 0.9
            for i in range(RATE // 2, len(heard) - late - 1920, 960)
        ]
        with kept_up(peer.late):
            assert np.mean(good) > share, "each moment is where it belongs, lost ones aside"


async def test_a_sender_whose_clock_is_fast_makes_no_queue() -> None:
    async with server(LIGHT, webrtc=LOCAL) as (at, hub), caller(at, murmur(8), speed=1.05) as peer:
        await peer.duplex()
        await peer.until(6)
        (call,) = hub.calls.values()
        waiting, queued = list[int](), list[float]()
        peer.say("stats", every=0.1)  # a machine may be busy for a moment, a queue that grows is always there
        for _ in range(15):
            queued.append((await peer.told_of("stats"))["queue"])
            waiting.append(call.ear.ticks)  # type: ignore[attr-defined]
        assert min(queued) < 0.1 and min(waiting) < 4 * 960
        assert not call.ear.dropped  # type: ignore[attr-defined]


async def test_stereo_that_is_announced_stays_stereo() -> None:
    async with server(webrtc=LOCAL) as (at, hub), caller(at, murmur(2, channels=2)) as peer:
        offer = (await peer.offer()).replace("a=mid:0\r\n", "a=mid:0\r\na=fmtp:96 sprop-stereo=1\r\n", 1)
        reply = await peer.client.post(f"http://{at}/v1/webrtc/offer", json={"sdp": offer, "model": "smooth"})
        await peer.answered(reply.json()["sdp"])
        assert (await peer.told_of("opened"))["channels"] == 2
        await peer.until(1)


async def test_controls_act_and_wrong_ones_hurt_nobody() -> None:
    async with server(webrtc=LOCAL) as (at, hub), caller(at, murmur(8)) as peer:
        await peer.duplex(request={"gain": 0.5})
        await peer.told_of("opened")
        peer.say("clock", at=5)
        assert abs((await peer.told_of("clock"))["server"] / 1e6 - hub.clock()) < 1
        peer.say("update", request={"gain": 0.0}, id="quiet")
        assert (await peer.told_of("updated"))["id"] == "quiet"
        peer.say("update", request={"gain": -1}, id="wrong")
        error = await peer.told_of("error")
        assert error["id"] == "wrong" and not error["fatal"]
        await peer.until(1)
        await peer.quiet(10)
        peer.say("ack", seq=0, buffered=0.04)
        peer.say("stats", every=0.1)
        told = [(await peer.told_of("stats"))["delay"] for _ in range(10)]
        assert told[-1]["p99"]["buffer"] == 40
        peer.say("finish")
        assert (await peer.told_of("ended"))["reason"] == "finished"
    await gone(hub)


@pytest.mark.parametrize("text", ["no json", '{"type": "fly"}', '{"type": "open"}', "flood"])
async def test_a_caller_that_breaks_the_rules_ends_its_own_call_only(text: str) -> None:
    async with (
        server(webrtc=LOCAL, streams={"controls": 5}) as (at, hub),
        caller(at, murmur(8)) as neighbour,
        caller(at, murmur(8)) as peer,
    ):
        await neighbour.duplex()
        await peer.duplex()
        await peer.told_of("opened")
        for i in range(1000 if text == "flood" else 1):
            peer.channel.send(f'{{"type": "clock", "at": {i}}}' if text == "flood" else text)
        error = await peer.told_of("error")
        assert error["fatal"] and (await peer.told_of("ended"))["reason"] == "failed"
        heard = len(neighbour.heard)
        await asyncio.sleep(1)
        assert len(neighbour.heard) > heard + 30 and len(hub.calls) == 1


@pytest.mark.parametrize("how", ["cancel", "close", "vanish", "delete"])
async def test_however_a_call_ends_it_frees_its_compute(how: str) -> None:
    async with (
        server(webrtc={**LOCAL, "idle": 0.5}) as (at, hub),
        caller(at, murmur(8), talks=how == "cancel") as peer,
    ):
        told = await peer.duplex()
        await peer.until(0.5)
        match how:
            case "cancel":
                peer.say("cancel")
            case "close":
                await peer.connection.close()
            case "vanish":
                for sender in peer.connection.getSenders():
                    Line(loss=1.0).join(sender.transport)
            case "delete":
                assert (await peer.client.delete(f"http://{at}{told['call']}")).status_code == 200
                assert (await peer.client.delete(f"http://{at}{told['call']}")).status_code == 404
        await gone(hub)


async def test_the_time_that_connecting_takes_is_no_silence() -> None:
    async with server(webrtc={**LOCAL, "idle": 1.2}) as (at, hub), caller(at, murmur(8)) as peer:
        body = {"sdp": await peer.offer(), "model": "smooth"}
        reply = await peer.client.post(f"http://{at}/v1/webrtc/offer", json=body)
        await asyncio.sleep(1.3)
        await peer.answered(reply.json()["sdp"])
        line = Line(loss=1.0)
        peer.over(line)
        await peer.connected()
        await asyncio.sleep(0.7)
        assert line.lost, "the first words are lost"
        line.loss = 0.0
        await peer.until(1)


async def test_one_data_channel_is_enough() -> None:
    async with server(webrtc=LOCAL) as (at, _), caller(at, murmur(8)) as peer:
        await peer.duplex()
        await peer.told_of("opened")
        more = [peer.connection.createDataChannel(f"more {i}") for i in range(3)]
        for _ in range(100):
            if all(channel.readyState == "closed" for channel in more):
                break
            await asyncio.sleep(0.05)
        assert all(channel.readyState == "closed" for channel in more)
        peer.say("clock", at=5)
        await peer.told_of("clock")


async def test_who_begins_to_listen_as_a_call_ends_is_not_left_waiting() -> None:
    async with (
        server(webrtc=LOCAL) as (at, hub),
        caller(at, murmur(8)) as publisher,
        caller(at, talks=False) as late,
    ):
        await publisher.post("/v1/whip/smooth?stream=studio")
        (call,), (cast,) = hub.calls.values(), hub.casts.values()
        await call.end("left")
        hub.casts["studio"] = cast  # as found just before
        late.connection.addTransceiver("audio", "recvonly")
        assert (await late.post("/v1/whep/studio")).status_code == 201
        del hub.casts["studio"]
        await gone(hub)


async def test_what_a_listener_misses_is_not_told_to_the_caller() -> None:
    async with (
        server(webrtc=LOCAL) as (at, hub),
        caller(at, murmur(8)) as peer,
        caller(at, talks=False) as absent,
    ):
        told = await peer.duplex(stream="studio")
        await peer.until(0.5)
        (call,) = hub.calls.values()
        call.own.missed = None  # type: ignore[attr-defined]
        absent.connection.addTransceiver("audio", "recvonly")
        offer = await absent.offer()
        reply = await absent.client.post(
            f"http://{at}/v1/whep/{told['stream']}",
            content=offer,
            headers={"content-type": "application/sdp"},
        )
        assert reply.status_code == 201, "and does not connect"
        await peer.until(1.5)
        assert "skipped" not in [m.get("name") for m in peer.told]


async def test_a_caller_that_never_connects_is_not_waited_for() -> None:
    async with server(webrtc={**LOCAL, "ice_timeout": 0.3}) as (at, hub), caller(at, murmur(1)) as peer:
        body = {"sdp": await peer.offer(), "model": "smooth"}
        assert (await peer.client.post(f"http://{at}/v1/webrtc/offer", json=body)).status_code == 200
        assert len(hub.calls) == 1
        await gone(hub)


async def test_an_engine_that_dies_is_replaced_during_a_call() -> None:
    async with server(webrtc=LOCAL) as (at, hub), caller(at, murmur(8)) as peer:
        await peer.duplex()
        await peer.until(1)
        await hub.engine.shut()
        await peer.until(3)


async def test_one_publishes_and_many_listen_to_one_encoding() -> None:
    said = murmur(8)
    async with (
        server(webrtc=LOCAL) as (at, hub),
        caller(at, said, talks=False) as publisher,
        caller(at, talks=False) as one,
        caller(at, talks=False) as two,
    ):
        published = await publisher.post("/v1/whip/smooth?stream=studio")
        assert '</v1/whep/studio>; rel="alternate"' in published.headers["link"]
        for listener in (one, two):
            listener.connection.addTransceiver("audio", "recvonly")
            assert (await listener.post("/v1/whep/studio")).status_code == 201
        (cast,) = hub.casts.values()
        made = _count(cast.source)
        for listener in (one, two):
            await listener.until(2)
        assert made[0] < 1.5 * max(len(one.heard), len(two.heard)) + 40, "each packet is made once"
        a, b = one.sound()[-RATE:], two.sound()[-RATE:]
        offset = shift(a, b)
        assert abs(offset) < RATE // 4
        await two.connection.close()
        await one.until(3)
        await publisher.connection.close()
        await gone(hub)


def _count(mouth: Any) -> list[int]:
    """Count what is encoded."""
    made, encode = [0], mouth._encode

    def counted(*args: Any) -> Any:
        made[0] += 1
        return encode(*args)

    mouth._encode = counted
    return made
