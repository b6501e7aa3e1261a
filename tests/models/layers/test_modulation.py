"""A norm that is scaled and shifted: zeros leave a plain norm, and the dtype is kept."""

import torch

from riverrun.models.layers.modulation import modulate


def test_without_scale_and_shift_it_is_a_plain_norm() -> None:
    x = 5 + 3 * torch.randn(2, 4, 64)
    y = modulate(x, torch.zeros(()), torch.zeros(()), 1e-6)
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(-1, unbiased=False), torch.ones(2, 4), atol=1e-4, rtol=0)


def test_scale_is_added_to_one_and_the_dtype_is_kept() -> None:
    x = torch.randn(2, 4, 64)
    plain = modulate(x, torch.zeros(()), torch.zeros(()), 1e-6)
    y = modulate(x.bfloat16(), torch.ones(2, 1, 64), torch.full((2, 1, 64), 3.0), 1e-6)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), 2 * plain + 3, atol=0.1, rtol=0.02)
