"""What a listener hears of a stream, and what many streams come to. Pure: whoever calls says what time it is."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

LEAD = 0.1  # seconds that a listener holds back
WORST = 0.1  # seconds that an underrun may last in a stream that counts as continuous
FINE = 10_000  # of a second: how finely times are counted


class Playout:
    """A listener who plays tick after tick and never waits.

    The first tick plays `LEAD` after it arrived, every other at its distance from that one: the delay is fixed. A tick
    that is not there when its turn comes is silence, whether it is late, was dropped or never made. An underrun is an
    unbroken run of such ticks; its length is the time they would have played.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.first: tuple[int, float] | None = None  # a tick and when it arrived
        self.next = 0  # tick
        self.run = self.worst = self.silent = 0  # ticks: of this underrun, of the longest, of all
        self.underruns = 0

    def hear(self, pts: int, ticks: int, at: float) -> float:
        """Note a chunk that arrived, in the order of ticks; give how late it is, in seconds.

        That is how long after its turn if nothing were held back: so much a listener has to hold back.
        """
        if self.first is None:
            self.first, self.next = (pts, at), pts
        late = at - self.turn(pts)
        fresh = pts + ticks - self.next  # what comes a second time is not looked at
        if fresh > 0:
            self._miss(pts - self.next)
            known = max(pts, self.next)
            missed = min(ticks, max(0, math.ceil((at - self.turn(known) - LEAD) * self.rate - 1e-6)))
            self._miss(missed)
            if missed < ticks:
                self.run = 0
            self.next = pts + ticks
        return late

    def end(self, tick: int) -> None:
        """Note that nothing comes any more, where sound up to a tick was due."""
        self._miss(tick - self.next)
        self.next = max(self.next, tick)

    def turn(self, tick: int) -> float:
        """When a tick would play if nothing were held back."""
        pts, at = self.first or (0, 0.0)
        return at + (tick - pts) / self.rate

    def _miss(self, ticks: int) -> None:
        if ticks > 0:
            self.underruns += not self.run
            self.run += ticks
            self.silent += ticks
            self.worst = max(self.worst, self.run)


@dataclass
class Take:
    """One session as it went.  # times in seconds; `late`, `delay`, `first`, `own`: counted by whole 1/FINE s

    `late` as Playout.hear says, `delay` from a chunk's first sample being spoken to its arrival, `first` from a text
    to its first sound, `own` by how much what is sent was sent too late: that is the tester's fault.
    """

    outcome: str = "held"  # or refused, failed
    error: str = ""
    retry_after: float | None = None
    seconds: float = 0.0  # that were spoken
    worst: float = 0.0
    silent: float = 0.0
    underruns: int = 0
    late: Counter[int] = field(default_factory=Counter)
    delay: Counter[int] = field(default_factory=Counter)
    first: Counter[int] = field(default_factory=Counter)
    own: Counter[int] = field(default_factory=Counter)
    dropped: float = 0.0
    skipped: float = 0.0
    lost: int = 0
    resumed: int = 0

    @property
    def continuous(self) -> bool:
        """Whether it was heard to its end without a long underrun."""
        return self.outcome == "held" and self.worst <= WORST

    def note(self, playout: Playout) -> None:
        """Take over what a listener heard, beside what was heard before."""
        self.worst = max(self.worst, playout.worst / playout.rate)
        self.silent += playout.silent / playout.rate
        self.underruns += playout.underruns

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Take":
        """What `vars` gave, after it was JSON."""
        counted = {
            name: Counter({int(k): v for k, v in values[name].items()})
            for name in ("late", "delay", "first", "own")
        }
        return cls(**{**values, **counted})


@dataclass(frozen=True)
class Spread:
    """The middle, the 99th percentile and the greatest of many times, in ms."""

    p50: float
    p99: float
    most: float

    @classmethod
    def over(cls, counts: Counter[int]) -> "Spread | None":
        """Of times counted by 1/FINE s; None of none."""
        total, ms = counts.total(), 1000 / FINE
        if not total:
            return None
        seen, found = 0, list[float]()
        for value, count in sorted(counts.items()):
            seen += count
            while len(found) < 2 and seen >= (0.5, 0.99)[len(found)] * total:
                found.append(value * ms)
        return cls(*(round(v, 1) for v in (*found, max(counts) * ms)))


@dataclass(frozen=True)
class Report:
    """What a run came to.  # seconds, but for the spreads in ms"""

    sessions: int
    opened: int  # were not refused
    refused: int
    failed: int
    continuity: float  # share of those opened
    worst: float  # underrun
    underruns: int
    silent: float  # share of what was spoken
    late: Spread | None
    delay: Spread | None
    first: Spread | None  # sound
    own: Spread | None
    dropped: float
    skipped: float
    lost: int  # connections
    resumed: int
    retry_after: tuple[float, float] | None  # the least and the most
    errors: dict[str, int]  # what was said, and how often

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def report(takes: Sequence[Take]) -> Report:
    """Sum up some streams."""
    opened = [take for take in takes if take.outcome != "refused"]
    spoken = sum(take.seconds for take in opened)
    waits = [take.retry_after for take in takes if take.retry_after is not None]

    def total(name: str) -> Any:
        return sum(getattr(take, name) for take in opened)

    def spread(name: str) -> Spread | None:
        return Spread.over(sum((getattr(take, name) for take in opened), Counter[int]()))

    return Report(
        sessions=len(takes),
        opened=len(opened),
        refused=len(takes) - len(opened),
        failed=sum(take.outcome == "failed" for take in takes),
        continuity=sum(take.continuous for take in opened) / len(opened) if opened else 0.0,
        worst=max((take.worst for take in opened), default=0.0),
        underruns=total("underruns"),
        silent=total("silent") / spoken if spoken else 0.0,
        late=spread("late"),
        delay=spread("delay"),
        first=spread("first"),
        own=spread("own"),
        dropped=total("dropped"),
        skipped=total("skipped"),
        lost=total("lost"),
        resumed=total("resumed"),
        retry_after=(min(waits), max(waits)) if waits else None,
        errors=dict(Counter(take.error for take in takes if take.error).most_common()),
    )
