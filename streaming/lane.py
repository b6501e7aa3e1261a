"""Lane: a thread that steps sessions piece by piece, and between two pieces answers calls.

An engine has one, or one for what is live and one for the rest, so that a long forward never delays a live hop. A
lane's seats, queue and costs are its thread's alone; other threads only call, nudge and read figures.
"""

import logging
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from math import exp
from typing import Any, TypeVar

import torch

from riverrun.streaming.batch import Seat, advance, tell
from riverrun.streaming.errors import SessionEnded
from riverrun.streaming.scheduler import BUSY, Costs, Fence, Queue, gather

log = logging.getLogger(__name__)
T = TypeVar("T")
MEMORY = 2.0  # seconds over which the load is averaged
NICE = 10  # what a thread that nobody waits for live is lowered to, as `nice` counts
FORGET = 0.02  # how much of what is known of `drag` and `apart` a turn replaces
MOST = 3.0  # of either, that a turn may tell
KEPT = 1_000  # pieces whose lateness is remembered


class Lane:
    """Steps seats until it is stopped. `name` is the thread's and the figures'."""

    def __init__(
        self,
        name: str,
        clock: Callable[[], float],
        threads: int = 1,
        device: str = "cpu",
        urgent: bool = False,
    ) -> None:
        self.name, self.clock, self.threads, self.device, self.urgent = name, clock, threads, device, urgent
        self.queue = Queue(Costs())
        self.seats: dict[str, Seat] = {}
        self.live: Counter[str] = Counter()  # rows of live sessions, by model
        self.stepping: tuple[float, list[str]] | None = None  # since when, and whose step
        self.late: deque[float] = deque(
            maxlen=KEPT
        )  # seconds after they were due, of pieces somebody waited for
        self.steps = self.rows = 0
        self.busy = dict.fromkeys(Fence, 0.0)  # seconds
        self._load, self._loaded = 0.0, clock()
        self._turn = clock()  # when this turn began
        self.drag = 1.2  # how much longer a turn takes than its step
        self.apart = 1.25  # how much more rows cost than if all that are live stepped together
        self._awake = threading.Condition()
        self._calls: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._nudged: set[str] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=f"riverrun-{name}", daemon=True)
        self._thread.start()

    # Any thread

    @property
    def alive(self) -> bool:
        """Whether it still works."""
        return not self._stopping

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Have the lane's thread do something between two steps. Raises SessionEnded if it has stopped."""
        future: Future[T] = Future()
        with self._awake:
            if self._stopping:
                raise SessionEnded("the engine has stopped")
            self._calls.append((future, work))
            self._awake.notify()
        return future

    def nudge(self, name: str) -> None:
        """Say that a seat may have something to do now."""
        with self._awake:
            self._nudged.add(name)
            self._awake.notify()

    def stop(self, wait: bool = True) -> None:
        """End every session and the thread, after the step in progress. Twice is once."""
        with self._awake:
            self._stopping = True
            self._awake.notify()
        if wait:
            self._thread.join()

    def load(self) -> float:
        """The share of its time that went into what somebody waits for, of late."""
        return self._load * exp((self._loaded - self.clock()) / MEMORY)

    def figures(self) -> dict[str, Any]:
        """What it does, as JSON values; times in seconds."""
        late, seats = sorted(self.late), list(self.seats.values())
        step = self.stepping
        return {
            "name": self.name,
            "load": round(self.load(), 4),
            "steps": self.steps,
            "rows": self.rows,
            "busy": {fence.name.lower(): round(self.busy[fence], 4) for fence in Fence},
            "waiting": {fence.name.lower(): self.queue.wanted[fence] for fence in Fence},
            "sessions": {fence.name.lower(): sum(s.session.fence is fence for s in seats) for fence in Fence},
            "late": [round(late[int(share * (len(late) - 1))], 5) for share in (0.5, 0.99)] if late else [],
            "stepping": round(self.clock() - step[0], 4) if step else 0.0,
        }

    # The lane's thread

    def enter(self, seat: Seat) -> None:
        """Take a seat in."""
        self.seats[seat.name] = seat
        self._bound()
        self._look(seat)

    def leave(self, name: str, why: str = "it was closed") -> None:
        """Let a seat go. Twice is once."""
        self.queue.cancel(name)
        seat = self.seats.pop(name, None)
        if seat is not None:
            seat.error = seat.error or SessionEnded(f"session {name} is over: {why}")
            seat.leave()
            tell([seat])
            self._bound()

    def look(self, seat: Seat) -> None:
        """See anew what a seat would do next, which may have changed."""
        self.queue.cancel(seat.name)
        self._look(seat)

    def _bound(self) -> None:
        """No step of several sessions may take longer than the shortest hop that is live."""
        live = [seat for seat in self.seats.values() if seat.session.fence is Fence.LIVE]
        self.queue.longest = min((seat.session.period for seat in live), default=float("inf"))
        self.live.clear()
        for seat in live:
            self.live[seat.what] += seat.session.rows

    def _look(self, seat: Seat) -> None:
        if seat.name in self.queue:
            return
        now = self.clock()
        try:
            piece = seat.piece(now)
        except Exception as error:
            seat.fail(error)
            tell([seat])
            return
        if piece is not None:
            self.queue.push(gather(piece, seat.session.period, self.load(), now), now)

    def _stream(self) -> AbstractContextManager[Any]:
        """Where a GPU's work of this lane is queued: ahead of others', if it is urgent."""
        if not self.device.startswith("cuda"):
            return nullcontext()
        return torch.cuda.stream(torch.cuda.Stream(self.device, priority=-1 if self.urgent else 0))

    def _work(self) -> None:
        self._give_way()
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode(), self._stream():
                while not self._stopping:
                    self._answer()
                    self._step()
        except Exception:
            log.exception("lane %s failed", self.name)
        finally:
            with self._awake:
                self._stopping = True
            self._answer()
            for name in list(self.seats):
                self.leave(name, "the engine has stopped")

    def _give_way(self) -> None:
        """Unless what is done here is urgent, take a processor only where nothing urgent wants it, nor the transports.

        Where a thread cannot have a priority of its own, all stays as it is.
        """
        if self.urgent or sys.platform != "linux":
            return
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))

    def _answer(self) -> None:
        """Wait for something to do, and do the calls among it."""
        with self._awake:
            wakes = self.queue.wakes()
            self._awake.wait_for(
                lambda: self._calls or self._nudged or self._stopping or any(self.queue.wanted.values()),
                None if wakes is None else max(0.0, wakes - self.clock()),
            )
            self._turn = self.clock()
            calls, self._calls = self._calls, []
            nudged, self._nudged = self._nudged, set()
        for future, work in calls:
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)
        for name in nudged:
            if seat := self.seats.get(name):
                self._look(seat)

    def _step(self) -> None:
        """Do the next piece, if any is wanted."""
        pieces = self.queue.pop(self.clock())
        if not pieces:
            return
        seats = [self.seats[piece.session] for piece in pieces]
        start = self.clock()
        self.stepping = (start, [piece.session for piece in pieces])
        advance(seats, self.clock)
        self.stepping = None
        stop, first = self.clock(), pieces[0]
        rows = sum(piece.rows for piece in pieces)
        self.queue.costs.learn(first.kind, rows, stop - start)
        seats[0].cost += stop - start
        if not seats[0].session.pending:  # what a whole hop takes, in however many pieces
            self.queue.costs.learn(seats[0].what, rows, seats[0].cost)
            self._compare(seats[0], rows)
            for seat in seats:
                seat.cost = 0.0
        self.queue.spent(first.fence, stop - start)
        for piece, seat in zip(pieces, seats, strict=True):
            if piece.fence is not Fence.BATCH:
                self.late.append(stop - piece.due)
                seat.judge(stop > piece.due, stop)
            self._look(seat)
        self._note(first.fence, rows, self.clock() - self._turn, stop - start)

    def _compare(self, first: Seat, rows: int) -> None:
        """Note how much more each row of a live hop cost than if all of its model had come together.

        While there is time enough nobody waits for others, which says nothing about when there is not.
        """
        if first.session.fence is not Fence.LIVE or self.load() < BUSY:
            return
        total = min(self.live[first.what], first.model.spec.max_batch)
        together = self.queue.costs.step(first.what, total) / total
        self.apart += FORGET * (min(first.cost / rows / together, MOST) - self.apart)

    def _note(self, fence: Fence, rows: int, turn: float, step: float) -> None:
        self.steps, self.rows = self.steps + 1, self.rows + rows
        self.busy[fence] += turn
        if fence is not Fence.BATCH:
            self._load, self._loaded = self.load() + turn / MEMORY, self.clock()
            self.drag += FORGET * (min(turn / max(step, 1e-6), MOST) - self.drag)
