"""What restoration learns: an optional predictor, a flow that refines it, and the levels they work at.

Source: arXiv 2512.19442 (joint flow matching over compressed spectra, initial predictor after StoRM).
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from riverrun.models.flow import COMPOSITE5, JointPath, Tableau, solve
from riverrun.models.restoration.backbone import Backbone, BackboneConfig, decouple
from riverrun.models.restoration.spectrum import SpectrumConfig, to_complex, to_real

Task = Literal["enhance", "dereverb", "codec", "bandwidth", "phase", "mel", "restore"]
Head = Literal["direct", "mask"]


@dataclass(frozen=True)
class Config:
    """One restorer: what it sees, its networks, its path and its solver.

    `predictor` maps the degraded spectrum to a first estimate, or is None. `head` "direct" takes the network's
    output as the estimate; "mask" takes a complex mask on the input plus a correction, which starts as identity.
    `flow` refines the estimate (or, without a predictor, the input) along `path`, or is None. `phase` is for tasks
    that see no phases: how many iterations of phase retrieval come before the networks, 0 for zero phases.
    Raises ValueError where the parts do not fit each other.
    """

    task: Task
    spectrum: SpectrumConfig = SpectrumConfig()
    predictor: BackboneConfig | None = None
    head: Head = "direct"
    flow: BackboneConfig | None = None
    path: JointPath = JointPath(0.25)
    tableau: Tableau = COMPOSITE5
    phase: int = 0

    def __post_init__(self) -> None:
        if self.predictor is None and self.flow is None:
            raise ValueError("a restorer needs a predictor, a flow, or both")
        for name, value, known in (("task", self.task, Task), ("head", self.head, Head)):
            if value not in get_args(known):
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(get_args(known))}")
        if self.phase and not self.blind:
            raise ValueError(f"task {self.task!r} sees phases and has none to retrieve")
        if self.phase < 0:
            raise ValueError(f"phase is {self.phase}, expected at least 0 iterations")
        self._fit("predictor", self.predictor, 1, 1 if self.head == "direct" else 2, False)
        self._fit("flow", self.flow, 2 if self.predictor is None else 3, 1, True)
        for name in ("sigma", "sigma_min"):
            value = getattr(self.path, name)
            if isinstance(value, tuple) and len(value) != self.spectrum.bins:
                raise ValueError(f"{name} has {len(value)} values, expected {self.spectrum.bins}, one a bin")

    def _fit(self, name: str, net: BackboneConfig | None, inputs: int, outputs: int, timed: bool) -> None:
        if net is None:
            return
        found = (net.bins, net.inputs, net.outputs, net.timed)
        if found != (wanted := (self.spectrum.bins, inputs, outputs, timed)):
            raise ValueError(f"{name} has (bins, inputs, outputs, timed) {found}, expected {wanted}")

    @property
    def blind(self) -> bool:
        """Whether the task sees magnitudes alone."""
        return self.task in ("phase", "mel")


class Restorer(nn.Module):
    """The networks of one Config. Spectra are complex and compressed, `[b, y, t]`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.predictor = Backbone(config.predictor) if config.predictor else None
        self.flow = Backbone(config.flow) if config.flow else None

    def estimate(self, seen: Tensor, output: Tensor) -> Tensor:
        """The first estimate from what the predictor puts out.  # [b, y, t], [b, 2 outputs, y, t] -> [b, y, t]"""
        first, *rest = to_complex(output.float()).unbind(1)
        return first if self.config.head == "direct" else (1 + first) * seen + rest[0]

    def predict(self, seen: Tensor) -> Tensor:
        """The first estimate of the clean spectrum; without a predictor, what is seen."""
        if self.predictor is None:
            return seen
        return self.estimate(seen, self.predictor(to_real(seen))[0])

    def conditions(self, seen: Tensor, first: Tensor) -> tuple[Tensor, ...]:
        """What the flow is told beside its own position."""
        return (seen,) if self.predictor is None else (first, seen)

    def velocity(self, x: Tensor, time: Tensor, conditions: tuple[Tensor, ...]) -> Tensor:
        """dx/dtime at flow times `[b]`."""
        assert self.flow is not None
        return to_complex(self.flow(to_real(x, *conditions), time)[0].float())[:, 0]

    def refine(self, seen: Tensor, first: Tensor, z: Tensor) -> Tensor:
        """Carry the estimate along the flow, whole clip at once; z is the noise, complex of variance 1."""
        if self.flow is None:
            return first
        conditions = self.conditions(seen, first)

        def velocity(x: Tensor, time: float) -> Tensor:
            return self.velocity(x, torch.full((len(x),), time, device=x.device), conditions)

        return solve(velocity, self.config.path.begin(first, z), self.config.tableau)

    def forward(self, seen: Tensor, z: Tensor) -> Tensor:
        """Restore a whole clip."""
        return self.refine(seen, self.predict(seen), z)


def compress(restorer: Restorer, rank: int) -> Restorer:
    """A smaller restorer as close as decoupling to `rank` allows, to be fine-tuned. The one given is not changed.

    Raises ValueError unless its networks are dense and rank is 1 to 6.
    """
    predictor, flow = (
        None if net is None else decouple(net, rank) for net in (restorer.predictor, restorer.flow)
    )
    config = replace(
        restorer.config,
        predictor=predictor.config if predictor else None,
        flow=flow.config if flow else None,
    )
    with torch.device("meta"):  # no memory for weights that are replaced at once
        small = Restorer(config)
    small.predictor, small.flow = predictor, flow
    return small.train(restorer.training)


def complex_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Complex standard normal values of total variance 1, for training."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)
