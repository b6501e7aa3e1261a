"""Scheduler: who steps next and with whom, who may come in, and who has to do with less.

Pure values: no clock (`now` is passed in), no thread, no tensor. A piece is one bounded bit of a session's work, a
hop or a solver evaluation; between two pieces anything may be preempted, so that nobody waits longer than one piece.

    LIVE          a microphone waits at the other end; earliest deadline first
    INTERACTIVE   somebody listens to what is being made; the same, behind what is live
    BATCH         nobody waits; who has waited longest first, with a share of the time that nobody can take
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from heapq import heapify, heappop, heappush

LIMIT = 0.75  # of a lane's time that live sessions may be predicted to need
SHARE = 0.1  # of a lane's time that batch work gets whatever else waits
BUSY = 0.5  # of a lane's time, from which on live sessions wait for one another
BUCKETS = (1, 2, 4, 8, 16, 32, 64)  # rows a step is measured at
KINDS = 4096  # whose costs are remembered


class Fence(IntEnum):
    """The classes of work; a lower one goes first."""

    LIVE = 0
    INTERACTIVE = 1
    BATCH = 2


@dataclass(frozen=True)
class Piece:
    """What one session would do next.

    Pieces of equal `kind` can be one step, of up to `most` rows. `due` is when its result is wanted, for batch when
    it began to wait; before `start` nobody wants it. # seconds, on any one clock
    """

    session: str
    kind: Hashable
    fence: Fence
    due: float
    rows: int = 1
    most: int = 16
    start: float = -math.inf


def gather(piece: Piece, period: float, load: float, now: float) -> Piece:
    """A live piece that waits for others of its kind until the next beat, where a lane's time is short.

    Beats are a `period` apart, so that whatever came since the last one steps together; what is due soon goes at once.
    """
    beat = math.ceil(now / period) * period
    if load < BUSY or piece.fence is not Fence.LIVE or piece.due < beat + 2 * period:
        return piece
    return replace(piece, start=max(piece.start, beat))


class Costs:
    """What steps take on one device, learned from steps: seconds by kind and number of rows."""

    def __init__(self) -> None:
        self.typical: dict[Hashable, dict[int, float]] = {}

    def learn(self, kind: Hashable, rows: int, seconds: float) -> None:
        """Note a step; a quarter of what is known about its kind and bucket becomes this."""
        known = self.typical.setdefault(kind, {})
        at = bucket(rows)
        known[at] = seconds if at not in known else known[at] + 0.25 * (seconds - known[at])
        while len(self.typical) > KINDS:
            del self.typical[next(iter(self.typical))]

    def step(self, kind: Hashable, rows: int) -> float:
        """Seconds that a step of so many rows is expected to take; 0 while nothing is known of its kind.

        Between two measured sizes the line between them counts, beyond the largest its cost a row.
        """
        known = self.typical.get(kind)
        if not known:
            return 0.0
        below = max((size for size in known if size <= rows), default=None)
        above = min((size for size in known if size >= rows), default=None)
        if below is None or above is None:
            return known[above] if above else known[below or 1] * rows / (below or 1)
        if below == above:
            return known[below]
        return known[below] + (known[above] - known[below]) * (rows - below) / (above - below)

    def longest(self, model: Hashable) -> float:
        """Seconds of the longest piece known of a model's, for one row: what may stand in others' way."""
        kinds = [kind for kind in self.typical if isinstance(kind, tuple) and kind[0] == model]
        return max((self.step(kind, 1) for kind in kinds), default=self.step(model, 1))


def bucket(rows: int) -> int:
    """The measured size a number of rows counts under."""
    return next((size for size in BUCKETS if size >= rows), BUCKETS[-1])


@dataclass(frozen=True)
class Load:
    """What the open sessions of one kind need: so many rows, a step of each every `period` seconds."""

    rows: int
    period: float
    most: int = 16


def demand(loads: Mapping[Hashable, Load], costs: Costs) -> float:
    """The share of a lane's time that sessions need when those of a kind step together.  # 1: all of it"""
    total = 0.0
    for kind, load in loads.items():
        full, rest = divmod(load.rows, load.most)
        seconds = full * costs.step(kind, load.most) + (costs.step(kind, rest) if rest else 0.0)
        total += seconds / load.period
    return total


def feasible(need: float, longest: float, shortest: float, share: float = SHARE) -> bool:
    """Whether no deadline is missed: what is needed, and a longest piece in the `shortest` wait, leave a `share`.

    A piece that has begun is not interrupted, so each deadline may come one longest piece too late (Jeffay 1991).
    """
    return need + longest / shortest <= 1 - share + 1e-9


@dataclass(eq=False)
class _Entry:
    """A piece that waits, in the heaps it stands in."""

    piece: Piece
    key: float  # what it is ordered by
    joined: bool = False  # it is wanted by now
    gone: bool = False  # taken or cancelled; the heaps drop it when it comes up


_Heap = list[tuple[float, int, _Entry]]


class Queue:
    """The pieces that wait for one lane. Each operation compares O(log n) pieces."""

    def __init__(self, costs: Costs, share: float = SHARE) -> None:
        self.costs, self.share = costs, share
        self.longest = math.inf  # seconds that a step of several sessions may take
        self.credit = 0.0  # seconds that batch work is owed
        self.wanted = dict.fromkeys(Fence, 0)  # pieces of each class
        self._waiting: dict[str, _Entry] = {}
        self._fences: dict[Fence, _Heap] = {fence: [] for fence in Fence}
        self._kinds: dict[tuple[Fence, Hashable], _Heap] = {}
        self._later: _Heap = []
        self._order = self._stale = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, session: str) -> bool:
        return session in self._waiting

    def push(self, piece: Piece, now: float) -> None:
        """Add a session's next piece, in place of one that waits."""
        self.cancel(piece.session)
        entry = self._waiting[piece.session] = _Entry(piece, piece.start)
        if piece.start > now:
            self._put(self._later, entry)
        else:
            self._join(entry, now)

    def cancel(self, session: str) -> None:
        """Forget a session's piece: it is not taken any more. Twice is once."""
        entry = self._waiting.pop(session, None)
        if entry is None:
            return
        entry.gone = True
        self.wanted[entry.piece.fence] -= entry.joined
        self._stale += 1
        if self._stale > 64 + len(self._waiting):
            self._compact()

    def pop(self, now: float) -> list[Piece]:
        """The next step: the piece that goes first, and those that can go with it; none if none is wanted yet."""
        while (late := _first(self._later)) and late.piece.start <= now:
            heappop(self._later)
            self._join(late, now)
        head = self._head()
        if head is None:
            return []
        heap, rows = self._kinds[head.fence, head.kind], 0
        chosen: list[Piece] = []
        while entry := _first(heap):
            piece = entry.piece
            more = rows + piece.rows
            if chosen and (more > piece.most or self.costs.step(piece.kind, more) > self.longest):
                break
            heappop(heap)
            self.cancel(piece.session)
            chosen.append(piece)
            rows = more
        return chosen

    def wakes(self) -> float | None:
        """When the next piece that is not wanted yet will be; None: no such piece."""
        entry = _first(self._later)
        return entry.piece.start if entry else None

    def spent(self, fence: Fence, seconds: float) -> None:
        """Note that a step took so long: batch work that waits earns its share of it, or has had some of it."""
        if fence is Fence.BATCH:
            self.credit = max(0.0, self.credit - seconds)
        elif self.wanted[Fence.BATCH]:
            self.credit += seconds * self.share / (1 - self.share)

    def _head(self) -> Piece | None:
        """The piece that goes first."""
        firsts = {fence: entry.piece for fence in Fence if (entry := _first(self._fences[fence]))}
        batch = firsts.get(Fence.BATCH)
        if batch is None or len(firsts) == 1:
            self.credit = 0.0  # what nobody keeps from it is not owed
        elif self.credit and self.credit >= self.costs.step(batch.kind, batch.rows):
            return batch
        return firsts[min(firsts)] if firsts else None

    def _join(self, entry: _Entry, now: float) -> None:
        """Have a piece wait among those that are wanted.

        All that are late by now wait alike, so that nobody whose input is too much, or wrongly timed, is always first.
        """
        piece = entry.piece
        entry.joined, entry.key = True, max(now, piece.due)
        self.wanted[piece.fence] += 1
        self._put(self._fences[piece.fence], entry)
        self._put(self._kinds.setdefault((piece.fence, piece.kind), []), entry)

    def _put(self, heap: _Heap, entry: _Entry) -> None:
        self._order += 1  # of equal keys, who came first goes first
        heappush(heap, (entry.key, self._order, entry))

    def _compact(self) -> None:
        """Rebuild the heaps without what is gone; paid for by the cancels that came since."""
        for heap in (*self._fences.values(), *self._kinds.values(), self._later):
            heap[:] = [item for item in heap if not item[2].gone]
            heapify(heap)
        self._kinds = {kind: heap for kind, heap in self._kinds.items() if heap}
        self._stale = 0


def _first(heap: _Heap) -> _Entry | None:
    """The first entry of a heap that still waits."""
    while heap and heap[0][2].gone:
        heappop(heap)
    return heap[0][2] if heap else None


class Ladder:
    """When a live session has to do with less, and when it may have all again.

    A session that is late in more than `often` of its chunks within `window` seconds goes down one rung; one that
    was in time for `calm` seconds goes up again, and waits twice as long the next time it had to come back down.
    """

    def __init__(self, rungs: int, often: float = 0.1, window: float = 2.0, calm: float = 10.0) -> None:
        self.rungs, self.often, self.window, self.calm = rungs, often, window, calm
        self.rung = self.late = self.count = 0
        self.since: float | None = None  # when the window began
        self.good = 0.0  # since when all was in time
        self.up: float | None = None  # when it last went up

    def note(self, late: bool, now: float) -> int | None:
        """Note whether a chunk was late; give the rung to go to, None to stay."""
        if self.since is None:
            self.since = self.good = now
        self.late, self.count = self.late + late, self.count + 1
        if now - self.since < self.window:
            return None
        bad = self.late > self.often * self.count
        self.since, self.late, self.count = now, 0, 0
        if bad:
            self.good = now
            if self.rung == self.rungs:
                return None
            if self.up is not None and now - self.up < 2 * self.calm:
                self.calm *= 2
            self.rung += 1
            return self.rung
        if self.rung and now - self.good >= self.calm:
            self.good = self.up = now
            self.rung -= 1
            return self.rung
        return None
