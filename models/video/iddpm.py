"""Diffusion of Open-Sora 1.0 and 1.1: a thousand noise levels, of which a hundred are visited, and learned variances.

    for time, until in pairwise(grid(steps)):
        x, frames = advance(noises, x, time, until, noise, frames)

Source: arXiv 2006.11239 (DDPM), arXiv 2102.09672 (learned variances, fewer steps).
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from riverrun.models.guidance import cfg
from riverrun.models.video.rflow import Frames, by_frame

LEVELS = 1000
FIRST, LAST = 1e-4, 0.02  # variances that are added at the first and the last level
CLEAN = -1  # the time at which there is no noise
Noises = Callable[[Tensor, int, Tensor | None], Tensor]
"""(x, time, frames that are noisy or None for all) -> noise in x, then where the variance of a step lies"""
Draw = Callable[[int], Tensor]
"""Standard normal values like x, for a time"""


def kept(time: int) -> Tensor:
    """The share of the data's variance that is left at a time, in float64: all of it at CLEAN."""
    betas: Tensor = torch.linspace(FIRST, LAST, LEVELS, dtype=torch.float64)
    return torch.cat([torch.cumprod(1 - betas, 0), betas.new_ones(1)])[time]


def grid(steps: int) -> list[int]:
    """The times of as many steps, evenly from 999 to 0, and CLEAN. Raises ValueError outside 1 to 1000."""
    if not 1 <= steps <= LEVELS:
        raise ValueError(f"steps is {steps}, expected 1 to {LEVELS}")
    times = torch.linspace(0, LEVELS - 1, steps, dtype=torch.float64).round().int().tolist()
    return [*reversed(times), CLEAN]


def noised(data: Tensor, noise: Tensor, time: int) -> Tensor:
    """x at a time."""
    share = float(kept(time))
    made: Tensor = share**0.5 * data + (1 - share) ** 0.5 * noise
    return made


def step(x: Tensor, told: Tensor, time: int, until: int, noise: Tensor) -> Tensor:
    """x at an earlier time, given what a model tells of it at this one. `noise` is not used where that is CLEAN.

    Shapes: x, noise `[b, c, ...]`, told `[b, 2 c, ...]`: the noise in x, then in [-1, 1] where the logarithm of the
    variance lies between what is least and what is added.
    """
    eps, where = told.chunk(2, dim=1)
    share, before = kept(time), kept(until)
    added = 1 - share / before
    data = (x - float(1 - share) ** 0.5 * eps) / float(share) ** 0.5
    of_data, of_x = before**0.5 * added / (1 - share), (share / before) ** 0.5 * (1 - before) / (1 - share)
    mean: Tensor = float(of_data) * data + float(of_x) * x
    if until == CLEAN:
        return mean
    least, most = (added * (1 - before) / (1 - share)).log(), added.log()
    spread = float(least) + (where + 1) / 2 * float(most - least)
    made: Tensor = mean + torch.exp(spread / 2) * noise
    return made


def led(told: Tensor, without: Tensor, strength: float, channels: int) -> Tensor:
    """What a model tells with a caption, `strength` times as much further from that without, in the first channels.

    Open-Sora 1.1 leads 3 of its 4 channels, as published. A strength of 6 is a guidance scale of 7.
    """
    further = cfg(told[:, :channels], without[:, :channels], strength)
    return torch.cat([further, told[:, channels:]], dim=1)


def advance(
    noises: Noises, x: Tensor, time: int, until: int, draw: Draw, frames: Frames | None
) -> tuple[Tensor, Frames | None]:
    """One step from a time to the next; known frames stay.  # [b, c, f, y, x]"""
    if frames is None:
        return step(x, noises(x, time, None), time, until, draw(time).to(x)), None
    level = torch.where(frames.mask > 0, (frames.mask * LEVELS).int(), CLEAN)  # known frames are never begun
    begins = (level >= time) & ~frames.begun
    held = torch.where(by_frame(begins), noised(x, draw(time + LEVELS).to(x), time), x) if begins.any() else x
    moved = step(held, noises(held, time, level > time), time, until, draw(time).to(x))
    frames = replace(frames, begun=frames.begun | begins)
    return torch.where(by_frame(level < time), x, moved), frames


def sample(noises: Noises, x: Tensor, steps: int, draw: Draw, mask: Tensor | None = None) -> Tensor:
    """Carry noise, and what is known of a video, to data in one go.  # [b, c, f, y, x], mask [b, f]"""
    frames = None if mask is None else Frames.of(mask)
    for time, until in pairwise(grid(steps)):
        x, frames = advance(noises, x, time, until, draw, frames)
    return x
