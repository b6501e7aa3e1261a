"""Delay on loopback, over WebSocket and in a WebRTC call: what the ledger says, stage by stage, against what a
cross-correlation of what is heard with what was said measures.

Run: python -m tests.benchmarks.latency [seconds] [model]
The stream is bypassed, which has the same delay as restored sound, so that what comes out can be found in what went
in. A sample counts as heard when the frame or packet that holds it has arrived; what the aiortc peer then keeps in a
buffer of its own, before it gives sound out, is measured apart. The call's ledger cannot know how long the caller
encoded and the quickest packet travelled.
"""

import asyncio
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import av
import httpx
import numpy as np
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from riverrun.streaming import wire
from riverrun.streaming.webrtc import BUFFER
from tests.streaming.calling import Caller, Speech
from tests.streaming.serving import Peer, dial, server

RATE, FRAME = 48_000, 960  # Hz, ticks of 20 ms
WARM = 1.0  # seconds, over which connections settle
STRIDE = 3  # of so many pieces, one is looked for
LONGEST = 2 * RATE  # ticks that one may be late
Audio = NDArray[np.float32]


class Room:
    """What is heard, in pieces, and when each arrived."""

    def __init__(self) -> None:
        self.pieces: list[tuple[float, Audio]] = []

    def play(self, heard: Audio) -> None:
        self.pieces.append((time.monotonic(), heard))

    def delays(self, said: Audio, begun: float) -> list[float]:
        """Milliseconds from when the first sample of each piece was said to when it was heard, by cross-correlation."""
        found = []
        for arrived, piece in self.pieces[::STRIDE]:
            now = round((arrived - begun) * RATE)
            start = max(0, now - LONGEST)
            near, size = said[start : max(0, now)], 1 << (LONGEST + len(piece)).bit_length()
            if now > WARM * RATE and len(near) >= len(piece) > 0 and now < len(said):
                product = np.fft.rfft(near, size) * np.conj(np.fft.rfft(piece, size))
                at = start + int(np.argmax(np.fft.irfft(product)[: len(near)]))
                found.append(1e3 * (arrived - begun - at / RATE))
        return found


@dataclass
class Measured:
    """One transport: the ledger's figures, the delays at arrival and, if they differ, at the peer's output."""

    ledger: dict[str, Any]
    arrival: list[float]  # ms
    output: list[float] = field(default_factory=list)  # ms


async def talk(peer: Peer, sound: Audio, begun: float) -> None:
    """Send frames as a microphone would, each when its last sample has been spoken."""
    for i in range(len(sound) // FRAME):
        captured = begun + (i + 1) * FRAME / RATE
        await asyncio.sleep(max(0.0, captured - time.monotonic()))
        data = wire.payload(sound[i * FRAME : (i + 1) * FRAME], "f32")
        last = (i + 1) * FRAME >= len(sound)
        await peer.socket.send(wire.Frame(i, i * FRAME, data, round(1e6 * captured), last, 2).pack())


async def listen(peer: Peer, room: Room) -> None:
    """Play every frame into the room, until the stream ends."""
    while not peer.told or peer.told[-1]["type"] != "ended":
        message = await peer.hear()
        if isinstance(message, wire.Frame):
            room.play(wire.samples(message.payload, "f32", 1)[:, 0])
            if message.seq % 10 == 0:
                await peer.say(wire.Ack(message.seq))


async def websocket(at: str, model: str, sound: Audio) -> Measured:
    async with dial(at) as peer:
        await peer.say(wire.Open(model, {"bypass": True}, RATE, 1, "f32", live=0.1))
        peer.opened = await peer.until("opened")
        await peer.say(wire.Stats(1.0))
        room, begun = Room(), time.monotonic() + 0.1
        await asyncio.gather(talk(peer, sound, begun), listen(peer, room))
        ledger = [m for m in peer.told if m["type"] == "stats"][-1]["delay"]
    return Measured(ledger, room.delays(sound[:, 0], begun))


class Tap:
    """Hears packets as they come, and hands them on to where aiortc keeps them."""

    def __init__(self, inner: Any, room: Room) -> None:
        self.inner, self.room = inner, room
        self.codec: Any = av.CodecContext.create("libopus", "r")
        self.codec.layout, self.codec.sample_rate = "stereo", RATE

    def add(self, packet: Any) -> Any:
        for frame in self.codec.decode(av.Packet(packet._data)):
            self.room.play(mono(frame))
        return self.inner.add(packet)


class Ears(Caller):
    """A caller that plays what aiortc gives out into a room of its own."""

    room: Room

    async def _hear(self, track: Any) -> None:
        try:
            while True:
                self.room.play(mono(await track.recv()))
        except MediaStreamError:
            return


def mono(frame: Any) -> Audio:
    return np.asarray(frame.to_ndarray().reshape(-1, 2).mean(1) / 32768, np.float32)


async def call(at: str, model: str, sound: Audio) -> Measured:
    seconds, speech = len(sound) / RATE, Speech(sound)
    arrival, output = Room(), Room()
    async with httpx.AsyncClient() as client:
        peer = Ears(at, client)
        peer.room = output
        peer.connection.addTrack(speech)
        peer.talk()
        try:
            await peer.duplex(model=model, request={"bypass": True})
            receiver = peer.connection.getTransceivers()[0].receiver
            setattr(receiver, BUFFER, Tap(getattr(receiver, BUFFER), arrival))
            while speech.began is None:
                await asyncio.sleep(0.001)
            await asyncio.sleep(seconds)
            peer.say("stats")
            ledger = (await peer.told_of("stats"))["delay"]
        finally:
            await peer.close()
    return Measured(ledger, *(room.delays(sound[:, 0], speech.began) for room in (arrival, output)))


def table(columns: dict[str, Measured]) -> None:
    """Print what was measured."""
    print("| ms |" + "".join(f" {name} p50 | p99 |" for name in columns))
    print("|---|" + "---:|---:|" * len(columns))
    for stage in next(iter(columns.values())).ledger["p99"]:
        row(stage, [(m.ledger[stage], m.ledger["p99"][stage]) for m in columns.values()])
    found = [np.percentile(m.arrival, [50, 99]) for m in columns.values()]
    row("cross-correlation at arrival", found)
    row("ledger less that", [(m.ledger["total"] - f[0], m.ledger["p99"]["total"] - f[1])
                             for m, f in zip(columns.values(), found, strict=True)])  # fmt: skip
    held = [np.percentile(m.output, [50, 99]) - f if m.output else (0, 0)
            for m, f in zip(columns.values(), found, strict=True)]  # fmt: skip
    row("held after arrival by the peer", held)


def row(name: str, pairs: Iterable[Any]) -> None:
    print(f"| {name} |" + "".join(f" {p50:.1f} | {p99:.1f} |" for p50, p99 in pairs))


async def main(seconds: float, model: str) -> None:
    from riverrun.models import load

    sound = (0.1 * np.random.default_rng(0).standard_normal((round(seconds * RATE), 1))).astype(np.float32)
    columns = {}
    with patch("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"]):
        async with server({model: load(model)}, webrtc={"hosts": ["127.0.0.1"]}) as (at, _):
            for name, measure in (("WebSocket", websocket), ("WebRTC", call)):
                columns[name] = await measure(at, model, sound)
    table(columns)


if __name__ == "__main__":
    asyncio.run(main(float((sys.argv[1:] or ["8"])[0]), (sys.argv[2:] or ["restore-lite"])[0]))
