"""ConvNeXt over frames, before it up-sampling: the adapter of tokens, the prenet, and a head of training.

Source: arXiv 2604.12456 (X-VC) and the codec it builds on; arXiv 2306.00814 (Vocos); module names as published.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

KERNEL, EPS = 7, 1e-6
STAGE = 2  # blocks after each up-sampling


@dataclass(frozen=True)
class VocosConfig:
    """From `taken` to `given` channels, `width` and `inner` between, `blocks` in the trunk, a stage for each ratio.

    With `condition` channels of a condition the trunk's norms are scaled and shifted by it; the published models
    have none. `tanh` bounds what is given.
    """

    taken: int
    given: int
    width: int = 384
    inner: int = 2048
    blocks: int = 12
    ratios: tuple[int, ...] = (1, 1)
    condition: int | None = None
    tanh: bool = False

    def __post_init__(self) -> None:
        if min(self.ratios, default=1) < 1:
            raise ValueError(f"ratios are {self.ratios}, expected 1 or more")


class Conditioned(nn.Module):
    """A norm whose scale and shift are made of a condition.  # [b, t, d], [b, c] -> [b, t, d]"""

    def __init__(self, d: int, condition: int) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Sequential(nn.Linear(condition, d)) for _ in range(2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y: Tensor = F.layer_norm(x, x.shape[-1:], eps=EPS) * self.scale(condition)[:, None]
        y = y + self.shift(condition)[:, None]
        return y


def norm(d: int, condition: int | None) -> nn.Module:
    return nn.LayerNorm(d, EPS) if condition is None else Conditioned(d, condition)


def conv(c: int, groups: int = 1) -> nn.Conv1d:
    return nn.Conv1d(c, c, KERNEL, padding=KERNEL // 2, groups=groups)


class Block(nn.Module):
    """ConvNeXt, scaled channel by channel beside its shortcut.  # [b, t, d]"""

    def __init__(self, d: int, inner: int, condition: int | None) -> None:
        super().__init__()
        self.dwconv, self.norm = conv(d, d), norm(d, condition)
        self.pwconv1, self.pwconv2 = nn.Linear(d, inner), nn.Linear(inner, d)
        self.gamma = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        y: Tensor = self.norm(over(self.dwconv, x), *condition)
        y = x + self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return y


class Backbone(nn.Module):
    """A convolution, then blocks, a norm before and after them.  # [b, t, d]"""

    def __init__(self, d: int, inner: int, blocks: int, condition: int | None = None) -> None:
        super().__init__()
        self.embed, self.norm = conv(d), norm(d, condition)
        self.convnext = nn.ModuleList(Block(d, inner, condition) for _ in range(blocks))
        self.final_layer_norm = nn.LayerNorm(d, EPS)

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        x = self.norm(over(self.embed, x), *condition)
        for block in self.convnext:
            x = block(x, *condition)
        y: Tensor = self.final_layer_norm(x)
        return y


class Sampling(nn.Module):
    """Repeated frames and a learned up-sampling of each channel, with two shortcuts.  # [b, t, d] -> [b, t ratio, d]

    At ratio 1 it learns nothing, and what comes in goes out three times as large.
    """

    def __init__(self, d: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        if ratio > 1:
            odd = ratio % 2
            up = nn.ConvTranspose1d(d, d, 2 * ratio, ratio, ratio // 2 + odd, odd, groups=d)
            self.de_conv_upsampler = nn.Sequential(nn.LeakyReLU(0.2), up)

    def forward(self, x: Tensor) -> Tensor:
        repeated = x.repeat_interleave(self.ratio, dim=1)
        if self.ratio == 1:
            return 3 * repeated
        return 2 * (repeated + over(self.de_conv_upsampler, x)) + repeated


class Vocos(nn.Module):
    """Frames of `taken` channels to frames of `given`, as many times more as the ratios say.

    Shapes: x `[b, taken, t]`, condition `[b, condition]` -> `[b, given, t ratios]`.
    """

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        d, inner = config.width, config.inner
        self.config = config
        self.linear_pre, self.linear = nn.Linear(config.taken, d), nn.Linear(d, config.given)
        self.upsample = nn.ModuleList(
            nn.Sequential(Sampling(d, ratio), Backbone(d, inner, STAGE)) for ratio in config.ratios
        )
        self.vocos_backbone = Backbone(d, inner, config.blocks, config.condition)

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        x = self.linear_pre(rearrange(x, "b c t -> b t c"))
        for stage in self.upsample:
            x = stage(x)
        y: Tensor = rearrange(self.linear(self.vocos_backbone(x, *condition)), "b t c -> b c t")
        return y.tanh() if self.config.tanh else y


def over(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of `[b, d, t]` on `[b, t, d]`."""
    y: Tensor = rearrange(layer(rearrange(x, "b t d -> b d t")), "b d t -> b t d")
    return y
