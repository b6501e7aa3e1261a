"""Short spectra of sound, four hops long, and sound of them again, in streams; noise in them.

Source: arXiv 2306.00814 (Vocos): a network at the rate of spectra, and an inverse transform.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.noise import noise_rows

OVERLAP = 4  # hops a spectrum
LOUDEST = math.log(100.0)  # of a magnitude


class Spectra(nn.Module):
    """Complex Hann spectra of the last four hops at the end of each.  # [b, t hop] -> [b, t, bins]"""

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop, self.size = hop, hop * OVERLAP
        window = torch.hann_window(self.size) * math.sqrt(8 / 3 / self.size)
        self.register_buffer("window", window, persistent=False)
        self.window: Tensor

    def start(self, batch: int) -> Tensor:
        """Silence, as long as it is still seen."""
        return self.window.new_zeros(batch, self.size - self.hop)

    def forward(self, sound: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([past, sound], dim=1)
        spectrum = torch.fft.rfft(joined.unfold(1, self.size, self.hop) * self.window)
        return spectrum, joined[:, sound.shape[1] :]


def spectra(sound: Tensor, step: int) -> Tensor:
    """Complex Hann spectra that start at every step.  # [b, t step] -> [b, t, bins]"""
    size = step * OVERLAP
    frames = F.pad(sound, (0, size - step)).unfold(1, size, step)
    window = torch.hann_window(size, device=sound.device, dtype=sound.dtype)
    spectrum: Tensor = torch.fft.rfft(frames * window) * math.sqrt(8 / 3 / size)
    return spectrum


def overlapped(spectrum: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
    """Add what spectra say of each hop of sound.  # [b, t, bins], [b, 3, size] -> [b, t hop], [b, 3, size]"""
    size, count = tail.shape[2], spectrum.shape[1]
    window = torch.hann_window(size, device=spectrum.device, dtype=tail.dtype)
    frames = torch.fft.irfft(spectrum, size) * (window * math.sqrt(size * 3 / 8) / 1.5)
    joined = torch.cat([tail, frames], dim=1)
    parts = rearrange(joined, "b t (n s) -> b t n s", n=OVERLAP)
    steps = [parts[:, OVERLAP - 1 - i :][:, :count, i] for i in range(OVERLAP)]
    return sum(steps[1:], steps[0]).flatten(1), joined[:, count:]


def mixed(sure: Tensor, loud: Tensor, drawn: Tensor) -> Tensor:
    """Spectra with standard normal values `[b, t, bins, 2]` that are made as large as noise is in them.

    Where spectra overlap, noise adds up by power, so that it has to be twice as large as what is sure.
    """
    return sure + loud * torch.view_as_complex(drawn) * math.sqrt(2)


def drawn(seeds: Sequence[int], ticks: Sequence[int], loud: Tensor) -> tuple[Tensor, list[int]]:
    """Such values for the next spectra `[b, t, bins]` of each session, by its seed and tick; and the ticks after."""
    count, shape = loud.shape[1], (loud.shape[2], 2)
    rows = [
        noise_rows([seed] * count, range(at, at + count), shape)
        for seed, at in zip(seeds, ticks, strict=True)
    ]
    return torch.stack(rows).to(loud), [at + count for at in ticks]


def draws(sure: Tensor, loud: Tensor, tail: Tensor, count: int) -> list[Tensor]:
    """Whole clips, with as many draws of their noise by torch's own generator: for training.  # [b, t hop] each"""
    noise = (torch.randn(*loud.shape, 2, device=loud.device, dtype=loud.dtype) for _ in range(count))
    return [overlapped(mixed(sure, loud, values), tail)[0] for values in noise]
