"""Clients that vanish in any state of any transport: nothing of them is left, and the next one is served."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from riverrun.streaming import wire
from riverrun.streaming.hub import Hub
from tests.streaming.calling import SDP, Caller, caller, loopback, murmur
from tests.streaming.lines import freed
from tests.streaming.serving import RATE, Peer, call, dial, noise, server
from tests.streaming.test_http import Volume, recording
from tests.streaming.test_sockets import GET, UPGRADE, UPLOAD, plain, upload

__all__ = ["loopback"]
pytestmark = pytest.mark.anyio
SOON: dict[str, Any] = {
    "access": {"start": 0.3, "stall": 0.3, "requests": 1000, "burst": 1000},
    "streams": {"resume": 0.1, "ping": 0.3, "start": 0.3, "snapshot": 0.05},
    "webrtc": {"hosts": ["127.0.0.1"], "ice_timeout": 2, "idle": 2},
}


async def served(at: str) -> None:
    """The next client gets what it came for."""
    async with call(at) as peer:
        await peer.send(noise(3200))
        assert (await peer.until("ended"))["reason"] == "finished" and len(peer.sound()) == 3200


async def fed(peer: Peer, last: bool = False) -> None:
    await peer.send(noise(RATE), last=last)


async def heard(peer: Peer) -> None:
    await fed(peer)
    while not peer.frames:
        await peer.hear()


async def finishing(peer: Peer) -> None:
    await fed(peer)
    await peer.say(wire.Finish())


async def given(peer: Peer) -> None:
    await fed(peer, last=True)
    while not peer.frames or not peer.frames[-1].last:
        await peer.hear()


async def updating(peer: Peer) -> None:
    await fed(peer)
    await peer.say(wire.Update({"gain": 0.5}, "a"))


async def cancelling(peer: Peer) -> None:
    await fed(peer)
    await peer.say(wire.Cancel())


async def nothing(peer: Peer) -> None:
    pass


@pytest.mark.parametrize("live", [None, 0.1], ids=["file", "live"])
@pytest.mark.parametrize("act", [nothing, fed, heard, finishing, given, updating, cancelling])
async def test_a_websocket_may_break_at_any_time(act: Callable[[Peer], Any], live: float | None) -> None:
    async with server(**SOON) as (at, hub):
        tasks = asyncio.all_tasks()
        async with call(at, live=live) as peer:
            await act(peer)
            peer.socket.transport.abort()
        await freed(hub, tasks)
        await served(at)


@pytest.mark.parametrize("said", ["nothing", "open", "resume"])
async def test_a_websocket_may_break_as_it_begins(said: str) -> None:
    async with server(**SOON) as (at, hub):
        tasks = asyncio.all_tasks()
        async with call(at) as first:
            await fed(first)
            first.socket.transport.abort()
        async with dial(at) as peer:
            if said == "open":
                await peer.say(wire.Open("smooth", rate=RATE))
            if said == "resume":
                await peer.say(wire.Resume(first.opened["session"], first.opened["token"], -1))
            await asyncio.sleep(0)
            peer.socket.transport.abort()
        await freed(hub, tasks)
        await served(at)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        GET[:20],
        UPGRADE,
        UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n",
        UPLOAD,
        upload(recording(noise(RATE))),
    ],
    ids=["nothing", "head", "handshake", "bad handshake", "body", "whole"],
)
async def test_a_request_may_break_at_any_time(said: bytes) -> None:
    async with server({"smooth": Volume()}, **SOON) as (at, hub):
        tasks = asyncio.all_tasks()
        async with plain(at) as (_, writer):
            writer.write(said)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.transport.abort()
        await freed(hub, tasks, 10)
        async with plain(at) as (reader, writer):
            writer.write(GET)
            assert b" 200 " in await reader.readline()


def unplug(peer: Caller) -> None:
    """No packet comes from a peer any more, and nobody is told."""
    transports = {t.receiver.transport.transport for t in peer.connection.getTransceivers()}
    for ice in transports:
        for protocol in ice._connection._protocols:
            protocol.transport.abort()


async def gone(hub: Hub, wait: float = 20.0) -> None:
    for _ in range(int(wait / 0.02)):
        if not (hub.calls or hub.casts or hub.streams or hub.engine.sessions):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{hub.calls}, {hub.streams} are left")


@pytest.mark.parametrize("state", ["posted", "answered", "connected", "talking"])
@pytest.mark.parametrize("way", ["duplex", "whip"])
async def test_a_caller_may_vanish_at_any_time(state: str, way: str) -> None:
    async with server(**SOON) as (at, hub):
        tasks = asyncio.all_tasks()
        async with caller(at, murmur(8), talks=way == "duplex") as peer:
            if state == "posted":
                content = await peer.offer()
                await peer.client.post(f"http://{at}/v1/whip/smooth", content=content, headers=SDP)
            else:
                await (peer.duplex() if way == "duplex" else peer.post("/v1/whip/smooth"))
            if state in ("connected", "talking"):
                await peer.connected()
            if state == "talking":
                await asyncio.sleep(0.3)
            unplug(peer)
            await gone(hub)
        await freed(hub, tasks)
        await served(at)


@pytest.mark.parametrize("who", ["listener", "caller"])
@pytest.mark.parametrize("how", ["unplugs", "closes"])
async def test_a_listener_or_the_one_heard_may_vanish(
    who: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.1)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 1000)
    async with server(**SOON) as (at, hub):
        tasks = asyncio.all_tasks()
        async with caller(at, murmur(20), talks=False) as one, caller(at, talks=False) as other:
            await one.post("/v1/whip/smooth?stream=studio")
            other.connection.addTransceiver("audio", "recvonly")
            await other.post("/v1/whep/studio")
            await other.until(0.3)
            monkeypatch.setattr(
                "aioice.ice.CONSENT_FAILURES", 3
            )  # a call that comes about slowly is no lost one
            leaver = one if who == "caller" else other
            if how == "unplugs":
                unplug(leaver)
            else:
                await leaver.connection.close()
            if who == "caller":
                await gone(hub)
            else:
                for _ in range(500):
                    if len(hub.calls) == 1:
                        break
                    await asyncio.sleep(0.02)
                (call,), (cast,) = hub.calls.values(), hub.casts.values()
                assert call.cast is cast, "the caller stays"  # type: ignore[attr-defined]
                await one.connection.close()
                await gone(hub)
        await freed(hub, tasks)
        await served(at)
