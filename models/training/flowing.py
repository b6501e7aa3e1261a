"""Train the transformer of a model that shows, on latents of stories whose captions change while they go on.

Chunks are learned one after another, each with what it remembers of those before, as they are made: some of those are
clean, and others at noise of their own (diffusion forcing, arXiv 2407.01392), so that what is made of what was made
before need not be perfect. At last guidance may be folded in: a network learns to do in one evaluation what the one
that it begins as does in two (arXiv 2210.03142).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.state import State
from riverrun.models.training.loop import Crew, descend, follow, precision, restore, shared, states
from riverrun.models.training.optimizer import Optimizer
from riverrun.models.training.world.labels import ACTIONS, NAMES
from riverrun.models.video import causal, lite
from riverrun.models.video.embedding import unpatch
from riverrun.models.video.lite import ShowLiteNet
from riverrun.models.video.rflow import by_frame, shifted
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.timeline import Memory
from riverrun.models.video.words import Vocabulary

CLEAN = 0.5  # share of the chunks before the last that are clean
PARTS = ("model", "average", "optimizer")  # of a course, that are saved


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    Units: `minutes` of wall clock (or `steps`, whichever ends first); `batch` stories a step and process. Shares of
    stories learn without a caption (`silent`), and with the first latent given (`given`). Where things are the loss
    weighs 1 + `things`: they cover little of a picture, and most of what is said is about them. With a weight of
    `naming` tokens between blocks have to tell what they show, too, as a Namer sees it. With `guidance` other than 1
    velocities are learned that go as far beyond those without a caption, of the weights that a run begins with, and
    all stories have their caption. With `half` layers compute in bfloat16.
    """

    minutes: float = 60
    steps: int | None = None
    batch: int = 16
    rate: float = 2e-3
    silent: float = 0.1
    given: float = 0.15
    things: float = 0.0
    naming: float = 0.0
    guidance: float = 1.0
    half: bool = False
    ema: float = 0.999
    seed: int = 0
    save_minutes: float = 2
    log_seconds: float = 10


@dataclass(frozen=True)
class Reel:
    """Stories to learn from, as many chunks each: latents, and captions of each chunk in several wordings.

    `pictures` are the latents of the first pictures of chunks by themselves, as a stream is given one; `labels` tell
    what latents show, as world.labels do: which thing, and what it does, or 0 where there is only background.
    Shapes: latents `[n, k, c, f, y, x]`, pictures `[n, k, c, y, x]`, float16; labels `[n, k, 2, f, y, x]`, int16;
    captions `[n, k, w, most]`, numbers of words.
    """

    latents: Tensor
    pictures: Tensor
    labels: Tensor
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
            row = (reel.latents, reel.pictures, reel.labels, reel.captions[:, :, wording])
            rows.append([tensor[at, part] for tensor in row])
        latents, pictures, labels, captions = (
            torch.stack(part).to(device) for part in zip(*rows, strict=True)
        )
        if still:
            latents, labels = latents[:, :, :, :1], labels[:, :, :, :1]
        longest = int((captions > 0).sum(-1).max())
        yield Reel(latents.float(), pictures.float(), labels.long(), captions[..., :longest].long())


class Namer(nn.Module):
    """Asks tokens what their latents show, so that what a caption says is soon bound to where it is seen.

    It is asked for the words of names and verbs as the network that reads captions knows them, so that what is learned
    of one helps with all others.
    Source: arXiv 2410.06940, which asks tokens for the features of a pretrained network instead.
    """

    known: Tensor

    def __init__(self, config: lite.Config) -> None:
        super().__init__()
        dit, vocabulary = config.dit, Vocabulary(config.words)
        self.patch, self.counts = dit.patch, (1 + len(NAMES), 1 + len(ACTIONS))
        texts = ["", *NAMES, "", *(" ".join(deed) for deed in ACTIONS)]
        known = torch.zeros(len(texts), len(config.words) + 1)  # shares of words
        for row, text in zip(known, texts, strict=True):
            words = [number for word in text.split() if (number := vocabulary.known(word))]
            row[words] = 1 / max(1, len(words))
        self.register_buffer("known", known, persistent=False)
        self.norm, self.cells = nn.LayerNorm(dit.width), nn.Linear(dit.width, dit.patch**2 * dit.text)
        self.own = nn.Parameter(torch.zeros(len(texts), dit.text))  # beside the words

    def forward(self, words: Tensor, tokens: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """How unlikely the labels are to it, nats.

        Shapes: features of words `[w, text]`, tokens `[b, f, s, d]`, labels `[b, 2, f, y, x]`, weight `[b, f, y, x]`.
        """
        y, x = labels.shape[3:]
        cells = unpatch(self.cells(self.norm(tokens)), -(-y // self.patch), self.patch)[..., :y, :x]
        kinds = (self.own + self.known @ words).split(self.counts)
        logits = [torch.einsum("bdfyx,kd->bkfyx", cells, kind) / kind.shape[1] ** 0.5 for kind in kinds]
        off = [
            cross_entropy(found.float(), right, reduction="none")
            for found, right in zip(logits, labels.unbind(1), strict=True)
        ]
        return (torch.stack(off).sum(0) * weight).sum() / weight.sum()


class Course:
    """The networks and everything else that changes from step to step; the autoencoder stays as it is."""

    def __init__(self, model: ShowLiteNet, recipe: Recipe, crew: Crew, namer: Namer | None = None) -> None:
        self.model, self.recipe, self.crew = shared(model.to(crew.device), crew).train(), recipe, crew
        self.model.vae.eval().requires_grad_(False)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        namer = namer or Namer(model.config)
        self.namer = shared(namer.to(crew.device), crew) if recipe.naming else None
        parts = (self.model.text, self.model.dit, self.namer)
        self.learned = nn.ModuleList([part for part in parts if part is not None])
        self.optimizer = Optimizer(self.learned, recipe.rate)
        guided = recipe.guidance != 1
        self.teacher = deepcopy(self.model).eval().requires_grad_(False) if guided else None
        self.parts = (*PARTS, *(["teacher"] if guided else []), *(["namer"] if self.namer else []))

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return states(self, *self.parts)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore(self, state, *self.parts)

    def step(self, batch: Reel, rate: float) -> dict[str, Tensor]:
        """Learn from a batch at a share of the peak rate; give what was measured."""
        found = losses(self.model, batch, self.recipe, self.teacher, self.namer)
        weights = {"naming": self.recipe.naming}
        loss = torch.stack([weights.get(name, 1.0) * loss for name, loss in found.items()]).sum()
        norm = descend(loss, self.learned, self.optimizer, self.recipe.rate * rate, self.crew)
        self.average.update_parameters(self.model)
        return {name: value.detach() for name, value in {**found, "norm": norm}.items()}


def losses(
    model: ShowLiteNet,
    batch: Reel,
    recipe: Recipe,
    teacher: ShowLiteNet | None = None,
    namer: Namer | None = None,
) -> dict[str, Tensor]:
    """How far velocities are off, squared: of first chunks, and of those after others, if any; and how a namer fares.

    Off from the way to the data or, with a `teacher`, from its velocities with the recipe's guidance.
    """
    b, chunks, _, frames = batch.latents.shape[:4]
    device = batch.latents.device
    past = causal.start(model.dit, b, model.places)
    known = causal.start(model.dit, b, model.places)  # what the teacher remembers
    silent = torch.rand(b, device=device) < recipe.silent * (teacher is None)
    given = torch.rand(b, device=device) < recipe.given
    common = torch.randn_like(batch.latents[:, 0, :, :1])
    found, named = list[Tensor](), list[Tensor]()
    for k in range(chunks):
        clean, captions, labels = batch.latents[:, k], batch.captions[:, k], batch.labels[:, k]
        each = _times(model.config.shift, given, frames, first=k == 0, last=k == chunks - 1)
        with precision(device, recipe.half), watched(model.dit) as seen:
            noise = model.noise(torch.randn_like(clean), common)
            x, target = torch.lerp(clean, noise, by_frame(each)), clean - noise
            if k == 0:
                x[given, :, 0] = batch.pictures[given, 0]
            velocity, fresh = model.velocity(x, each, model.read(captions, silent), past, remember=True)
            past = causal.commit(past, _there(fresh), model.config.window)
            weight = 1 + recipe.things * (labels[:, 0] > 0)
            if namer:
                named.append(namer(model.text.embed.weight, seen[-1], labels, weight))
            if teacher:
                target, fresh = _guided(teacher, recipe.guidance, x, each, captions, known)
                known = causal.commit(known, fresh, model.config.window)
        off = (velocity.float() - target.float()).square().mean(1)
        weight = weight * by_frame(each > 0)[:, 0]
        found.append((off * weight).sum() / weight.sum().clamp_min(1))
    told = {"first": found[:1], "later": found[1:], "naming": named}
    return {name: torch.stack(rows).mean() for name, rows in told.items() if rows}


@contextmanager
def watched(dit: STDiT3) -> Iterator[list[Tensor]]:
    """The tokens between the first half of the blocks and the second, of each call.  # [b, f, s, d]"""
    seen = list[Tensor]()
    middle = dit.temporal_blocks[(dit.config.depth - 1) // 2]
    handle = middle.register_forward_hook(lambda block, inputs, made: seen.append(made))
    try:
        yield seen
    finally:
        handle.remove()


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
    namer: Namer | None = None,
) -> list[dict[str, float]]:
    """Train until the minutes are up; `model` ends with averaged weights. Give the log, also in `out`/log.jsonl.

    `save` is called each `save_minutes` and at the end, when `out`/last.pt gets what resuming needs: with `resume`, a
    run goes on from there with the minutes it had left. With `still` only single frames are learned, which takes a
    third of the time of a chunk, and is enough to learn how things look. A recipe with
    `naming` goes on with the `namer`, or begins with a new one.
    """
    torch.manual_seed(recipe.seed)
    course = Course(model, recipe, crew, namer)

    def begin(step: int) -> Iterator[Reel]:
        return draws(reels, recipe, crew.device, still, step, crew.process_index)

    def learn(batch: Reel, rate: float, progress: float) -> dict[str, Tensor]:
        return course.step(batch, rate)

    return follow(course, recipe, begin, learn, out, crew, save, resume)
