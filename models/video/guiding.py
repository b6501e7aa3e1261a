"""Guidance by text and by what is known of a video, as of Open-Sora 1.3 and 2.0.

Three velocities, by text and known frames, by known frames, and by neither, become

    v_none + image (v_known - v_none) + text (v_both - v_known)

which is a weighted sum. A velocity of weight 0 need not be worked out, and nothing else changes: without known frames
two are left, and where both strengths are 1 a single one. Strengths of 1 are no guidance.
Source: arXiv 2503.09642 (Open-Sora 2.0), section on inference; arXiv 2211.09800 (two conditions).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Strength = float | Tensor
"""One for all, or something that broadcasts over velocities."""
Weights = tuple[Strength, Strength, Strength]
"""Of the velocities by text and known frames, by known frames, and by neither."""
Branches = Callable[[Sequence[int]], Sequence[Tensor]]
"""The velocities of some of the three, by their places in Weights."""
FORCED = 10  # steps that are always guided


def oscillating(strength: float, step: int, forced: int = FORCED) -> float:
    """A strength that is 1 in every other step after the first ones: less of what guidance overdoes."""
    return strength if step < forced or step % 2 == 0 else 1.0


def ramped(strength: float, step: int, steps: int, frames: int) -> Tensor:
    """A strength that falls to 1 over the steps, and rises from 1 along latent frames: known ones begin it.  # [f]"""
    upper = strength + (1 - strength) * step / max(steps - 1, 1)
    return torch.linspace(1.0, upper, frames)


@dataclass(frozen=True)
class Strengths:
    """How strongly text and known frames guide, and in which way that changes from step to step.

    1 is no guidance. With `fading`, that of known frames falls to 1 over the steps and rises along time.
    """

    text: float = 7.5
    image: float = 3.0
    text_oscillates: bool = True
    image_oscillates: bool = True
    fading: bool = False

    def at(self, step: int, steps: int, frames: int) -> tuple[float, float | Tensor]:
        """Of text, and of known frames: one for all, or one a latent frame."""
        text = oscillating(self.text, step) if self.text_oscillates else self.text
        image = oscillating(self.image, step) if self.image_oscillates else self.image
        return text, ramped(image, step, steps, frames) if self.fading else image


def weights(text: Strength, image: Strength, known: bool) -> Weights:
    """What each of the three velocities counts, given strengths and whether any frame is known."""
    return (text, image - text, 1 - image) if known else (text, 1 - text, 0.0)


def needed(weights: Weights) -> list[int]:
    """Which of the three have to be worked out."""
    return [i for i, w in enumerate(weights) if (bool(w.any()) if isinstance(w, Tensor) else w != 0)]


def combined(branches: Branches, weights: Weights) -> Tensor:
    """The guided velocity; only what counts is worked out."""
    which = needed(weights)
    made = [w * v for w, v in zip((weights[i] for i in which), branches(which), strict=True)]
    return sum(made[1:], made[0])


def rescaled(velocity: Tensor, conditioned: Tensor, share: float = 0.7) -> Tensor:
    """A guided velocity, most of the way back to how far the one that has all conditions spreads.  # [b, ...]

    Source: arXiv 2305.08891, rescaling of guidance.
    """
    axes = list(range(1, velocity.ndim))
    spread = conditioned.std(axes, keepdim=True) / velocity.std(axes, keepdim=True)
    return velocity * (share * spread + 1 - share)
