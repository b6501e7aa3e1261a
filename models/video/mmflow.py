"""Rectified flow of Open-Sora 2.0: times from 1 (noise) to 0, velocities away from the data, three-way guidance.

    for step, (time, until) in enumerate(pairwise(grid(steps, shift))):
        x = x + (until - time) * velocity(x, time, step)

Source: arXiv 2503.09642 (Open-Sora 2.0); arXiv 2403.03206 (time shift).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from riverrun.models.video.guiding import Strengths, combined, weights
from riverrun.models.video.mmdit import MMDiT
from riverrun.models.video.rflow import shifted

FEW, MANY = (256, 1.0), (4096, 3.0)  # tokens of a frame and the shift of a picture of as many
SIGMA = 1e-5  # noise that is left at time 0 in training
Velocity = Callable[[Tensor, float, int], Tensor]
"""(x, time in [0, 1], number of the step) -> velocity away from the data"""


class Features(NamedTuple):
    """What a prompt is to the transformer.  # [b, n, text], [b, pooled]"""

    text: Tensor
    pooled: Tensor


def shift(tokens: int, latents: int) -> float:
    """How much nearer to noise a video stays, of as many tokens a frame and latent frames."""
    slope = (MANY[1] - FEW[1]) / (MANY[0] - FEW[0])
    return (FEW[1] + slope * (tokens - FEW[0])) * math.sqrt(latents)


def grid(steps: int, shift: float = 1.0) -> list[float]:
    """Times from 1 to 0, one more than there are steps. Raises ValueError if steps < 1."""
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    return [float(t) for t in shifted(torch.linspace(1, 0, steps + 1), shift, 1.0)]


def guided(
    model: MMDiT,
    prompt: Features,
    negative: Features,
    places: Tensor,
    steps: int,
    known: Tensor | None = None,
    strengths: Strengths | None = None,
) -> Velocity:
    """The velocity of tokens guided by a prompt and by what `mmdit.conditioned` says is known.

    Without known frames, and in steps where a strength is 1, velocities that would not count are not worked out.
    Shapes: places `[s, 3]`, known `[b, s, c]`.
    """
    strengths, frames = strengths or Strengths(), int(places[-1, 0]) + 1
    blank = None if known is None else torch.zeros_like(known)
    told = ((prompt, known), (negative, known), (negative, blank))

    def velocity(x: Tensor, time: float, step: int) -> Tensor:
        def branches(which: Sequence[int]) -> Sequence[Tensor]:
            texts = [
                torch.cat([told[i][0].text for i in which]),
                torch.cat([told[i][0].pooled for i in which]),
            ]
            given = [k for i in which if (k := told[i][1]) is not None]
            beside = torch.cat(given) if given else None
            many = torch.cat([x] * len(which))
            when = torch.full((len(many),), time, device=x.device)
            y: Tensor = model(many, when, *texts, places, beside)
            return y.chunk(len(which))

        text, image = strengths.at(step, steps, frames)
        if isinstance(image, Tensor):
            image = image.repeat_interleave(len(places) // frames)[:, None].to(x.device)
        return combined(branches, weights(text, image, known is not None))

    return velocity


def sample(velocity: Velocity, x: Tensor, times: list[float]) -> Tensor:
    """Carry noise to data in one go.  # [b, s, c]"""
    for step, (time, until) in enumerate(pairwise(times)):
        x = x + (until - time) * velocity(x, time, step)
    return x


def restored(latents: Tensor, references: Tensor, frames: tuple[int, ...]) -> Tensor:
    """Known frames as they were given.  # [b, c, f, y, x] twice"""
    latents = latents.clone()
    latents[:, :, list(frames)] = references[:, :, list(frames)].to(latents)
    return latents


# Training


def mixed(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x at times in [0, 1].  # [b, ...] twice, [b]"""
    t = time.reshape(-1, *[1] * (data.ndim - 1))
    return (1 - t) * data + (t + SIGMA * (1 - t)) * noise


def losses(velocity: Tensor, data: Tensor, noise: Tensor) -> Tensor:
    """How far off velocities are: their mean square error.  # [b, ...] three times -> [b]"""
    return (velocity.float() - ((1 - SIGMA) * noise - data)).square().flatten(1).mean(1)
