"""The six tasks: what each one shows the network of a spectrum, and how each starts its flow.

Source: arXiv 2512.19442 (tasks), arXiv 2509.15085 (mel vocoding).
"""

from functools import lru_cache

import torch
from torch import Tensor

from riverrun.models.restoration.network import Task
from riverrun.models.restoration.spectrum import SpectrumConfig

MELS = 80


@lru_cache
def mel_filters(rate: int, size: int, mels: int = MELS) -> Tensor:
    """Slaney mel filters with area norm from 0 Hz to half the rate, Nyquist bin dropped.  # [mels, bins]"""
    from torchaudio.functional import melscale_fbanks

    filters = melscale_fbanks(size // 2 + 1, 0.0, rate / 2, mels, rate, norm="slaney", mel_scale="slaney")
    kept: Tensor = filters[:-1].T.contiguous()
    return kept


@lru_cache
def mel_inverse(rate: int, size: int, mels: int = MELS) -> Tensor:
    """The pseudo-inverse of `mel_filters`.  # [bins, mels]"""
    inverse: Tensor = torch.linalg.pinv(mel_filters(rate, size, mels).double())
    return inverse.float()


def to_mel(config: SpectrumConfig, spectrum: Tensor) -> Tensor:
    """Mel magnitudes of a compressed spectrum, uncompressed first.  # complex [b, y, t] -> [b, mels, t]"""
    magnitude = (spectrum.abs() / config.beta) ** (1 / config.alpha)
    return mel_filters(config.rate, config.size).to(magnitude) @ magnitude


def from_mel(config: SpectrumConfig, mel: Tensor) -> Tensor:
    """Compressed zero-phase spectrum by the pseudo-inverse, negatives folded.  # [b, mels, t] -> complex"""
    magnitude = (mel_inverse(config.rate, config.size).to(mel) @ mel).abs()
    return torch.complex(config.beta * magnitude**config.alpha, torch.zeros_like(magnitude))


def observe(task: Task, config: SpectrumConfig, spectrum: Tensor) -> Tensor:
    """What a task's network sees of an input spectrum: all of it, magnitudes alone, or a mel of it.

    Shapes: complex, compressed `[b, y, t]` -> the same.
    """
    if task == "phase":
        return torch.complex(spectrum.abs(), torch.zeros_like(spectrum.real))
    if task == "mel":
        return from_mel(config, to_mel(config, spectrum))
    return spectrum
