"""Guidance: two velocities, with and without a condition, become one that goes further the condition's way.

What guidance remembers between evaluations is a State that goes in and comes out, so a solver can stop between
any two of them, and sessions can share a step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from einops import rearrange, reduce
from torch import Tensor

from riverrun.models.state import State

Pair = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""(x, time) -> velocity with the condition, velocity without"""
Guided = Callable[[Tensor, float, State], tuple[Tensor, State]]
"""(x, time, state) -> velocity, state"""
Method = Literal["cfg", "apg"]


@dataclass(frozen=True)
class Guidance:
    """How far to go and by which rule.

    cfg: v + strength (v - v_without), so that 0 is unguided and 4 is what others call 5.
    apg: the same of the clean estimates, where the part of the difference along the estimate counts `parallel`
    times, and `momentum` times the difference before is added to it.
    Raises ValueError for an unknown method or a strength below 0.
    Source: arXiv 2207.12598 (CFG), arXiv 2410.02416 (APG), values of arXiv 2603.29339.
    """

    method: Method = "cfg"
    strength: float = 4.0
    parallel: float = 0.5
    momentum: float = -0.3

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"guidance is {self.method!r}, expected one of {', '.join(get_args(Method))}")
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength is {self.strength}, expected a finite number of at least 0")

    @property
    def idle(self) -> bool:
        """Whether the velocity with the condition is all that is needed."""
        return self.strength <= 1e-5

    def start(self, like: Tensor) -> State:
        """What is remembered before the first evaluation of an x."""
        return {"before": torch.zeros_like(like)} if self.method == "apg" and not self.idle else {}


def cfg(velocity: Tensor, without: Tensor, strength: float) -> Tensor:
    """Classifier-free guidance, of velocities or of clean estimates."""
    return velocity + strength * (velocity - without)


def apg(
    clean: Tensor, without: Tensor, before: Tensor, guidance: Guidance, free: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Adaptive projected guidance of clean estimates; gives the guided one and the difference to remember.

    The projection is one number a session, over the frames where `free` is true, in float64.
    Shapes: `[b, t, c]`, free `[b, t]`.
    """
    difference = clean - without + guidance.momentum * before
    if free is not None:
        difference = difference * free[..., None]
    full, along = difference.double(), clean.double()
    masked = along if free is None else along * free[..., None]
    share = _dot(full, masked) / _dot(masked, masked).clamp_min(1e-24)
    parallel = share * masked
    gain = full - parallel + guidance.parallel * parallel
    return clean + guidance.strength * gain.to(clean.dtype), difference


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return rearrange(reduce(a * b, "b t c -> b", "sum"), "b -> b 1 1")


def guided(pair: Pair, guidance: Guidance, free: Tensor | None = None) -> Guided:
    """One velocity of two. With apg it is zero where `free`, `[b, t]`, is false, and time 1 cannot be evaluated.

    Begin with `guidance.start(x)`.
    """

    def by_cfg(x: Tensor, time: float, state: State) -> tuple[Tensor, State]:
        return cfg(*pair(x, time), guidance.strength), state

    def by_apg(x: Tensor, time: float, state: State) -> tuple[Tensor, State]:
        clean, without = (x + (1 - time) * v for v in pair(x, time))
        clean, before = apg(clean, without, state["before"], guidance, free)
        velocity = (clean - x) / (1 - time)
        return velocity if free is None else velocity * free[..., None], {"before": before}

    return by_cfg if guidance.method == "cfg" else by_apg
