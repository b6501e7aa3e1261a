"""Restoration as a StreamModel: one hop in, one hop out, many sessions in one forward pass."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riverrun.media import Chunk, ramp
from riverrun.models import checkpoint
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.flow import arrive, point
from riverrun.models.noise import noise_rows
from riverrun.models.restoration.frame import FrameStep
from riverrun.models.restoration.network import Config, Restorer
from riverrun.models.restoration.spectrum import synthesise, to_complex
from riverrun.models.restoration.tasks import look
from riverrun.models.rows import gather, present, spread
from riverrun.models.state import State

KIND = "restoration"  # of its checkpoints


@dataclass(frozen=True)
class Request:
    """What a session asks for.

    `strength` 0 to 1 mixes the input (0) with the restored sound (1); `bypass` lets the input through. Both
    have the same delay, and a change fades over one hop. Equal `seed` and input give equal output.
    """

    strength: float = 1.0
    bypass: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise InvalidRequest(f"strength is {self.strength}, expected 0 (input) to 1 (restored)")
        if not -(2**63) <= self.seed < 2**63:
            raise InvalidRequest(f"seed is {self.seed}, expected a 64-bit signed integer")


class Restoration:
    """A restorer as a StreamModel. One thread may step it at a time; sessions live in their states.

    A hop's network calls allocate nothing; the transforms and solver around them make a few small tensors.
    """

    request = Request

    def __init__(self, restorer: Restorer, device: str | torch.device = "cpu", max_batch: int = 16) -> None:
        self.restorer = restorer.to(device).eval().requires_grad_(False)
        self.config, self.device = restorer.config, torch.device(device)
        spectrum = self.config.spectrum
        port = Port("audio", spectrum.rate, spectrum.hop)
        self.spec = Spec(port, (port,), spectrum.latency, max_batch)
        self.predictor = FrameStep(restorer.predictor) if restorer.predictor else None
        self.flow = FrameStep(restorer.flow, self.config.tableau.c) if restorer.flow else None
        self.rungs = ("steps",) if self.predictor and self.flow else ()
        self.fade = torch.from_numpy(ramp(spectrum.hop)).to(device)

    def open(self, request: Request) -> State:
        """The state before the first sample: silence. Checking is the Request's own business."""
        aim = torch.tensor([_mix(request)], dtype=torch.float32, device=self.device)
        state: State = {"seed": [request.seed], "tick": [0], "mix": aim, "aim": aim.clone()}
        spectrum = self.config.spectrum
        for name in ("past", "tail", "heard"):
            state[name] = torch.zeros(1, spectrum.latency, device=self.device)
        if self.predictor:
            state["predictor"] = self.predictor.start(1)
        if self.flow:
            state["flow"] = {str(i): self.flow.start(1) for i in range(self.config.tableau.stages)}
        if self.rungs:
            state["light"] = [False]
        return state

    def lighten(self, state: State, rung: int) -> State:
        """Leave out the solver's steps, so that what the predictor says is the result; or take them again."""
        return {**state, "light": [rung > 0 for _ in state["light"]]}

    def update(self, state: State, request: Request) -> State:
        """Fade to another strength or bypass over the next hop. Raises InvalidRequest for another seed."""
        if request.seed != state["seed"][0]:
            raise InvalidRequest(f"seed is {request.seed}; a running session keeps {state['seed'][0]}")
        return {**state, "aim": torch.full_like(state["aim"], _mix(request))}

    def close(self, state: State) -> None:
        """Nothing to free: all a session has is its state."""

    def key(self, state: State) -> Hashable:
        """All sessions of one restorer fit together at any time, but for those that do with less."""
        return state["light"][0] if self.rungs else False

    @torch.inference_mode()
    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """Restore one hop of every session."""
        chunks = present(inputs)
        hop, latency = self.config.spectrum.hop, self.config.spectrum.latency
        x = gather(chunks, self.device)
        dry = torch.cat([state["past"], x], dim=1)[:, :hop]
        seen, past, heard = look(self.config, x, state["past"], state["heard"])
        clean = self._frame(seen[:, :, 0], state)
        wet, tail = synthesise(self.config.spectrum, clean[:, :, None], state["tail"])
        mix = torch.lerp(state["mix"][:, None], state["aim"][:, None], self.fade)
        made = torch.lerp(dry, wet, mix)
        ticks = [tick + 1 for tick in state["tick"]]
        state = {
            **state,
            "past": past,
            "tail": tail,
            "heard": heard,
            "mix": state["aim"].clone(),
            "tick": ticks,
        }
        return [(chunk,) for chunk in spread(made, chunks, latency)], state

    def _frame(self, seen: Tensor, state: State) -> Tensor:
        """One compressed frame from what is seen of it; the networks' states move on.  # [b, y] -> [b, y]"""
        first = seen
        if self.predictor:
            output = self.predictor([self.predictor.layout(seen)], state["predictor"])
            parts = [self.predictor.spectrum(part) for part in output.unbind(2)]
            first = (
                parts[0] if self.config.head == "direct" else torch.addcmul(seen + parts[1], parts[0], seen)
            )
        if not self.flow or (self.rungs and state["light"][0]):
            return first
        net, tableau = self.flow, self.config.tableau
        conditions = [net.layout(v) for v in self.restorer.conditions(seen, first)]
        x = net.layout(self.config.path.begin(first[:, :, None], self._noise(state))[:, :, 0])
        slopes: list[Tensor] = []
        while len(slopes) < tableau.stages:
            i = len(slopes)
            here, _ = point(tableau, x, slopes)
            slopes.append(net([here, *conditions], state["flow"][str(i)], i)[:, :, 0].clone())
        return net.spectrum(arrive(tableau, x, slopes))

    def _noise(self, state: State) -> Tensor:
        """This frame's complex noise of total variance 1, from seed and tick.  # [b, y, 1]"""
        z = noise_rows(state["seed"], state["tick"], (2, self.config.spectrum.bins, 1))
        return to_complex(z.mul_(0.5**0.5)).to(self.device)[:, 0]

    @torch.inference_mode()
    def whole(self, data: NDArray[np.float32], request: Request) -> NDArray[np.float32]:
        """Restore a whole clip in one forward pass of the networks, as a reference for the stream.

        Shapes: `[t, 1]` -> `[t, 1]`.
        """
        config, mix = self.config.spectrum, _mix(request)
        frames = -(-(len(data) + config.latency) // config.hop)
        x = torch.zeros(1, frames * config.hop, device=self.device)
        x[0, : len(data)] = torch.from_numpy(data[:, 0])
        start = x.new_zeros(2, 1, config.latency)
        seen, _, _ = look(self.config, x, *start)
        z = noise_rows([request.seed] * frames, range(frames), (2, config.bins, 1))
        z = torch.cat(tuple(to_complex(z * 0.5**0.5)), dim=2).to(self.device)
        wet = synthesise(config, self.restorer(seen, z))[0][0, config.latency :][: len(data)]
        return torch.lerp(x[0, : len(data)], wet, mix)[:, None].cpu().numpy()


def _mix(request: Request) -> float:
    return 0.0 if request.bypass else request.strength


def load(path: Path, device: str = "cpu") -> Restoration:
    """A restorer from its checkpoint. Raises CheckpointError."""
    header, tensors = checkpoint.read(path)
    config = checkpoint.config(header, KIND, Config, path)
    restorer = checkpoint.on_meta(lambda: Restorer(config))
    checkpoint.fill(restorer, tensors, path)
    assert isinstance(restorer, Restorer)
    return Restoration(restorer, device)


def save(path: Path, restorer: Restorer, notes: dict[str, str] | None = None) -> None:
    """Write a restorer as a checkpoint that `load` takes."""
    checkpoint.save(path, restorer, KIND, restorer.config, notes)
