"""Flow matching: straight paths with a shared noise sample, and explicit Runge-Kutta solvers as tableaux.

A solver is a `Tableau` and two functions: `point` says where to evaluate the velocity next, given the slopes so
far; `arrive` says where the step ends. Between evaluations nothing is held but a list of slopes, so a solver
can stop anywhere, and every stage can keep a state of its own:

    while len(slopes) < tableau.stages:
        slopes.append(velocity(*point(tableau, x, slopes)))
    x = arrive(tableau, x, slopes)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""(x, time in [0, 1]) -> dx/dtime"""


@dataclass(frozen=True)
class JointPath:
    """Joint paths from a degraded to a clean spectrum: both ends share one noise sample z.

    x(0) = start + sigma z, x(1) = clean + sigma_min z. Sigmas are scalars or a value a bin (broadcast over
    `[..., y, t]` as `[y, 1]`). Raises ValueError for a sigma that is negative or not finite.
    Source: arXiv 2512.19442 (flow formulation), joint coupling as in arXiv 2503.21254 (FlowDec).
    """

    sigma: float | tuple[float, ...]
    sigma_min: float | tuple[float, ...] = 0.001

    def __post_init__(self) -> None:
        for name in ("sigma", "sigma_min"):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if not values or not all(0 <= v < math.inf for v in values):
                raise ValueError(f"{name} is {value}, expected finite numbers of at least 0")

    def scale(self, which: str, like: Tensor) -> Tensor:
        """`sigma` or `sigma_min` as a tensor that broadcasts over `[..., y, t]`."""
        return _column(getattr(self, which), str(like.device), like.dtype.to_real())

    def begin(self, start: Tensor, z: Tensor) -> Tensor:
        """x(0), where a solver starts."""
        return start + self.scale("sigma", start) * z

    def end(self, clean: Tensor, z: Tensor) -> Tensor:
        """x(1), what training aims at."""
        return clean + self.scale("sigma_min", clean) * z


@lru_cache
@torch.inference_mode(False)  # what a stream makes first, training uses later
def _column(value: float | tuple[float, ...], device: str, dtype: torch.dtype) -> Tensor:
    """A number, or one a bin as `[y, 1]`."""
    made = torch.tensor(value, dtype=dtype, device=device)
    return made[:, None] if made.ndim else made


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta step over [0, 1]: nodes c, weights b, strictly lower-triangular a.

    Raises ValueError if the sizes differ, a row of a does not add up to its node, b does not add to 1, or a node
    lies outside [0, 1].
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]

    def __post_init__(self) -> None:
        q = len(self.b)
        if len(self.c) != q or [len(r) for r in self.a] != list(range(q)):
            raise ValueError(f"a {[len(r) for r in self.a]}, b {q}, c {len(self.c)}: not an explicit tableau")
        sums = [abs(sum(r) - c) for r, c in zip(self.a, self.c, strict=True)] + [abs(sum(self.b) - 1)]
        if not all(off <= 1e-4 for off in sums):  # nor is NaN
            raise ValueError(f"rows of a tableau must add up to c, and b to 1; off by {sums}")
        if not all(-1e-6 <= c <= 1 + 1e-6 for c in self.c):
            raise ValueError(f"nodes of a tableau are {self.c}, expected 0 to 1")

    @property
    def stages(self) -> int:
        return len(self.b)


def second_order(alpha: float) -> Tableau:
    """The two-stage methods of order 2 with their node at alpha: 1/2 midpoint, 2/3 Ralston, 1 Heun."""
    return Tableau(((), (alpha,)), (1 - 1 / (2 * alpha), 1 / (2 * alpha)), (0, alpha))


EULER = Tableau(((),), (1,), (0,))
MIDPOINT = second_order(1 / 2)
RALSTON2 = second_order(2 / 3)
HEUN3 = Tableau(((), (1 / 3,), (0, 2 / 3)), (1 / 4, 0, 3 / 4), (0, 1 / 3, 2 / 3))
RALSTON3 = Tableau(((), (1 / 2,), (0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9), (0, 1 / 2, 3 / 4))
SSPRK3 = Tableau(((), (1,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 2 / 3), (0, 1, 1 / 2))
RK4 = Tableau(((), (0.5,), (0, 0.5), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0, 0.5, 0.5, 1))
RK38 = Tableau(((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8), (0, 1 / 3, 2 / 3, 1))


def compose(methods: Sequence[Tableau], ends: Sequence[float] | None = None) -> Tableau:
    """Run methods one after another over sub-intervals of [0, 1] as one tableau.

    `ends` are the interval ends, the last one 1; uniform without. Raises ValueError if they do not rise to 1.
    """
    edges = [0.0, *(ends or [(i + 1) / len(methods) for i in range(len(methods))])]
    if len(edges) != len(methods) + 1 or edges[-1] != 1 or any(u >= v for u, v in pairwise(edges)):
        raise ValueError(f"ends are {edges[1:]}, expected {len(methods)} rising values, the last one 1")
    a: list[tuple[float, ...]] = []
    b: list[float] = []
    c: list[float] = []
    for method, (start, end) in zip(methods, pairwise(edges), strict=True):
        span = end - start
        a += [(*b, *(span * v for v in row)) for row in method.a]
        c += [start + span * v for v in method.c]
        b += [span * v for v in method.b]
    return Tableau(tuple(a), tuple(b), tuple(c))


def euler(steps: int) -> Tableau:
    """Uniform Euler steps as one tableau. Raises ValueError if steps < 1."""
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    return compose([EULER] * steps)


COMPOSITE5 = compose([RALSTON3, RALSTON2], [0.55, 1])


def solver(name: str) -> Tableau:
    """A tableau by name: "4xeuler", "midpoint", "2xmidpoint", "rk4", "rk38", "composite5", ...

    Raises ValueError naming the known ones.
    """
    known = {
        "euler": EULER, "midpoint": MIDPOINT, "ralston2": RALSTON2, "heun3": HEUN3, "ralston3": RALSTON3,
        "ssprk3": SSPRK3, "rk4": RK4, "rk38": RK38, "composite5": COMPOSITE5,
    }  # fmt: skip
    count, times, method = name.rpartition("x")
    if method not in known or (times and not count.isdigit()) or count == "0":
        raise ValueError(f"solver {name!r} is unknown, expected one of {', '.join(known)}, or as in 4xeuler")
    return compose([known[method]] * int(count)) if times else known[method]


def point(tableau: Tableau, x: Tensor, slopes: Sequence[Tensor]) -> tuple[Tensor, float]:
    """Where and when to evaluate the velocity next, given the slopes of the stages so far."""
    i = len(slopes)
    for weight, slope in zip(tableau.a[i], slopes, strict=True):
        if weight:
            x = torch.add(x, slope, alpha=weight)
    return x, tableau.c[i]


def arrive(tableau: Tableau, x: Tensor, slopes: Sequence[Tensor]) -> Tensor:
    """The end of a step, given all its slopes."""
    for weight, slope in zip(tableau.b, slopes, strict=True):
        if weight:
            x = torch.add(x, slope, alpha=weight)
    return x


def solve(velocity: Velocity, x: Tensor, tableau: Tableau) -> Tensor:
    """Carry x from flow time 0 to 1 in one go."""
    slopes: list[Tensor] = []
    while len(slopes) < tableau.stages:
        slopes.append(velocity(*point(tableau, x, slopes)))
    return arrive(tableau, x, slopes)
