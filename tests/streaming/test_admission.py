"""What a chunk costs, where several are made in one go: each its share, and the first go counts for nothing."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from riverrun.media import Chunk
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.shown import Shown
from riverrun.models.state import State
from riverrun.streaming import admission
from riverrun.streaming.scheduler import Costs


class Bursts:
    """Work of 8 s, then as many chunks as there are in `period`, which cost nothing; the first go gives one more."""

    request = Shown

    def __init__(self, chunks: int) -> None:
        self.now, self.period, self.left, self.first = 0.0, 3 * chunks, 0, 1
        self.spec = Spec(None, (Port("video", 1, 3), Port("times", 1, 1)), max_batch=1, shows=True)

    def open(self, request: Shown) -> State:
        return {"frame": [0]}

    def step(self, inputs: list[None], state: State) -> tuple[Outputs, State]:
        if not self.left:
            self.now, self.left, self.first = self.now + 8.0, self.period // 3 + self.first, 0
            return [(None, None)], state
        self.left -= 1
        return [(Chunk(np.zeros((3, 2, 2, 3), np.uint8), 0, 1), None)], state


@pytest.mark.parametrize(("chunks", "cost"), [(2, 4.0), (4, 2.0)])
def test_chunks_of_one_go_share_what_it_costs(
    chunks: int, cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = Bursts(chunks)
    monkeypatch.setattr("riverrun.streaming.admission.time.perf_counter", lambda: model.now)
    lane: Any = SimpleNamespace(queue=SimpleNamespace(costs=Costs()))
    admission.measure(lane, "bursts", model)
    assert lane.queue.costs.step("bursts", 1) == cost
