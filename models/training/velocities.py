"""Train an STDiT3 as Open-Sora 1.2 was trained: velocities of rectified flow, with some frames known and others not.

All that is drawn for a batch depends on the seed and the number of the batch, so that a run that was stopped goes on as
if it had not been, and a batch is the same whichever process learns it.
Otherwise than published, the rate rises for 100 steps and not for 1,000, and then falls and does not stay.
Source: arXiv 2412.20404 (Open-Sora); arXiv 2403.03206 (times); see rflow and masking.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.noise import noise
from riverrun.models.training import buckets, latents
from riverrun.models.training.buckets import Slot
from riverrun.models.training.latents import Example, Shelf
from riverrun.models.training.loop import (
    Crew,
    average,
    follow,
    gradients,
    kernels,
    precision,
    restore,
    shared,
    states,
)
from riverrun.models.video import masking, rflow
from riverrun.models.video.resolutions import shift_frames
from riverrun.models.video.rflow import NOISE, by_frame, mixed, shifted
from riverrun.models.video.stdit3 import STDiT3

PARTS = ("model", "average", "optimizer")  # of a course, that are saved
EPS = 1e-15  # of AdamW, as published
CHECKED = 10  # times at which what is held out is measured, equally far apart


@dataclass(frozen=True)
class Masks:
    """Shares of clips that learn with some frames known, by which these are: see masking. In the others none is.

    Raises ValueError for what is no share, and for more than 1 together.
    """

    random: float = 0.0
    interpolate: float = 0.0
    quarter_random: float = 0.0
    quarter_head: float = 0.0
    quarter_tail: float = 0.0
    quarter_head_tail: float = 0.0
    image_random: float = 0.0
    image_head: float = 0.0
    image_tail: float = 0.0
    image_head_tail: float = 0.0

    def __post_init__(self) -> None:
        masking.draw(1, self.shares, np.random.default_rng())  # checks them

    @property
    def shares(self) -> Mapping[masking.Kind, float]:
        return asdict(self)  # type: ignore[return-value]


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    Units: `minutes` of wall clock (or `steps`, whichever ends first); `rate` of AdamW at its peak. A share `silent` of
    clips learn without a caption. Times are drawn as `times` says, and shifted as for sampling. With `half` layers
    compute in bfloat16; with `recompute` blocks are computed twice, and hold little memory between.
    """

    minutes: float = 60
    steps: int | None = None
    rate: float = 1e-4
    silent: float = 0.1
    times: Literal["logit-normal", "uniform"] = "logit-normal"
    masks: Masks = Masks()
    half: bool = False
    recompute: bool = False
    ema: float = 0.99
    seed: int = 0
    save_minutes: float = 30
    log_seconds: float = 10


@dataclass(frozen=True)
class Batch:
    """Clips of one slot, and all that is drawn for them. `noisy` is None where no frame of them is known.

    Shapes: latents and noise `[b, c, f, y, x]`; time, silent and fps `[b]`; noisy `[b, f]`; features `[b, n, d]`, mask
    `[b, n]`. Units: `size` in pixels, height and width.
    """

    latents: Tensor
    noise: Tensor
    time: Tensor
    noisy: Tensor | None
    features: Tensor
    mask: Tensor
    silent: Tensor
    fps: Tensor
    size: tuple[int, int]

    def to(self, device: torch.device) -> "Batch":
        moved: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def batch(shelf: Shelf, slot: Slot, examples: Sequence[Example], recipe: Recipe, number: int) -> Batch:
    """Some examples of a slot, with what is drawn for the batch of a number."""
    found, (config, *_) = zip(*(latents.latents(shelf, one) for one in examples), strict=True)
    data, dice = torch.stack(found), np.random.default_rng([recipe.seed, number])
    drawn = [masking.draw(data.shape[2], recipe.masks.shares, dice) for _ in examples]
    count = shift_frames(slot.bucket.frames, config.group, config.latents)
    features, mask = shelf.read([one.clip.text for one in examples])
    return Batch(
        latents=data,
        noise=torch.from_numpy(noise(recipe.seed, number, data.shape)),
        time=times(recipe, len(data), rflow.ratio(slot.size, count), dice),
        noisy=None if all(map(np.all, drawn)) else torch.from_numpy(np.stack(drawn)),
        features=features,
        mask=mask,
        silent=torch.from_numpy(dice.random(len(data)) < recipe.silent),
        fps=torch.tensor([one.measure.rate for one in examples]),
        size=slot.size,
    )


def times(recipe: Recipe, count: int, ratio: float, dice: np.random.Generator) -> Tensor:
    """As many times, shifted by a ratio: from 0 to 1000.  # [b]"""
    normal, even = (torch.from_numpy(draw(count)).float() for draw in (dice.standard_normal, dice.random))
    return shifted(rflow.logit_normal(normal) if recipe.times == "logit-normal" else NOISE * even, ratio)


def losses(net: STDiT3, batch: Batch, half: bool = False, recompute: bool = False) -> Tensor:
    """How far velocities of clips are off, squared, over the frames that are not known.  # [b]"""
    x = mixed(batch.latents, batch.noise, batch.time)
    if batch.noisy is not None:
        x = torch.where(by_frame(batch.noisy), x, batch.latents)
    with precision(x.device, half):
        caption = net.read(batch.features, batch.mask, batch.silent)
        told = (batch.time, caption, batch.fps, batch.size, batch.noisy)
        velocity = net(x, *told, recompute=recompute)[0][:, : net.config.latent]
    return rflow.losses(velocity, batch.latents, batch.noise, batch.noisy)


class Course:
    """A transformer and everything else that changes from step to step."""

    def __init__(self, model: STDiT3, recipe: Recipe, crew: Crew) -> None:
        self.model, self.recipe, self.crew = shared(model.to(crew.device), crew).train(), recipe, crew
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.learned = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.learned, recipe.rate, eps=EPS, weight_decay=0.0)

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return states(self, *PARTS)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore(self, state, *PARTS)

    def step(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        """Learn from a batch at a share of the peak rate; give what was measured."""
        loss = losses(self.model, batch, self.recipe.half, self.recipe.recompute).mean()
        with kernels(self.crew.device, self.recipe.half):  # blocks may be computed again
            loss.backward()
        average(gradients(self.model), self.crew)
        norm = torch.nn.utils.clip_grad_norm_(self.learned, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.model)
        return {"loss": loss.detach(), "norm": norm}


@torch.no_grad()
def measured(
    net: STDiT3, shelf: Shelf, examples: Sequence[Example], recipe: Recipe, device: torch.device
) -> Tensor:
    """The loss on examples, at equal times and with equal noise each time that it is asked for."""
    grid = torch.arange(1, CHECKED + 1) * NOISE / CHECKED
    found = list[Tensor]()
    for i, one in enumerate(examples):
        told = batch(shelf, one.slot, [one], recipe, i)
        for time in grid:
            whole = replace(told, time=time[None], noisy=None, silent=torch.zeros(1, dtype=torch.bool))
            found.append(losses(net, whole.to(device), recipe.half))
    return torch.cat(found).mean()


def train(
    model: STDiT3,
    recipe: Recipe,
    shelf: Shelf,
    slots: Mapping[Slot, Sequence[Example]],
    out: Path,
    crew: Crew,
    save: Callable[[STDiT3, Path], None] | None = None,
    resume: bool = False,
    heldout: Sequence[Example] = (),
) -> list[dict[str, float]]:
    """Train until the minutes are up; `model` ends with averaged weights. Give the log, also in `out`/log.jsonl.

    Of the model that learns which asks for derivatives. `save` is called each `save_minutes` and at the end, when
    `out`/last.pt gets what resuming needs, and the log the loss on what is held out.
    """
    torch.manual_seed(recipe.seed)
    course = Course(model, recipe, crew)

    def draws(step: int) -> Iterator[Batch]:
        start = step * crew.num_processes + crew.process_index
        for number, slot, found in buckets.batches(slots, recipe.seed, start, crew.num_processes):
            yield batch(shelf, slot, found, recipe, number).to(crew.device)

    def learn(batch: Batch, rate: float, progress: float) -> dict[str, Tensor]:
        return course.step(batch, rate)

    def check(net: STDiT3) -> dict[str, Tensor]:
        return {"heldout": measured(net, shelf, heldout, recipe, crew.device)} if heldout else {}

    return follow(course, recipe, draws, learn, out, crew, save, resume, check)
