"""Parity: does a model compute what its reference implementation computed, tensor by tensor?

A folder holds a tiny checkpoint, inputs, and the outputs recorded from the reference; its config.json names the
kind. A family takes part with one line in KINDS: the module whose `recorded(folder)` gives the pairs to compare.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from riverrun.models.errors import CheckpointError


@dataclass(frozen=True)
class Kind:
    """Where a family compares itself, and how far off it may be."""

    module: str
    tolerance: float


VIDEO = "riverrun.models.video.parity"
KINDS = {
    "longcat": Kind("riverrun.models.speech.parity", 2e-4),
    "xvc": Kind("riverrun.models.voice.parity", 1e-5),
    "opensora.stdit1": Kind(VIDEO, 1e-5),
    "opensora.stdit2": Kind(VIDEO, 1e-5),
    "opensora.stdit3": Kind(VIDEO, 1e-5),
    "opensora.stdit3_v13": Kind(VIDEO, 1e-5),
    "opensora.mmdit": Kind(VIDEO, 1e-5),
    "opensora.rflow": Kind(VIDEO, 2e-5),
    "opensora.vae_temporal": Kind(VIDEO, 1e-6),
}


class Pair(NamedTuple):
    """One recorded tensor. With `relative`, it need only be that close in relative L2, and is not in the worst."""

    name: str
    ours: Tensor
    theirs: Tensor
    relative: float | None = None


@dataclass(frozen=True)
class Line:
    """How one tensor compares. `error` is the largest difference over max(1, largest recorded value)."""

    name: str
    largest: float
    relative: float
    error: float
    counted: bool
    ok: bool

    def __str__(self) -> str:
        return f"{self.name} {self.largest:.3e} {self.relative:.3e} {'ok' if self.ok else 'FAIL'}"


def kind(folder: Path) -> Kind:
    """What kind of recording a folder holds. Raises CheckpointError if it cannot tell, or nobody knows the kind."""
    path = folder / "config.json"
    try:
        name = json.loads(path.read_bytes())["kind"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file, expected the folder of a recording") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} names no kind of recording") from error
    if name not in KINDS:
        raise CheckpointError(f"{path} is of kind {name!r}, expected one of {', '.join(KINDS)}")
    return KINDS[name]


@torch.inference_mode()
def compare(folder: Path) -> Iterator[Line]:
    """Every recorded tensor of a folder beside ours. Raises CheckpointError for what is missing or does not fit."""
    found = kind(folder)
    for pair in import_module(found.module).recorded(folder):
        yield measure(pair, found.tolerance)


def measure(pair: Pair, tolerance: float) -> Line:
    """Compare one pair: integers must be equal, and what is not finite or of another shape is infinitely far off."""
    name, ours, theirs, relative = pair
    if ours.shape != theirs.shape:
        return Line(name, float("inf"), float("inf"), float("inf"), relative is None, False)
    exact = not theirs.is_floating_point()
    a, b = ours.detach().cpu().double(), theirs.detach().cpu().double()
    gap = (a - b).nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=float("inf"))
    largest = float(gap.abs().max()) if gap.numel() else 0.0
    off = float(gap.norm() / b.norm().clamp_min(1e-30))
    error = largest / max(1.0, float(b.abs().max()) if b.numel() else 0.0)
    ok = largest == 0 if exact else error <= tolerance if relative is None else off <= relative
    return Line(name, largest, off, error, relative is None, ok)
