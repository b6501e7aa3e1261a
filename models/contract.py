"""What a streaming model is: ports, a spec, and five methods over a stacked state."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, Protocol

from riverrun.media import Chunk

if TYPE_CHECKING:
    from riverrun.media.chunk import Array
    from riverrun.models.state import State  # torch comes with it, and a server without models needs none

Outputs = list[tuple[Chunk | None, ...]]
"""One tuple a session, one entry a port of `spec.gives`; None: nothing yet on that port."""


PITCHES = (-12.0, 12.0)  # semitones that a model which converts may be asked to move a voice by


@dataclass(frozen=True)
class Port:
    """One kind of media going into or out of a model.

    Units: `rate` in ticks a second (samples or frames); `hop` in ticks, the size of one step's chunk.
    `channels` is what audio chunks hold, `[t, channels]`; `size` is rows and columns of pictures, `[t, y, x, 3]`. A
    chunk of "times" `[n, 1]` says when parts of a request end, or prompts begin, in ticks of `rate`, from part number
    `pts` on.
    """

    kind: Literal["audio", "video", "times"]
    rate: int | Fraction
    hop: int
    channels: int = 1
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Spec:
    """What a model eats and gives.

    A filter takes a port: it is fed one chunk of exactly `takes.hop` ticks a step. A generator takes None.
    Units: `latency` in ticks of the first port given: output for tick n is known `latency` ticks after the hop
    that holds n, so the algorithmic latency is hop + latency. `max_batch` is how many sessions share one step.
    `symbols` are what a model that speaks is given; a filter that `converts` gives what is said in another voice.
    `voices` are those that either knows by name; one that converts and knows none wants a recording.
    Requests of all that convert have a `voice`, a `recording`, a `pitch`, a `seed` and a `mark`; what a model cannot do
    of it, its request refuses. One that `shows` gives pictures of prompts, and times of when each prompt begins to
    count; its requests are `Shown` of models/shown.py, and `modes` the ways in which its pictures may go on. One that
    is `transcribed` speaks in the voice of a recording only with the `transcript` of that, which its requests then
    have, too. One that `discerns` tells whether a recording is of more than one person: see Discerns.
    """

    takes: Port | None
    gives: tuple[Port, ...]
    latency: int = 0
    max_batch: int = 16
    symbols: str = ""
    voices: tuple[str, ...] = ()
    converts: bool = False
    shows: bool = False
    transcribed: bool = False
    modes: tuple[str, ...] = ()
    discerns: bool = False


class StreamModel(Protocol):
    """A model that works on many live sessions, one bounded piece at a time.

    A filter (`spec.takes` is a Port) answers each whole input hop; what it gives starts `spec.latency` ticks
    before the hop it was fed, so the first output's `pts` is negative by that much. Whoever feeds it (the
    Session) re-blocks to whole hops, pads the last one, feeds `latency` more ticks of zeros, and trims.
    A generator (`spec.takes` is None) is given None and gives None until a chunk is ready; its last chunk
    carries `last`. Text and other control arrive through `update`. What takes long before the first chunk, such as
    hearing a recording whose voice is wanted, is steps too, each answered by None under a key of its own: between two
    of them others have their turn (the chunked prefill of SARATHI, arXiv 2308.16369).
    """

    @property
    def spec(self) -> Spec: ...

    @property
    def request(self) -> type[Any]:
        """The class of its requests; where it is a dataclass of JSON values, clients may send those."""
        ...

    def open(self, request: Any) -> "State":
        """Check a request and give the state of one new session (dim 0 is 1). Fast: no forward pass.

        Raises InvalidRequest.
        """
        ...

    def update(self, state: "State", request: Any) -> "State":
        """Change a running session's settings or add text; takes effect from the next step.

        Raises InvalidRequest, and then the given state is unchanged.
        """
        ...

    def close(self, state: "State") -> None:
        """Free what `open` took outside the state, if anything."""
        ...

    def step(self, inputs: Sequence[Chunk | None], state: "State") -> "tuple[Outputs, State]":
        """Do one bounded piece of work for every session of a stacked state in one forward pass.

        `inputs` has an entry per session. The state given is consumed: its tensors may be written in place, so
        clone it first to keep it. All sessions must have equal `key`.
        """
        ...

    def key(self, state: "State") -> Hashable:
        """Sessions share a step only when their keys are equal (phase, shape bucket, guidance).

        The rows of the state given have equal keys. None: a generator has nothing to do until an update.
        """
        ...


class Lightens(Protocol):
    """A StreamModel that can do with less when the machine is too slow."""

    @property
    def rungs(self) -> tuple[str, ...]:
        """What it can do with less of ("steps", say), in the order it is given up."""
        ...

    def lighten(self, state: "State", rung: int) -> "State":
        """Go on with less of the first `rung` of them, and with all of the others."""
        ...


class Presets(Protocol):
    """A StreamModel that can be had in several ways, which cost and wait more or less, out of the same weights."""

    @property
    def presets(self) -> tuple[str, ...]: ...

    def at(self, preset: str) -> StreamModel:
        """The model in one of these ways. Their states are of different shapes."""
        ...


class Discerns(Protocol):
    """A StreamModel that can tell whether a recording of a voice is of more than one person."""

    def several(self, sound: "Array") -> Iterator[bool]:
        """Whether a recording at the model's rate seems to be, as known after each bounded piece of work.  # [n]

        As with steps, others may have their turn between two of them. Raises InvalidRequest.
        """
        ...
