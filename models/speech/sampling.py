"""Sampling of latents around a prompt: what is known is held on its path, the rest follows the velocity.

    x, state = clip.noise, guidance.start(clip.noise)
    for time, until in pairwise(grid(steps)):
        x, _, state = advance(velocity, clip, x, time, until, state)

A sampler can stop after any `advance`: x and the state are all it needs to go on.
Source: arXiv 2603.29339, section 4 (training-inference mismatch, guidance).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from riverrun.models.guidance import Guidance, Guided, guided
from riverrun.models.speech.dit import Dit
from riverrun.models.state import State, stack


@dataclass(frozen=True)
class Clip:
    """What is known of a batch of clips, and the noise they start from.

    `free` is true where latents are to be made, and `known` is zero there; `frames` is true for the frames there
    are, where clips differ in length, None for all.
    Shapes: noise, known `[b, t, c]`, free, frames `[b, t]`.
    """

    noise: Tensor
    known: Tensor
    free: Tensor
    frames: Tensor | None = None

    def hold(self, x: Tensor, time: float) -> Tensor:
        """Put known frames where their path is at a time: as in training, they carry their own noise."""
        return torch.where(self.free[..., None], x, (1 - time) * self.noise + time * self.known)


def begin(noise: Tensor, prompt: Tensor | None = None) -> Clip:
    """Clips that begin with a prompt, or with nothing known.  # [b, t, c], [b, p, c]"""
    known, free = torch.zeros_like(noise), torch.ones_like(noise[..., 0], dtype=torch.bool)
    if prompt is not None:
        known[:, : prompt.shape[1]] = prompt
        free[:, : prompt.shape[1]] = False
    return Clip(noise, known, free)


def grid(steps: int) -> list[float]:
    """Times from 0 (noise) to 1 (latents): as published, n steps are n times, so n - 1 evaluations.

    Raises ValueError if steps < 2.
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}, expected at least 2: the last time is not evaluated")
    return [k / (steps - 1) for k in range(steps)]


def conditioned(
    dit: Dit, clip: Clip, text: Tensor, tokens: Tensor, guidance: Guidance, leak: bool = False
) -> Guided:
    """The guided velocity of clips, given features of the text, `[b, n, text]`, and which tokens there are.

    Without the condition, the text is zeros of the same length, and nothing is known: not even the noisy prompt.
    Both velocities are one forward of twice the batch. `leak` is that of `Dit.read`.
    """
    told = dit.read(text, tokens, leak)
    if guidance.idle:
        return lambda x, time, state: (dit(x, _times(x, time), clip.known, told, clip.frames), state)
    both = stack([told, dit.read(torch.zeros_like(text), tokens, leak)])
    known = torch.cat([clip.known, torch.zeros_like(clip.known)])
    frames = None if clip.frames is None else torch.cat([clip.frames, clip.frames])

    def pair(x: Tensor, time: float) -> tuple[Tensor, Tensor]:
        doubled = torch.cat([x, x * clip.free[..., None]])
        velocity, without = dit(doubled, _times(doubled, time), known, both, frames).chunk(2)
        return velocity, without

    return guided(pair, guidance, clip.free if clip.frames is None else clip.free & clip.frames)


def _times(x: Tensor, time: float) -> Tensor:
    return torch.full((len(x),), time, device=x.device)


def advance(
    velocity: Guided, clip: Clip, x: Tensor, time: float, until: float, state: State
) -> tuple[Tensor, Tensor, State]:
    """One Euler step from a time to the next: x, the velocity it took, and what guidance remembers."""
    x = clip.hold(x, time)
    slope, state = velocity(x, time, state)
    return x + (until - time) * slope, slope, state


def sample(velocity: Guided, clip: Clip, guidance: Guidance, steps: int) -> Tensor:
    """Carry clips from noise to latents in one go; what was known stays as it is.  # [b, t, c]"""
    x, state = clip.noise, guidance.start(clip.noise)
    for time, until in pairwise(grid(steps)):
        x, _, state = advance(velocity, clip, x, time, until, state)
    return clip.hold(x, 1.0)
