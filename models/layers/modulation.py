"""A norm that a condition scales and shifts. Source: arXiv 2212.09748 (DiT), adaptive layer norm."""

import torch.nn.functional as F
from torch import Tensor


def modulate(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Layer norm in float32, scaled by 1 + scale and shifted."""
    y = F.layer_norm(x.float(), x.shape[-1:], eps=eps)
    return (y * (1 + scale) + shift).to(x.dtype)
