"""Batches: seats that step together, their states stacked, and what one step does to them."""

import logging
import struct
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from riverrun.models.contract import Lightens, Outputs, StreamModel
from riverrun.models.state import State, load, part, rows, stack, unstack
from riverrun.models.state import save as save_state
from riverrun.streaming import saving
from riverrun.streaming.errors import ProtocolError, SessionEnded
from riverrun.streaming.scheduler import Ladder, Piece
from riverrun.streaming.session import Session

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Seat:
    """A session's place at a model. Its state is its own, or rows of the batch it last stepped in."""

    name: str  # in the log and in errors
    model: StreamModel
    session: Session
    state: State | None
    what: str = ""  # the model's name
    batch: "Batch | None" = None
    cost: float = 0.0  # seconds that its hop has taken so far
    error: SessionEnded | None = None
    polling: threading.Lock = field(default_factory=threading.Lock)  # held while it is polled, or saved
    changed: Callable[[], Callable[[], None]] = field(default=lambda: nobody)  # see `tell`
    rungs: tuple[str, ...] = ()  # what it can do with less of, in the order it is given up
    ladder: Ladder = field(init=False)
    settled: int | None = None  # ticks that were given when it last changed what it does with

    def __post_init__(self) -> None:
        spared = tuple(getattr(self.model, "rungs", ()))
        self.rungs = (*spared, "buffer") if self.session.live else ()
        self.ladder = Ladder(len(self.rungs))

    @property
    def given_up(self) -> tuple[str, ...]:
        """What it does with less of now."""
        return self.rungs[: self.ladder.rung]

    @property
    def told(self) -> dict[str, str]:
        """What its lines in the log have."""
        return {"session": self.name}

    @property
    def active(self) -> bool:
        """Whether it may still step."""
        return self.state is not None or self.batch is not None

    def key(self) -> Hashable:
        """Seats of equal keys may step together; None: there is nothing to do until an update."""
        if self.batch is None:
            return self.model.key(cast(State, self.state))
        return self.model.key(cast(State, Rows(self.batch.state, *self.batch.place(self))))

    def piece(self, now: float) -> Piece | None:
        """What it would do next; None: nothing now."""
        if not self.active or not self.session.ready() or (key := self.key()) is None:
            return None
        start, due = self.session.due(now)
        session, most = self.session, self.model.spec.max_batch
        return Piece(
            self.name, (self.what or id(self.model), key), session.fence, due, session.rows, most, start
        )

    def judge(self, late: bool, now: float) -> None:
        """Note whether its last piece was late, and do with less, or with all again, when the ladder says so."""
        if not self.rungs or not self.active or self.session.given == self.settled:
            return  # what is under way was begun as it was before
        if self.ladder.note(late, now) is None:
            return
        self.settled = self.session.given
        self.lighten()
        log.warning(
            "session %s does with less of: %s",
            self.name,
            ", ".join(self.given_up) or "nothing",
            extra=self.told,
        )

    def lighten(self) -> None:
        """Do with less of what the ladder says, and with all of the rest."""
        spared, rung = len(self.rungs) - 1, self.ladder.rung
        if spared:
            model = cast(Lightens, self.model)
            self.state = stack([model.lighten(one, min(rung, spared)) for one in unstack(self.own())])
        self.session.relax(rung > spared)

    def own(self) -> State:
        """Take the state out of the batch, without a copy."""
        if self.batch is not None:
            self.state, self.batch = part(self.batch.state, *self.batch.place(self)), None
        assert self.state is not None, f"session {self.name} has left"
        return self.state

    def leave(self) -> None:
        """Free the state: nothing will step it again. Twice is once; what goes wrong in it is only logged."""
        if self.active:
            state, self.state = self.own(), None
            try:
                self.model.close(state)
            except Exception as error:
                log.error(
                    "session %s could not be closed cleanly", self.name, exc_info=error, extra=self.told
                )

    def fail(self, error: Exception) -> None:
        """End with an error whose traceback goes to the log, under the session's name."""
        log.error("session %s failed", self.name, exc_info=error, extra=self.told)
        self.error = SessionEnded(f"session {self.name} failed; the log tells why under that name")
        self.error.__cause__ = error
        self.leave()


@dataclass(eq=False)
class Batch:
    """Seats in the order of their rows in one stacked state."""

    seats: list[Seat]
    state: State

    def place(self, seat: Seat) -> tuple[int, int]:
        """The first row of a seat, and the row after its last."""
        start = sum(other.session.rows for other in self.seats[: self.seats.index(seat)])
        return start, start + seat.session.rows


class Rows(Mapping[str, Any]):
    """Some rows of a state, cut out leaf by leaf when asked for: a key looks at few of many leaves."""

    def __init__(self, state: State, start: int, stop: int) -> None:
        self.state, self.start, self.stop = state, start, stop

    def __getitem__(self, name: str) -> Any:
        value = self.state[name]
        if isinstance(value, dict):
            return Rows(value, self.start, self.stop)
        return value[self.start : self.stop]

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


def sit(
    name: str,
    model: StreamModel,
    request: Any,
    session: Session,
    saved: bytes | None = None,
    device: str = "cpu",
    what: str = "",
) -> Seat:
    """Seat a new session, or with `saved` one that `save` gave. Raises InvalidRequest, ProtocolError."""
    if session.rows > model.spec.max_batch:
        raise ProtocolError(
            f"stream of {session.rows} channels, the limit is {model.spec.max_batch}: mix it first"
        )
    if saved is None:
        state = stack([model.open(request) for _ in range(session.rows)])
        return Seat(name, model, session, state, what)
    try:
        (size,) = struct.unpack_from("<Q", saved)
        saving.load(saved[8 : 8 + size], session)
        state = load(saved[8 + size :], device)
        if rows(state) != session.rows:
            raise ValueError(f"it holds {rows(state)} rows, expected {session.rows}")
        seat = Seat(name, model, session, state, what)
        if seat.rungs:
            seat.lighten()  # with all again: its ladder is new
        return seat
    except (struct.error, ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise ProtocolError(f"{len(saved)} bytes are not a saved session of this kind: {error}") from error


def save(seat: Seat) -> bytes:
    """A session and its state. Raises SessionEnded if it has none any more."""
    if not seat.active:
        raise seat.error or SessionEnded(f"session {seat.name} has given its last chunk")
    with seat.polling:
        inside = saving.save(seat.session)
    return struct.pack("<Q", len(inside)) + inside + save_state(seat.own())


def update(seat: Seat, request: Any) -> None:
    """Change a session, all rows alike. Raises InvalidRequest, and then nothing has changed; SessionEnded."""
    if not seat.active:
        raise seat.error or SessionEnded(f"session {seat.name} has given its last chunk")
    seat.state = stack([seat.model.update(one, request) for one in unstack(seat.own())])


def gather(seats: list[Seat]) -> Batch:
    """Stack the states of seats; a batch that steps again as it was is left as it is."""
    batch = seats[0].batch
    together = all(seat.batch is batch for seat in seats)  # none has stepped elsewhere since
    if batch is None or not together or batch.seats != seats:
        batch = Batch(seats, stack([seat.own() for seat in seats]))
        for seat in seats:
            seat.state, seat.batch = None, batch
    return batch


def advance(seats: list[Seat], clock: Callable[[], float] | None = None) -> None:
    """Step some seats of one model and one key together; with a clock, the sessions note when.

    A step that raises ends all of them; an answer that is not finite, or not what was due, ends its own.
    """
    batch, model = gather(seats), seats[0].model
    try:
        inputs = [chunk for seat in seats for chunk in seat.session.take()]
        start = clock() if clock else 0.0
        outputs, batch.state = model.step(inputs, batch.state)
        if len(outputs) != len(inputs):
            raise ValueError(f"model answered {len(outputs)} of {len(inputs)} rows")
    except Exception as error:
        for seat in seats:
            seat.fail(error)
        tell(seats)
        return
    places = [batch.place(seat) for seat in seats]
    for seat, (first, after) in zip(seats, places, strict=True):
        try:
            _deliver(seat, outputs[first:after])
            if clock:
                seat.session.stepped(start, clock())
        except Exception as error:
            seat.fail(error)
    tell(seats)


def tell(seats: Iterable[Seat]) -> None:
    """Say that there is output, room or an end.

    `Seat.changed` notes it and gives what wakes those who wait; for several seats that is often the same. It is called
    once, last: each time hands the interpreter over to another thread, while seats are still to be served.
    """
    for wake in {seat.changed() for seat in seats}:
        wake()


def nobody() -> None:
    """Nobody waits."""


def _deliver(seat: Seat, outputs: Outputs) -> None:
    for chunk in (chunk for row in outputs for chunk in row if chunk is not None):
        if chunk.data.dtype.kind == "f" and not np.isfinite(chunk.data).all():
            raise ValueError(f"model gave values that are NaN or infinite, at tick {chunk.pts}")
    seat.session.give(outputs)
    if seat.session.done:
        seat.leave()
