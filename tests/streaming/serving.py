"""A real server on loopback, for tests: a toy model, quick settings, and a plain client that speaks the protocol."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from riverrun.models.contract import StreamModel
from riverrun.streaming import wire
from riverrun.streaming.hub import Hub
from riverrun.streaming.server import Server, create
from riverrun.streaming.settings import Settings
from riverrun.streaming.sockets import config
from tests.models.toys import Smooth

RATE = 16_000
Audio = NDArray[np.float32]


@asynccontextmanager
async def server(
    models: Mapping[str, StreamModel] | None = None, **settings: Any
) -> AsyncIterator[tuple[str, Hub]]:
    """Host and port of a running server, and its hub."""
    wanted = Settings(port=0, **{**settings, "streams": {"drain": 0, **settings.get("streams", {})}})
    app = create(wanted, models or {"smooth": Smooth()})
    given = config(app, wanted, port=0, log_level="warning", timeout_graceful_shutdown=2)
    running = Server(given)
    task = asyncio.create_task(running.serve())
    while not running.started or not app.state.hub.ready:
        await asyncio.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}", app.state.hub
    finally:
        running.should_exit = True
        await task


class Peer:
    """A client of one connection, which keeps all it was told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.opened: dict[str, Any] = {}
        self.told: list[dict[str, Any]] = []
        self.frames: list[wire.Frame] = []

    async def say(self, control: wire.Control) -> None:
        await self.socket.send(wire.text(control))

    async def acknowledge(self, seq: int) -> None:
        """Say that a frame came, unless the stream has ended meanwhile and only its end is left to read."""
        with suppress(ConnectionClosed):
            await self.say(wire.Ack(seq))

    async def hear(self) -> dict[str, Any] | wire.Frame:
        """The next message."""
        message = await asyncio.wait_for(self.socket.recv(), 10)
        if isinstance(message, bytes):
            self.frames.append(wire.unpack(message))
            return self.frames[-1]
        self.told.append(json.loads(message))
        return self.told[-1]

    async def until(self, kind: str) -> dict[str, Any]:
        """The next control message of a kind."""
        while True:
            message = await self.hear()
            if isinstance(message, dict) and message["type"] == kind:
                return message

    async def send(self, sound: Audio, first: int = 0, size: int = 320, last: bool = True) -> None:
        """Send sound as frames numbered from `first`, which starts at tick first * size."""
        starts = list(range(0, len(sound), size))
        for i, start in enumerate(starts):
            data = sound[start : start + size]
            end = last and i == len(starts) - 1
            frame = wire.Frame(
                first + i, (first * size) + start, wire.payload(data, "f32"), 0, end, wire.FORMATS["f32"][0]
            )
            await self.socket.send(frame.pack())

    def sound(self) -> Audio:
        """All sound that came, one frame after the other."""
        parts = [wire.samples(frame.payload, "f32", 1) for frame in self.frames]
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


@asynccontextmanager
async def dial(at: str, **options: Any) -> AsyncIterator[Peer]:
    """A connection that has said nothing yet."""
    async with connect(f"ws://{at}/v1/stream", max_size=None, compression=None, **options) as socket:
        yield Peer(socket)


@asynccontextmanager
async def call(at: str, **values: Any) -> AsyncIterator[Peer]:
    """A connection with an open stream."""
    async with dial(at) as peer:
        await peer.say(wire.Open(**{"model": "smooth", "rate": RATE, "format": "f32", **values}))
        peer.opened = await peer.until("opened")
        yield peer


def noise(ticks: int, seed: int = 0) -> Audio:
    return (0.1 * np.random.default_rng(seed).standard_normal((ticks, 1))).astype(np.float32)
