"""What a session remembers, as bytes and back: only numbers, text and arrays; nothing in them is ever run."""

import json
import struct
from collections import deque
from dataclasses import is_dataclass
from fractions import Fraction
from typing import Any

from riverrun.media import Chunk
from riverrun.media.chunk import Array


def save(value: object) -> bytes:
    """The fields of an object, and of the objects in them, as a length-prefixed JSON tree and its arrays.

    Raises TypeError if a field holds something else.
    """
    from safetensors.numpy import save as pack

    arrays: dict[str, Array] = {}
    head = json.dumps({name: _freeze(field, arrays) for name, field in vars(value).items()}).encode()
    return struct.pack("<Q", len(head)) + head + pack(arrays)


def load(data: bytes, into: object) -> None:
    """Give an object made with the same arguments the fields that `save` saw.

    Raises ValueError if the bytes are not those of such an object.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpack

    try:
        (size,) = struct.unpack_from("<Q", data)
        _thaw_fields(json.loads(data[8 : 8 + size]), unpack(data[8 + size :]), into)
    except (struct.error, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{len(data)} bytes do not hold a saved {type(into).__name__}: {error}") from error


def _freeze(value: Any, arrays: dict[str, Array]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "__array_interface__"):
        arrays[str(len(arrays))] = value.copy()
        return {"array": str(len(arrays) - 1)}
    if isinstance(value, Fraction):
        return {"fraction": [value.numerator, value.denominator]}
    if isinstance(value, Chunk):
        return {"chunk": [_freeze(part, arrays) for part in (value.data, value.pts, value.rate, value.last)]}
    for kind in (list, tuple, deque):
        if isinstance(value, kind):
            return {kind.__name__: [_freeze(part, arrays) for part in value]}
    if is_dataclass(value):
        return {"settings": type(value).__name__}
    if hasattr(value, "__dict__"):
        return {"fields": {name: _freeze(field, arrays) for name, field in vars(value).items()}}
    raise TypeError(f"a {type(value).__name__} cannot be saved")


def _thaw(value: Any, arrays: dict[str, Array], like: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "fields":
        _thaw_fields(content, arrays, like)
        return like
    if kind == "settings":  # a frozen dataclass, not state: what the object was made with holds
        return like
    if kind == "fraction":
        return Fraction(*content)
    parts = [_thaw(part, arrays, None) for part in content]
    return Chunk(*parts) if kind == "chunk" else {"list": list, "tuple": tuple, "deque": deque}[kind](parts)


def _thaw_fields(fields: dict[str, Any], arrays: dict[str, Array], into: object) -> None:
    if set(fields) != set(vars(into)):
        raise ValueError(f"it has the fields {sorted(fields)}, expected {sorted(vars(into))}")
    for name, value in fields.items():
        setattr(into, name, _thaw(value, arrays, getattr(into, name)))
