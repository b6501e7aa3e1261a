"""The stream protocol, version 1, without any I/O: JSON control messages and binary media frames.

A client opens a stream (or resumes one), sends frames of sound with consecutive `seq`, and gets frames back.
`ack` in either direction says up to which frame the other side has things safe, so that it may forget them.

    client                                   server
    open | resume                     ->
                                      <-     opened | resumed | error
    frames 0, 1, 2, ...               ->     frames 0, 1, 2, ...
    ack, update, stats, clock         <->    ack, updated, stats, clock, event
    text, clear                       <->    said, words, cleared
    pause                             ->     shown
    finish | cancel                   ->
                                      <-     the frame that is last, ended
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from riverrun.media.chunk import Array
from riverrun.streaming.errors import ProtocolError

VERSION = 1
HEADER = struct.Struct("<BBHIqq")  # kind, flags, 0, seq, pts, at: 24 bytes
LAST = 1  # flag: nothing follows
FORMATS: dict[str, tuple[int, str, int]] = {
    "pcm16": (1, "<i2", 2),
    "f32": (2, "<f4", 4),
}  # kind, dtype, bytes
PICTURES = {"mp4": 3, "rgb": 4}  # kinds of frames that hold pictures
LONGEST = 1 << 18  # bytes of a frame's payload
LARGEST = 1 << 24  # the same, of pictures
TEXT = 1 << 14  # characters of a control message
FIRST = 500_000  # the same, of the first one, which may hold a picture
PICTURED = [bytes([kind]) for kind in PICTURES.values()]
KINDS = [*(kind for kind, _, _ in FORMATS.values()), *PICTURES.values()]


@dataclass(frozen=True)
class Frame:
    """Consecutive ticks of sound, or of pictures, on the wire.

    Units: `pts` in ticks; `at` in microseconds on the sender's clock: when the end of the payload was captured, or,
    from the server, when the frame was made. `payload` is interleaved samples in the format agreed on at `open`, a
    fragment of MP4, or red, green and blue of every pixel.
    """

    seq: int
    pts: int
    payload: bytes = b""
    at: int = 0
    last: bool = False
    kind: int = 1

    def pack(self) -> bytes:
        """Header and payload."""
        return HEADER.pack(self.kind, LAST * self.last, 0, self.seq, self.pts, self.at) + self.payload


def unpack(data: bytes) -> Frame:
    """Parse a binary message. Raises ProtocolError."""
    most = HEADER.size + (LARGEST if data[:1] in PICTURED else LONGEST)
    if not HEADER.size <= len(data) <= most:
        raise ProtocolError(
            f"a frame has {len(data)} bytes, expected {HEADER.size} to {most}: send shorter frames"
        )
    kind, flags, zero, seq, pts, at = HEADER.unpack_from(data)
    if kind not in KINDS:
        raise ProtocolError(f"frame {seq} is of kind {kind}, expected {', '.join(map(repr, KINDS))}")
    if flags & ~LAST or zero:
        raise ProtocolError(f"frame {seq} has flags {flags} and {zero}, expected 0 or {LAST}, and 0")
    return Frame(seq, pts, bytes(data[HEADER.size :]), at, bool(flags & LAST), kind)


def samples(payload: bytes, form: str, channels: int) -> Array:
    """Interleaved bytes as sound. Raises ProtocolError.  # -> [t, c] float32"""
    _, dtype, size = FORMATS[form]
    if len(payload) % (size * channels):
        raise ProtocolError(f"{len(payload)} bytes are no whole number of {channels} {form} samples")
    data = np.frombuffer(payload, dtype).reshape(-1, channels)
    if form == "pcm16":
        return data.astype(np.float32) / 32768
    if not np.isfinite(data).all():
        raise ProtocolError("samples are NaN or infinite, expected -1 to 1")
    return data.astype(np.float32)


def pictures(payload: bytes, size: tuple[int, int]) -> Array:
    """Red, green and blue of every pixel as pictures of so many rows and columns.  # -> [t, y, x, 3] uint8

    Raises ProtocolError.
    """
    rows, columns = size
    if not rows * columns or len(payload) % (3 * rows * columns):
        raise ProtocolError(f"{len(payload)} bytes are no whole number of pictures of {rows} x {columns}")
    return np.frombuffer(payload, np.uint8).reshape(-1, rows, columns, 3).copy()


def payload(data: Array, form: str) -> bytes:
    """Sound as interleaved bytes; 16 bits clip at full scale.  # [t, c] ->"""
    if form == "pcm16":
        return bytes(np.clip(np.rint(data * 32768), -32768, 32767).astype("<i2"))
    return bytes(np.ascontiguousarray(data, "<f4"))


# Control messages: `type` names the class, every other key a field.


@dataclass(frozen=True)
class Open:
    """Start a stream. `live` seconds make it live: the delay at which sound is wanted, from capture to leaving.

    Of pictures, it is how few may be left to be seen when more are begun. Speech and pictures are there under the name
    `stream` over WebRTC, too.
    """

    model: str = "restore-lite"
    request: dict[str, Any] = field(default_factory=dict)
    rate: int = 48_000
    channels: int = 1
    format: Literal["pcm16", "f32", "mp4", "rgb"] = "pcm16"
    band: Literal["full", "8k"] = "full"
    live: float | None = None
    stream: str | None = None
    version: int = VERSION


@dataclass(frozen=True)
class Resume:
    """Take up a stream again; `received` is the seq of the last frame that came, -1 for none."""

    session: str
    token: str
    received: int = -1


@dataclass(frozen=True)
class Update:
    """Change a running stream; `id` comes back in `updated`."""

    request: dict[str, Any]
    id: str = ""


@dataclass(frozen=True)
class Text:
    """Say more, after what came before; what is no whole sentence yet waits for more, or for `flush`.

    `words` tells, with the `context`, which characters of that context's text sound at which ticks. Text that has a
    `seq`, 0 or above and more than any before, is taken once however often it comes, and `said` tells that it is safe.
    """

    text: str = ""
    context: str = ""
    flush: bool = False
    seq: int = -1


@dataclass(frozen=True)
class Clear:
    """Say nothing more of the text that came, so that other text may follow.

    `cleared` has the tick at which sound goes on, and the words heard until tick `played`, or of all that was sent.
    """

    played: int | None = None


@dataclass(frozen=True)
class Word:
    """A word that is said. Units: characters of its context's text, and ticks of the sound."""

    text: str
    context: str
    start: int
    end: int
    begins: int
    ends: int

    def told(self) -> dict[str, Any]:
        """As `words` and `cleared` hold it, which have the context once."""
        return {name: value for name, value in asdict(self).items() if name != "context"}


@dataclass(frozen=True)
class Pause:
    """Begin no more pictures, or go on with them."""

    on: bool = True


@dataclass(frozen=True)
class Finish:
    """The input is over; what is on its way still comes. (A last frame says the same.)"""


@dataclass(frozen=True)
class Cancel:
    """End at once."""


@dataclass(frozen=True)
class Ack:
    """All frames up to `seq` are safe. From a client, `buffered` is the seconds of sound it holds unplayed."""

    seq: int
    buffered: float = 0.0


@dataclass(frozen=True)
class Stats:
    """Ask for figures now, or every so many seconds; 0 stops them."""

    every: float | None = None


@dataclass(frozen=True)
class Clock:
    """Ask for the server's clock; `at` is the client's, in microseconds, and comes back."""

    at: int


Control = Open | Resume | Update | Text | Clear | Pause | Finish | Cancel | Ack | Stats | Clock
CONTROLS: dict[str, type[Control]] = {c.__name__.lower(): c for c in get_args(Control)}


def parse(text: str, limit: int = TEXT) -> Control:
    """Parse a control message. Raises ProtocolError that names what is wrong."""
    if len(text) > limit:
        raise ProtocolError(f"a control message has {len(text)} characters, the limit is {limit}")
    try:
        message = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a control message is no JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(kind := message.pop("type", None), str):
        raise ProtocolError("a control message is no JSON object with a type")
    if kind not in CONTROLS:
        raise ProtocolError(f"type is {kind!r}, expected one of {', '.join(CONTROLS)}")
    return _build(CONTROLS[kind], message)


def message(kind: str, **values: Any) -> str:
    """A control message of the server, or of a client by its parts."""
    return json.dumps({"type": kind, **values}, allow_nan=False)


def text(control: Control) -> str:
    """A control message as it is sent."""
    return message(type(control).__name__.lower(), **asdict(control))


def _build(kind: type[Control], values: Mapping[str, Any]) -> Control:
    name, hints = kind.__name__.lower(), get_type_hints(kind)
    if unknown := set(values) - set(hints):
        raise ProtocolError(f"{name} has no {', '.join(sorted(map(repr, unknown)))}, only {', '.join(hints)}")
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [f for f in needed if f not in values]:
        raise ProtocolError(f"{name} lacks {', '.join(missing)}")
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise ProtocolError(f"{key} of {name} is {_short(value)}, expected {_kind(hints[key])}")
    return kind(**values)


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if hint is NoneType:
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    return isinstance(value, get_origin(hint) or hint)


def _kind(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return {
        "dict": "an object",
        "str": "text",
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
    }.get(getattr(get_origin(hint) or hint, "__name__", ""), "a number or null")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
