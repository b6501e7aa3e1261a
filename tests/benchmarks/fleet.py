"""Thousands of sessions over many devices under a virtual clock, with the server's queue, costs, admission and ladder.

python -m tests.benchmarks.fleet [sessions] [devices] [seconds]

What a device does is assumed, not measured: a step takes 0.6 ms and 0.07 ms a row, give or take, times how slow the
device is; one in 10,000 takes ten times as long; and halfway, one device in fifty becomes three times as slow. Each has
a batch job, too. A session is placed where the least is predicted to be needed, if admission takes it there.
"""

import random
import sys
import time
from collections import Counter
from heapq import heapify, heappop, heapreplace

from riverrun.streaming.scheduler import LIMIT, Costs, Fence, Ladder, Load, Piece, Queue, demand, feasible

HOP, DELAY = 0.016, 0.1  # seconds: of a hop, and from its capture to when it is due
BASE, ROW, MOST = 0.6e-3, 0.07e-3, 16  # seconds of a step, and of each of its rows; rows
LIGHT = 0.5  # times the time of a step whose sessions do with less
STALLS = 1e-4  # of all steps
SLOWED, SLOWER = 50, 3.0  # one device in so many, and by how much


class Device:
    """One lane and what it holds."""

    def __init__(self, number: int) -> None:
        self.dice = random.Random(number)
        self.slow = self.dice.uniform(0.8, 1.2)  # times the time that steps take elsewhere
        self.queue = Queue(Costs())
        self.queue.longest = HOP
        for rows in (1, 2, 4, 8, 16):
            self.queue.costs.learn("all", rows, (BASE + ROW * rows) * self.slow)
        self.load, self.need = Load(0, HOP, MOST), 0.0
        self.busy = dict.fromkeys(Fence, 0.0)  # seconds
        self.late: list[float] = []  # seconds after they were due, of live pieces
        self.began: dict[str, float] = {}  # when each session's first sample was captured
        self.hops: Counter[str] = Counter()
        self.ladders: dict[str, Ladder] = {}
        self.queue.push(Piece("a job", "batch", Fence.BATCH, 0.0), 0.0)

    def takes(self) -> bool:
        """Let one session more in, unless admission says that deadlines would be missed."""
        load = Load(self.load.rows + 1, HOP, MOST)
        need = demand({"all": load}, self.queue.costs)
        if need > LIMIT or not feasible(need, self.queue.costs.step("all", 1), DELAY):
            return False
        self.load, self.need = load, need
        return True

    def join(self, session: str, now: float) -> None:
        """Have a session begin."""
        self.began[session], self.ladders[session] = now, Ladder(1)
        self._next(session, now)

    def _next(self, session: str, now: float) -> None:
        """A hop can be stepped once its last sample was captured, and is due a while after its first."""
        first = self.began[session] + self.hops[session] * HOP
        kind = "less" if self.ladders[session].rung else "all"
        self.queue.push(Piece(session, kind, Fence.LIVE, first + DELAY, most=MOST, start=first + HOP), now)

    def step(self, now: float) -> float:
        """Do the next step; give when it is done, or when there may be one."""
        pieces = self.queue.pop(now)
        if not pieces:
            return max(now + 1e-6, self.queue.wakes() or now + HOP)
        kind, fence = pieces[0].kind, pieces[0].fence
        seconds = (BASE + ROW * len(pieces)) * self.slow * self.dice.lognormvariate(0, 0.1)
        seconds *= (LIGHT if kind == "less" else 1) * (10 if self.dice.random() < STALLS else 1)
        stop = now + seconds
        self.busy[fence] += seconds
        self.queue.costs.learn(kind, len(pieces), seconds)
        self.queue.spent(fence, seconds)
        for piece in pieces:
            if fence is Fence.BATCH:
                self.queue.push(piece, stop)
                continue
            self.late.append(stop - piece.due)
            self.ladders[piece.session].note(stop > piece.due, stop)
            self.hops[piece.session] += 1
            self._next(piece.session, stop)
        return stop


def place(devices: list[Device], sessions: int) -> list[tuple[str, Device]]:
    """Put each session where the least is needed; those that no device takes are left out."""
    open_ones = [(device.need, i) for i, device in enumerate(devices)]
    heapify(open_ones)
    found: list[tuple[str, Device]] = []
    while open_ones and len(found) < sessions:
        i = open_ones[0][1]
        if devices[i].takes():
            found.append((str(len(found)), devices[i]))
            heapreplace(open_ones, (devices[i].need, i))
        else:
            heappop(open_ones)  # full
    return found


def run(devices: list[Device], seconds: float) -> None:
    """Step every device for so long."""
    events, slowed = [(0.0, i) for i in range(len(devices))], False
    while events[0][0] < seconds:
        now, i = events[0]
        if not slowed and now > seconds / 2:
            slowed = True
            for device in devices[::SLOWED]:
                device.slow *= SLOWER
        heapreplace(events, (devices[i].step(now), i))


def fleet(sessions: int = 10_000, count: int = 100, seconds: float = 5.0) -> None:
    """Print what the devices did, and how long it took to find out."""
    dice, begun = random.Random(0), time.perf_counter()
    devices = [Device(i) for i in range(count)]
    found = place(devices, sessions)
    placed = time.perf_counter() - begun
    for name, device in found:
        device.join(name, dice.random() * HOP)
    run(devices, seconds)
    spent = time.perf_counter() - begun - placed
    needs = sorted(device.need for device in devices)
    hops = sum(len(device.late) for device in devices)
    live, batch = (sum(d.busy[f] for d in devices) / count / seconds for f in (Fence.LIVE, Fence.BATCH))
    print(f"{sessions} sessions over {count} devices for {seconds:g} s")
    print(f"placed {len(found)}, refused {sessions - len(found)}, in {placed:.2f} s")
    print(f"predicted need of a device {needs[0]:.1%} to {needs[-1]:.1%}, the limit is {LIMIT:.0%}")
    print(f"of their time, devices spent {live:.1%} on what is live and {batch:.1%} on the jobs")
    for what, some in (
        ("slowed", devices[::SLOWED]),
        ("other", [d for i, d in enumerate(devices) if i % SLOWED]),
    ):
        told(what, some)
    print(f"{spent:.1f} s to simulate: {1e6 * spent / hops:.1f} us a hop, {spent / seconds:.1f} s a second")


def told(what: str, devices: list[Device]) -> None:
    """Print how some devices did."""
    late = sorted(value for device in devices for value in device.late)
    missed = sum(value > 0 for value in late)
    less = sum(ladder.rung for device in devices for ladder in device.ladders.values())
    print(
        f"{len(devices)} {what} devices: {missed} of {len(late)} deadlines missed ({missed / len(late):.3%}), p99 "
        f"{1e3 * late[int(0.99 * len(late))]:+.1f} ms, most {1e3 * late[-1]:+.1f} ms; {less} sessions do with less"
    )


if __name__ == "__main__":
    numbers = [kind(value) for kind, value in zip((int, int, float), sys.argv[1:], strict=False)]
    fleet(*numbers)
