"""Train the transformer of speak-lite, on latents of speech whose symbols are timed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.speech.chunks import ChunkDit, logarithm, placed
from riverrun.models.training.loop import Crew, descend, follow, precision, restore, shared, states
from riverrun.models.training.optimizer import Optimizer

PARTS = ("model", "average", "optimizer")  # of a course, that are saved


@dataclass(frozen=True)
class Utterance:
    """A clip to learn from.

    Shapes: latents `[t, 2 c]`, mean and spread of each; symbols `[n]`; ends `[n]`, the frame at which each symbol ends.
    """

    latents: Tensor
    symbols: Tensor
    ends: Tensor
    voice: str


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    Units: `minutes` of wall clock (or `steps`, whichever ends first); `frames` of latents a step and process, in
    clips of similar length; `heard` frames of a voice. Shares of clips learn with no text (`silent`) and with no voice
    (`unknown`). With `guidance` w the velocity learns to go that share further the way of text and voice in the share
    `folded` of the time, so that one evaluation does what guidance of 1 / (1 - w) takes two for (arXiv 2502.12154).
    With `half` layers compute in bfloat16. Raises ValueError for guidance of 1 or more, which goes further for ever.
    """

    minutes: float = 60
    steps: int | None = None
    frames: int = 6000
    heard: int = 250
    rate: float = 2e-3
    silent: float = 0.1
    unknown: float = 0.15
    guidance: float = 0.0
    folded: float = 0.4
    half: bool = False
    ema: float = 0.999
    seed: int = 0
    save_minutes: float = 2
    log_seconds: float = 10

    def __post_init__(self) -> None:
        if not 0 <= self.guidance < 1:
            raise ValueError(f"guidance is {self.guidance}, expected 0 or more, and less than 1")


@dataclass(frozen=True)
class Batch:
    """Clips padded to one length, and somebody else's, or the same person's other, clip as the voice of each."""

    latents: Tensor  # [b, t, 2 c]
    frames: Tensor  # [b, t]
    symbols: Tensor  # [b, n]
    durations: Tensor  # [b, n]
    owner: Tensor  # [b, t]
    share: Tensor  # [b, t]
    length: Tensor  # [b, t]
    voice: Tensor  # [b, m, 2 c]
    heard: Tensor  # [b, m]


class Draws:
    """Batches of clips of similar length, each with a voice prompt from another clip of who speaks, if there is one."""

    def __init__(self, clips: Sequence[Utterance], recipe: Recipe, device: torch.device, *dice: int) -> None:
        """`dice` are numbers of what is drawn besides the recipe's seed: the step it begins at, the process."""
        self.clips = sorted(clips, key=lambda clip: len(clip.latents))
        self.recipe, self.device = recipe, device
        self.dice = np.random.default_rng([recipe.seed, *dice])
        self.by_voice: dict[str, list[int]] = {}
        for i, clip in enumerate(self.clips):
            self.by_voice.setdefault(clip.voice, []).append(i)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.batch(self._fitting(int(self.dice.integers(len(self.clips)))))

    def all(self) -> Iterator[Batch]:
        """Each clip once."""
        first = 0
        while first < len(self.clips):
            chosen = self._fitting(first)
            yield self.batch(chosen)
            first = chosen.stop

    def _fitting(self, first: int) -> range:
        """The clips from one on that are not too long together."""
        stop = first + 1
        while stop < len(self.clips):
            if len(self.clips[stop].latents) * (stop + 1 - first) > self.recipe.frames:
                break
            stop += 1
        return range(first, stop)

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Some clips as a batch."""
        clips = [self.clips[i] for i in chosen]
        voices = [self._voice(i) for i in chosen]
        owner, share, length = zip(*(placed(clip.ends, 0, len(clip.latents)) for clip in clips), strict=True)
        made = Batch(
            latents=_padded([clip.latents.float() for clip in clips]),
            frames=_padded([torch.ones(len(clip.latents), dtype=torch.bool) for clip in clips]),
            symbols=_padded([clip.symbols for clip in clips]),
            durations=_padded([torch.diff(clip.ends, prepend=clip.ends.new_zeros(1)) for clip in clips]),
            owner=_padded(owner, -1),
            share=_padded(share),
            length=_padded(length),
            voice=_padded([voice.float() for voice in voices]),
            heard=_padded([torch.ones(len(voice), dtype=torch.bool) for voice in voices]),
        )
        return Batch(**{name: value.to(self.device, non_blocking=True) for name, value in vars(made).items()})

    def _voice(self, i: int) -> Tensor:
        """A stretch of another clip of the same voice."""
        others = [j for j in self.by_voice[self.clips[i].voice] if j != i] or [i]
        latents = self.clips[others[int(self.dice.integers(len(others)))]].latents
        count = min(len(latents), int(self.dice.integers(self.recipe.heard // 3, self.recipe.heard + 1)))
        start = int(self.dice.integers(len(latents) - count + 1))
        return latents[start : start + count]


class Course:
    """A transformer and everything else that changes from step to step."""

    def __init__(self, model: ChunkDit, recipe: Recipe, crew: Crew) -> None:
        self.model, self.recipe, self.crew = shared(model.to(crew.device), crew).train(), recipe, crew
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.optimizer = Optimizer(self.model, recipe.rate)

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return states(self, *PARTS)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore(self, state, *PARTS)

    def step(self, batch: Batch, rate: float, folding: bool) -> dict[str, Tensor]:
        """Learn from a batch at a share of the peak rate; give what was measured."""
        flow, timing = losses(self.model, batch, self.recipe, folding)
        loss = flow + 0.1 * timing
        norm = descend(loss, self.model, self.optimizer, self.recipe.rate * rate, self.crew)
        self.average.update_parameters(self.model)
        return {"flow": flow.detach(), "timing": timing.detach(), "norm": norm}


def losses(model: ChunkDit, batch: Batch, recipe: Recipe, folding: bool = False) -> tuple[Tensor, Tensor]:
    """How far the velocity is off, squared, and durations, in logarithms."""
    b, device = len(batch.latents), batch.latents.device
    with precision(device, recipe.half):
        spoken, known = (torch.rand(2, b, 1, device=device) > torch.tensor(
            [recipe.silent, recipe.unknown], device=device)[:, None, None])  # fmt: skip
        features = model.reader(batch.symbols)
        voice = model.hear(drawn(batch.voice), batch.heard & known)
        said = model.reader.spread(features, batch.owner, batch.share, batch.length) * spoken[..., None]
        further = recipe.guidance * (spoken & known & folding)
        flow = _flow(model, batch, said, voice, further)
        wanted = logarithm(batch.durations)
        times = model.reader.durations(batch.symbols, features, voice["mean"])
        here = batch.symbols != 0
        return flow, F.l1_loss(times.float()[here], wanted[here])


def _flow(model: ChunkDit, batch: Batch, said: Tensor, voice: dict[str, Tensor], further: Tensor) -> Tensor:
    clean = drawn(batch.latents)
    noise, phase = torch.randn_like(clean), int(torch.randint(model.config.chunk, ()))
    time = _times(clean, model.config.chunk, phase)
    before = torch.lerp(torch.randn_like(clean), clean, time[:, 0, :, None])
    x, target = torch.lerp(noise, clean, time[:, 1, :, None]), clean - noise
    args = (x, before, time)
    velocity = model.whole(*args, said, voice, batch.frames, phase)
    if bool(further.any()):
        with torch.no_grad():
            nobody = model.hear(drawn(batch.voice), torch.zeros_like(batch.heard))
            without = model.whole(*args, torch.zeros_like(said), nobody, batch.frames, phase)
            target = target + further[..., None] * (velocity.detach() - without)
    return F.mse_loss(velocity[batch.frames], target[batch.frames])


def _times(clean: Tensor, chunk: int, phase: int) -> Tensor:
    """Times of what comes before, nearly clean, and of each chunk.  # [b, t, c] -> [b, 2, t]"""
    b, t, _ = clean.shape
    index = (torch.arange(t, device=clean.device) - phase).div(chunk, rounding_mode="floor") + 1
    each = torch.randn(b, t // chunk + 2, device=clean.device).sigmoid()
    doubt = torch.rand(b, 1, device=clean.device) * (torch.rand(b, 1, device=clean.device) < 0.5)
    return torch.stack([(1 - 0.3 * doubt).expand(-1, t), each[:, index]], dim=1)


@torch.no_grad()
def checked(
    model: ChunkDit, recipe: Recipe, clips: Sequence[Utterance], device: torch.device
) -> dict[str, Tensor]:
    """The losses of clips with text and voice, the same noise each time; the dice of others are left alone.

    A velocity that goes further, for guidance, is further off.
    """
    plain, found = replace(recipe, silent=0.0, unknown=0.0), list[Tensor]()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        for batch in Draws(clips, plain, device).all():
            found.append(torch.stack(losses(model, batch, plain)))
    flow, timing = torch.stack(found).mean(0)
    return {"heldout_flow": flow, "heldout_timing": timing}


def train(
    model: ChunkDit,
    recipe: Recipe,
    clips: Sequence[Utterance],
    out: Path,
    crew: Crew,
    save: Callable[[ChunkDit, Path], None] | None = None,
    resume: bool = False,
    heldout: Sequence[Utterance] = (),
) -> list[dict[str, float]]:
    """Train until the minutes are up; `model` ends with averaged weights. Give the log, also in `out`/log.jsonl.

    `save` is called each `save_minutes` and at the end, when `out`/last.pt gets what resuming needs: with `resume`, a
    run goes on from there with the minutes it had left. How well `heldout` clips do is measured as often.
    """
    torch.manual_seed(recipe.seed)
    course = Course(model, recipe, crew)

    def draws(step: int) -> Iterator[Batch]:
        return iter(Draws(clips, recipe, crew.device, step, crew.process_index))

    def learn(batch: Batch, rate: float, progress: float) -> dict[str, Tensor]:
        return course.step(batch, rate, progress >= 1 - recipe.folded)

    def check(averaged: ChunkDit) -> dict[str, Tensor]:
        return checked(averaged, recipe, heldout, crew.device)

    return follow(course, recipe, draws, learn, out, crew, save, resume, check if heldout else None)


def drawn(latents: Tensor) -> Tensor:
    """Latents of their mean and spread.  # [b, t, 2 c] -> [b, t, c]"""
    mean, spread = latents.chunk(2, dim=2)
    return mean + spread * torch.randn_like(spread)


def _padded(rows: Sequence[Tensor], value: float = 0) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_value=value)
