"""How many live streams one server holds on this machine, and what memory a stream costs. Linux only.

Run: python -m tests.benchmarks.sessions [--counts 1 4 8 ...] [--seconds 20] [--transport ws|webrtc]
     [--task speak|convert]
With the task speak each has text after text said, and the time to the first sound (TTFA) is told, not the delay.
Each row is a fresh server, driven as `riverrun load` does it. Held is the largest count that was taken whole and of
which 99 % heard no underrun above 100 ms. A CPU of 100 % is one core, of the server with its engine.
"""

import argparse
import asyncio
import time
from contextlib import AsyncExitStack

from riverrun import AsyncClient
from riverrun.load import Plan, serving, spread, watch
from riverrun.playout import Report, report
from riverrun.usage import Usage, usage

RATE = 48_000  # Hz
SETTLE = 2.0  # seconds until memory is read


async def driven(options: argparse.Namespace, count: int) -> tuple[Report, float, float]:
    """What so many sessions heard, the cores that the server used, and its MB in the end."""
    samples: list[tuple[float, Usage]] = []
    async with serving(count) as (url, pid):
        watching = asyncio.create_task(watch(pid, samples))
        plan = Plan(url, count, options.seconds, count / 10, options.transport, options.task)
        takes, _ = await spread(plan, options.clients)
        watching.cancel()
    (begun, first), (ended, last) = samples[0], samples[-1]
    return report(takes), (last.cpu - first.cpu) / (ended - begun), last.memory / 1e6


async def open_only(few: int, many: int) -> float:
    """MB that a stream costs which is open and silent."""
    async with serving(many) as (url, pid), AsyncExitStack() as streams:
        client = await streams.enter_async_context(AsyncClient(url))
        found = []
        for count in (few, many - few):
            for _ in range(count):
                await streams.enter_async_context(client.stream(rate=RATE))
            time.sleep(SETTLE)
            found.append(usage(pid))
        first, last = found
        assert first and last
        return (last.memory - first.memory) / 1e6 / (many - few)


async def main(options: argparse.Namespace) -> None:
    speaks = options.task == "speak"
    print(
        f"| streams over {options.transport} | taken | C100 | lateness p99 ms "
        f"| {'TTFA' if speaks else 'delay'} p50 | p99 | CPU | MB |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    held, memory = 0, []
    for count in options.counts:
        found, cores, used = await driven(options, count)
        late, delay = found.late, found.first if speaks else found.delay
        print(
            f"| {count} | {found.opened} | {found.continuity:.0%} | {late.p99 if late else 0:.0f} "
            f"| {delay.p50 if delay else 0:.0f} | {delay.p99 if delay else 0:.0f} | {cores:.0%} | {used:.0f} |",
            flush=True,
        )
        memory.append((found.opened, used))
        if found.continuity >= 0.99 and found.opened == count:
            held = max(held, count)
    print(f"held: {held} streams")
    (few, little), (many, much) = memory[0], memory[-1]
    if many > few:
        print(f"memory of a stream that speaks: {(much - little) / (many - few):.2f} MB")
    if options.task == "restore":
        print(f"memory of an open stream: {await open_only(2, 24):.2f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How many live streams one server holds.")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 8, 12, 16, 20])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--transport", choices=("ws", "webrtc"), default="ws")
    parser.add_argument("--task", choices=("restore", "speak", "convert"), default="restore")
    parser.add_argument("--clients", type=int, default=1, help="processes")
    asyncio.run(main(parser.parse_args()))
