"""Opus as it travels in RTP: `Mouth` makes packets of what a stream gives, `Ear` makes sound of a peer's packets."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import av
import numpy as np

from riverrun.media import Chunk
from riverrun.media.chunk import Array
from riverrun.streaming.jitter import Order, Timeline, conceal

Packet: TypeAlias = "av.Packet[Any]"
log = logging.getLogger(__name__)
RATE = 48_000  # of Opus in RTP, whatever it holds
FRAME = 480  # ticks of a packet: 10 ms
AHEAD = 312  # ticks that libopus delays sound by, as callers use it
OWN_AHEAD = 120  # the same, as we use it
BITS = 64_000  # a second and channel
ECHO = 960  # ticks that stand in for lost ones
HEARD = 1.0  # seconds of sound that may wait to be fed


class Mouth:
    """Encodes what a stream gives, once for all who listen.

    Its packets end `latency` ticks before those that go in, so that each is whole as soon as one came in.
    """

    kind: Literal["audio", "video"] = "audio"

    def __init__(self, channels: int, latency: int = 0, frame: int = FRAME) -> None:
        """`frame` is the ticks of a packet."""
        self.frame = frame
        self.lead = latency % frame  # ticks of silence before the first
        self.layout = "mono" if channels == 1 else "stereo"
        self.codec: Any = av.CodecContext.create("libopus", "w")
        self.codec.bit_rate = BITS * channels
        self.codec.format, self.codec.layout, self.codec.sample_rate = "flt", self.layout, RATE
        self.codec.time_base = Fraction(1, RATE)
        self.codec.options = {
            "application": "lowdelay",
            "frame_duration": str(1000 * frame // RATE),
        }  # its look-ahead is 2.5 ms, not 6.5
        self.rest: Array = np.zeros((0, channels), np.float32)
        self.at: int | None = None  # tick of the rest's first sample

    def add(self, chunk: Chunk) -> list[Packet]:
        """Take the next chunk; give the packets that are whole, each with its first tick."""
        packets: list[Packet] = []
        if self.at is not None and chunk.pts != self.at + len(self.rest):  # a gap stays one
            packets += self._flush()
        if self.at is None:
            self.at = chunk.pts - self.lead
            self.rest = np.pad(self.rest, ((self.lead, 0), (0, 0)))
        self.rest = np.concatenate([self.rest, chunk.data])
        while len(self.rest) >= self.frame:
            packets += self._encode(self.rest[: self.frame], self.at)
            self.rest, self.at = self.rest[self.frame :], self.at + self.frame
        return packets + (self._flush() if chunk.last else [])

    def _flush(self) -> list[Packet]:
        rest, at = self.rest, self.at
        self.rest, self.at = self.rest[:0], None
        if at is None or not len(rest):
            return []
        return self._encode(np.pad(rest, ((0, self.frame - len(rest)), (0, 0))), at)

    def _encode(self, data: Array, at: int) -> list[Packet]:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(data, np.float32).reshape(1, -1), "flt", self.layout
        )
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        packets = []
        for made in self.codec.encode(frame):
            packet = av.Packet(bytes(made))
            packet.pts, packet.time_base = at, Fraction(1, RATE)
            packets.append(packet)
        return packets


class Ear:
    """Takes a peer's packets as they come, and gives its sound without gaps.

    It stands where aiortc has its jitter buffer. That one holds 80 ms back, keeps the delay of every packet that was
    ever lost, and does not say what is missing; a filter needs nothing held back, since the listener's end smooths.
    """

    def __init__(self, channels: int, clock: Callable[[], float]) -> None:
        self.channels, self.clock = channels, clock
        self.order, self.line = Order(), Timeline(RATE)
        self.codec: Any = av.CodecContext.create("libopus", "r")
        self.codec.layout, self.codec.sample_rate = "stereo", RATE
        self.last: Array = np.zeros((0, channels), np.float32)
        self.waiting: deque[tuple[Array, float, float]] = deque()  # sound, when captured, when arrived
        self.ticks = self.dropped = 0  # of those waiting; that were too many
        self.filled = asyncio.Event()
        self.heard = clock()  # when a packet last came
        self.trip = 0.0  # seconds that a packet takes at least

    def add(self, packet: Any) -> tuple[bool, None]:
        """Take an RTP packet, as aiortc's jitter buffer would; it has nothing left to decode."""
        self.heard = self.clock()
        for whole in self.order.put(packet.sequence_number, packet.timestamp, packet._data, self.heard):
            data = self._decode(whole.data)
            if not len(data):
                continue  # damaged: missing, then, as if it had been lost
            missing = self.line.place(whole.ticks, len(data))
            if missing:
                data = np.concatenate([conceal(self.last, missing), data])
            self.last = data[-ECHO:]
            # what the encoder's look-ahead put later was captured earlier
            captured = self.line.captured(whole.ticks + len(data) - missing - AHEAD, whole.arrived)
            self._keep(data, captured - self.trip, whole.arrived)
        return False, None

    async def hear(self) -> tuple[Array, float, float]:
        """Wait for the next sound."""
        while not self.waiting:
            self.filled.clear()
            await self.filled.wait()
        found = self.waiting.popleft()
        self.ticks -= len(found[0])
        return found

    def _decode(self, data: bytes) -> Array:
        """A packet's sound, empty if it is damaged.  # -> [t, c]"""
        try:
            frames = self.codec.decode(av.Packet(data)) if data else []
        except av.FFmpegError as error:
            log.debug("a packet cannot be decoded: %s", error)
            return np.zeros((0, self.channels), np.float32)
        parts = [frame.to_ndarray().reshape(-1, 2) for frame in frames]
        both = np.concatenate([np.zeros((0, 2), np.int16), *parts]).astype(np.float32) / 32768
        return both if self.channels == 2 else both.mean(1, keepdims=True)

    def _keep(self, data: Array, captured: float, arrived: float) -> None:
        self.waiting.append((data, captured, arrived))
        self.ticks += len(data)
        while self.ticks > HEARD * RATE and len(self.waiting) > 1:
            lost = len(self.waiting.popleft()[0])
            self.ticks -= lost
            self.dropped += lost
        self.filled.set()
