"""Attention with normed queries and keys and rotary positions.

Letters: b session, t query, n key, d width, h head, e width of a head.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Memory = tuple[Tensor, Tensor]
"""Keys and values by head, keys normed and turned to their positions.  # [b, h, n, e] twice"""
Rope = tuple[Tensor, Tensor]
"""Cosines and sines of positions.  # [t, e] twice, float32"""


def rope(stop: int, e: int, device: torch.device, base: float = 100_000.0, start: int = 0) -> Rope:
    """Positions start to stop - 1 as angles, the same in both halves of a head. Source: arXiv 2104.09864."""
    rate = base ** -(torch.arange(0, e, 2, device=device).float() / e)
    angles = torch.arange(start, stop, device=device).float()[:, None] * torch.cat([rate, rate])
    return angles.cos(), angles.sin()


def turn(x: Tensor, at: Rope) -> Tensor:
    """Turn the first half of each head against the second, in float32.  # [b, h, t, e]"""
    cos, sin = at
    first, second = x.float().chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention; RMS norm of queries and keys over the full width, before it is cut into heads."""

    def __init__(self, d: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.q_norm, self.k_norm = RmsNorm(d, eps), RmsNorm(d, eps)
        self.to_out = nn.Sequential(nn.Linear(d, d))

    def cut(self, x: Tensor) -> Tensor:
        return rearrange(x, "b t (h e) -> b h t e", h=self.heads)

    def pair(self, x: Tensor) -> Memory:
        """Keys that have no position yet, and values.  # [b, n, d] -> [b, h, n, e] twice"""
        return self.cut(self.k_norm(self.to_k(x))), self.cut(self.to_v(x))

    def memory(self, x: Tensor, at: Rope) -> Memory:
        """What is attended to.  # [b, n, d] -> [b, h, n, e] twice"""
        keys, values = self.pair(x)
        return turn(keys, at), values

    def forward(self, x: Tensor, memory: Memory, at: Rope | None, mask: Tensor | None) -> Tensor:
        """Attend from x to where the mask is true, or to all.  # [b, t, d], [b, n] or [b, t, n] -> [b, t, d]

        `at` are the places of x; None where places mean nothing.
        """
        q = self.cut(self.q_norm(self.to_q(x)))
        q = q if at is None else turn(q, at)
        seen = None if mask is None else mask[:, None, None] if mask.ndim == 2 else mask[:, None]
        y: Tensor = self.to_out(
            rearrange(F.scaled_dot_product_attention(q, *memory, seen), "b h t e -> b t (h e)")
        )
        return y


class RmsNorm(nn.Module):
    """Root-mean-square norm, in float32 whatever comes in.  # [..., d]"""

    def __init__(self, d: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps)
        return y.to(x.dtype)
