"""Session states: nested dicts of tensors and of lists, row by row; stack, unstack, clone, save, load.

A leaf is a tensor whose dim 0 is the session, or a list with one JSON value a session (text, counters, seed).
Dicts nest. Nothing else is a state, so any state can be stacked, cut, saved and moved to another process.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

State: TypeAlias = dict[str, Any]


def leaves(state: State, prefix: str = "") -> Iterator[tuple[str, Tensor | list[Any]]]:
    """Walk a state as (dotted path, leaf), in insertion order."""
    for name, value in state.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def rows(state: State) -> int:
    """How many sessions a state holds. Raises ValueError if it has no leaf or leaves disagree."""
    counts = {len(leaf) for _, leaf in leaves(state)}
    if len(counts) != 1:
        raise ValueError(f"state has leaves of {sorted(counts)} rows, expected one number")
    return counts.pop()


def stack(states: Sequence[State]) -> State:
    """Put sessions together along dim 0. A single state is returned as it is, without a copy."""
    if len(states) == 1:
        return states[0]
    merged: State = {}
    for name, value in states[0].items():
        parts = [s[name] for s in states]
        if isinstance(value, dict):
            merged[name] = stack(parts)
        elif isinstance(value, Tensor):
            merged[name] = torch.cat(parts)
        else:
            merged[name] = [row for part in parts for row in part]
    return merged


def unstack(state: State) -> list[State]:
    """Cut a state into one per session. Rows share storage with the state given."""
    return [row(state, i) for i in range(rows(state))]


def row(state: State, i: int) -> State:
    """The state of session i, dim 0 kept; shares storage."""
    return part(state, i, i + 1)


def part(state: State, start: int, stop: int) -> State:
    """The states of sessions start to stop - 1; shares storage."""
    return {k: part(v, start, stop) if isinstance(v, dict) else v[start:stop] for k, v in state.items()}


def clone(state: State) -> State:
    """A copy that shares nothing."""
    return {
        k: clone(v) if isinstance(v, dict) else v.clone() if isinstance(v, Tensor) else list(v)
        for k, v in state.items()
    }


def save(state: State) -> bytes:
    """A state as bytes: a length-prefixed JSON tree followed by the tensors in safetensors form."""
    from safetensors.torch import save as pack

    tensors = {
        path: leaf.detach().clone().contiguous() for path, leaf in leaves(state) if isinstance(leaf, Tensor)
    }
    lists = {path: leaf for path, leaf in leaves(state) if not isinstance(leaf, Tensor)}
    head = json.dumps({"order": [path for path, _ in leaves(state)], "lists": lists}).encode()
    return struct.pack("<Q", len(head)) + head + pack(tensors)


def load(data: bytes, device: str | torch.device = "cpu") -> State:
    """The inverse of `save`. Raises ValueError if the bytes are not a saved state."""
    from safetensors import SafetensorError
    from safetensors.torch import load as unpack

    try:
        (size,) = struct.unpack_from("<Q", data)
        head = json.loads(data[8 : 8 + size])
        tensors = unpack(data[8 + size :])
        state: State = {}
        for path in head["order"]:
            *folders, name = path.split(".")
            place = state
            for folder in folders:
                place = place.setdefault(folder, {})
            place[name] = tensors[path].to(device) if path in tensors else head["lists"][path]
    except (struct.error, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(f"{len(data)} bytes are not a saved state") from error
    return state
