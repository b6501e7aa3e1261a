"""Judges that learn to tell decoded speech from recorded, by its complex spectra at several resolutions."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from riverrun.models.training.spectral import stft

Heard = list[list[Tensor]]
"""A list a judge: the features of each of its layers, and last what it thinks, higher for recorded."""


class Judge(nn.Module):
    """One resolution: convolutions over time and frequency, frequency halved at each.  # [b, t] -> features"""

    def __init__(self, size: int, c: int) -> None:
        super().__init__()
        self.size = size
        shapes = [
            (2, 1, 1),
            (c, 1, 2),
            (c, 2, 2),
            (c, 4, 2),
        ]  # channels in, dilation in time, stride in frequency
        layers = [nn.Conv2d(i, c, (9, 3), (s, 1), padding=(4, d), dilation=(1, d)) for i, d, s in shapes]
        layers += [nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, 1, 3, padding=1)]
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        spectrum = stft(x, self.size)
        h = rearrange([spectrum.real, spectrum.imag], "p b y t -> b p y t")
        h = h * (h.square().sum(1, keepdim=True) + 1e-8) ** -0.25  # quiet parts count too
        heard: list[Tensor] = []
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
            h = h.contiguous(memory_format=torch.channels_last)
            for layer in self.layers:
                h = layer(F.leaky_relu(h, 0.1) if heard else h)
                heard.append(h)
        return heard


class Judges(nn.Module):
    """Judges at several resolutions. Source: arXiv 2210.13438 (EnCodec), multi-scale STFT discriminator."""

    def __init__(self, sizes: Iterable[int] = (2048, 1024, 512, 256), c: int = 32) -> None:
        super().__init__()
        self.judges = nn.ModuleList(Judge(size, c) for size in sizes)

    def forward(self, x: Tensor) -> Heard:
        return [judge(x) for judge in self.judges]


def judged(recorded: Heard, decoded: Heard) -> Tensor:
    """What judges learn from, the hinge: 0 where every recorded sound is above 1 and every decoded below -1."""
    losses = [
        F.relu(1 - real[-1].float()).mean() + F.relu(1 + fake[-1].float()).mean()
        for real, fake in zip(recorded, decoded, strict=True)
    ]
    return torch.stack(losses).mean()


def deceived(decoded: Heard) -> Tensor:
    """What the decoder learns from: how recorded its sound seems, negative."""
    return -torch.stack([fake[-1].float().mean() for fake in decoded]).mean()


def alike(recorded: Heard, decoded: Heard) -> Tensor:
    """Distance of features, relative to their size, averaged over layers and judges."""
    losses = [
        F.l1_loss(fake.float(), real.float()) / real.float().abs().mean().clamp_min(1e-3)
        for reals, fakes in zip(recorded, decoded, strict=True)
        for real, fake in zip(reals[:-1], fakes[:-1], strict=True)
    ]
    return torch.stack(losses).mean()
