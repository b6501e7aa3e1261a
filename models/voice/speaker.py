"""Who speaks, in a few numbers: ERes2Net on filter banks; and the head that guesses them in training.

Source: arXiv 2305.12838 (ERes2Net); module names as published. For inference alone: norms use the statistics of the
checkpoint, which training went on to change. Letters: b session, c channel, y band, t time.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

EXPANSION, CLAMP = 2, 20.0
STRIDES = (1, 2, 2, 2)


@dataclass(frozen=True)
class SpeakerConfig:
    """Filter `banks` in, `width` numbers out; `channels` of the first level, `blocks` of each of the four."""

    banks: int = 80
    width: int = 192
    channels: int = 32
    blocks: tuple[int, ...] = (3, 4, 6, 3)

    def __post_init__(self) -> None:
        if len(self.blocks) != len(STRIDES) or self.banks % 8:
            raise ValueError(
                f"blocks are {self.blocks} of {self.banks} banks, expected four numbers and a multiple of 8"
            )


class BatchNorm(nn.Module):
    """Batch norm by the statistics it was given.  # [b, c, y, t]"""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))
        self.register_buffer("running_mean", torch.zeros(c))
        self.register_buffer("running_var", torch.ones(c))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


def narrow(c: int, d: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c, d, 1, stride, bias=False)


def wide(c: int, d: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c, d, 3, stride, padding=1, bias=False)


def clamped(x: Tensor) -> Tensor:
    return x.clamp(0, CLAMP)


class Fusion(nn.Module):
    """Two maps as one, each place and channel weighed by what is in both.  # [b, c, y, t] twice -> [b, c, y, t]"""

    def __init__(self, c: int) -> None:
        super().__init__()
        down, up = nn.Conv2d(2 * c, c // 4, 1), nn.Conv2d(c // 4, c, 1)
        self.local_att = nn.Sequential(down, BatchNorm(c // 4), nn.SiLU(), up, BatchNorm(c))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        weight: Tensor = 1 + self.local_att(torch.cat([x, y], dim=1)).tanh()
        return x * weight + y * (2 - weight)


class Block(nn.Module):
    """Res2Net of two halves, of which the second hears the first, by a sum or, with `fuse`, by a fusion."""

    def __init__(self, c: int, planes: int, stride: int, fuse: bool) -> None:
        super().__init__()
        half, d = planes // 2, planes * EXPANSION
        self.conv1, self.bn1 = narrow(c, planes, stride), BatchNorm(planes)
        self.convs = nn.ModuleList(wide(half, half) for _ in range(2))
        self.bns = nn.ModuleList(BatchNorm(half) for _ in range(2))
        self.fuse_models = nn.ModuleList([Fusion(half)] if fuse else [])
        self.conv3, self.bn3 = narrow(planes, d), BatchNorm(d)
        plain = c == d and stride == 1
        self.shortcut = nn.Sequential() if plain else nn.Sequential(narrow(c, d, stride), BatchNorm(d))

    def forward(self, x: Tensor) -> Tensor:
        a, b = clamped(self.bn1(self.conv1(x))).chunk(2, dim=1)
        a = clamped(self.bns[0](self.convs[0](a)))
        b = self.fuse_models[0](a, b) if len(self.fuse_models) else a + b
        b = clamped(self.bns[1](self.convs[1](b)))
        return clamped(self.bn3(self.conv3(torch.cat([a, b], dim=1))) + self.shortcut(x))


def level(c: int, planes: int, stride: int, blocks: int, fuse: bool) -> nn.Sequential:
    """Blocks of one size, of which the first makes it."""
    first = Block(c, planes, stride, fuse)
    return nn.Sequential(first, *(Block(planes * EXPANSION, planes, 1, fuse) for _ in range(blocks - 1)))


class SpeakerEncoder(nn.Module):
    """Filter banks of a recording to a speaker, whose length is not one.  # [b, t, banks] -> [b, width]"""

    def __init__(self, config: SpeakerConfig) -> None:
        super().__init__()
        planes = [config.channels * 2**i for i in range(len(STRIDES))]
        into, out = [config.channels, *(EXPANSION * p for p in planes)], [EXPANSION * p for p in planes]
        self.conv1, self.bn1 = wide(1, into[0]), BatchNorm(into[0])
        self.levels = nn.ModuleList(
            level(c, p, stride, blocks, fuse=i > 1)
            for i, (c, p, stride, blocks) in enumerate(
                zip(into, planes, STRIDES, config.blocks, strict=False)
            )
        )
        self.downs = nn.ModuleList(wide(c, d, 2) for c, d in pairwise(out))
        self.fusions = nn.ModuleList(Fusion(d) for d in out[1:])
        self.seg_1 = nn.Linear(2 * out[-1] * config.banks // 8, config.width)

    def fused(self, banks: Tensor) -> Tensor:
        """The four levels as one map.  # [b, t, banks] -> [b, c, banks / 8, t / 8]"""
        x = self.bn1(self.conv1(rearrange(banks, "b t y -> b 1 y t"))).relu()
        first, *later = self.levels
        joined: Tensor = first(x)
        x = joined
        for layers, down, fusion in zip(later, self.downs, self.fusions, strict=True):
            x = layers(x)
            joined = fusion(x, down(joined))
        return joined

    def forward(self, banks: Tensor) -> Tensor:
        x = self.fused(banks)
        mean, spread = x.mean(3), (x.var(3) + 1e-8).sqrt()
        y: Tensor = self.seg_1(torch.cat([mean.flatten(1), spread.flatten(1)], dim=1))
        return y


class SpeakerPredictor(nn.Module):
    """Converted frames to the speaker they should be of: a head of training.  # [b, latent, t] -> [b, width]"""

    def __init__(self, latent: int, width: int, inner: int = 1024) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Linear(2 * latent, inner), nn.GELU(), nn.Dropout(0.1), nn.Linear(inner, width)
        )

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.proj(torch.cat([z.mean(2), z.std(2)], dim=1))
        return y
