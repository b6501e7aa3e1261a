"""Bad lines for tests: a proxy that stops forwarding without a word, and what is left at a server afterwards."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from riverrun.streaming.hub import Hub


class Line:
    """A TCP proxy. `freeze` is a pulled cable: nothing passes any more, and nobody is told."""

    def __init__(self, at: str) -> None:
        self.host, _, port = at.partition(":")
        self.port = int(port)
        self.pumps: list[asyncio.Task[None]] = []
        self.ends: list[asyncio.StreamWriter] = []

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection(self.host, self.port)
        self.ends += [writer, far]
        self.pumps += [asyncio.create_task(_pump(a, b)) for a, b in ((reader, far), (far_reader, writer))]

    def freeze(self) -> None:
        for pump in self.pumps:
            pump.cancel()
        for end in self.ends:
            if not end.transport.is_closing():
                end.transport.pause_reading()  # type: ignore[attr-defined]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
    except ConnectionError:
        writer.transport.abort()


@asynccontextmanager
async def line(at: str) -> AsyncIterator[tuple[str, Line]]:
    """Where to connect to instead, and the line in between."""
    between = Line(at)
    proxy = await asyncio.start_server(between.join, "127.0.0.1", 0)
    host, port = proxy.sockets[0].getsockname()
    try:
        yield f"{host}:{port}", between
    finally:
        proxy.close()
        for pump in between.pumps:
            pump.cancel()
        for end in between.ends:
            end.transport.abort()
        await asyncio.gather(*between.pumps, return_exceptions=True)


async def freed(hub: Hub, tasks: "set[asyncio.Task[Any]]", wait: float = 5.0) -> None:
    """Nothing is left of any client: no seat, no stream, no link, no reply, no call, no task beside those given."""
    for _ in range(int(wait / 0.02)):
        held = [hub.streams, hub.links, hub.replies, hub.calls, hub.casts, hub.engine.sessions]
        more = {task for task in asyncio.all_tasks() - tasks if task is not asyncio.current_task()}
        if not any(held) and not more:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{held} and the tasks {more} are left")
