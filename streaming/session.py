"""Session: one stream through a model, as a pure value: no I/O, no clock, no thread.

Three sides use it. The producer calls `feed` and `finish`; the engine `ready`, `due`, `take` and `give`; the
transport `poll`. Each side writes fields of its own and hands on through deques, so that one thread a side needs
no lock.

It owns all that is about cutting and rates, so that no model carries that code: what comes out of a filter has the
ticks, the rate and the channels of what went in.

    feed -> inbox -> down -> blocks -> take | model | give -> trim -> up -> + -> outbox -> poll
                       +---> what the model cannot hear (bands.py) ---------+
"""

import math
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from riverrun.media import Chunk
from riverrun.media.chunk import Array
from riverrun.media.resampling import Resampler
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.streaming.bands import HighBand
from riverrun.streaming.buffer import Buffer
from riverrun.streaming.errors import ProtocolError
from riverrun.streaming.scheduler import Fence

Rate = int | Fraction
KEPT = 64  # steps whose times are remembered until they are asked for
HELD = 0.3  # seconds of live input, and of output, that may wait: what comes then is too late to be any use
SLACK = 2.0  # times the delay that is asked for, when a machine is too slow for it
RATES = range(1_000, 384_001)  # Hz, that sound is resampled from and to


@dataclass(frozen=True)
class Live:
    """What makes a session live: when its output is due.  # all in seconds

    A filter's output is due `delay` after its input was captured. A generator's first chunk is due `first` after
    `arrival` (on the engine's clock), each later one `margin` before it plays; while it is
    more than `lead` ahead, nothing is due. From tick `until` of its output on nothing is begun before `played` allows
    it; without, everything is.
    """

    delay: float = 0.1
    arrival: float = 0.0
    first: float = 0.5
    margin: float = 0.1
    lead: float = 2.0
    until: int | None = None


class Session:
    """One stream through a model, from the caller's ticks to the caller's ticks.

    A filter of one channel gets each channel of the sound as a row of its own; the rows step together, so that
    channels stay in phase. `rows` is how many rows of a step, and of a State, the session takes; `rate` is that
    of port 0's output.
    """

    def __init__(
        self,
        spec: Spec,
        rate: Rate | None = None,
        channels: int | None = None,
        band: Literal["full", "8k"] = "full",
        live: Live | None = None,
        queue: float = 1.0,  # seconds of input, and of output, that may wait; at least two hops may
    ) -> None:
        """`rate` and `channels` are the caller's; without them, the model's.

        `band` "full" keeps what lies above the model's band, "8k" drops it.
        Raises ProtocolError if the model cannot take or give such a stream.
        """
        self.spec, self.live, takes, gives = spec, live, spec.takes, spec.gives[0]
        self.rate: Rate = gives.rate if rate is None else rate
        self.entry_rate: Rate = (takes or gives).rate if rate is None else rate
        self.channels, self.rows = _rows(takes or gives, channels, takes is not None)
        self.down = _between(self.entry_rate, takes.rate, takes, self.channels) if takes else None
        self.up = _between(gives.rate, self.rate, gives, self.channels)
        self.high: HighBand | None = None
        if takes and self.down and band == "full" and self.rate > takes.rate == gives.rate:
            self.high = HighBand(int(self.rate), int(takes.rate), takes.hop, self.channels, spec.latency)
        queue = min(queue, HELD) if live and takes else queue
        self.limit = math.ceil(queue * self.entry_rate)  # ticks
        if takes:
            two_hops = 2 * takes.hop / takes.rate + self.latency
            self.limit = max(self.limit, math.ceil(two_hops * self.entry_rate))

        self.inbox: deque[Array | None] = deque()  # None: the end
        self.origin: int | None = None  # pts of the first tick
        self.fed, self.finished = 0, False
        self.captured: tuple[int, float] | None = None  # a tick and when it was captured
        self.began: float | None = None  # when play-out began
        self.slack = 1.0  # times the delay that was asked for
        self.until = live.until if live else None  # tick of the output from which on nothing is begun

        self.blocks = Buffer((self.channels,))  # at the model's rate, waiting for a whole hop
        self.entered = self.taken = self.answered = 0  # ticks of the model's ports: input, steps, output
        self.total: int | None = None  # ticks of the model's output, when known
        self.pending = False  # the model still works on its hop, or on what comes next

        self.outboxes: list[deque[Chunk]] = [deque() for _ in spec.gives]
        self.ended = [False] * len(spec.gives)
        self.given = self.polled = 0  # ticks of port 0
        self.steps: deque[tuple[int, int, float, float]] = deque()  # see `stepped`

    @property
    def latency(self) -> float:
        """Seconds from a sample going in to its coming out: hop, look-ahead, resamplers; not computing."""
        takes, gives = self.spec.takes, self.spec.gives[0]
        ticks = [self.up.latency / gives.rate if self.up else 0]
        if takes:
            ticks += [takes.hop / takes.rate, self.spec.latency / gives.rate]
            ticks += [self.down.latency / self.entry_rate if self.down else 0]
        return float(sum(ticks))

    # The producer's side

    @property
    def credit(self) -> int:
        """How many more ticks `feed` takes now."""
        takes = self.spec.takes
        if takes is None:
            return 0
        return min(self.limit, max(0, self.limit - self.fed + int(self.taken * self.entry_rate / takes.rate)))

    def feed(self, chunk: Chunk, captured: float | None = None) -> None:
        """Take the next ticks; a `last` chunk finishes. `captured` is when its end was captured, in seconds.

        Raises ProtocolError if they do not follow on, are of another rate or shape, or exceed the credit.
        """
        if self.spec.takes is None:
            raise ProtocolError("this model takes no media, only requests: use update")
        if self.finished:
            raise ProtocolError("the input is finished: open another session for more")
        pts = chunk.pts if self.origin is None else self.origin + self.fed
        if (chunk.rate, chunk.pts) != (self.entry_rate, pts):
            raise ProtocolError(
                f"chunk starts at tick {chunk.pts} of rate {chunk.rate}, expected {pts} of {self.entry_rate}"
            )
        if self.spec.takes.kind == "audio" and chunk.data.shape[1:] != (self.channels,):
            raise ProtocolError(f"chunk has shape {chunk.data.shape}, expected [t, {self.channels}]")
        if len(chunk) > self.credit:
            raise ProtocolError(
                f"chunk has {len(chunk)} ticks, but {self.credit} of {self.limit} are free: wait for credit"
            )
        self.origin = pts - self.fed
        self.fed += len(chunk)
        if captured is not None:
            self.captured = (self.fed, captured)
        if len(chunk):
            self.inbox.append(chunk.data)
        if chunk.last:
            self.finish()

    def finish(self) -> None:
        """Say that nothing more will be fed; what is on its way still comes out. Twice is once."""
        if self.spec.takes is None:
            raise ProtocolError("this model takes no media, and a request tells where it ends: use update")
        if not self.finished:
            self.finished = True
            self.inbox.append(None)

    # The engine's side

    @property
    def done(self) -> bool:
        """Whether the last chunk of every port has been made."""
        return all(self.ended)

    def ready(self) -> bool:
        """Whether a step would do something now; not while too much waits to be polled."""
        if self.done or self.given - self.polled >= self.limit:
            return False
        if self.pending:
            return True
        if self.spec.takes is None:
            return self.until is None or self.given < self.until
        while self.inbox and len(self.blocks) < self.spec.takes.hop:
            self._enter(self.inbox.popleft())
        return len(self.blocks) >= self.spec.takes.hop

    @property
    def fence(self) -> Fence:
        """The class of its work: with a microphone at the other end, a listener, or nobody who waits."""
        if self.live is None:
            return Fence.BATCH
        return Fence.LIVE if self.spec.takes else Fence.INTERACTIVE

    @property
    def period(self) -> float:
        """Seconds of a hop: a filter has to step as often as that."""
        port = self.spec.takes or self.spec.gives[0]
        return float(port.hop / port.rate)

    def due(self, now: float) -> tuple[float, float]:
        """From when on the output of the next step is wanted, and when it is due, on the clock `now` is of.

        Nobody waits for a session that is not live: it has waited since `now`.
        """
        if self.live is None:
            return -math.inf, now
        if self.spec.takes:
            tick, at = self.captured or (self.fed, now)
            ahead = float(self.taken / self.spec.takes.rate - tick / self.entry_rate)
            return -math.inf, at + self.live.delay * self.slack + ahead
        first, made = self.live.arrival + self.live.first, float(self.given / self.rate)
        if not made:
            return -math.inf, first
        plays = made + (first if self.began is None else self.began)
        return plays - self.live.lead, plays - self.live.margin / self.slack

    def relax(self, on: bool) -> None:
        """Have output due later than asked for by as much as `SLACK` says, or when it was asked for again."""
        self.slack = SLACK if on else 1.0

    def take(self) -> list[Chunk | None]:
        """One input a row for the next step; None while a hop's answer, or a generator's chunk, is being made."""
        takes = self.spec.takes
        if takes is None or self.pending:
            return [None] * self.rows
        block, pts = self.blocks.pop(takes.hop), self.taken
        if self.high:
            self.high.take(block)
        self.taken += takes.hop
        self.pending = True
        if self.rows == 1:
            return [Chunk(block, pts, takes.rate)]
        return [Chunk(np.ascontiguousarray(block[:, i : i + 1]), pts, takes.rate) for i in range(self.rows)]

    def give(self, outputs: Outputs) -> None:
        """Take a step's answer, one tuple a row.

        Raises ValueError if a filter's answer is not the one hop that follows.
        """
        if self.spec.takes is None:
            for port, made in enumerate(outputs[0]):
                if made is not None:
                    self._generated(port, made)
            self.pending = outputs[0][0] is None
            return
        answers = [row[0] for row in outputs]
        chunks = [chunk for chunk in answers if chunk is not None]
        if not chunks:
            return
        start, hop = self.answered - self.spec.latency, self.spec.gives[0].hop
        if len(chunks) < self.rows or any((c.pts, len(c)) != (start, hop) for c in chunks):
            found = [None if c is None else (c.pts, len(c)) for c in answers]
            raise ValueError(f"model gave (pts, ticks) {found}, expected {(start, hop)} in every row")
        data = chunks[0].data if self.rows == 1 else np.concatenate([c.data for c in chunks], axis=1)
        self.pending = False
        self.answered += hop
        if self.high:
            self.high.give(data)
        end = hop if self.total is None else min(hop, self.total - start)
        self._leave(data[max(0, -start) : end], final=self.total == start + end)

    def stepped(self, start: float, stop: float) -> None:
        """Note when the step was made whose answer was given last.

        `steps` holds, for output up to a tick, up to which tick its making needed input, and when it was made.
        """
        origin, takes = self.origin or 0, self.spec.takes
        if not self.given or (self.steps and self.steps[-1][0] == origin + self.given):
            return
        ticks = math.ceil(self.taken * self.entry_rate / takes.rate) if takes else 0
        needs = min(self.fed, ticks + (self.down.latency if self.down else 0))
        self.steps.append((origin + self.given, origin + needs, start, stop))
        if len(self.steps) > KEPT:
            self.steps.popleft()

    # The transport's side

    def played(self, at: float, until: int | None = None) -> None:
        """Say when play-out began, in seconds; after a pause, again, later by as long as it lasted.

        From tick `until` of the output on nothing is begun until more is played.
        """
        self.began, self.until = at, until

    def poll(self, port: int = 0) -> list[Chunk]:
        """What is ready of one port; nothing follows the chunk that is `last`."""
        chunks = [self.outboxes[port].popleft() for _ in range(len(self.outboxes[port]))]
        if port == 0:
            self.polled += sum(len(chunk) for chunk in chunks)
        return chunks

    # Between them

    def _enter(self, data: Array | None) -> None:
        """Bring input to the model's rate; at its end, see that whole hops cover the latency."""
        low = data
        if self.down:
            low = self.down.flush() if data is None else self.down.push(data)
        if low is not None:
            self.blocks.push(low)
            self.entered += len(low)
            if self.high:
                self.high.feed(data, low)
        if data is not None:
            return
        takes, gives = self.spec.takes, self.spec.gives[0]
        assert takes is not None
        self.total = math.ceil(self.entered * Fraction(gives.rate) / Fraction(takes.rate))
        hops = math.ceil((self.total + self.spec.latency) / gives.hop) if self.total else 0
        self.blocks.pad(hops * takes.hop - self.entered)
        if hops * takes.hop <= self.taken:  # every hop is answered already
            self._leave(self.blocks.empty, final=True)

    def _leave(self, data: Array, final: bool) -> None:
        """Bring a filter's output to the caller's ticks."""
        if self.up:
            parts = [self.up.push(data)] if len(data) else []
            parts += [self.up.flush()] if final else []
            data = np.concatenate(parts) if parts else data
        data = data[: self.fed - self.given]  # resampling there and back rounds up
        self._emit(self.high.add(data) if self.high else data, final)

    def _generated(self, port: int, chunk: Chunk) -> None:
        """Pass a generator's chunk on, port 0 at the caller's rate."""
        if port:
            self.outboxes[port].append(chunk)
            self.ended[port] = chunk.last
            return
        if self.origin is None:
            self.origin = math.floor(chunk.pts * Fraction(self.rate) / Fraction(chunk.rate))
        data = self.up.push(chunk.data) if self.up and len(chunk) else chunk.data
        if self.up and chunk.last:
            data = np.concatenate([data, self.up.flush()])
        self._emit(data, chunk.last)

    def _emit(self, data: Array, last: bool) -> None:
        if len(data) or last:
            self.outboxes[0].append(Chunk(data, (self.origin or 0) + self.given, self.rate, last))
        self.given += len(data)
        self.ended[0] = last


def _rows(port: Port, channels: int | None, splits: bool) -> tuple[int, int]:
    """How many channels the caller's stream has, and how many rows of the model it takes."""
    if port.kind == "video" or channels in (None, port.channels):
        return port.channels, 1
    if not splits or port.channels != 1 or not channels or channels < 1:
        raise ProtocolError(f"stream of {channels} channels, this model has {port.channels}: mix it first")
    return channels, channels


def _between(rate_in: Rate, rate_out: Rate, port: Port, channels: int) -> Resampler | None:
    """What brings sound from one rate to another, if they differ."""
    if rate_in == rate_out:
        return None
    if port.kind == "video":
        raise ProtocolError(f"pictures at {rate_in} and {rate_out} a second: convert them first")
    for rate in (rate_in, rate_out):
        if rate not in RATES:
            raise ProtocolError(f"rate is {rate}, expected {RATES.start} to {RATES.stop - 1} Hz")
    return Resampler(int(rate_in), int(rate_out), channels)
