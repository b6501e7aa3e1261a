"""Phases for magnitudes, frame by frame: what a spectrum without phases starts from.

Source: Beauregard, Zhu and Wyse 2005, real-time iterative spectrogram inversion (RTISI), without look-ahead.
"""

from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad

from riverrun.models.restoration.spectrum import SpectrumConfig, compress, expand, windows

LEAST = 0.02  # share of its final level below which a sample is left to the frames to come


@lru_cache
@torch.inference_mode(False)
def _cover(config: SpectrumConfig, device: str, dtype: torch.dtype) -> Tensor:
    """What window and synthesis window add up to over a frame and the earlier ones.  # [size]"""
    analysis, synthesis = windows(config.size, config.hop, config.window, device, dtype)
    share = rearrange(analysis * synthesis, "(r h) -> r h", h=config.hop)
    return share.flip(0).cumsum(0).flip(0).flatten().clamp_min(LEAST)


def retrieve(
    config: SpectrumConfig, spectrum: Tensor, heard: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Give every frame the phases with which it continues the frames before it.

    A frame's phases come from the sound that earlier frames left where it stands, then from alternating between
    its own magnitudes and that sound with the frame added.
    Shapes: complex `[b, y, t]`, of which magnitudes count; heard `[b, size - hop]`, zeros at first -> the same.
    """
    magnitudes = pad(expand(config, spectrum).abs(), (0, 0, 0, 1))
    analysis, synthesis = windows(config.size, config.hop, config.window, str(heard.device), heard.dtype)
    again = analysis / _cover(config, str(heard.device), heard.dtype)
    frames = []
    for magnitude in magnitudes.unbind(2):
        before = pad(heard, (0, config.hop))
        frame = magnitude * _phase(torch.fft.rfft(before * analysis))
        there = before * again
        for _ in range(iterations):
            sound = (torch.fft.irfft(frame) * synthesis).mul_(again).add_(there)
            frame = magnitude * _phase(torch.fft.rfft(sound))
        after = before + torch.fft.irfft(frame) * synthesis
        heard = after[:, config.hop :]
        frames.append(frame[:, :-1])
    return compress(config, torch.stack(frames, 2)), heard


def _phase(x: Tensor) -> Tensor:
    """Complex values of magnitude 1; 1 where there is none."""
    size = x.abs()
    return torch.where(size > 0, x / size.clamp_min(1e-20), 1)
