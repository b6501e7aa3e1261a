"""What every training loop shares."""

import weakref
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.optim.swa_utils import AveragedModel

from riverrun.models.training.loop import Alone, follow, precision
from riverrun.models.training.velocities import Recipe

CPU = torch.device("cpu")


class Course:
    """A layer, and something large that is kept with it."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.average, self.large = AveragedModel(self.model), torch.ones(9)

    def state(self) -> dict[str, Any]:
        return {"large": self.large}

    def resume(self, state: dict[str, Any]) -> None:
        self.large, self.given = state["large"].clone(), weakref.ref(state["large"])


def test_what_a_run_goes_on_from_does_not_stay_in_memory(tmp_path: Path) -> None:
    held = []

    def learn(batch: int, rate: float, progress: float) -> dict[str, torch.Tensor]:
        held.append(hasattr(course, "given") and course.given() is not None)
        return {}

    for steps in (1, 3):
        course = Course()
        recipe = Recipe(minutes=1e9, steps=steps, save_minutes=1e9)
        follow(course, recipe, lambda step: range(step, 9), learn, tmp_path, Alone(CPU), resume=True)
    assert hasattr(course, "given") and held == [False] * 3


def test_half_precision_does_not_take_attentions_slow_way_back() -> None:
    made = dict[bool, Any]()
    for half in (False, True):
        torch.manual_seed(0)
        layer, x = torch.nn.Linear(16, 48), torch.randn(2, 4, 9, 16)
        with precision(CPU, half):
            q, k, v = layer(x).chunk(3, -1)
            y = scaled_dot_product_attention(q, k, v)
        assert y.dtype == (torch.bfloat16 if half else torch.float32)
        fused = "Flash" in type(y.grad_fn).__name__
        assert fused == (not half), "in full precision the fused kernel is as fast"
        y.float().square().sum().backward()
        made[half] = layer.weight.grad
    assert (made[True] - made[False]).norm() < 0.02 * made[False].norm()
