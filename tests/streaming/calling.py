"""An aiortc peer on loopback that calls the server as a browser or a broadcaster would, over a line that may be bad."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import httpx
import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from tests.streaming.serving import Audio

RATE = 48_000
FRAME = 960
SDP = {"content-type": "application/sdp"}


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers offer 127.0.0.1 alone."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@dataclass
class Line:
    """What a network does to packets. `seed` makes it the same again."""

    loss: float = 0.0
    delay: float = 0.0  # seconds
    jitter: float = 0.0  # seconds more, at random: packets overtake one another
    seed: int = 0
    sent: int = 0
    lost: int = 0
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def join(self, transport: Any) -> None:
        """Lie between a transport and the world."""
        straight = transport._send_rtp

        async def later(data: bytes, wait: float) -> None:
            await asyncio.sleep(wait)
            try:
                await straight(data)
            except ConnectionError:
                pass  # closed meanwhile

        async def send(data: bytes) -> None:
            self.sent += 1
            if self.dice.random() < self.loss:
                self.lost += 1
            elif wait := self.delay + self.jitter * self.dice.random():
                asyncio.get_running_loop().create_task(later(data, wait))
            else:
                await straight(data)

        transport._send_rtp = send


class Speech(MediaStreamTrack):
    """Sound at its pace, 20 ms a frame; `speed` is by how much its clock is wrong."""

    kind = "audio"

    def __init__(self, sound: Audio, speed: float = 1.0) -> None:
        super().__init__()
        self.sound, self.speed, self.at = sound, speed, 0
        self.began: float | None = None

    async def recv(self) -> av.AudioFrame:
        self.began = time.monotonic() if self.began is None else self.began
        await asyncio.sleep(self.began + (self.at + FRAME) / RATE / self.speed - time.monotonic())
        part = self.sound[self.at : self.at + FRAME]
        if len(part) < FRAME:
            part = np.pad(part, ((0, FRAME - len(part)), (0, 0)))
        data = np.clip(np.rint(part * 32767), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(
            data.reshape(1, -1), "s16", "mono" if part.shape[1] == 1 else "stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = RATE, self.at, Fraction(1, RATE)
        self.at += FRAME
        return frame


class Caller:
    """A peer and all it hears and is told."""

    def __init__(self, at: str, client: httpx.AsyncClient) -> None:
        self.at, self.client = at, client
        self.connection = RTCPeerConnection(RTCConfiguration([]))
        self.heard: list[tuple[int, Audio]] = []
        self.told: list[dict[str, Any]] = []
        self.channel: Any = None
        self.tasks: list[asyncio.Task[None]] = []
        self.connection.on("track", lambda track: self.tasks.append(asyncio.create_task(self._hear(track))))

    def talk(self) -> None:
        """Have a data channel."""
        self.channel = self.connection.createDataChannel("controls")
        self.channel.on("message", lambda text: self.told.append(json.loads(text)))

    def say(self, kind: str, **values: Any) -> None:
        self.channel.send(json.dumps({"type": kind, **values}))

    async def told_of(self, kind: str, wait: float = 15.0) -> dict[str, Any]:
        """The first message of a kind, taken away."""
        for _ in range(int(wait / 0.02)):
            for message in self.told:
                if message["type"] == kind:
                    self.told.remove(message)
                    return message
            await asyncio.sleep(0.02)
        raise AssertionError(f"no {kind} came, only {self.told}")

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def answered(self, answer: str) -> None:
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def duplex(self, **values: Any) -> dict[str, Any]:
        """Call both ways."""
        body = {"sdp": await self.offer(), "type": "offer", "model": "smooth", **values}
        reply = await self.client.post(f"http://{self.at}/v1/webrtc/offer", json=body)
        assert reply.status_code == 200, reply.text
        told: dict[str, Any] = reply.json()
        await self.answered(told["sdp"])
        return told

    async def post(self, path: str) -> httpx.Response:
        """Publish or listen."""
        self.reply = await self.client.post(
            f"http://{self.at}{path}", content=await self.offer(), headers=SDP
        )
        if self.reply.status_code == 201:
            await self.answered(self.reply.text)
        return self.reply

    async def connected(self) -> None:
        for _ in range(500):
            if self.connection.connectionState == "connected":
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"the call is {self.connection.connectionState}")

    def over(self, line: Line) -> None:
        """Send over a line."""
        for sender in self.connection.getSenders():
            line.join(sender.transport)

    async def until(self, seconds: float) -> None:
        """Wait until so much sound has come."""
        for _ in range(int(100 * (seconds + 10))):
            if sum(len(part) for _, part in self.heard) >= seconds * RATE:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"only {len(self.heard)} frames came")

    def late(self) -> list[dict[str, Any]]:
        """What the server told of input that it dropped and of what it did less of, if it was more than a packet."""
        told = [m for m in self.told if m.get("name") in ("overrun", "degraded")]
        return told if sum(m.get("ticks", FRAME + 1) for m in told) > FRAME else []

    async def quiet(self, frames: int) -> None:
        """Wait until the last so many frames are silent."""
        for _ in range(500):
            last = [np.abs(part).max() for _, part in self.heard[-frames:]]
            if len(last) == frames and max(last) < 0.01:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"the last frames are as loud as {max(last):.3f}")

    def sound(self) -> Audio:
        """What was heard, its gaps as silence.  # [t, 1]"""
        end = max(pts + len(part) for pts, part in self.heard)
        whole = np.zeros((end, 1), np.float32)
        for pts, part in self.heard:
            whole[pts : pts + len(part)] = part
        return whole

    async def _hear(self, track: Any) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self._take(frame)

    def _take(self, frame: Any) -> None:
        data = frame.to_ndarray().reshape(-1, 2).mean(1, keepdims=True).astype(np.float32) / 32768
        self.heard.append((frame.pts, data))

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await self.connection.close()


@asynccontextmanager
async def caller(
    at: str, sound: Audio | None = None, speed: float = 1.0, talks: bool = True
) -> AsyncIterator[Caller]:
    """A caller that says something, if given, and may talk on a data channel."""
    async with httpx.AsyncClient() as client:
        peer = Caller(at, client)
        if sound is not None:
            peer.connection.addTrack(Speech(sound, speed))
        if talks:
            peer.talk()
        try:
            yield peer
        finally:
            await peer.close()


async def until(true: Callable[[], object], wait: float) -> None:
    """Until something is true, for so many seconds at most."""
    for _ in range(int(wait / 0.02)):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came about")


def murmur(seconds: float, channels: int = 1) -> Audio:
    """Noise of 400 to 900 Hz, every moment of which is its own and survives a codec."""
    count = int(seconds * RATE)
    bins = np.fft.rfft(np.random.default_rng(0).standard_normal(count))
    bands = np.fft.rfftfreq(count, 1 / RATE)
    sound = np.fft.irfft(np.where((bands > 400) & (bands < 900), bins, 0), count)
    return np.repeat((0.3 * sound / np.abs(sound).max())[:, None], channels, 1).astype(np.float32)


def shift(reference: Audio, heard: Audio) -> int:
    """How many ticks later something is heard, by cross-correlation."""
    a, b = reference[:, 0], heard[:, 0]
    size = 1 << (len(a) + len(b)).bit_length()
    found = int(np.argmax(np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)))))
    return found - size if found > size // 2 else found
