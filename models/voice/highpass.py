"""Highpass: rumble out, hop by hop, as X-VC's own preparation takes it out of whole recordings."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.signal import lfilter

from riverrun.media import Chunk
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.rows import present
from riverrun.models.state import State
from riverrun.models.voice.features import biquad


@dataclass(frozen=True)
class Request:
    """There is nothing to ask for."""


class Highpass:
    """The high-pass of features.py as a StreamModel: it waits for nothing, and clips to [-1, 1] as that does."""

    request = Request

    def __init__(self, port: Port, max_batch: int = 16) -> None:
        self.spec = Spec(port, (port,), 0, max_batch)
        self.filter = biquad(float(port.rate))

    def open(self, request: Request) -> State:
        """Before the first sample."""
        return {"past": torch.zeros(1, 2, dtype=torch.float64)}

    def update(self, state: State, request: Request) -> State:
        """As it was."""
        return state

    def close(self, state: State) -> None:
        """Nothing to free."""

    def key(self, state: State) -> Hashable:
        """All sessions fit together."""
        return True

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """One hop of every session. In float64, and on the CPU, where sound comes from."""
        chunks = present(inputs)
        sound = np.stack([chunk.data[:, 0] for chunk in chunks]).astype(np.float64)
        made, past = lfilter(*self.filter, sound, axis=1, zi=state["past"].cpu().numpy())
        data = made.clip(-1, 1).astype(np.float32)[:, :, None]
        outputs: Outputs = [(replace(chunk, data=row),) for chunk, row in zip(chunks, data, strict=True)]
        return outputs, {"past": torch.from_numpy(past).to(state["past"].device)}
