"""Connections whose client stops: they end in bounded time, free what they held, and hurt nobody else."""

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from riverrun.streaming import wire
from riverrun.streaming.hub import Hub
from riverrun.streaming.sockets import Socket
from tests.streaming.lines import freed, line
from tests.streaming.serving import Peer, call, dial, noise, server
from tests.streaming.test_http import Volume, recording

pytestmark = pytest.mark.anyio
SOON: dict[str, Any] = {
    "access": {"start": 0.2, "stall": 0.3, "requests": 1000, "burst": 1000},
    "streams": {"resume": 0.1},
}
LIVE = {"resume": 0.1, "ping": 0.2, "stall": 0.3, "idle": 0.5}
UPGRADE = b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
UPLOAD = (
    b"POST /v1/audio/restorations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
)
OFFER = (
    b"POST /v1/whip/smooth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/sdp\r\n"
    b"Content-Length: 999\r\n\r\nv=0\r\n"
)
GET = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def upload(sound: bytes) -> bytes:
    """A request to restore a file."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nsmooth\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%b\r\n--b--\r\n' % sound
    )
    head = b"POST /v1/audio/restorations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n" % len(body)
    return head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + body


@asynccontextmanager
async def plain(at: str, room: int = 0) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A socket; `room` is how many bytes may wait in it to be read."""
    host, _, port = at.partition(":")
    raw = socket.socket()
    if room:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def lives(peer: Peer) -> None:
    """A stream that somebody else has is well."""
    await peer.send(noise(3200))
    assert (await peer.until("ended"))["reason"] == "finished" and len(peer.sound()) == 3200


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HT", UPGRADE, UPLOAD, OFFER],
    ids=["nothing", "half a head", "half a handshake", "half an upload", "half an offer"],
)
async def test_who_stops_in_a_request_is_let_go(said: bytes) -> None:
    async with server(**SOON) as (at, hub), call(at) as neighbour:
        tasks = asyncio.all_tasks()
        async with plain(at) as (reader, writer):
            writer.write(said)
            with pytest.raises(ConnectionResetError):
                async with asyncio.timeout(5):
                    while await reader.read(1000):
                        pass
                raise ConnectionResetError("closed")
        await lives(neighbour)
        await freed(hub, tasks)


async def test_a_second_request_on_a_connection_has_no_longer_for_its_head() -> None:
    async with server(**SOON) as (at, _), plain(at) as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b'{"status":"live"}')
        writer.write(b"GET /")
        async with asyncio.timeout(3):  # before an unused connection would be closed
            with pytest.raises(ConnectionResetError):
                await reader.read()
                raise ConnectionResetError("closed")


async def test_a_head_that_trickles_in_has_no_longer_than_another() -> None:
    async with server(**SOON) as (at, _), plain(at) as (reader, writer):
        async with asyncio.timeout(5):
            while not reader.at_eof() and reader.exception() is None:
                writer.write(b"G")
                await asyncio.sleep(0.02)


async def test_who_is_slow_but_does_go_on_is_waited_for() -> None:
    async with server(**SOON) as (at, _), plain(at) as (reader, writer):
        body = b"v=0\r\n" * 100
        writer.write(OFFER.replace(b"999", b"500")[: -len(b"v=0\r\n")])
        for i in range(0, 500, 50):
            writer.write(body[i : i + 50])
            await asyncio.sleep(0.1)
        assert b" 400 " in await reader.readline()


async def test_who_takes_nothing_of_a_reply_is_let_go() -> None:
    settings = {**SOON, "files": {"journal_bytes": 1 << 16}}
    async with server({"smooth": Volume(hop=1600)}, **settings) as (at, hub):
        tasks = asyncio.all_tasks()
        async with plain(at, room=4096) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(upload(recording(noise(16 * 48_000), rate=48_000)))
            await writer.drain()
            while not hub.replies:
                await asyncio.sleep(0.01)
            await freed(hub, tasks, 20)


async def test_a_connection_that_has_gone_is_held_by_nothing() -> None:
    made: list[weakref.ref[asyncio.BaseTransport]] = []
    begin = Socket.connection_made

    def noted(self: Socket, transport: asyncio.BaseTransport) -> None:
        made.append(weakref.ref(transport))
        begin(self, transport)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Socket, "connection_made", noted)
        async with server() as (at, _):
            for _ in range(5):
                async with dial(at) as peer:
                    await peer.say(wire.Open("nothing", rate=16_000))
                    await peer.until("error")
            for _ in range(100):
                gc.collect()
                if made and not any(one() for one in made):
                    break
                await asyncio.sleep(0.02)
            assert len(made) == 5 and not any(one() for one in made)


async def test_an_address_has_so_many_connections_and_no_more() -> None:
    async with server(access={"connections": 3}) as (at, _), plain(at), plain(at), plain(at):
        async with plain(at) as (reader, _):
            with pytest.raises(ConnectionResetError):
                if not await asyncio.wait_for(reader.read(), 5):
                    raise ConnectionResetError("closed")


@pytest.mark.parametrize("state", ["unopened", "opened", "fed", "loud"])
async def test_a_cable_that_is_pulled_frees_the_stream(state: str) -> None:
    async with (
        server(streams={**LIVE, "start": 0.3}) as (at, hub),
        call(at) as neighbour,
        line(at) as (near, cable),
    ):
        tasks = asyncio.all_tasks()
        async with dial(near) as peer:
            if state != "unopened":
                await peer.say(wire.Open("smooth", rate=48_000, channels=8, format="f32", live=0.1))
                await peer.until("opened")
            sending = asyncio.create_task(_talk(peer, {"unopened": 0, "opened": 0, "fed": 3}.get(state, 500)))
            await asyncio.sleep(0.2)
            cable.freeze()
            await lives(neighbour)
            sending.cancel()
            await _gone(hub)
            peer.socket.transport.abort()
        await asyncio.sleep(0)
        for end in cable.ends:
            end.transport.abort()
        await freed(hub, tasks)


async def _talk(peer: Peer, frames: int) -> None:
    for i in range(frames):
        data = wire.payload(np.zeros((960, 8), np.float32), "f32")
        await peer.socket.send(wire.Frame(i, 960 * i, data, 0, False, 2).pack())
        await asyncio.sleep(0.005)


async def _gone(hub: Hub) -> None:
    """The compute is free, and no connection is kept."""
    for _ in range(250):
        if not (hub.streams or hub.links or hub.engine.sessions):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{hub.links} are left")
