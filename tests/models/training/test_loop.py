"""What every training loop shares."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.optim.swa_utils import AveragedModel

from riverrun.models.training.loop import Alone, follow, precision
from riverrun.models.training.optimizer import Optimizer, orthogonal
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


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_matrices_are_stepped_alike_where_bfloat16_is_slow(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    slopes, made = torch.randn(3, *shape), list[torch.Tensor]()
    for capability in ("AVX512", "AVX2"):
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)  # noqa: B023
        torch.manual_seed(0)
        layer = torch.nn.Linear(*shape)
        begun, optimizer = layer.weight.detach().clone(), Optimizer(layer, 0.1)
        for slope in slopes:
            layer.weight.grad = slope.mT.clone()
            optimizer.step(0.1)
        made.append(layer.weight.detach() - begun)
        assert optimizer.state_dict()[0]["state"][0]["momentum_buffer"].dtype == torch.float32
    assert (made[0] - made[1]).norm() < 0.02 * made[0].norm()
    assert 0.6 < float(torch.linalg.svdvals(orthogonal(slopes[0], (3.4445, -4.775, 2.0315), 5)).min()) < 1.3


@pytest.mark.parametrize("capability", ["AVX512", "AVX2"])
def test_half_precision_is_taken_where_it_is_fast_and_attention_never_slow(
    monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    made = dict[bool, Any]()
    for half in (False, True):
        torch.manual_seed(0)
        layer, x = torch.nn.Linear(16, 48), torch.randn(2, 4, 9, 16)
        with precision(CPU, half):
            q, k, v = layer(x).chunk(3, -1)
            y = scaled_dot_product_attention(q, k, v)
        halved = half and capability == "AVX512"
        assert y.dtype == (torch.bfloat16 if halved else torch.float32)
        fused = "Flash" in type(y.grad_fn).__name__
        assert fused == (not halved), "in full precision the fused kernel is as fast"
        y.float().square().sum().backward()
        made[half] = layer.weight.grad
    assert (made[True] - made[False]).norm() < 0.02 * made[False].norm()
