"""The six tasks: what each one shows the network of a spectrum, and how each starts its flow.

Source: arXiv 2512.19442 (tasks), arXiv 2509.15085 (mel vocoding).
"""

from functools import lru_cache

import torch
from torch import Tensor

from riverrun.models.restoration.network import Config
from riverrun.models.restoration.phase import retrieve
from riverrun.models.restoration.spectrum import SpectrumConfig, analyse

MELS = 80


@lru_cache
@torch.inference_mode(False)
def mel_filters(rate: int, size: int, mels: int = MELS) -> Tensor:
    """Slaney mel filters with area norm from 0 Hz to half the rate, Nyquist bin dropped.  # [mels, bins]"""
    from torchaudio.functional import melscale_fbanks

    filters = melscale_fbanks(size // 2 + 1, 0.0, rate / 2, mels, rate, norm="slaney", mel_scale="slaney")
    kept: Tensor = filters[:-1].T.contiguous()
    return kept


@lru_cache
@torch.inference_mode(False)
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


def observe(config: Config, spectrum: Tensor, heard: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What a task's networks see of an input spectrum: all of it, magnitudes alone, or a mel of it.

    Where the config asks for phases, they continue what was `heard` so far.
    Shapes: complex, compressed `[b, y, t]`, heard `[b, size - hop]` -> the same.
    """
    if heard is None:
        heard = spectrum.real.new_zeros(len(spectrum), config.spectrum.latency)
    if config.task == "phase":
        spectrum = torch.complex(spectrum.abs(), torch.zeros_like(spectrum.real))
    if config.task == "mel":
        spectrum = from_mel(config.spectrum, to_mel(config.spectrum, spectrum))
    if config.phase:
        return retrieve(config.spectrum, spectrum, heard, config.phase)
    return spectrum, heard


def look(config: Config, x: Tensor, past: Tensor, heard: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Analyse and observe; equal to the last bit for any division into rows and calls where phases are retrieved.

    A retrieved phase can turn on the last bit of what it continues, and the same operation on more rows may round
    differently. So each hop of each row is worked out alone.
    Shapes: x `[b, t hop]`, past and heard `[b, size - hop]` -> complex `[b, bins, t]`, past, heard.
    """
    if not config.phase:
        spectrum, past = analyse(config.spectrum, x, past)
        return observe(config, spectrum, heard)[0], past, heard
    rows = []
    for row, before, sound in zip(x.split(1), past.split(1), heard.split(1), strict=True):
        frames = []
        for hop in row.split(config.spectrum.hop, 1):
            spectrum, before = analyse(config.spectrum, hop, before)
            seen, sound = observe(config, spectrum, sound)
            frames.append(seen)
        rows.append((torch.cat(frames, 2), before, sound))
    seen, past, heard = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return seen, past, heard
