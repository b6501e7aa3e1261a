"""Within: a filter of one rate and hop as a filter of another."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from riverrun.media import Chunk
from riverrun.models.contract import Outputs, Port, Spec, StreamModel
from riverrun.models.layers.rate import Resample
from riverrun.models.rows import gather, mono, present, spread
from riverrun.models.state import State

NOTHING = np.empty((0, 1), np.float32)


class Filter(StreamModel, Protocol):
    """A filter that can also be given a whole clip."""

    def whole(self, data: NDArray[np.float32], request: Any) -> NDArray[np.float32]: ...


class Within:
    """A filter inside a stream of another rate and hop. What its rate cannot hold is lost.

    A step feeds it one of its own hops at most, so that a hop of the stream may take several steps; sessions share one
    where they have come equally far. Requests are those of the filter.
    """

    def __init__(self, model: Filter, port: Port, device: str | torch.device = "cpu") -> None:
        """`port` is of the stream. Raises ValueError if a hop of it is no whole number of the filter's ticks, or the
        model no filter of one channel of sound.
        """
        inner = mono(model)
        self.model, self.port, self.inner, self.device = model, port, inner, torch.device(device)
        self.request = model.request
        self.down = Resample(int(port.rate), int(inner.rate)).to(device)
        self.up = Resample(int(inner.rate), int(port.rate)).to(device)
        if port.hop % self.down.down:
            raise ValueError(
                f"hop is {port.hop} ticks of {port.rate} Hz, expected a multiple of {self.down.down}"
                f" for a model of {inner.rate} Hz"
            )
        self.hop = port.hop // self.down.down * self.down.up  # of the stream, in ticks of the filter
        # A hop of the filter waits for input at most as long as this many of its ticks take ...
        wait = inner.hop - int(np.gcd(inner.hop, self.hop))
        self.wait = wait + -(wait + model.spec.latency) % self.up.down  # ... or whole ticks of the stream
        behind = self.down.told + self.wait + model.spec.latency
        self.spec = Spec(
            port, (port,), behind // self.up.down * self.up.up + self.up.told, model.spec.max_batch
        )

    def open(self, request: Any) -> State:
        """As StreamModel.open, of the filter. Raises InvalidRequest."""
        waiting = self.down.start(1)
        return {
            "down": waiting, "up": self.up.start(1), "low": waiting[:, :0].clone(), "tick": [0],
            "made": waiting.new_zeros(1, self.wait), "busy": [False], "pts": [0], "inner": self.model.open(request),
        }  # fmt: skip

    def update(self, state: State, request: Any) -> State:
        """As StreamModel.update, of the filter. Raises InvalidRequest."""
        return {**state, "inner": self.model.update(state["inner"], request)}

    def close(self, state: State) -> None:
        """As StreamModel.close, of the filter."""
        self.model.close(state["inner"])

    def key(self, state: State) -> Hashable:
        """How far it has come with the stream's hop, and the filter's key."""
        return state["busy"][0], state["low"].shape[1], state["made"].shape[1], self.model.key(state["inner"])

    @torch.inference_mode()
    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """Take a hop of the stream, if one is given; let the filter take a step; give a hop if that was the last."""
        state, count = {**state}, len(inputs)
        if fed := present(inputs):
            low, state["down"] = self.down(gather(fed, self.device), state["down"])
            state |= {"low": torch.cat([state["low"], low], dim=1), "pts": [chunk.pts for chunk in fed]}
        if state["busy"][0] or state["low"].shape[1] >= self.inner.hop:
            state = self._filtered(state, count)
        if state["busy"][0] or state["low"].shape[1] >= self.inner.hop:
            return [(None,)] * count, state
        made, state["up"] = self.up(state["made"][:, : self.hop], state["up"])
        state["made"] = state["made"][:, self.hop :].clone()
        like = [Chunk(NOTHING, pts, self.port.rate) for pts in state["pts"]]
        return [(chunk,) for chunk in spread(made, like, self.spec.latency)], state

    def _filtered(self, state: State, count: int) -> State:
        """Let the filter take a step, of its next hop if it is not at one."""
        hop, given = self.inner.hop, list[Chunk | None]([None] * count)
        if not state["busy"][0]:
            like = [Chunk(NOTHING, tick, self.inner.rate) for tick in state["tick"]]
            given = [*spread(state["low"][:, :hop], like)]
            state |= {"low": state["low"][:, hop:].clone(), "tick": [tick + hop for tick in state["tick"]]}
        outputs, state["inner"] = self.model.step(given, state["inner"])
        if answered := present(chunk for (chunk,) in outputs):
            state["made"] = torch.cat([state["made"], gather(answered, self.device)], dim=1)
        return {**state, "busy": [not answered] * count}

    @torch.inference_mode()
    def whole(self, data: NDArray[np.float32], request: Any) -> NDArray[np.float32]:
        """A whole clip, of which the filter is given all at once, as a reference for the stream.  # [t, 1] -> [t, 1]"""
        late, ticks = self.down.late + self.up.told, len(data)
        x = torch.zeros(1, ticks + late + -(ticks + late) % self.port.hop, device=self.device)
        x[0, :ticks] = torch.from_numpy(data[:, 0])
        low, _ = self.down(x, self.down.start(1))
        made = torch.from_numpy(self.model.whole(low.cpu().numpy().T.copy(), request).T.copy())
        y, _ = self.up(made.to(self.device), self.up.start(1))
        clip: NDArray[np.float32] = y[0, late:][:ticks, None].cpu().numpy()
        return clip
