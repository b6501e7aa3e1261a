"""Train the transformer of a model that shows, on latents of stories whose captions change while they go on.

Chunks are learned one after another, each with what it remembers of those before, as they are made: some of those are
clean, and others at noise of their own (diffusion forcing, arXiv 2407.01392), so that what is made of what was made
before need not be perfect. At last guidance may be folded in: a network learns to do in one evaluation what the one
that it begins as does in two (arXiv 2210.03142).
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.state import State
from riverrun.models.training.loop import Crew, Optimizer, average, follow, gradients, restore, shared, states
from riverrun.models.video import causal
from riverrun.models.video.lite import ShowLiteNet
from riverrun.models.video.rflow import by_frame, shifted
from riverrun.models.video.timeline import Memory

CLEAN = 0.5  # share of the chunks before the last that are clean
PARTS = ("model", "average", "optimizer")  # of a course, that are saved


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    Units: `minutes` of wall clock (or `steps`, whichever ends first); `batch` stories a step and process. Shares of
    stories learn without a caption (`silent`), and with the first latent given (`given`). Where things are the loss
    weighs 1 + `things`: they cover little of a picture, and most of what is said is about them. With `guidance` other
    than 1 velocities are learned that go as far beyond those without a caption, of the weights that a run begins with,
    and all stories have their caption. With `half` layers compute in bfloat16.
    """

    minutes: float = 60
    steps: int | None = None
    batch: int = 16
    rate: float = 2e-3
    silent: float = 0.1
    given: float = 0.15
    things: float = 0.0
    guidance: float = 1.0
    half: bool = False
    ema: float = 0.999
    seed: int = 0
    save_minutes: float = 2
    log_seconds: float = 10


@dataclass(frozen=True)
class Reel:
    """Stories to learn from, as many chunks each: latents, and captions of each chunk in several wordings.

    `pictures` are the latents of the first pictures of chunks by themselves, as a stream is given one; `covers` is 1
    where a latent shows part of a thing, and 0 where there is only background.
    Shapes: latents `[n, k, c, f, y, x]`, pictures `[n, k, c, y, x]`, float16; covers `[n, k, f, y, x]`, uint8;
    captions `[n, k, w, most]`, numbers of words.
    """

    latents: Tensor
    pictures: Tensor
    covers: Tensor
    captions: Tensor


def draws(
    reels: Sequence[Reel], recipe: Recipe, device: torch.device, still: bool, *dice: int
) -> Iterator[Reel]:
    """Batches: some chunks in a row of stories, in one wording; or only the first latent frame of one."""
    rng = np.random.default_rng([recipe.seed, *dice])
    ends = np.cumsum([len(reel.latents) for reel in reels])
    chunks = reels[0].latents.shape[1]
    while True:
        count = 1 if still else int(rng.integers(1, chunks + 1))
        rows = []
        for i in rng.integers(ends[-1], size=recipe.batch):
            k = int(np.searchsorted(ends, i, side="right"))
            reel, at, first = reels[k], int(i - ends[k]), int(rng.integers(chunks - count + 1))
            wording = int(rng.integers(reel.captions.shape[2]))
            part = slice(first, first + count)
            row = (reel.latents, reel.pictures, reel.covers, reel.captions[:, :, wording])
            rows.append([tensor[at, part] for tensor in row])
        latents, pictures, covers, captions = (
            torch.stack(part).to(device) for part in zip(*rows, strict=True)
        )
        if still:
            latents, covers = latents[:, :, :, :1], covers[:, :, :1]
        longest = int((captions > 0).sum(-1).max())
        yield Reel(latents.float(), pictures.float(), covers.float(), captions[..., :longest].long())


class Course:
    """The networks and everything else that changes from step to step; the autoencoder stays as it is."""

    def __init__(self, model: ShowLiteNet, recipe: Recipe, crew: Crew) -> None:
        self.model, self.recipe, self.crew = shared(model.to(crew.device), crew).train(), recipe, crew
        self.model.vae.eval().requires_grad_(False)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.learned = torch.nn.ModuleList([self.model.text, self.model.dit])
        self.optimizer = Optimizer(self.learned, recipe.rate)
        guided = recipe.guidance != 1
        self.teacher = deepcopy(self.model).eval().requires_grad_(False) if guided else None
        self.parts = (*PARTS, "teacher") if guided else PARTS

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return states(self, *self.parts)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore(self, state, *self.parts)

    def step(self, batch: Reel, rate: float) -> dict[str, Tensor]:
        """Learn from a batch at a share of the peak rate; give what was measured."""
        first, later = losses(self.model, batch, self.recipe, self.teacher)
        found = [loss for loss in (first, later) if loss is not None]
        torch.stack(found).sum().backward()
        average(gradients(self.learned), self.crew)
        norm = torch.nn.utils.clip_grad_norm_(self.learned.parameters(), 1.0)
        self.optimizer.step(self.recipe.rate * rate)
        self.learned.zero_grad(set_to_none=True)
        self.average.update_parameters(self.model)
        seen = {"first": first, "later": later, "norm": norm}
        return {name: value.detach() for name, value in seen.items() if value is not None}


def losses(
    model: ShowLiteNet, batch: Reel, recipe: Recipe, teacher: ShowLiteNet | None = None
) -> tuple[Tensor, Tensor | None]:
    """How far velocities are off, squared: of first chunks, and of those after others, if any.

    Off from the way to the data or, with a `teacher`, from its velocities with the recipe's guidance.
    """
    b, chunks, _, frames = batch.latents.shape[:4]
    device = batch.latents.device
    past = causal.start(model.dit, b, model.places)
    known = causal.start(model.dit, b, model.places)  # what the teacher remembers
    silent = torch.rand(b, device=device) < recipe.silent * (teacher is None)
    given = torch.rand(b, device=device) < recipe.given
    common = torch.randn_like(batch.latents[:, 0, :, :1])
    found = list[Tensor]()
    for k in range(chunks):
        clean, captions = batch.latents[:, k], batch.captions[:, k]
        each = _times(model.config.shift, given, frames, first=k == 0, last=k == chunks - 1)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.half):
            noise = model.noise(torch.randn_like(clean), common)
            x, target = torch.lerp(clean, noise, by_frame(each)), clean - noise
            if k == 0:
                x[given, :, 0] = batch.pictures[given, 0]
            velocity, fresh = model.velocity(x, each, model.read(captions, silent), past, remember=True)
            past = causal.commit(past, _there(fresh), model.config.window)
            if teacher:
                target, fresh = _guided(teacher, recipe.guidance, x, each, captions, known)
                known = causal.commit(known, fresh, model.config.window)
        off = (velocity.float() - target.float()).square().mean(1)
        weight = (1 + recipe.things * batch.covers[:, k]) * by_frame(each > 0)[:, 0]
        found.append((off * weight).sum() / weight.sum().clamp_min(1))
    return found[0], torch.stack(found[1:]).mean() if found[1:] else None


def _times(shift: float, given: Tensor, frames: int, first: bool, last: bool) -> Tensor:
    """From 0, clean, to 1: of chunks before the last some are clean, as is the frame that is given.  # [b, f]"""
    time = shifted(torch.randn(len(given), device=given.device).sigmoid(), shift, 1.0)
    time = time * (torch.rand(len(given), device=given.device) >= (0.0 if last else CLEAN))
    each = time[:, None].repeat(1, frames)
    if first:
        each[:, 0] *= ~given
    return each


@torch.no_grad()
def _guided(
    teacher: ShowLiteNet, strength: float, x: Tensor, each: Tensor, captions: Tensor, past: State
) -> tuple[Tensor, Memory]:
    """A network's velocities as far beyond those without a caption, and what it remembers of the chunk."""
    mute = torch.ones(len(x), dtype=torch.bool, device=x.device)
    with_, fresh = teacher.velocity(x, each, teacher.read(captions), past, remember=True)
    without, _ = teacher.velocity(x, each, teacher.read(captions, mute), past)
    return without + strength * (with_ - without), _there(fresh)


def _there(fresh: Memory | None) -> Memory:
    assert fresh is not None, "it was asked to remember"
    return fresh


def train(
    model: ShowLiteNet,
    recipe: Recipe,
    reels: Sequence[Reel],
    out: Path,
    crew: Crew,
    save: Callable[[ShowLiteNet, Path], None] | None = None,
    resume: bool = False,
    still: bool = False,
) -> list[dict[str, float]]:
    """Train until the minutes are up; `model` ends with averaged weights. Give the log, also in `out`/log.jsonl.

    `save` is called each `save_minutes` and at the end, when `out`/last.pt gets what resuming needs: with `resume`, a
    run goes on from there with the minutes it had left. With `still` only single frames are learned, which takes a
    third of the time of a chunk, and is enough to learn how things look.
    """
    torch.manual_seed(recipe.seed)
    course = Course(model, recipe, crew)

    def begin(step: int) -> Iterator[Reel]:
        return draws(reels, recipe, crew.device, still, step, crew.process_index)

    def learn(batch: Reel, rate: float, progress: float) -> dict[str, Tensor]:
        return course.step(batch, rate)

    return follow(course, recipe, begin, learn, out, crew, save, resume)
