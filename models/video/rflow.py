"""Rectified flow of Open-Sora 1.2: times that a larger video spends nearer to noise, guidance, known frames, losses.

    x, frames = noise, Frames.of(mask)
    for time, until in pairwise(grid(steps, ratio)):
        x, frames = advance(velocity, x, time, until, frames, noise)

Times run from 1000 (noise) to 0 (data), as published; x = (1 - s) data + s noise at time 1000 s, and velocities point
from noise to data. A sampler can stop after any `advance`.
Source: arXiv 2209.03003 (rectified flow), arXiv 2403.03206 (time shift, logit-normal), arXiv 2412.20404 (Open-Sora).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from riverrun.models.guidance import cfg
from riverrun.models.noise import noise_rows
from riverrun.models.state import State, stack

if TYPE_CHECKING:
    from riverrun.models.video.caching import Reuse

NOISE = 1000.0  # the time at which there is nothing but noise
SQUARE = 512  # side in pixels of a picture whose times are not shifted
START = -1  # the number of the step whose draw is where a sampler begins
Velocity = Callable[[Tensor, float, Tensor | None], Tensor]
"""(x, time, frames that are noisy or None for all) -> velocity towards the data"""
Velocities = Callable[[Tensor, float | Tensor, Tensor | None], Tensor]
"""A Velocity that also takes a time for each frame.  # [f]"""
Draw = Callable[[int], Tensor]
"""Standard normal values like x, for a step by its number"""


class Guided(Protocol):
    """A Velocity that may take over what others left: see caching.evaluate."""

    def __call__(
        self, x: Tensor, time: float | Tensor, noisy: Tensor | None, reuse: "Reuse | None" = None
    ) -> Tensor: ...


def ratio(size: tuple[float, float], latents: int, scale: float = 1.0) -> float:
    """How much nearer to noise a video of `size` pixels (height, width) and as many latent frames stays.

    A picture alone counts as one latent frame.
    """
    return math.sqrt(size[0] * size[1] / SQUARE**2) * math.sqrt(latents) * scale


def shifted(times: Tensor, ratio: float, noise: float = NOISE) -> Tensor:
    """Times from 0 to `noise`, moved towards that by a ratio above 1. Source: arXiv 2403.03206, 5.3.2."""
    s = times / noise
    moved: Tensor = noise * ratio * s / (1 + (ratio - 1) * s)
    return moved


def grid(steps: int, ratio: float = 1.0) -> list[float]:
    """The times of as many steps, and 0. Raises ValueError if steps < 1."""
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    times = NOISE * (1 - torch.arange(steps) / steps)
    return [*shifted(times, ratio).tolist(), 0.0]


def guided(
    model: Any, caption: State, without: State, fps: Tensor, size: tuple[float, float], strength: float = 6.0
) -> Guided:
    """The velocity of an STDiT3 given a caption, `strength` times as much further from that `without` it.

    A strength of 6 is what others call a guidance scale of 7; 0 needs one forward of half the batch.
    """
    told, rates = stack([caption, without]), torch.cat([fps, fps])
    latent = model.config.latent

    def alone(x: Tensor, time: float | Tensor, noisy: Tensor | None, reuse: "Reuse | None" = None) -> Tensor:
        y: Tensor = model(x, _times(x, time), caption, fps, size, noisy, reuse=reuse)[0]
        return y[:, :latent]

    def pair(x: Tensor, time: float | Tensor, noisy: Tensor | None, reuse: "Reuse | None" = None) -> Tensor:
        doubled, both = torch.cat([x, x]), None if noisy is None else torch.cat([noisy, noisy])
        y: Tensor = model(doubled, _times(doubled, time), told, rates, size, both, reuse=reuse)[0]
        velocity, unled = y[:, :latent].chunk(2)
        return cfg(velocity, unled, strength)

    return pair if strength else alone


@dataclass(frozen=True)
class ByRow:
    """An STDiT3 that is run row by row: as long as for all at once, or longer, in the memory of one."""

    net: Any

    @property
    def config(self) -> Any:
        return self.net.config

    def __call__(
        self,
        x: Tensor,
        time: Tensor,
        caption: State,
        fps: Tensor,
        size: tuple[float, float],
        noisy: Tensor | None = None,
        reuse: "Reuse | None" = None,
    ) -> tuple[Tensor, None]:
        """As STDiT3 without a timeline."""
        rows = [slice(i, i + 1) for i in range(len(x))]
        alone = [reuse and reuse.row(i) for i in range(len(x))]
        made = [
            self.net(
                x[row], time[row], {name: value[row] for name, value in caption.items()}, fps[row], size,
                None if noisy is None else noisy[row], reuse=own,
            )[0]
            for row, own in zip(rows, alone, strict=True)
        ]  # fmt: skip
        if reuse:
            reuse.join([own for own in alone if own])
        return torch.cat(made), None


def _times(x: Tensor, time: float | Tensor) -> Tensor:
    if isinstance(time, Tensor):
        return time.expand(len(x), -1)
    return torch.full((len(x),), time, device=x.device)


@dataclass(frozen=True)
class Frames:
    """Which frames are to be made, and which of them have begun.

    `mask` is 1 for frames to be made, 0 for those that stay as they are, and between for those that are changed from
    the time 1000 mask on; `begun` is true for those that carry noise by now.
    Shapes: `[b, f]` twice.
    """

    mask: Tensor
    begun: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> "Frames | None":
        """At the start; None where all frames are to be made, and masks cost nothing."""
        return None if bool((mask == 1).all()) else cls(mask.float(), mask == 1)


def advance(
    velocity: Velocity,
    x: Tensor,
    time: float,
    until: float,
    frames: Frames | None,
    noise: Callable[[], Tensor],
) -> tuple[Tensor, Frames | None]:
    """One Euler step from a time to the next. `noise` is drawn where frames begin to be changed.

    Shapes: x, noise `[b, c, f, y, x]`.
    """
    span = (time - until) / NOISE
    if frames is None:
        return x + span * velocity(x, time, None), None
    noisy = NOISE * frames.mask >= time
    begins = by_frame(noisy & ~frames.begun)
    if begins.any():
        x = torch.where(begins, mixed(x, noise().to(x), _times(x, time)), x)
    moved = x + span * velocity(x, time, noisy)
    return torch.where(by_frame(noisy), moved, x), replace(frames, begun=noisy)


def sample(
    velocity: Velocity, x: Tensor, times: list[float], draw: Draw, mask: Tensor | None = None
) -> Tensor:
    """Carry x, noise and what is known of it, to data in one go.  # [b, c, f, y, x], mask [b, f]"""
    frames = None if mask is None else Frames.of(mask)
    for i, (time, until) in enumerate(pairwise(times)):
        x, frames = advance(velocity, x, time, until, frames, lambda i=i: draw(i))  # type: ignore[misc]
    return x


def draws(seeds: Sequence[int], shape: Sequence[int]) -> Draw:
    """Draws for sessions by their seeds: a step, or START before the first, is the tick.  # [b, *shape]"""
    return lambda step: noise_rows(seeds, [step] * len(seeds), shape)


def by_frame(frames: Tensor) -> Tensor:
    """A value a frame, for all of it.  # [b, f] -> [b, 1, f, 1, 1]"""
    return frames[:, None, :, None, None]


# Training


def mixed(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x at a time, for each session or each frame.  # [b, c, f, y, x] twice, [b] or [b, f]"""
    s = by_frame(time if time.ndim == 2 else time[:, None]) / NOISE
    return (1 - s) * data + s * noise


def logit_normal(eps: Tensor, loc: float = 0.0, scale: float = 1.0) -> Tensor:
    """Times in (0, 1000) of standard normal values, most of them in the middle, as Open-Sora 1.2 trained on."""
    return NOISE * torch.sigmoid(loc + scale * eps)


def losses(velocity: Tensor, data: Tensor, noise: Tensor, noisy: Tensor | None = None) -> Tensor:
    """How far off a velocity is: its mean square error, over the frames that are noisy.

    Shapes: `[b, c, f, y, x]` three times, noisy `[b, f]` -> `[b]`.
    """
    error = (velocity.float() - (data - noise)).square().mean(dim=(1, 3, 4))
    if noisy is None:
        return error.mean(1)
    return (error * noisy).sum(1) / noisy.sum(1)
