"""A server under comings and goings: whether its memory or its open files grow.

python -m tests.benchmarks.soak [minutes] [sessions]

Streams come and go, half of them through a proxy that cuts their connections; beside them recordings are uploaded, and
jobs are posted where the server takes such. Growth is by least squares over the least use in each of many windows, the
first quarter left out: until then, caches fill.
"""

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx

import riverrun
from riverrun.load import RATE, Plan, drive, serving, speech, watch
from riverrun.media import Writer
from riverrun.media.chunk import Chunk
from riverrun.playout import Take, report
from riverrun.usage import Usage, slope
from tests.sdk.cutting import proxy

MODELS = '["restore-lite"]'
CUTS = 400_000  # bytes down a connection until it is cut, at most: some 4 s
LENGTHS = (3.0, 20.0)  # seconds of a stream
JOBS = "/v1/jobs"
WINDOWS = 10


class Soak:
    """What goes on until a time, and what came of it."""

    def __init__(self, url: str, until: float) -> None:
        self.url, self.until = url, until
        self.dice = random.Random(0)
        self.takes: list[Take] = []
        self.counts: Counter[str] = Counter()

    async def stream(self, url: str) -> None:
        """One stream after the other."""
        while (left := self.until - time.monotonic()) > LENGTHS[0]:
            seconds = min(self.dice.uniform(*LENGTHS), left)
            self.takes += await drive(Plan(url, 1, seconds, 0.0))
            await asyncio.sleep(self.dice.uniform(0, 1))

    async def cut(self) -> None:
        """The same, over connections that are cut."""
        host = self.url.removeprefix("http://")
        while self.until - time.monotonic() > LENGTHS[0]:
            cuts = [("", 0), *(("down", self.dice.randrange(20_000, CUTS)) for _ in range(2))]
            async with proxy(host, *cuts) as cutting:
                seconds = min(self.dice.uniform(*LENGTHS), max(self.until - time.monotonic(), LENGTHS[0]))
                self.takes += await drive(Plan(f"http://{cutting.at}", 1, seconds, 0.0))
            await asyncio.sleep(self.dice.uniform(0, 1))

    async def call(self) -> None:
        """One call after the other."""
        while self.until - time.monotonic() > LENGTHS[0]:
            self.takes += await drive(replace(Plan(self.url, 1, LENGTHS[0], 0.0), transport="webrtc"))
            await asyncio.sleep(self.dice.uniform(0, 5))

    async def upload(self, folder: Path) -> None:
        """One recording after the other."""
        async with riverrun.AsyncClient(self.url) as client:
            while time.monotonic() < self.until:
                try:
                    await client.restore(folder / "in.wav", folder / "out.wav", force=True)
                    self.counts["uploads"] += 1
                except riverrun.StreamError as error:
                    self.counts[f"upload {type(error).__name__}"] += 1
                await asyncio.sleep(self.dice.uniform(2, 6))

    async def jobs(self, folder: Path) -> None:
        """One job after the other, if the server takes such."""
        line = json.dumps({"id": "one", "task": "restore", "input": "in.wav"})
        sound = (folder / "in.wav").read_bytes()
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            while time.monotonic() < self.until and (await http.get(JOBS)).is_success:
                files = {"jobs": ("jobs.jsonl", line.encode()), "files": ("in.wav", sound)}
                reply = await http.post(JOBS, files=files)
                self.counts[f"jobs {reply.status_code}"] += 1
                await asyncio.sleep(self.dice.uniform(5, 15))


async def soak(minutes: float, sessions: int) -> None:
    """Print how much a server uses as time goes by, and by how much that grows."""
    samples: list[tuple[float, Usage]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = name  # where a server keeps its jobs
        with Writer(folder / "in.wav", rate=RATE, channels=1) as writer:
            writer.put(Chunk(speech(), 0, RATE, last=True))
        async with serving(sessions, models=MODELS) as (url, pid):
            watching = asyncio.create_task(watch(pid, samples))
            going = Soak(url, time.monotonic() + 60 * minutes)
            work = [going.stream(url) for _ in range(sessions - sessions // 2)]
            work += [going.cut() for _ in range(sessions // 2)]
            await asyncio.gather(*work, going.call(), going.upload(folder), going.jobs(folder))
            watching.cancel()
    told(samples)
    found = report(going.takes)
    print(f"streams {found.sessions}: refused {found.refused}, failed {found.failed}; connections lost {found.lost}, "
          f"resumed {found.resumed}; C100 {found.continuity:.1%}")  # fmt: skip
    print(", ".join(f"{name} {count}" for name, count in [*going.counts.items(), *found.errors.items()]))


def told(samples: list[tuple[float, Usage]]) -> None:
    """Print the least memory and files of every tenth of the time, and their slopes."""
    begun = samples[0][0]
    print(f"{'minute':>6} {'MiB':>7} {'files':>6} {'cores':>6}")
    step = max(1, len(samples) // 10)
    for i in range(0, len(samples) - step + 1, step):
        part = samples[i : i + step]
        (t0, before), (t, now) = part[0], part[-1]
        cores = (now.cpu - before.cpu) / max(t - t0, 1e-3)
        memory, files = (min(getattr(used, name) for _, used in part) for name in ("memory", "files"))
        print(f"{(t - begun) / 60:>6.1f} {memory / (1 << 20):>7.0f} {files:>6} {cores:>6.2f}", flush=True)
    late = samples[len(samples) // 4 :]
    size = max(1, len(late) // WINDOWS)
    windows = [
        late[i : i + size] for i in range(0, len(late), size)
    ]  # the least in each: children come and go
    hours = [(window[0][0] - begun) / 3600 for window in windows]
    memory = slope(hours, [min(now.memory for _, now in window) / (1 << 20) for window in windows])
    files = slope(hours, [float(min(now.files for _, now in window)) for window in windows])
    print(
        f"slope over {60 * (hours[-1] - hours[0]):.1f} minutes: {memory:+.1f} MiB an hour, {files:+.1f} files an hour"
    )


if __name__ == "__main__":
    given = [*sys.argv[1:], *("30", "4")[len(sys.argv) - 1 :]]
    asyncio.run(soak(float(given[0]), int(given[1])))
