"""RTP packets back in order and on one timeline, without a clock, a codec or any I/O.

There is no play-out buffer here: a filter may be fed as soon as the next packet is there, and its output keeps the
sender's ticks, so the one buffer that drift and jitter need is the listener's own.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from riverrun.media.chunk import Array

PATIENCE = 2  # packets that may come after a missing one before it counts as lost
RESTART = 1000  # packets a sender may jump by and still be the same
GAP = 1.0  # seconds that are filled when packets are lost; after more, the timeline starts anew
WINDOW = 5.0  # seconds that the quickest packet is remembered for, and as long again


@dataclass(frozen=True)
class Packet:
    """One packet. Units: `ticks` is its RTP timestamp without wrapping, `arrived` seconds."""

    seq: int
    ticks: int
    data: bytes
    arrived: float


class Order:
    """Puts the packets of one source back in order; each is given once, the lost ones never."""

    def __init__(self, patience: int = PATIENCE) -> None:
        self.patience = patience
        self.held: dict[int, Packet] = {}
        self.next: int | None = None
        self.ticks = 0  # of the newest
        self.lost = self.late = 0

    def put(self, seq: int, timestamp: int, data: bytes, arrived: float) -> list[Packet]:
        """Take a packet as it came, 16 bits of `seq` and 32 of `timestamp`; give those whose turn it is."""
        if self.next is None:
            self.next, self.ticks = seq, timestamp
        given: list[Packet] = []
        if (
            abs(_signed(seq - self.next, 16)) > RESTART
        ):  # the sender began anew: what is held has no successor
            given = [self.held[early] for early in sorted(self.held)]
            self.held.clear()
            self.next = seq
        whole = self.next + _signed(seq - self.next, 16)
        if whole < self.next or whole in self.held:
            self.late += 1
            return given
        self.ticks += _signed(timestamp - self.ticks, 32)
        self.held[whole] = Packet(whole, self.ticks, data, arrived)
        if self.next not in self.held and len(self.held) >= self.patience:
            first = min(self.held)
            self.lost += first - self.next
            self.next = first
        while self.next in self.held:
            given.append(self.held.pop(self.next))
            self.next += 1
        return given


class Timeline:
    """Where decoded sound belongs: how much is missing before it, and when it was captured."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.next: int | None = None  # RTP ticks
        self.quickest: deque[tuple[float, float]] = deque()  # arrivals and transits, the least of each window

    def place(self, ticks: int, count: int) -> int:
        """Take `count` ticks of sound at an RTP time; give how many ticks are missing before it."""
        missing = 0 if self.next is None else ticks - self.next
        self.next = ticks + count
        if not 0 <= missing <= GAP * self.rate:
            self.quickest.clear()  # another clock
            return 0
        return missing

    def captured(self, ticks: int, arrived: float) -> float:
        """When sound that ends at an RTP time was captured: as if the quickest packet of late had taken no time."""
        transit = arrived - ticks / self.rate
        if not self.quickest or arrived - self.quickest[-1][0] > WINDOW:
            self.quickest.append((arrived, transit))
        elif transit < self.quickest[-1][1]:
            self.quickest[-1] = (self.quickest[-1][0], transit)
        while len(self.quickest) > 2:
            self.quickest.popleft()
        return ticks / self.rate + min(least for _, least in self.quickest)


def conceal(last: Array, count: int) -> Array:
    """Ticks in place of lost ones: what came last backwards, fading out, then silence.  # [t, c] -> [count, c]

    Backwards, because then there is no jump where the loss begins.
    """
    filled = np.zeros((count, last.shape[1]), np.float32)
    known = min(len(last), count)
    if known:
        filled[:known] = (
            last[::-1][:known] * np.linspace(1, 0, known, endpoint=False, dtype=np.float32)[:, None]
        )
    return filled


def _signed(value: int, bits: int) -> int:
    """The difference nearest to zero that has these low bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
