"""The pipe between a server and the engine in a process of its own: messages of a JSON head and bytes."""

import asyncio
import json
import struct
from collections.abc import Iterable
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from riverrun.media import Chunk
from riverrun.models import errors as models
from riverrun.models.contract import Port, Spec
from riverrun.streaming import errors
from riverrun.streaming.session import Live

SIZES = struct.Struct("<II")  # of head and body
ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        models.InvalidRequest,
        models.CheckpointError,
        models.ModelError,
        errors.AtCapacity,
        errors.ProtocolError,
        errors.TooSlow,
        errors.Stuck,
        errors.SessionEnded,
        errors.StreamError,
    )
}


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    """One message."""
    text = json.dumps(head).encode()
    return SIZES.pack(len(text), len(body)) + text + body


async def read(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The next message. Raises asyncio.IncompleteReadError at the end."""
    head, body = SIZES.unpack(await reader.readexactly(SIZES.size))
    data = await reader.readexactly(head + body)
    return json.loads(data[:head]), data[head:]


def chunks(made: Iterable[Chunk]) -> tuple[list[Any], bytes]:
    """Chunks as a list for the head, and a body."""
    made = list(made)
    heads = [[c.pts, rate(c.rate), c.last, c.data.dtype.str, list(c.data.shape)] for c in made]
    return heads, b"".join(np.ascontiguousarray(c.data).tobytes() for c in made)


def unchunk(heads: list[Any], body: bytes) -> list[Chunk]:
    """What `chunks` was given."""
    made, at = [], 0
    for pts, of, last, dtype, shape in heads:
        count = prod(shape)
        data = np.frombuffer(body, dtype, count, at).reshape(shape)
        at += data.nbytes
        made.append(Chunk(data, pts, unrate(of), last))
    return made


def rate(value: int | Fraction | None) -> Any:
    """A rate as JSON."""
    return [value.numerator, value.denominator] if isinstance(value, Fraction) else value


def unrate(value: Any) -> Any:
    """What `rate` was given."""
    return Fraction(*value) if isinstance(value, list) else value


def spec(value: Spec) -> list[Any]:
    """A model's spec as JSON."""
    ports = [p and [p.kind, rate(p.rate), p.hop, p.channels, p.size] for p in (value.takes, *value.gives)]
    does = (
        value.symbols,
        value.voices,
        value.converts,
        value.shows,
        value.transcribed,
        value.modes,
        value.discerns,
    )
    return [ports, value.latency, value.max_batch, *does]


def unspec(value: list[Any]) -> Spec:
    """What `spec` was given."""
    takes, *gives = (p and Port(p[0], unrate(p[1]), p[2], p[3], tuple(p[4])) for p in value[0])
    latency, batch, symbols, voices, converts, shows, transcribed, modes, discerns = value[1:]
    does = converts, shows, transcribed, tuple(modes), discerns
    return Spec(takes, tuple(gives), latency, batch, symbols, tuple(voices), *does)


def live(value: Live | None) -> Any:
    """When output is due, as JSON."""
    return value and vars(value)


def unlive(value: Any) -> Live | None:
    """What `live` was given."""
    return value and Live(**value)


def error(value: BaseException) -> dict[str, Any]:
    """An error as JSON; of one that nobody expects, only that it came."""
    kind = next((k for k in type(value).__mro__ if ERRORS.get(k.__name__) is k), None)
    if kind is None:
        return {"type": "StreamError", "message": f"the engine failed with a {type(value).__name__}"}
    return {"type": kind.__name__, "message": str(value), "after": getattr(value, "retry_after", None)}


def unerror(value: dict[str, Any]) -> Exception:
    """What `error` was given."""
    kind = ERRORS[value["type"]]
    if kind is errors.AtCapacity:
        return errors.AtCapacity(value["message"], value["after"])
    return kind(value["message"])
