"""What every training loop shares."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from riverrun.models.training.loop import precision

CPU = torch.device("cpu")


def test_half_precision_does_not_take_attentions_slow_way_back() -> None:
    made = {}
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
