"""Train a small video autoencoder: its 2D part on single pictures first, then all of it on groups as they are coded.

Source: the order of arXiv 2412.20404 (Open-Sora), whose 2D part was there already.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.training.loop import Crew, descend, follow, precision, restore, shared, states
from riverrun.models.training.optimizer import Optimizer
from riverrun.models.video.pixels import to_pixels
from riverrun.models.video.vae import VideoVae

SCALES = 3  # at which pictures are compared, each half the one before
EDGES = 1.0  # weight of differences of neighbouring pixels
PARTS = ("model", "average", "optimizer")  # of a course, that are saved


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    Units: `minutes` of wall clock (or `steps`, whichever ends first); `batch` groups a step and process; `nats` is
    the weight of the information in latents. With `half` layers compute in bfloat16.
    """

    minutes: float = 60
    steps: int | None = None
    batch: int = 4
    rate: float = 1e-3
    nats: float = 1e-6
    half: bool = False
    ema: float = 0.999
    seed: int = 0
    save_minutes: float = 2
    log_seconds: float = 10


class Course:
    """An autoencoder and everything else that changes from step to step; with `still` the 2D part alone learns."""

    def __init__(self, model: VideoVae, recipe: Recipe, crew: Crew, still: bool) -> None:
        self.model, self.recipe, self.crew = shared(model.to(crew.device), crew).train(), recipe, crew
        self.still = still
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.optimizer = Optimizer(self.model.spatial_vae if still else self.model, recipe.rate)

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return states(self, *PARTS)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore(self, state, *PARTS)

    def step(self, frames: Tensor, rate: float) -> dict[str, Tensor]:
        """Learn from groups of pictures at a share of the peak rate; give what was measured.  # [b, f, y, x, 3]"""
        pixels = to_pixels(frames)
        with precision(pixels.device, self.recipe.half):
            if self.still:
                z = self.model.flat(pixels)
                nats, made = 0.5 * z.float().square().sum(dim=(1, 2, 3, 4)).mean(), self.model.pictures(z)
            else:
                mean, spread = self.model.told(pixels)
                nats = information(mean.float(), spread.float())
                made = self.model.made(mean + torch.randn_like(mean) * (0.5 * spread).exp(), pixels.shape[2])
        made = made.float()
        far = apart(made, pixels)
        loss = far + self.recipe.nats * nats
        norm = descend(loss, self.model, self.optimizer, self.recipe.rate * rate, self.crew)
        self.average.update_parameters(self.model)
        with torch.no_grad():
            psnr = 10 * torch.log10(4 / (made - pixels).square().mean())
        return {"far": far.detach(), "psnr": psnr, "nats": nats.detach(), "norm": norm}


def information(mean: Tensor, spread: Tensor) -> Tensor:
    """What latents tell, in nats a group: mean and logarithm of the variance of each against a standard normal."""
    return 0.5 * (mean.square() + spread.exp() - 1 - spread).flatten(1).sum(1).mean()


def apart(made: Tensor, pixels: Tensor) -> Tensor:
    """How far pictures are from each other: colours and edges, at several scales.  # [b, 3, f, y, x] twice"""
    a, b = (x.transpose(1, 2).flatten(0, 1) for x in (made, pixels))
    far = a.new_zeros(())
    for _ in range(SCALES):
        far = far + F.l1_loss(a, b)
        for dim in (2, 3):
            far = far + EDGES * F.l1_loss(a.diff(dim=dim), b.diff(dim=dim))
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return far / SCALES


@torch.inference_mode()
def normed(model: VideoVae, frames: Tensor) -> None:
    """Give latents of pictures mean 0 and deviation 1 by channel, as far as these tell.  # [b, f, y, x, 3] uint8"""
    mean, _ = model.told(to_pixels(frames).to(model.scale.device))
    by_channel = mean.transpose(0, 1).flatten(1)
    model.shift.copy_(by_channel.mean(1)[None, :, None, None, None])
    model.scale.copy_(by_channel.std(1).clamp_min(1e-3)[None, :, None, None, None])


def train(
    model: VideoVae,
    recipe: Recipe,
    draws: Callable[[int], Iterator[Tensor]],
    out: Path,
    crew: Crew,
    save: Callable[[VideoVae, Path], None] | None = None,
    resume: bool = False,
    still: bool = False,
) -> list[dict[str, float]]:
    """Train until the minutes are up; `model` ends with averaged weights. Give the log, also in `out`/log.jsonl.

    `draws` gives batches `[b, f, y, x, 3]` uint8 without end, from a step on. `save` is called each `save_minutes` and
    at the end, when `out`/last.pt gets what resuming needs. With `still` the 2D part learns alone, and along time
    pictures have nothing to do with each other.
    """
    torch.manual_seed(recipe.seed)
    course = Course(model, recipe, crew, still)

    def learn(frames: Tensor, rate: float, progress: float) -> dict[str, Tensor]:
        return course.step(frames, rate)

    return follow(course, recipe, draws, learn, out, crew, save, resume)
