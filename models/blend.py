"""Blend: how much of what a filter makes is heard, and how much of what it was given."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from riverrun.media import Chunk, ramp
from riverrun.models.contract import Outputs, StreamModel
from riverrun.models.errors import InvalidRequest
from riverrun.models.rows import gather, mono, present, spread
from riverrun.models.state import State


@dataclass(frozen=True)
class Request:
    """What the filter is asked for, and the `share` of it, from 0 (its input, untouched) to 1."""

    inner: Any
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InvalidRequest(f"share is {self.share}, expected 0 to 1")


class Blend:
    """A filter of one channel of sound beside its own input, which waits as long as it; a change fades over one hop.

    The filter goes on at a share of 0, so that it can come back at once.
    """

    request = Request

    def __init__(self, model: StreamModel, device: str | torch.device = "cpu") -> None:
        """Raises ValueError if the model is no such filter."""
        self.model, self.spec, self.hop = model, model.spec, mono(model).hop
        self.device = torch.device(device)
        self.fade = torch.from_numpy(ramp(self.hop)).to(device)

    def open(self, request: Request) -> State:
        """As StreamModel.open, of the filter. Raises InvalidRequest."""
        share = torch.tensor([request.share], dtype=torch.float32, device=self.device)
        dry = torch.zeros(1, self.spec.latency, device=self.device)
        return {"share": share, "aim": share.clone(), "dry": dry, "inner": self.model.open(request.inner)}

    def update(self, state: State, request: Request) -> State:
        """Fade to another share; change what the filter is asked for. Raises InvalidRequest."""
        inner = self.model.update(state["inner"], request.inner)
        return {**state, "aim": torch.full_like(state["aim"], request.share), "inner": inner}

    def close(self, state: State) -> None:
        """As StreamModel.close, of the filter."""
        self.model.close(state["inner"])

    def key(self, state: State) -> Hashable:
        """Whether the filter is at a hop, and its key."""
        return state["dry"].shape[1], self.model.key(state["inner"])

    @torch.inference_mode()
    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """Let the filter take a step, and blend what it answers."""
        state = {**state}
        if fed := present(inputs):
            state["dry"] = torch.cat([state["dry"], gather(fed, self.device)], dim=1)
        outputs, state["inner"] = self.model.step(inputs, state["inner"])
        if not (made := present(chunk for (chunk,) in outputs)):
            return outputs, state
        dry, aim = state["dry"], state["aim"]
        share = torch.lerp(state["share"][:, None], aim[:, None], self.fade)
        mixed = torch.lerp(dry[:, : self.hop], gather(made, self.device), share)
        state |= {"dry": dry[:, self.hop :].clone(), "share": aim.clone()}
        return [(chunk,) for chunk in spread(mixed, made)], state
