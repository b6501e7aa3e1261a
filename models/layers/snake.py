"""Snake: an activation that is periodic, as sound is. Source: arXiv 2006.08195."""

from torch import Tensor


def snake(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x + sin²(a x) / b, with a and b by channel.  # [b, c, t], [c, 1] twice or [1, c, 1] twice"""
    return x + (x * a).sin().square() / (b + 1e-9)
