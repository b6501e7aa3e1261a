"""The autoencoder along time of Open-Sora 1.2: latents of single pictures, four to one, and back.

Convolutions see a frame and those before it, norms all frames that are given at once. Time is padded in front with
zeros, so that a picture alone, or the first of a group, is the last of four.
Letters: b session, c channel, f frame, y and x rows and columns.
Source: arXiv 2412.20404 (Open-Sora), section on the autoencoder; arXiv 2310.05737 (MAGVIT-v2); names as published.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

WIDEST = (-30.0, 20.0)  # of logarithms of variances


@dataclass(frozen=True)
class TemporalConfig:
    """The shape of the autoencoder: `width` times each of `multipliers`, from the pictures inwards, are its channels.

    `halved` says after which levels, the innermost left out, time is halved. Raises ValueError for sizes that are
    not positive, groups that do not divide a level, or as many of `halved` as do not fit.
    """

    latent: int = 4
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    depth: int = 4
    halved: tuple[bool, ...] = (False, True, True)
    groups: int = 32

    def __post_init__(self) -> None:
        if min(self.latent, self.width, self.depth, self.groups, *self.multipliers) < 1:
            raise ValueError(f"{self}, expected sizes of at least 1")
        if any(n % self.groups for n in self.channels):
            raise ValueError(f"channels {self.channels} do not divide into {self.groups} groups")
        if len(self.halved) != len(self.multipliers) - 1:
            raise ValueError(f"halved has {len(self.halved)} levels, expected {len(self.multipliers) - 1}")

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(self.width * n for n in self.multipliers)

    @property
    def factor(self) -> int:
        """Frames in a latent frame."""
        return int(2 ** sum(self.halved))


class CausalConv3d(nn.Module):
    """A convolution that sees the frames up to each, and on all sides within it.  # [b, c, f, y, x]"""

    def __init__(self, c: int, d: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        """`stride` is in time."""
        super().__init__()
        self.conv = nn.Conv3d(c, d, kernel, (stride, 1, 1), bias=bias)
        self.past, self.edge = kernel - stride, kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        side = (self.edge,) * 4
        y: Tensor = self.conv(F.pad(x, (*side, self.past, 0)))
        return y


class ResBlock(nn.Module):
    """Two normed convolutions beside the input.  # [b, c, f, y, x] -> [b, d, f, y, x]"""

    def __init__(self, c: int, d: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, c), nn.GroupNorm(groups, d)
        self.conv1, self.conv2 = CausalConv3d(c, d, 3, bias=False), CausalConv3d(d, d, 3, bias=False)
        if c != d:
            self.conv3 = CausalConv3d(c, d, 1, bias=False)
        self.widens = c != d

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        joined: Tensor = y + (self.conv3(x) if self.widens else x)
        return joined


def level(c: int, d: int, config: TemporalConfig) -> nn.Sequential:
    """As many blocks as the config says, of which the first changes the channels."""
    return nn.Sequential(*(ResBlock(c if i == 0 else d, d, config.groups) for i in range(config.depth)))


class Encoder(nn.Module):
    """# [b, c, f, y, x] -> [b, 2 c, f / factor, y, x]"""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        widths = config.channels
        before = (widths[0], *widths)
        self.conv_in = CausalConv3d(config.latent, widths[0], 3, bias=False)
        self.block_res_blocks = nn.ModuleList(
            level(*pair, config) for pair in zip(before, widths, strict=False)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(c, c, 3, 2) if halved else nn.Identity()
            for c, halved in zip(widths, config.halved, strict=False)
        )
        self.res_blocks = level(widths[-1], widths[-1], config)
        self.norm1 = nn.GroupNorm(config.groups, widths[-1])
        self.conv2 = CausalConv3d(widths[-1], 2 * config.latent, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for i, blocks in enumerate(self.block_res_blocks):
            x = blocks(x)
            if i < len(self.conv_blocks):
                x = self.conv_blocks[i](x)
        y: Tensor = self.conv2(F.silu(self.norm1(self.res_blocks(x))))
        return y


class Decoder(nn.Module):
    """# [b, c, f, y, x] -> [b, c, f factor, y, x]"""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        widths = config.channels
        before = (*widths[1:], widths[-1])
        self.conv1 = CausalConv3d(config.latent, widths[-1], 3)
        self.res_blocks = level(widths[-1], widths[-1], config)
        self.block_res_blocks = nn.ModuleList(
            level(*pair, config) for pair in zip(before, widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(c, 2 * c, 3) if halved else nn.Identity()
            for c, halved in zip(widths[1:], config.halved, strict=True)
        )
        self.norm1 = nn.GroupNorm(config.groups, widths[0])
        self.conv_out = CausalConv3d(widths[0], config.latent, 3)
        self.halved = config.halved

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(x))
        for i in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[i](x)
            if i > 0 and self.halved[i - 1]:
                x = rearrange(self.conv_blocks[i - 1](x), "b (c k) f y x -> b c (f k) y x", k=2)
        y: Tensor = self.conv_out(F.silu(self.norm1(x)))
        return y


class TemporalVae(nn.Module):
    """The autoencoder of one config."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = CausalConv3d(2 * config.latent, 2 * config.latent, 1)
        self.post_quant_conv = CausalConv3d(config.latent, config.latent, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of latents.  # [b, c, f, y, x] -> [b, c, ⌈f / factor⌉, y, x] twice"""
        x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % self.config.factor, 0))
        mean, spread = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, spread.clamp(*WIDEST)

    def decode(self, z: Tensor, frames: int) -> Tensor:
        """The last `frames` that latents hold.  # [b, c, ⌈frames / factor⌉, y, x] -> [b, c, frames, y, x]

        Raises ValueError if there are not as many latent frames as that many frames have.
        """
        if z.shape[2] != -(-frames // self.config.factor):
            raise ValueError(
                f"{z.shape[2]} latent frames for {frames} frames, expected {-(-frames // self.config.factor)}"
            )
        y: Tensor = self.decoder(self.post_quant_conv(z))
        return y[:, :, -frames % self.config.factor :]


def sample(mean: Tensor, spread: Tensor, eps: Tensor | None) -> Tensor:
    """A draw by standard normal `eps`, or the mean."""
    return mean if eps is None else mean + torch.exp(spread / 2) * eps.to(mean)
