"""Tiny transformers of random weights in which every part counts."""

import torch
from torch import Tensor, nn

from riverrun.models.video.stdit3 import Config, STDiT3

SMALL = Config(width=32, depth=2, heads=2, text=12, tokens=6, ratio=2.0)


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """Parts that begin at zero drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        if value.is_floating_point() and value.ndim > 1:
            value.normal_(0, 0.15, generator=generator)
    return module.eval().requires_grad_(False)


def small(config: Config = SMALL) -> STDiT3:
    model = stirred(STDiT3(config))
    assert isinstance(model, STDiT3)
    return model


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
