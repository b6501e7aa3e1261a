"""Ledger: where the delay of a stream arises, stage by stage, from the times of its chunks. No clock of its own."""

from collections import deque
from dataclasses import dataclass

KEPT = 512  # chunks that figures are made of
STAGES = ("lookahead", "transport", "wait", "compute", "send", "buffer")


@dataclass(frozen=True)
class Delays:
    """Where the first sample of one chunk spent its time, from its capture to its being heard.  # all in seconds

    `lookahead`: until the last sample that its making needs was captured. `transport`: until that sample had arrived.
    `wait`: until the step began. `compute`: until it ended. `send`: until it was handed to the network.
    `buffer`: what the listener holds before playing.
    """

    lookahead: float
    transport: float
    wait: float
    compute: float
    send: float
    buffer: float

    @property
    def total(self) -> float:
        """From capture to play-out, the network on the way out left out."""
        return float(sum(getattr(self, stage) for stage in STAGES))


@dataclass(frozen=True)
class Came:
    """Input up to tick `end`: when its end was captured and when it arrived, in seconds."""

    end: int
    captured: float
    arrived: float


class Ledger:
    """The times of one stream; all ticks are the caller's."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.input: deque[Came] = deque(maxlen=KEPT)
        self.steps: deque[tuple[int, int, float, float]] = deque(maxlen=KEPT)
        self.delays: deque[Delays] = deque(maxlen=KEPT)
        self.buffered = 0.0  # seconds, as the listener said last

    def came(self, end: int, captured: float, arrived: float) -> None:
        """Note input up to a tick. Capture cannot be later than arrival, whatever the clocks say."""
        self.input.append(Came(end, min(captured, arrived), arrived))

    def stepped(self, end: int, needs: int, start: float, stop: float) -> None:
        """Note the step that made output up to tick `end` once input up to tick `needs` was there."""
        self.steps.append((end, needs, start, stop))

    def sent(self, pts: int, at: float) -> Delays | None:
        """Note that the chunk that starts at a tick was sent; give its delays, if its times are known."""
        step = next((s for s in self.steps if s[0] > pts), None)
        if (
            step is None
            or (first := self._input(pts)) is None
            or (needed := self._input(step[1] - 1)) is None
        ):
            return None
        _, needs, start, stop = step
        spoken, whole = self._captured(first, pts), self._captured(needed, needs)
        delays = Delays(
            whole - spoken,
            needed.arrived - whole,
            start - needed.arrived,
            stop - start,
            at - stop,
            self.buffered,
        )
        self.delays.append(delays)
        return delays

    def figures(self) -> dict[str, object]:
        """Median and 99th percentile of every stage and of the whole, in ms; empty before the first chunk."""
        if not self.delays:
            return {}
        columns = {stage: sorted(getattr(d, stage) for d in self.delays) for stage in (*STAGES, "total")}
        p50, p99 = (
            {
                stage: round(1e3 * values[int(share * (len(values) - 1))], 2)
                for stage, values in columns.items()
            }
            for share in (0.5, 0.99)
        )
        return {**p50, "p99": p99}

    def _input(self, tick: int) -> Came | None:
        """The piece of input that holds a tick."""
        return next((c for c in self.input if c.end > tick), None)

    def _captured(self, came: Came, tick: int) -> float:
        return came.captured - (came.end - tick) / self.rate
