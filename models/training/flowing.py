"""Train the transformer of a model that shows, on latents of stories whose captions change while they go on.

Chunks are learned one after another, each with what it remembers of those before, as they are made: some of those are
clean, and others at noise of their own (diffusion forcing, arXiv 2407.01392), so that what is made of what was made
before need not be perfect.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.training.loop import Crew, Optimizer, average, follow, gradients, restore, shared, states
from riverrun.models.video import causal
from riverrun.models.video.lite import ShowLiteNet
from riverrun.models.video.rflow import by_frame, shifted

CLEAN = 0.5  # share of the chunks before the last that are clean
PARTS = ("model", "average", "optimizer")  # of a course, that are saved


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    Units: `minutes` of wall clock (or `steps`, whichever ends first); `batch` stories a step and process. Shares of
    stories learn without a caption (`silent`), and with the first latent given (`given`). Where things are the loss
    weighs 1 + `things`: they cover little of a picture, and most of what is said is about them. With `half` layers
    compute in bfloat16.
    """

    minutes: float = 60
    steps: int | None = None
    batch: int = 16
    rate: float = 2e-3
    silent: float = 0.1
    given: float = 0.15
    things: float = 0.0
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

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return states(self, *PARTS)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore(self, state, *PARTS)

    def step(self, batch: Reel, rate: float) -> dict[str, Tensor]:
        """Learn from a batch at a share of the peak rate; give what was measured."""
        first, later = losses(self.model, batch, self.recipe)
        found = [loss for loss in (first, later) if loss is not None]
        torch.stack(found).sum().backward()
        average(gradients(self.learned), self.crew)
        norm = torch.nn.utils.clip_grad_norm_(self.learned.parameters(), 1.0)
        self.optimizer.step(self.recipe.rate * rate)
        self.learned.zero_grad(set_to_none=True)
        self.average.update_parameters(self.model)
        seen = {"first": first, "later": later, "norm": norm}
        return {name: value.detach() for name, value in seen.items() if value is not None}


def losses(model: ShowLiteNet, batch: Reel, recipe: Recipe) -> tuple[Tensor, Tensor | None]:
    """How far velocities are off, squared: of first chunks, and of those after others, if any."""
    b, chunks, _, frames = batch.latents.shape[:4]
    device = batch.latents.device
    past = causal.start(model.dit, b, model.places)
    silent = torch.rand(b, device=device) < recipe.silent
    given = torch.rand(b, device=device) < recipe.given
    first: Tensor | None = None
    later = list[Tensor]()
    for k in range(chunks):
        clean = batch.latents[:, k]
        noisy = torch.rand(b, device=device) >= CLEAN * (k < chunks - 1)
        time = torch.randn(b, device=device).sigmoid()
        time = shifted(time, model.config.shift, 1.0) * noisy
        each = time[:, None].repeat(1, frames)
        if k == 0:
            each[:, 0] *= ~given
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.half):
            caption = model.read(batch.captions[:, k], silent)
            noise = torch.randn_like(clean)
            x = torch.lerp(clean, noise, by_frame(each))
            if k == 0:
                x[given, :, 0] = batch.pictures[given, 0]
            velocity, fresh = model.velocity(x, each, caption, past, remember=True)
        off = (velocity.float() - (clean - noise)).square().mean(1)
        weight = (1 + recipe.things * batch.covers[:, k]) * by_frame(each > 0)[:, 0]
        loss = (off * weight).sum() / weight.sum().clamp_min(1)
        if k == 0:
            first = loss
        else:
            later.append(loss)
        assert fresh is not None
        past = causal.commit(past, fresh, model.config.window)
    assert first is not None
    return first, torch.stack(later).mean() if later else None


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
