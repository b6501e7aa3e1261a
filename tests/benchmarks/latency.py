"""Delay over WebSocket on loopback: what the ledger says, stage by stage, against what a cross-correlation measures.

python tests/benchmarks/latency.py [seconds] [model]
The stream is bypassed, which has the same delay as restored sound, so that what comes out can be compared with what
went in. A sample counts as heard when its frame has arrived.
"""

import asyncio
import sys
import time

import numpy as np
from numpy.typing import NDArray

from riverrun.streaming import wire
from tests.streaming.serving import Peer, dial, server

RATE, FRAME = 48_000, 960  # Hz, ticks of 20 ms
Audio = NDArray[np.float32]


async def talk(peer: Peer, sound: Audio, begun: float) -> None:
    """Send frames as a microphone would, each when its last sample has been spoken."""
    for i in range(len(sound) // FRAME):
        captured = begun + (i + 1) * FRAME / RATE
        await asyncio.sleep(max(0.0, captured - time.monotonic()))
        data = wire.payload(sound[i * FRAME : (i + 1) * FRAME], "f32")
        last = (i + 1) * FRAME >= len(sound)
        await peer.socket.send(wire.Frame(i, i * FRAME, data, round(1e6 * captured), last, 2).pack())


async def listen(peer: Peer, room: Audio, begun: float) -> list[float]:
    """Play every frame into the room at the moment it arrives; give the ledger's totals as they were told."""
    totals: list[float] = []
    while True:
        message = await peer.hear()
        if isinstance(message, dict):
            if message["type"] == "stats" and message["delay"]:
                totals.append(message["delay"]["total"])
            if message["type"] == "ended":
                return totals
            continue
        at = round((time.monotonic() - begun) * RATE)
        heard = wire.samples(message.payload, "f32", 1)[:, 0]
        room[at : at + len(heard)] = heard[: max(0, len(room) - at)]
        if message.seq % 10 == 0:
            await peer.say(wire.Ack(message.seq))


def lag(sound: Audio, room: Audio) -> float:
    """Seconds by which what is heard follows what was said."""
    size = 2 * len(room)
    product = np.fft.rfft(room, size) * np.conj(np.fft.rfft(sound, size))
    return float(np.argmax(np.fft.irfft(product)[: RATE // 2]) / RATE)


async def main(seconds: float, model: str) -> None:
    from riverrun.models import load

    sound = (0.1 * np.random.default_rng(0).standard_normal((round(seconds * RATE), 1))).astype(np.float32)
    async with server({model: load(model)}) as (at, _), dial(at) as peer:
        await peer.say(wire.Open(model, {"bypass": True}, RATE, 1, "f32", live=0.1))
        peer.opened = await peer.until("opened")
        await peer.say(wire.Stats(1.0))
        begun, room = time.monotonic() + 0.1, np.zeros(len(sound) + RATE, np.float32)
        _, totals = await asyncio.gather(talk(peer, sound, begun), listen(peer, room, begun))
        stats = [m for m in peer.told if m["type"] == "stats"][-1]["delay"]
    print(f"{'stage':<12}{'p50 ms':>8}{'p99 ms':>8}")
    for stage, tail in stats["p99"].items():
        print(f"{stage:<12}{stats[stage]:>8.1f}{tail:>8.1f}")
    measured = 1e3 * lag(sound[:, 0], room)
    print(
        f"cross-correlation {measured:.1f} ms, ledger {stats['total']:.1f} ms: {stats['total'] - measured:+.1f} ms"
    )


if __name__ == "__main__":
    asyncio.run(main(float((sys.argv[1:] or ["8"])[0]), (sys.argv[2:] or ["restore-lite"])[0]))
