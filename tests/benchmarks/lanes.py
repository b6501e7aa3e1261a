"""Whether live streams feel what else goes on: a batch job in the same engine; the engine in the server's own process.

python -m tests.benchmarks.lanes [beside | loop] [seconds]
Cases are measured in turn, several times over, so that what else the machine does hits all alike.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import numpy as np

from riverrun.load import FRAME, RATE, Plan, Session, noted, serving, speech, spread
from riverrun.media import Chunk
from riverrun.playout import Spread, Take, report
from riverrun.streaming.errors import TooSlow
from riverrun.streaming.remote import Remote
from riverrun.streaming.session import Live

MODEL = "restore-lite"
ROUNDS = 3
LIVE = 2  # sessions beside a job
COUNTS = (1, 4, 8, 16)  # sessions at a server
LOOP = "riverrun_loop_late_seconds"


async def talk(engine: Remote, seconds: float, seed: int) -> Take:
    """One live session at an engine, spoken and heard at the pace of speech; what there is no room for is dropped."""
    session, sound, loop = Session(seconds), speech(seed), asyncio.get_running_loop()
    dropped = 0

    async def feed(name: str) -> None:
        nonlocal dropped
        async for i, due in session.paced():
            at = i * FRAME % len(sound)
            try:
                await engine.feed(name, Chunk(sound[at : at + FRAME], i * FRAME - dropped, RATE), due)
            except TooSlow:
                dropped += FRAME
        await engine.finish(name)

    async with noted(session):
        name = await engine.open(MODEL, {}, RATE, 1, Live(0.1))
        feeding = asyncio.create_task(feed(name))
        try:
            while made := await engine.poll(name):
                for chunk in made:
                    session.hear(chunk.pts + dropped, len(chunk), loop.time())
            await feeding
        finally:
            feeding.cancel()
            await engine.close(name)
    return session.take


@asynccontextmanager
async def job(engine: Remote, done: list[float]) -> AsyncIterator[None]:
    """A recording without end, restored as fast as the engine can; its seconds go into `done`."""
    name = await engine.open(MODEL, {}, RATE, 1)
    second = np.resize(speech(9), (RATE, 1)).astype(np.float32)

    async def feed() -> None:
        pts = 0
        while True:
            await engine.feed(name, Chunk(second, pts, RATE))
            pts += RATE

    async def read() -> None:
        while made := await engine.poll(name):
            done[0] += sum(len(chunk) for chunk in made) / RATE

    tasks = [asyncio.create_task(feed()), asyncio.create_task(read())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await engine.close(name)


async def case(engine: Remote, beside: bool, seconds: float, done: list[float]) -> list[Take]:
    """Live sessions at an engine, with a job beside them or without."""
    if beside:
        async with job(engine, done):
            return await case(engine, False, seconds, done)
    return await asyncio.gather(*(talk(engine, seconds, seed) for seed in range(LIVE)))


async def beside(seconds: float) -> None:
    """Live sessions alone and beside a job, in one lane and in two."""
    engines = {lanes: await Remote.start([MODEL], lanes=lanes) for lanes in (1, 2)}
    takes: dict[tuple[int, bool], list[Take]] = {}
    speed: defaultdict[tuple[int, bool], float] = defaultdict(float)
    for engine in engines.values():
        await engine.warm(MODEL)
    for _ in range(ROUNDS):
        for lanes, engine in engines.items():
            for with_job in (False, True):
                done = [0.0]
                takes.setdefault((lanes, with_job), []).extend(await case(engine, with_job, seconds, done))
                speed[lanes, with_job] += done[0] / seconds / ROUNDS
    print(f"{LIVE} live sessions, {ROUNDS} x {seconds:g} s; ms")
    print(
        f"{'lanes':>5} {'beside':>7} {'delay p50':>9} {'p99':>6} {'most':>6} {'late p99':>8} {'C100':>6} {'job':>6}"
    )
    for (lanes, with_job), some in takes.items():
        found = report(some)
        if not found.delay or not found.late:
            print(f"{lanes:>5} {'a job' if with_job else 'nothing':>7} refused")
            continue
        print(
            f"{lanes:>5} {'a job' if with_job else 'nothing':>7} {found.delay.p50:>9.1f} {found.delay.p99:>6.1f} "
            f"{found.delay.most:>6.1f} {found.late.p99:>8.1f} {found.continuity:>6.0%} {speed[lanes, with_job]:>5.1f}x"
        )
    for engine in engines.values():
        await engine.shut()


async def loop(seconds: float) -> None:
    """The event loop's lateness and the streams' delay, with the engine in the server's process and in its own."""
    print(f"{seconds:g} s a case; the loop's worst lateness within the last 10 s of it; ms")
    print(
        f"{'sessions':>8} {'engine':>9} {'loop late':>9} {'delay p50':>9} {'p99':>7} {'C100':>6} {'refused':>7}"
    )
    for count in COUNTS:
        for own in ("false", "true"):
            async with serving(count, compute__process=own, models=f'["{MODEL}"]') as (url, _):
                takes, _ = await spread(replace(Plan(url), sessions=count, seconds=seconds), 1)
                found, late = report(takes), await figure(url, LOOP)
            delay = found.delay or Spread(0, 0, 0)
            print(
                f"{count:>8} {'its own' if own == 'true' else 'server':>9} {1e3 * late:>9.1f} {delay.p50:>9.1f} "
                f"{delay.p99:>7.1f} {found.continuity:>6.0%} {found.refused:>7}"
            )


async def figure(url: str, name: str) -> float:
    """One figure of a server's."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{url}/metrics")).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


if __name__ == "__main__":
    length = next((float(a) for a in sys.argv[1:] if a[0].isdigit()), 12.0)
    for part in [a for a in sys.argv[1:] if not a[0].isdigit()] or ["beside", "loop"]:
        asyncio.run({"beside": beside, "loop": loop}[part](length))
