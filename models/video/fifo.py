"""FIFO: latent frames without end by a transformer that was trained on clips, in memory that stays the same.

    shown ◄── slot 0 ─ ... ─ f - 1 │ f ─ ... ─ 2 f - 1 │ ... ◄── noise
              almost clean           one window           nothing but noise

A queue holds frames at all times from clean to noise. An iteration moves each to the time of the slot before, window by
window, takes the head, which is clean by then, and puts noise at the tail; so what is said of the next frames reaches
the tail at once, and is seen as many iterations later as there are slots.
Letters: b session, c channel, f frame of a window, n slot, y and x rows and columns.
Source: arXiv 2405.11473 (FIFO-Diffusion): diagonal denoising, latent partitioning, lookahead denoising.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from riverrun.models.video import rflow
from riverrun.models.video.rflow import Draw, Velocities


@dataclass(frozen=True)
class Diagonal:
    """How a queue is cut: `partitions` windows of as many latent frames as the transformer was trained on.

    More partitions are more steps, whose times differ less within a window. Looking `ahead` windows overlap by half,
    and only the noisier half of each is moved, which has cleaner frames to look at: twice the work.
    Raises ValueError for what is not positive, or a window that has no half.
    """

    window: int = 15
    partitions: int = 2
    ahead: bool = False

    def __post_init__(self) -> None:
        if min(self.window, self.partitions) < 1 or (self.ahead and self.window % 2):
            raise ValueError(
                f"{self}, expected a window and partitions of at least 1, and an even window to look ahead"
            )

    @property
    def slots(self) -> int:
        """Frames of a queue, and steps that each of them takes."""
        return self.window * self.partitions

    @property
    def late(self) -> int:
        """Iterations until there is something to show: the head is that of the clip to begin with until then."""
        return self.slots - self.window

    @property
    def moved(self) -> int:
        """Frames of a window that are moved: its last ones."""
        return self.window // 2 if self.ahead else self.window

    @property
    def windows(self) -> int:
        """Windows that an iteration moves one after the other."""
        return self.slots // self.moved

    @property
    def past(self) -> int:
        """Clean frames that the first window sees before the head."""
        return self.window - self.moved


class Queue(NamedTuple):
    """What goes from iteration to iteration.  # frames [b, c, n, y, x], past [b, c, Diagonal.past, y, x]"""

    frames: Tensor
    past: Tensor


def times(cut: Diagonal, ratio: float = 1.0) -> tuple[Tensor, Tensor]:
    """The time of each slot, and that to which an iteration moves it.  # [n] twice

    `ratio` is that of a clip of one window, as trained.
    """
    rising = torch.tensor(rflow.grid(cut.slots, ratio)).flip(0)
    return rising[1:], rising[:-1]


def start(base: Tensor, cut: Diagonal, now: Tensor, draw: Draw) -> Queue:
    """A queue of a clip of one window, made before: its frames are the noisier ones, its first stands for the others.

    Of `draw` the first n frames are taken.  # base [b, c, f, y, x], now [n], draw -> [b, c, 1, y, x]
    """
    held = (torch.arange(cut.slots) - cut.late).clamp_min(0).to(base.device)
    noise = torch.cat([draw(i) for i in range(cut.slots)], dim=2).to(base)
    frames = rflow.mixed(base[:, :, held], noise, now.to(base).expand(len(base), -1))
    return Queue(frames, base[:, :, :1].expand(-1, -1, cut.past, -1, -1))


def moved(
    velocity: Velocities, queue: Queue, now: Tensor, until: Tensor, cut: Diagonal, window: int
) -> Tensor:
    """The frames that one window of the queue moves, an Euler step on, each from a time of its own: one forward.

    Shapes: now, until `[n]` -> `[b, c, Diagonal.moved, y, x]`.
    """
    seen = torch.cat([queue.past, queue.frames], dim=2)
    at = F.pad(now.to(seen), (cut.past, 0))  # what was shown is clean
    sight = slice(window * cut.moved, window * cut.moved + cut.window)
    slots = slice(window * cut.moved, (window + 1) * cut.moved)
    made = velocity(seen[:, :, sight], at[sight], None)[:, :, -cut.moved :]
    span = ((now - until)[slots] / rflow.NOISE).to(seen)
    return queue.frames[:, :, slots] + span[:, None, None] * made


def shift(queue: Queue, frames: Tensor, noise: Tensor) -> tuple[Tensor, Queue]:
    """The end of an iteration: the frame that became clean, and the queue that goes on with all that were moved.

    Shapes: frames `[b, c, n, y, x]`, noise `[b, c, 1, y, x]` -> the same.
    """
    head = frames[:, :, :1]
    past = torch.cat([queue.past, head], dim=2)[:, :, 1:]
    return head, Queue(torch.cat([frames[:, :, 1:], noise.to(frames)], dim=2), past)
