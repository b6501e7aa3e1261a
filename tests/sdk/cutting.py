"""A TCP proxy that cuts connections where a test wants it to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

Cut = tuple[str, int]  # "up" or "down", and the bytes that still pass


class Proxy:
    """Passes bytes on to a server. Each connection is cut by the next of `cuts`, and those after the last by none."""

    def __init__(self, to: str, cuts: Sequence[Cut]) -> None:
        self.host, _, port = to.partition(":")
        self.port, self.cuts = int(port), list(cuts)
        self.at = ""
        self.connections = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.gone = False  # refuses everyone

    def cut(self) -> None:
        """Cut every connection there is."""
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.writers.add(writer)
        if self.gone:
            writer.transport.abort()
            return
        direction, limit = self.cuts.pop(0) if self.cuts else ("", 0)
        ahead, behind = await asyncio.open_connection(self.host, self.port)
        self.writers.add(behind)
        pair = (writer, behind)
        for name, source, sink in (("up", reader, behind), ("down", ahead, writer)):
            work = self._pass(source, sink, limit if direction == name else None, pair)
            self.tasks.add(asyncio.create_task(work))

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        limit: int | None,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        try:
            while data := await source.read(1 << 14):
                sink.write(data if limit is None else data[:limit])
                await sink.drain()
                if limit is not None and (limit := limit - len(data)) <= 0:
                    await asyncio.sleep(0.02)  # what has passed arrives
                    break
            else:
                if sink.can_write_eof():
                    sink.write_eof()
                return
        except OSError:
            pass
        for writer in pair:
            writer.transport.abort()


@asynccontextmanager
async def proxy(to: str, *cuts: Cut) -> AsyncIterator[Proxy]:
    """A proxy that runs; its address is `at`."""
    passing = Proxy(to, cuts)
    server = await asyncio.start_server(passing.serve, "127.0.0.1", 0)
    passing.at = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield passing
    finally:
        server.close()
        passing.cut()
        for task in passing.tasks:
            task.cancel()
        await asyncio.gather(*passing.tasks, return_exceptions=True)
        for writer in passing.writers:
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
