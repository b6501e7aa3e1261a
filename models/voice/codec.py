"""The acoustic codec of X-VC: sound to frames, frames to codes and back, frames to sound.

Source: arXiv 2604.12456 (X-VC) and the codec SAC it builds on; arXiv 2306.06546 (DAC); module names as published, the
weights of convolutions worked out of their directions and lengths when they are read.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.snake import snake

DILATIONS = (1, 3, 9)
UNITS = 3 * sum(DILATIONS)  # samples to either side that units see


@dataclass(frozen=True)
class CodecConfig:
    """The shapes of encoder, quantiser and decoder.

    `encoder` channels at the rate of samples, doubled at each of `strides`; `latent` a frame; `codes` of `code`
    numbers; the decoder begins with `decoder` channels, halved by each (stride, kernel) of `rates` and `kernels`.
    """

    encoder: int = 64
    strides: tuple[int, ...] = (2, 4, 5, 8)
    latent: int = 1024
    codes: int = 16_384
    code: int = 8
    decoder: int = 1536
    rates: tuple[int, ...] = (8, 5, 4, 2)
    kernels: tuple[int, ...] = (16, 11, 8, 4)

    def __post_init__(self) -> None:
        if math.prod(self.strides) != math.prod(self.rates) or len(self.rates) != len(self.kernels):
            raise ValueError(
                f"strides {self.strides}, rates {self.rates} and kernels {self.kernels} do not fit each other"
            )

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return math.prod(self.strides)

    @property
    def heard(self) -> int:
        """Frames to either side that a frame of the encoder depends on: 8 as released."""
        reach, step = 3, 1  # samples
        for stride in self.strides:
            reach += step * (UNITS + math.ceil(stride / 2))
            step *= stride
        return 1 + math.ceil(reach / step)

    @property
    def seen(self) -> int:
        """Frames to either side that the sound of a frame depends on: 10 as released."""
        first, last = -3, self.hop + 2  # samples
        for rate, kernel in reversed(list(zip(self.rates, self.kernels, strict=True))):
            pad = (kernel - rate) // 2
            first, last = -((UNITS - first + kernel - 1 - pad) // rate), (last + UNITS + pad) // rate
        return 3 + max(-first, last)


class Snake(nn.Module):
    """Snake whose frequency, by channel, is its size as well.  # [b, c, t]"""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        return snake(x, self.alpha, self.alpha)


class Unit(nn.Module):
    """Snake, a dilated convolution, Snake, a mix of channels, beside a shortcut.  # [b, c, t]"""

    def __init__(self, c: int, dilation: int) -> None:
        super().__init__()
        wide = nn.Conv1d(c, c, 7, dilation=dilation, padding=3 * dilation)
        self.block = nn.Sequential(Snake(c), wide, Snake(c), nn.Conv1d(c, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.block(x)
        return y


def units(c: int) -> list[Unit]:
    return [Unit(c, dilation) for dilation in DILATIONS]


class Level(nn.Module):
    """Layers of one level of encoder or decoder, by the name they were published with."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return y


class Encoder(nn.Module):
    """Sound to frames.  # [b, 1, t hop] -> [b, latent, t]"""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        c, levels = config.encoder, list[nn.Module]()
        for s in config.strides:
            down = nn.Conv1d(c, 2 * c, 2 * s, s, padding=math.ceil(s / 2))
            levels.append(Level(*units(c), Snake(c), down))
            c *= 2
        last = nn.Conv1d(c, config.latent, 3, padding=1)
        self.block = nn.Sequential(nn.Conv1d(1, config.encoder, 7, padding=3), *levels, Snake(c), last)

    def forward(self, sound: Tensor) -> Tensor:
        y: Tensor = self.block(sound)
        return y


class Quantizer(nn.Module):
    """Frames to codes of few numbers, found by direction alone, and back.

    Source: arXiv 2110.04627 (factorised codes, ViT-VQGAN).
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.in_project = nn.Conv1d(config.latent, config.code, 1)
        self.codebook = nn.Embedding(config.codes, config.code)
        self.out_project = nn.Conv1d(config.code, config.latent, 1)

    def distances(self, z: Tensor) -> Tensor:
        """Squared distances of directions.  # [b, latent, t] -> [b, t, codes]"""
        x = F.normalize(rearrange(self.in_project(z), "b c t -> b t c"), dim=2)
        codes = F.normalize(self.codebook.weight, dim=1)
        squares = x.square().sum(2, keepdim=True) + codes.square().sum(1)
        return squares - 2 * x @ codes.T

    def encode(self, z: Tensor) -> Tensor:
        """Numbers of the nearest codes.  # [b, latent, t] -> [b, t]"""
        return self.distances(z).argmin(2)

    def decode(self, codes: Tensor) -> Tensor:
        """Frames of codes, whose lengths count.  # [b, t] -> [b, latent, t]"""
        y: Tensor = self.out_project(rearrange(self.codebook(codes), "b t c -> b c t"))
        return y


class Decoder(nn.Module):
    """Frames to sound in [-1, 1].  # [b, latent, t] -> [b, 1, t hop]"""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        c, levels = config.decoder, list[nn.Module]()
        for rate, kernel in zip(config.rates, config.kernels, strict=True):
            up = nn.ConvTranspose1d(c, c // 2, kernel, rate, padding=(kernel - rate) // 2)
            levels.append(Level(Snake(c), up, *units(c // 2)))
            c //= 2
        first, last = nn.Conv1d(config.latent, config.decoder, 7, padding=3), nn.Conv1d(c, 1, 7, padding=3)
        self.model = nn.Sequential(first, *levels, Snake(c), last)

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.model(z)
        return y.tanh()
