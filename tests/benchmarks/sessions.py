"""How many live streams one server holds on this machine, and what memory a stream costs.

Run: python -m tests.benchmarks.sessions [--counts 1 4 8 ...] [--seconds 10] [--model restore-lite] [--clients 1]
The server is `riverrun serve` in a process of its own, fresh for each row; clients in processes of theirs send 20 ms
frames of 16-bit sound at 48 kHz at the pace of a microphone, out of phase with one another. The delay of a frame is
from the capture of its first sample to its arrival, in ms; its lateness is that beyond the quickest frame of its
stream: how long a player without a buffer would be silent. Sound that was dropped or skipped counts as so much
lateness. C100 is the share of streams whose worst lateness is 100 ms or less; 100 % CPU is one core. Linux only.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.request import urlopen

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from riverrun.streaming import wire

RATE, FRAME = 48_000, 960  # Hz, ticks of 20 ms
WARM = 2.0  # seconds that do not count: everybody connects
ALLOWED = 0.1  # seconds of lateness


@dataclass
class Heard:
    """One stream: the delays of its frames, and the longest piece of sound that never came.  # seconds"""

    delays: list[float] = field(default_factory=list)
    missing: float = 0.0

    @property
    def worst(self) -> float:
        """Its worst lateness; infinite if nothing came."""
        return max(max(self.delays) - min(self.delays), self.missing) if self.delays else float("inf")


async def talk(socket: ClientConnection, begun: float, seconds: float) -> None:
    sound = (0.1 * np.random.default_rng(0).standard_normal((FRAME, 1))).astype(np.float32)
    data = wire.payload(sound, "pcm16")
    count = round(seconds * RATE / FRAME)
    for i in range(count):
        await asyncio.sleep(max(0.0, begun + (i + 1) * FRAME / RATE - time.monotonic()))
        await socket.send(wire.Frame(i, i * FRAME, data, 0, i == count - 1).pack())


async def listen(socket: ClientConnection, begun: float) -> Heard:
    heard, end = Heard(), 0
    async for message in socket:
        if isinstance(message, str):
            continue
        frame, now = wire.unpack(message), time.monotonic()
        if frame.pts >= WARM * RATE and frame.payload:
            heard.delays.append(now - begun - frame.pts / RATE)
            heard.missing = max(heard.missing, (frame.pts - end) / RATE)
        end = frame.pts + len(frame.payload) // 2
        if frame.seq % 10 == 0:
            await socket.send(wire.text(wire.Ack(frame.seq)))
    return heard


async def stream(url: str, model: str, seconds: float, active: bool) -> Heard:
    async with connect(url, compression=None) as socket:
        await socket.send(wire.text(wire.Open(model, rate=RATE, live=0.1)))
        told = json.loads(await socket.recv())
        if told["type"] != "opened":
            raise RuntimeError(f"the server says {told}")
        if not active:
            await asyncio.sleep(seconds)
            return Heard()
        begun = time.monotonic() + random.random() * FRAME / RATE
        _, heard = await asyncio.gather(talk(socket, begun, seconds), listen(socket, begun))
        return heard


async def streams(url: str, model: str, count: int, seconds: float, active: bool) -> list[Heard]:
    return list(await asyncio.gather(*(stream(url, model, seconds, active) for _ in range(count))))


def client(url: str, model: str, count: int, seconds: float, active: bool) -> list[Heard]:
    """Many streams, in a process of their own."""
    return asyncio.run(streams(url, model, count, seconds, active))


@contextmanager
def serving(model: str, count: int, port: int) -> Iterator[int]:
    """A warm server for so many streams; gives its process."""
    limits = {
        "MODELS": json.dumps([model]),
        "STREAMS__SESSIONS": count + 1,
        "STREAMS__PER_ADDRESS": count + 1,
        "ACCESS__CONNECTIONS": 2 * count + 8,
        "ACCESS__REQUESTS": 1000,
        "ACCESS__BURST": 10 * count + 1000,
    }
    environment = {**os.environ, **{f"RIVERRUN_{name}": str(value) for name, value in limits.items()}}
    command = [sys.executable, "-m", "riverrun.cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                try:
                    with urlopen(f"http://127.0.0.1:{port}/health/ready"):
                        break
                except OSError:
                    time.sleep(0.1)
            yield process.pid
        finally:
            process.terminate()


def cpu(pid: int) -> float:
    """Seconds of processor that a process has had."""
    with open(f"/proc/{pid}/stat") as file:
        times = file.read().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Megabytes that a process has in memory."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Row:
    """One run."""

    count: int
    heard: list[Heard]
    cpu: float  # cores
    memory: float  # MB, near its end

    @property
    def continuity(self) -> float:
        """The share of streams whose worst lateness is allowed."""
        return float(np.mean([one.worst <= ALLOWED for one in self.heard]))

    def __str__(self) -> str:
        delays = [delay for one in self.heard for delay in one.delays] or [float("nan")]
        p50, p99 = 1e3 * np.percentile(delays, [50, 99])
        worst = 1e3 * max(one.worst for one in self.heard)
        return (
            f"| {self.count} | {100 * self.continuity:.0f} % | {p50:.0f} | {p99:.0f} | {worst:.0f} "
            f"| {100 * self.cpu:.0f} % | {self.memory:.0f} |"
        )


def run(options: argparse.Namespace, count: int, active: bool = True) -> Row:
    """Open so many streams at a fresh server, and measure both."""
    url, clients = f"ws://127.0.0.1:{options.port}/v1/stream", min(options.clients, count)
    shares = [count // clients + (i < count % clients) for i in range(clients)]
    seconds = options.seconds + WARM
    context = multiprocessing.get_context("spawn")
    with serving(options.model, count, options.port) as pid, ProcessPoolExecutor(clients, context) as pool:
        given = [pool.submit(client, url, options.model, share, seconds, active) for share in shares]
        time.sleep(2 * WARM)
        begun, before = time.monotonic(), cpu(pid)
        time.sleep(max(1.0, seconds - 2 * WARM))
        used, held = (cpu(pid) - before) / (time.monotonic() - begun), memory(pid)
        heard = [one for future in given for one in future.result()]
    return Row(count, heard, used, held)


def main() -> None:
    parser = argparse.ArgumentParser(description="How many live streams one server holds.")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8, 12, 16])
    parser.add_argument("--few-many", type=int, nargs=2, default=[2, 24], help="open streams, for memory")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--model", default="restore-lite")
    parser.add_argument("--clients", type=int, default=1, help="processes")
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    print(
        "| streams | C100 | delay p50 | p99 | worst lateness | CPU | RSS MB |\n|---:|---:|---:|---:|---:|---:|---:|"
    )
    rows = []
    for count in options.counts:
        rows.append(run(options, count))
        print(rows[-1], flush=True)
    held = max((row.count for row in rows if row.continuity >= 0.99), default=0)
    print(f"held: {held} streams")
    few, many = (run(options, count, active=False) for count in options.few_many)
    cost = (many.memory - few.memory) / max(1, many.count - few.count)
    print(
        f"memory of an idle stream: {cost:.2f} MB ({few.count}: {few.memory:.0f}, {many.count}: {many.memory:.0f})"
    )
    first, last = rows[0], rows[-1]
    if last.count > first.count:
        cost = (last.memory - first.memory) / (last.count - first.count)
        print(f"memory of an active stream: {cost:.2f} MB")


if __name__ == "__main__":
    main()
