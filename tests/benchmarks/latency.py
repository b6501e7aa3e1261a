"""Delay on loopback, over WebSocket and in a WebRTC call: what the ledger says, stage by stage, against what a
cross-correlation measures, as medians.

Run: python -m tests.benchmarks.latency [seconds] [model]
The stream is bypassed, which has the same delay as restored sound, so that what comes out can be compared with what
went in. A sample counts as heard when the frame or packet that holds it has arrived; what the aiortc peer then keeps
in a buffer of its own, before it gives sound out, is measured apart. The call's ledger cannot know how long the caller
encoded and the quickest packet travelled.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import av
import httpx
import numpy as np
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from riverrun.streaming import wire
from riverrun.streaming.webrtc import BUFFER
from tests.streaming.calling import Caller, Speech, murmur
from tests.streaming.serving import Peer, dial, server

RATE, FRAME = 48_000, 960  # Hz, ticks of 20 ms
WARM = 1.0  # seconds, over which connections settle
PART = 12_000  # ticks that are looked for among what is heard
Audio = NDArray[np.float32]


class Room:
    """Where sound is heard at the moment it arrives."""

    def __init__(self, seconds: float, begun: float | None = None) -> None:
        self.sound, self.begun = np.zeros(round((seconds + 1) * RATE), np.float32), begun

    def play(self, heard: Audio) -> None:
        if self.begun is not None:
            at = round((time.monotonic() - self.begun) * RATE)
            self.sound[at : at + len(heard)] = heard[: max(0, len(self.sound) - at)]

    def lag(self, said: Audio) -> float:
        """Milliseconds by which what is heard follows what was said: the median of its windows."""
        return float(
            np.median([self._lag(said, at) for at in range(round(WARM * RATE), len(said) - RATE, PART)])
        )

    def _lag(self, said: Audio, at: int) -> float:
        part, heard = said[at : at + PART], self.sound[at : at + PART + RATE // 2]
        size = 2 * len(heard)
        product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(part, size))
        return float(1e3 * np.argmax(np.fft.irfft(product)[: RATE // 2]) / RATE)


@dataclass
class Measured:
    """One transport: the ledger's figures, the lag at arrival and, if it differs, the lag at the peer's output."""

    ledger: dict[str, Any]
    arrival: float  # ms
    output: float | None = None  # ms


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
        room = Room(len(sound) / RATE, time.monotonic() + 0.1)
        assert room.begun
        await asyncio.gather(talk(peer, sound, room.begun), listen(peer, room))
        ledger = [m for m in peer.told if m["type"] == "stats"][-1]["delay"]
    return Measured(ledger, room.lag(sound[:, 0]))


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
    arrival, output = Room(seconds), Room(seconds)
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
            arrival.begun = output.begun = speech.began
            await asyncio.sleep(seconds)
            peer.say("stats")
            ledger = (await peer.told_of("stats"))["delay"]
        finally:
            await peer.close()
    return Measured(ledger, arrival.lag(sound[:, 0]), output.lag(sound[:, 0]))


def table(columns: dict[str, Measured]) -> None:
    """Print what was measured."""
    print("| ms |" + "".join(f" {name} p50 | p99 |" for name in columns))
    print("|---|" + "---:|---:|" * len(columns))
    for stage in next(iter(columns.values())).ledger["p99"]:
        cells = [f" {m.ledger[stage]:.1f} | {m.ledger['p99'][stage]:.1f} |" for m in columns.values()]
        print(f"| {stage} |" + "".join(cells))
    print("| cross-correlation at arrival |" + "".join(f" {m.arrival:.1f} | |" for m in columns.values()))
    differences = [f" {m.ledger['total'] - m.arrival:+.1f} | |" for m in columns.values()]
    print("| ledger less cross-correlation |" + "".join(differences))
    held = [" |" if m.output is None else f" {m.output - m.arrival:.1f} |" for m in columns.values()]
    print("| held by the peer's own buffer |" + "".join(f"{h} |" for h in held))


async def main(seconds: float, model: str) -> None:
    from riverrun.models import load

    sound, columns = murmur(seconds), {}
    with patch("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"]):
        async with server({model: load(model)}, webrtc={"hosts": ["127.0.0.1"]}) as (at, _):
            for name, measure in (("WebSocket", websocket), ("WebRTC", call)):
                columns[name] = await measure(at, model, sound)
    table(columns)


if __name__ == "__main__":
    asyncio.run(main(float((sys.argv[1:] or ["8"])[0]), (sys.argv[2:] or ["restore-lite"])[0]))
