"""Guidance of Open-Sora 1.3 by a caption and by latents that are given: `rflow`, with strengths that change by step.

    for step, (time, until) in enumerate(pairwise(rflow.grid(steps, ratio))):
        x = x + (time - until) / 1000 * velocity(x, time, step)

Source: the release of Open-Sora 1.3; arXiv 2503.09642, section on inference.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from riverrun.models.state import State
from riverrun.models.video.guiding import Strengths, combined, rescaled, weights
from riverrun.models.video.rflow import NOISE
from riverrun.models.video.stdit3_v13 import Known, STDiT3V13

Velocity = Callable[[Tensor, float, int], Tensor]
"""(x, time, number of the step) -> velocity towards the data"""
STRENGTHS = Strengths(text=7.5, image=5.0)


def shift_frames(count: int) -> int:
    """The latent frames by which times are shifted; a picture is one."""
    return 1 if count == 1 else (count - 1) // 4


def guided(
    model: STDiT3V13,
    caption: State,
    without: State,
    fps: Tensor,
    size: tuple[float, float],
    steps: int,
    known: Known | None = None,
    strengths: Strengths = STRENGTHS,
    rescale: bool = False,
) -> Velocity:
    """The velocity led by a caption, from one `without` it or that says what is not wanted, and by known frames.

    Velocities that would not count are not worked out. With `rescale` it spreads nearly as one that is not led.
    """
    given: tuple[tuple[State, Known | None], ...] = ((caption, known), (without, known), (without, None))
    latent = model.config.latent

    def velocity(x: Tensor, time: float, step: int) -> Tensor:
        made: dict[int, Tensor] = {}

        def branches(which: Sequence[int]) -> Sequence[Tensor]:
            when = torch.full((len(x),), time, device=x.device)
            for i in which:
                told, beside = given[i]
                if known and beside is None:  # nothing is given, and that is told
                    beside = Known((), torch.zeros_like(known.latents), without)
                made[i] = model(x, when, told, fps, size, beside)[:, :latent]
            return list(made.values())

        text, image = strengths.at(step, steps, x.shape[2])
        image = image[:, None, None].to(x) if isinstance(image, Tensor) else image
        led = combined(branches, weights(text, image, known is not None))
        return rescaled(led, made[0]) if rescale and len(made) > 1 else led

    return velocity


def sample(velocity: Velocity, x: Tensor, times: list[float]) -> Tensor:
    """Carry noise to data in one go.  # [b, c, f, y, x]"""
    for step, (time, until) in enumerate(pairwise(times)):
        x = x + (time - until) / NOISE * velocity(x, time, step)
    return x
