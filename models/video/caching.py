"""Feature caching: an evaluation takes over what hardly changed since those before it, as its plan says.

    start ── decide ── evaluate ── decide ── evaluate ── ... ── over, for the next chunk

Two rules, alone or together. Pyramid attention broadcast takes over what attention gave: the outputs of its kinds
change the less, the further away what they attend to is. TeaCache takes over all that the blocks added, while the
input of the first of them hardly changes. What is remembered is a State that goes in and comes out: of a session, of
one chunk, and of each branch of guidance apart. A plan is made before it is needed, so that sessions whose plans differ
do not share a step.
Letters: b session, f latent frame, s patch of a frame, d width, l layer.
Source: arXiv 2408.12588 (PAB), arXiv 2411.19108 (TeaCache).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from riverrun.models.errors import InvalidRequest
from riverrun.models.state import State, part, stack
from riverrun.models.video import rflow
from riverrun.models.video.rflow import NOISE, Draw, Frames, Guided

if TYPE_CHECKING:
    from riverrun.models.video.parallel import Parallel
    from riverrun.models.video.stdit3 import STDiT3

KINDS = ("spatial", "temporal", "cross")  # of attention
BLOCKS = "blocks"  # all of them together
PIECES = (BLOCKS, *KINDS)
BRANCHES = ("led", "unled")  # of guidance: with a caption, and with one that says nothing


@dataclass(frozen=True)
class Caching:
    """What is taken over, and for how long. As it is: nothing.

    The output of `spatial`, `temporal` and `cross` attention serves for as many evaluations in a row, at times in
    `window`, from 0 (clean) to 1000 (noise). All blocks are left out while what is expected of their input's change
    adds up to less than `delta`: `polynomial`, highest power first, of the relative L1 change from one evaluation to
    the next. The first and the last evaluation are computed, and those in which frames begin to be changed.
    Raises ValueError for a number that cannot be.
    """

    delta: float = 0.0
    polynomial: tuple[float, ...] = (1.0, 0.0)
    spatial: int = 1
    temporal: int = 1
    cross: int = 1
    window: tuple[float, float] = (450.0, 930.0)

    def __post_init__(self) -> None:
        if not 0 <= self.delta < float("inf") or not self.polynomial:
            raise ValueError(
                f"delta is {self.delta} of polynomial {self.polynomial}, expected a number of at least 0 of one"
            )
        if min(self.reach) < 1:
            raise ValueError(f"attention serves for {self.reach} evaluations, expected 1 (its own) or more")
        if len(self.window) != 2 or not self.window[0] <= self.window[1]:
            raise ValueError(f"window is {self.window}, expected the lowest and the highest time, 0 to 1000")

    @property
    def reach(self) -> tuple[int, int, int]:
        """Evaluations that each kind of attention serves for."""
        return self.spatial, self.temporal, self.cross

    @property
    def kept(self) -> frozenset[str]:
        """The pieces that are remembered."""
        kinds = {kind for kind, reach in zip(KINDS, self.reach, strict=True) if reach > 1}
        return frozenset(kinds | ({BLOCKS} if self.delta else set()))


PAB246 = Caching(spatial=2, temporal=4, cross=6)
"""Pyramid attention broadcast as published for Open-Sora 1.2."""


def teacache(delta: float) -> Caching:
    """TeaCache with the polynomial published for Open-Sora 1.2, where 0.1 is the slow and 0.2 the fast setting."""
    return Caching(delta, (217.546, -118.329, 26.8663, -0.0459364, 0.0484426))


NAMED = {"pab": PAB246, "teacache-slow": teacache(0.1), "teacache-fast": teacache(0.2)}
"""Settings as published for Open-Sora 1.2."""


def named(name: str) -> Caching:
    """One of NAMED. Raises InvalidRequest."""
    if name not in NAMED:
        raise InvalidRequest(
            f"caching is {name!r}, expected one of {', '.join(NAMED)}, or none: leave it out"
        )
    return NAMED[name]


@dataclass
class Reuse:
    """What one call of a transformer takes over from those before it, and what it leaves to the next."""

    kept: frozenset[str] = frozenset()
    plan: Sequence[str] = ()
    features: State = field(default_factory=dict)
    made: dict[str, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._before = {kind: iter(self.features[kind].unbind(1)) for kind in self.plan if kind in KINDS}

    def blocks(self, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """What all blocks make of tokens.  # [b, f, s, d]"""
        if BLOCKS in self.plan:
            taken: Tensor = x + self.features[BLOCKS]
            return taken
        y = run(x)
        if BLOCKS in self.kept:
            self.made[BLOCKS] = [y - x]
        return y

    def recall(self, kind: str, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What attention of a block gives, as `blocks.Recall`; its own kind is another one.  # [b, f, s, d]"""
        kind = "cross" if name == "cross" else kind
        if kind in self._before:
            taken: Tensor = next(self._before[kind])
            return taken
        y = make()
        if kind in self.kept:
            self.made.setdefault(kind, []).append(y)
        return y

    def left(self) -> State:
        """Features for the next call, of what was computed.

        Shapes: of all blocks `[b, f, s, d]`, of attention `[b, l, f, s, d]`.
        """
        return {
            name: parts[0] if name == BLOCKS else torch.stack(parts, 1) for name, parts in self.made.items()
        }

    def row(self, i: int) -> "Reuse":
        """What a call of row i alone takes over; `join` has what such calls leave."""
        return Reuse(self.kept, self.plan, part(self.features, i, i + 1))

    def join(self, rows: Sequence["Reuse"]) -> None:
        """Leave what a call of each row alone did."""
        self.made = {
            name: [torch.cat(parts) for parts in zip(*(row.made[name] for row in rows), strict=True)]
            for name in rows[0].made
        }


def start(like: Tensor, branches: Sequence[str] = BRANCHES[:1], rows: int = 1) -> State:
    """What is remembered before the first evaluation: nothing. `like` tells device and dtype."""
    nothing = like.new_zeros(rows, 0)
    return {
        "plan": [
            [] for _ in range(rows)
        ],  # pieces that the next evaluation takes over, in all branches: see `seen`
        "age": [[0] * len(KINDS) for _ in range(rows)],  # evaluations since attention was computed; 0: never
        "change": [0.0] * rows,  # since blocks were computed
        "seen": nothing,  # the first block's input, which captions are no part of
        "counts": [dict.fromkeys(("evaluations", *PIECES), 0) for _ in range(rows)],  # taken over
        **{name: dict.fromkeys(PIECES, nothing) for name in branches},
    }


def over(cache: State, like: Tensor, branches: Sequence[str] = BRANCHES[:1]) -> State:
    """What is remembered after the last evaluation: nothing; counts go on."""
    return {**start(like, branches, len(cache["plan"])), "counts": cache["counts"]}


def evaluate(
    caching: Caching, cache: State, forward: Callable[[Reuse], Tensor], branches: Sequence[str] = BRANCHES[:1]
) -> tuple[Tensor, State]:
    """One evaluation as planned; all rows have one plan. `forward` is of rows of each branch, one after the other."""
    plan, rows = cache["plan"][0], len(cache["plan"])
    reuse = Reuse(
        caching.kept, plan, stack([{piece: cache[name][piece] for piece in plan} for name in branches])
    )
    made = forward(reuse)
    left = reuse.left()
    computed = [BLOCKS not in plan and kind not in plan for kind in KINDS]
    return made, {
        **cache,
        "age": [[1 if new else n + 1 for n, new in zip(age, computed, strict=True)] for age in cache["age"]],
        "counts": [
            {name: n + (name in plan or name == "evaluations") for name, n in row.items()}
            for row in cache["counts"]
        ],
        **{name: {**cache[name], **part(left, i * rows, (i + 1) * rows)} for i, name in enumerate(branches)},
    }


def decide(
    caching: Caching,
    cache: State,
    look: Callable[[], Tensor],
    time: float,
    noisy: Tensor,
    whole: bool = False,
) -> State:
    """Plan the next evaluation, at a time of 0 to 1000. One that is `whole`, such as the last, takes nothing over.

    `look` gives the input of its first block, as STDiT3.look; of its change only frames that are `noisy` count.
    Shapes: look `[b, f, s, d]`, noisy `[b, f]`.
    """
    cache = {**cache, "plan": [[] for _ in cache["plan"]]}
    if whole:
        return cache
    if caching.delta:
        seen, before = look(), cache["seen"]
        if before.numel():
            moved = [float(np.polyval(caching.polynomial, d)) for d in relative(seen, before, noisy)]
            totals = [old + more for old, more in zip(cache["change"], moved, strict=True)]
            cache["plan"] = [[BLOCKS] if total < caching.delta else [] for total in totals]
            cache["change"] = [total if total < caching.delta else 0.0 for total in totals]
        cache["seen"] = seen
    if caching.window[0] <= time <= caching.window[1]:
        cache["plan"] = [
            plan or [kind for kind, n, reach in zip(KINDS, age, caching.reach, strict=True) if 0 < n < reach]
            for plan, age in zip(cache["plan"], cache["age"], strict=True)
        ]
    return cache


def relative(now: Tensor, before: Tensor, noisy: Tensor) -> list[float]:
    """How much tokens changed in relation to what they were, in L1, over frames that are noisy; of none: 0."""
    counts = noisy[:, :, None, None]
    moved, size = (
        (value * counts).abs().sum((1, 2, 3), dtype=torch.float32) for value in (now - before, before)
    )
    found: list[float] = (moved / size.clamp_min(1e-12)).tolist()
    return found


def advance(
    caching: Caching,
    cache: State,
    velocity: Guided,
    x: Tensor,
    time: float,
    until: float,
    frames: Frames | None,
    noise: Callable[[], Tensor],
    branches: Sequence[str] = BRANCHES[:1],
) -> tuple[Tensor, Frames | None, State]:
    """One step as rflow.advance, whose evaluation is as planned."""

    def planned(x: Tensor, time: float, noisy: Tensor | None) -> Tensor:
        nonlocal cache
        made, cache = evaluate(caching, cache, lambda reuse: velocity(x, time, noisy, reuse), branches)
        return made

    return *rflow.advance(planned, x, time, until, frames, noise), cache


def sample(
    caching: Caching,
    net: "STDiT3 | Parallel",
    velocity: Guided,
    x: Tensor,
    times: list[float],
    draw: Draw,
    fps: Tensor,
    size: tuple[float, float],
    branches: Sequence[str] = BRANCHES,
    mask: Tensor | None = None,
) -> tuple[Tensor, State]:
    """As rflow.sample, a whole clip in one go; and what is remembered at the end, with its counts."""
    frames = None if mask is None else Frames.of(mask)
    cache = start(x.to(net.dtype), branches, len(x))
    for i, (time, until) in enumerate(pairwise(times)):
        noisy, begins = torch.ones(len(x), x.shape[2], dtype=torch.bool, device=x.device), False
        if frames is not None:
            noisy = NOISE * frames.mask >= time
            begins = bool((noisy & ~frames.begun).any())  # which gives them noise, that `look` does not see
        now = torch.full((len(x),), time, device=x.device)
        look = partial(net.look, x, now, fps, size, noisy)
        cache = decide(caching, cache, look, time, noisy, whole=begins or i == len(times) - 2)
        noise = partial(draw, i)
        x, frames, cache = advance(caching, cache, velocity, x, time, until, frames, noise, branches)
    return x, cache
