"""Gate: between words, nothing goes into a model and nothing comes out of it, however it hums."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from riverrun.media import Chunk, ramp
from riverrun.models.contract import Outputs, StreamModel
from riverrun.models.errors import InvalidRequest
from riverrun.models.rows import gather, mono, present, spread
from riverrun.models.state import State

BLOCK = 0.005  # seconds whose level is measured, and in which it opens or closes
HANG = 0.25  # seconds that it stays open after the last loud block
CLOSES = 10 ** (-6 / 10)  # of the power that opens it: what keeps it open
OFF = -100  # dBFS: whatever is heard opens it


@dataclass(frozen=True)
class Request:
    """What the model is asked for, and the `level`, in dB of full scale (RMS), from which on sound is let in.

    At -100 all of it is.
    """

    inner: Any
    level: float = -55.0

    def __post_init__(self) -> None:
        if not OFF <= self.level <= 0:
            raise InvalidRequest(f"gate is {self.level} dB of full scale, expected -100 (always open) to 0")


class Gate:
    """A filter of sound behind a noise gate, with the same gate, as much later, behind it.

    It opens ahead of what is loud, so that this comes whole, and closes after a while that is not; shut, it lets
    exact silence through. That it looks ahead costs 5 ms of latency.
    """

    request = Request

    def __init__(self, model: StreamModel, device: str | torch.device = "cpu") -> None:
        """Raises ValueError if the model is no filter of one channel of sound in hops of whole blocks."""
        port = mono(model)
        self.model, self.hop, self.block = model, port.hop, round(BLOCK * port.rate)
        if self.hop % self.block:
            raise ValueError(f"hop is {self.hop} ticks, expected a multiple of {self.block}")
        self.spec = replace(model.spec, latency=model.spec.latency + self.block)
        self.device = torch.device(device)
        self.hang, self.fade = 1 + round(HANG / BLOCK), torch.from_numpy(ramp(self.block)).to(device)

    def open(self, request: Request) -> State:
        """Shut, before the first sample. Raises InvalidRequest."""
        zeros = torch.zeros(1, self.block, device=self.device)
        return {
            "level": self._power(request).to(self.device), "left": zeros[:, 0].clone(), "held": zeros,
            "gains": zeros.new_zeros(1, self.model.spec.latency), "inner": self.model.open(request.inner),
        }  # fmt: skip

    def update(self, state: State, request: Request) -> State:
        """Another level; whatever else the model is asked for. Raises InvalidRequest."""
        inner = self.model.update(state["inner"], request.inner)
        return {**state, "level": self._power(request).to(self.device), "inner": inner}

    def close(self, state: State) -> None:
        """As StreamModel.close, of the model."""
        self.model.close(state["inner"])

    def key(self, state: State) -> Hashable:
        """Whether the model is at a hop, and its key."""
        return state["gains"].shape[1], self.model.key(state["inner"])

    @torch.inference_mode()
    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """Let the model take a step, with what is let in, and let out what it answers."""
        state = {**state}
        if fed := present(inputs):
            x = torch.cat([state["held"], gather(fed, self.device)], dim=1)
            gains, state["left"] = self._gains(x[:, self.block :], state["left"], state["level"])
            inputs = spread(x[:, : self.hop] * gains, fed, self.block)
            state |= {"held": x[:, self.hop :].clone(), "gains": torch.cat([state["gains"], gains], dim=1)}
        outputs, state["inner"] = self.model.step(inputs, state["inner"])
        if not (made := present(chunk for (chunk,) in outputs)):
            return outputs, state
        gains, state["gains"] = state["gains"][:, : self.hop], state["gains"][:, self.hop :].clone()
        return [(chunk,) for chunk in spread(gather(made, self.device) * gains, made)], state

    def _gains(self, x: Tensor, left: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """What to multiply the block before a hop with, and all but the last of its own: each fades to the next.

        Shapes: `[b, hop]` -> `[b, hop]`; `left`, blocks that it stays open, and `level`, a power, `[b]`.
        """
        power = rearrange(x, "b (n s) -> b n s", s=self.block).square().mean(2)
        opened = [left > 0]
        for loud in power.unbind(1):
            kept = loud >= level * torch.where(left > 0, CLOSES, 1.0)
            left = torch.where(kept, float(self.hang), (left - 1).clamp_min(0))
            opened.append(left > 0)
        edges = torch.stack(opened, dim=1).float()[..., None]  # [b, n + 1, 1]
        return rearrange(torch.lerp(edges[:, :-1], edges[:, 1:], self.fade), "b n s -> b (n s)"), left

    def _power(self, request: Request) -> Tensor:
        return torch.tensor([10 ** (request.level / 10) if request.level > OFF else 0.0])
