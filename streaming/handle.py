"""Handle: all that a transport sees of an engine, the same in its own process and across a pipe."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, Protocol

from riverrun.media import Chunk, cut
from riverrun.media.chunk import Array
from riverrun.models.contract import Spec
from riverrun.models.errors import InvalidRequest
from riverrun.streaming.errors import TooSlow
from riverrun.streaming.session import Live, Rate

Band = Literal["full", "8k"]


class Handle(Protocol):
    """An engine. One session belongs to one event loop; what is over raises SessionEnded."""

    @property
    def alive(self) -> bool:
        """Whether it still takes sessions."""
        ...

    @property
    def sessions(self) -> Collection[str]:
        """The ids of those that are open."""
        ...

    async def open(
        self,
        model: str,
        request: Any,
        rate: Rate | None = None,
        channels: int | None = None,
        live: Live | None = None,
        band: Band = "full",
        saved: bytes | None = None,
        session: str | None = None,
    ) -> str:
        """Start a session and give its id: `session`, or one that is made up.

        `request` is the model's own kind, or its values by name.
        Raises InvalidRequest, ProtocolError, AtCapacity.
        """
        ...

    async def feed(self, session: str, chunk: Chunk, captured: float | None = None) -> None:
        """Take the next ticks, waiting for credit; TooSlow if the session is live, for which that is no use."""
        ...

    async def update(self, session: str, request: Any) -> None:
        """Change a running session, after what was fed before. Raises InvalidRequest."""
        ...

    async def finish(self, session: str) -> None:
        """The input is over; the rest still comes out."""
        ...

    async def poll(self, session: str, port: int = 0) -> list[Chunk]:
        """Wait for the next chunks; none means that the last one was given."""
        ...

    async def close(self, session: str) -> None:
        """Free a session, after the step in progress at the latest. Twice is once."""
        ...

    async def save(self, session: str) -> bytes:
        """A session with all that was fed, for `open(..., saved=...)` here or elsewhere; it goes on."""
        ...

    async def check(self, model: str, request: Any) -> Spec:
        """What a model takes and gives. Raises InvalidRequest if it would not take a request."""
        ...

    async def fit(self, model: str, preset: str = "auto") -> dict[str, Any]:
        """How a model that converts does here, by the preset named or the one that fits best; as JSON values.

        They are those of `fitting.Fit`; for another model, only the preset if one is named. Raises InvalidRequest if
        it has no such preset.
        """
        ...

    async def several(self, model: str, sound: Array) -> bool:
        """Whether a recording of a voice, at the model's rate, seems to be of more than one person.  # [n] float32

        False, too, of a model that does not discern. Raises InvalidRequest.
        """
        ...

    async def settle(self, model: str, preset: str) -> None:
        """Have a model of one of its presets from now on; before it has sessions."""
        ...

    async def warm(self, model: str) -> None:
        """Load a model for live use and measure what its steps cost."""
        ...

    async def figures(self) -> dict[str, Any]:
        """What it does now: its lanes and its models, as JSON values."""
        ...

    async def shut(self) -> None:
        """End every session, and it. Twice is once."""
        ...

    def latency(self, session: str) -> float:
        """Seconds from a sample's going in to its coming out, computing left out."""
        ...

    def polled(self, session: str) -> int:
        """How many ticks were polled, those before the session was saved included."""
        ...

    def steps(self, session: str) -> list[tuple[int, int, float, float]]:
        """What `Session.stepped` noted since the last call."""
        ...

    def given_up(self, session: str) -> tuple[str, ...]:
        """What a session does with less of now, since the machine is too slow."""
        ...

    def played(self, session: str, at: float, until: int | None = None) -> None:
        """Play-out began at a time on the engine's clock, which is the machine's monotonic one.

        From tick `until` of the output on nothing is begun.
        """
        ...


class Basin(Protocol):
    """Where input goes: so many ticks at most, of which so many are free."""

    live: Live | None
    limit: int

    @property
    def credit(self) -> int: ...


async def pour(
    chunk: Chunk,
    basin: Basin,
    event: asyncio.Event,
    failure: Callable[[], Exception | None],
    put: Callable[[Chunk, bool], None],
) -> None:
    """Hand a chunk on as credit comes, in as many pieces as that takes; the last is told so.

    Raises TooSlow if the basin is live and lacks room, and what `failure` gives.
    """
    while True:
        event.clear()
        if error := failure():
            raise error
        credit, limit = basin.credit, basin.limit
        if basin.live and credit < len(chunk) <= limit:
            raise TooSlow(f"{limit - credit} of {limit} ticks wait already, no room for {len(chunk)}")
        head, chunk = cut(chunk, chunk.pts + min(credit, len(chunk)))
        final = not len(chunk)
        put(replace(head, last=final and chunk.last), final)
        if final:
            return
        await event.wait()


def build(kind: type[Any], request: Any) -> Any:
    """A model's request from its values by name; one that is of the kind already is left. Raises InvalidRequest."""
    if not isinstance(request, Mapping):
        return request
    if not is_dataclass(kind):
        raise InvalidRequest(f"{kind.__name__} cannot be made from values")
    known = {f.name: f for f in fields(kind)}
    if unknown := set(request) - set(known):
        raise InvalidRequest(f"request has no {', '.join(sorted(unknown))}, only {', '.join(known)}")
    for name, value in request.items():
        wanted: Any = known[name].type
        fits = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
        if not fits or (isinstance(value, bool) and wanted is not bool):
            raise InvalidRequest(f"{name} is {value!r}, expected a {wanted.__name__}")
    try:
        return kind(**request)
    except TypeError as error:
        raise InvalidRequest(f"request lacks values: {error}") from error
