"""Fitting: what a model that converts takes on this machine, and which of its presets keeps pace."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from riverrun.media import Chunk
from riverrun.models.checking import sample
from riverrun.models.contract import Outputs, Presets, StreamModel
from riverrun.models.errors import InvalidRequest
from riverrun.models.rows import mono
from riverrun.models.state import State

AUTO = "auto"  # in place of a preset's name: the one that fits
WINDOWS = 50  # of each preset
LATE = 0.05  # share of windows that may take longer than they last

Clock = Callable[[], float]


@dataclass(frozen=True)
class Fit:
    """What windows of a model took here. `preset` is empty where it has none. Times in seconds.

    `hop` is how long a window's sound lasts, and so may take; `latency` is without computing.
    """

    preset: str
    hop: float
    latency: float
    p50: float
    p95: float
    windows: int

    @property
    def fits(self) -> bool:
        """Whether it keeps pace, alone."""
        return self.p95 <= self.hop

    @property
    def sessions(self) -> int:
        """How many streams keep pace one beside another, if none shares a step."""
        return int(self.hop / self.p95)

    def __str__(self) -> str:
        named = f"preset {self.preset}, " if self.preset else ""
        took = f"{1e3 * self.p95:.3g} of {1e3 * self.hop:g} ms a window (p95 of {self.windows})"
        if self.fits:
            return f"{named}latency {1e3 * self.latency:g} ms; it takes {took}"
        best = f"{named.rstrip(', ')} comes nearest and takes" if named else "it takes"
        return f"this machine is too slow to convert live: {best} {took}"


def ways(model: StreamModel, preset: str = AUTO) -> dict[str, StreamModel]:
    """A model by its presets, or by the one that is named; by no name if it has none. Raises InvalidRequest."""
    names = getattr(model, "presets", ())
    if preset != AUTO:
        if preset not in names:
            known = f"expected {AUTO} or one of {', '.join(names)}" if names else "and the model has none"
            raise InvalidRequest(f"preset is {preset!r}, {known}")
        names = (preset,)
    return {name: cast(Presets, model).at(name) for name in names} or {"": model}


def fitting(ways: Mapping[str, StreamModel], clock: Clock, windows: int = WINDOWS) -> Fit:
    """The way of the least latency that keeps pace with speech, or else the one that comes nearest."""
    found = list[Fit]()
    for name, model in sorted(ways.items(), key=lambda way: _latency(way[1])):
        found.append(timed(name, model, clock, windows))
        if found[-1].fits:
            return found[-1]
    return min(found, key=lambda fit: fit.p95 / fit.hop)


def timed(name: str, model: StreamModel, clock: Clock, windows: int = WINDOWS) -> Fit:
    """Time windows of a model, or so many as settle that it does not keep pace; what comes before them is left out."""
    port = mono(model)
    period = getattr(model, "period", port.hop)  # ticks
    sound = np.random.default_rng(0).normal(0, 0.1, (period, 1)).astype(np.float32)
    state, times, late, at = model.open(sample(model)), list[float](), 0, 0
    early = math.ceil(model.spec.latency / period) + 1
    while len(times) < early + windows and late <= LATE * windows:
        start = clock()
        for first in range(0, period, port.hop):
            _, state = answered(model, Chunk(sound[first : first + port.hop], at + first, port.rate), state)
        times.append(clock() - start)
        at += period
        late += len(times) > early and times[-1] > period / port.rate
    p50, p95 = np.quantile(times[early:], (0.5, 1 - LATE), method="higher")
    return Fit(name, float(period / port.rate), _latency(model), float(p50), float(p95), len(times) - early)


def answered(model: StreamModel, hop: Chunk, state: State) -> tuple[Outputs, State]:
    """Step one session until its hop is answered."""
    given: Chunk | None = hop
    while True:
        outputs, state = model.step([given], state)
        if outputs[0][0] is not None:
            return outputs, state
        given = None


def _latency(model: StreamModel) -> float:
    port = mono(model)
    return float((port.hop + model.spec.latency) / port.rate)
