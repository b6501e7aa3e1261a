"""Halve or double the frequency axis with the 4-tap filter [1, 3, 3, 1] / 8; time is never resampled."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def down(x: Tensor) -> Tensor:
    """Halve the bins of `[b, c, y, t]`: out[m] weighs bins 2m-1 .. 2m+2."""
    even, odd = rearrange(x, "b c (y two) t -> two b c y t", two=2)
    before, after = F.pad(odd, (0, 0, 1, 0))[:, :, :-1], F.pad(even, (0, 0, 0, 1))[:, :, 1:]
    total: Tensor = before + 3 * (even + odd) + after
    return total / 8


def up(x: Tensor) -> Tensor:
    """Double the bins of `[b, c, y, t]` by zero stuffing; the gain is 0.5, as published."""
    after = F.pad(x, (0, 0, 0, 1))[:, :, 1:]
    return rearrange(torch.stack([3 * x + after, x + 3 * after]) / 8, "two b c y t -> b c (y two) t")


def matrix(kind: str, bins: int) -> Tensor:
    """`down` or `up` as a matrix over frequency, for a one-frame step.  # [bins out, bins in]"""
    eye = rearrange(torch.eye(bins), "y t -> 1 1 y t")
    return rearrange(down(eye) if kind == "down" else up(eye), "1 1 y t -> y t").contiguous()
