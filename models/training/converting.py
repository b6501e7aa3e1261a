"""Train a small converter: what a voice said is said again in that voice, out of content, pitch and loudness alone.

What is heard as content has other formants than the voice, so that they can only be had from the voice (information
perturbation, arXiv 2110.14513).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.training.listening import WARPS, narrowed
from riverrun.models.training.loop import (
    OTHER,
    Crew,
    average,
    follow,
    gradients,
    precision,
    restore,
    shared,
    states,
)
from riverrun.models.training.losses import Pesq
from riverrun.models.training.optimizer import Optimizer
from riverrun.models.training.spectral import Spectral
from riverrun.models.voice.listener import mel, power, pressed
from riverrun.models.voice.network import Converter

MEL, WEIGHED = 15.0, 4.0  # weights of the losses
PACES = tuple(Fraction(a, b) for a, b in ((7, 8), (10, 11), (14, 15), (1, 1), (15, 14), (11, 10), (8, 7)))
SHORTEST = 512  # samples of a spectrum: two periods of a low voice, as nobody knows when its pulses were
EDGE = 8  # frames at the beginning of a crop that are not judged: little was heard before them
PARTS = ("model", "average", "learning")  # of a course, that are saved


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train a converter.

    Units: `minutes` of wall clock (or `steps`, whichever ends first); `batch` crops of `frames` a step and process,
    beside `heard` frames of the same voice; `pesq` is the weight of PESQ.
    """

    minutes: float = 90
    steps: int | None = None
    batch: int = 6
    frames: int = 160
    heard: int = 384
    rate: float = 1e-3
    pesq: float = 0.0
    half: bool = False
    ema: float = 0.995
    seed: int = 0
    save_minutes: float = 5
    log_seconds: float = 30


Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Voices:
    """Sound in a row, 16-bit `[n]`; where each utterance begins and ends in it; and which have the voice of each."""

    sound: Tensor
    spans: Sequence[tuple[int, int]]
    alike: Sequence[Sequence[int]]

    def crop(self, which: int, length: int, generator: torch.Generator) -> Tensor:
        """Somewhere in an utterance, with silence after it where it is too short."""
        start, stop = self.spans[which]
        at = start + int(torch.rand((), generator=generator) * max(1, stop - start - length))
        part = self.sound[at : min(at + length, stop)].float() / 32768
        return nn.functional.pad(part, (0, length - len(part)))


class Pairs:
    """What is said, and something else in the same voice, at a pace and level of their own: voices nobody has."""

    def __init__(self, voices: Voices, converter: Converter, recipe: Recipe, seed: int) -> None:
        self.voices, self.recipe, self.config = voices, recipe, converter.config.listener
        self.generator = torch.Generator().manual_seed(seed)
        self.filters = torch.stack([mel(self.config, warp) for warp in WARPS])
        lengths = torch.tensor([stop - start for start, stop in voices.spans], dtype=torch.float64)
        self.shares = lengths / lengths.sum()

    def draw(self) -> Batch:
        """What is said `[b, n]`, other speech `[b, m]` of the voice, and filters for what is heard of each."""
        from torchaudio.functional import resample

        hop, late = self.config.hop, self.config.late
        long, other = (self.recipe.frames + late) * hop, self.recipe.heard * hop
        said, heard = [], []
        for which in torch.multinomial(
            self.shares, self.recipe.batch, True, generator=self.generator
        ).tolist():
            pace = PACES[self._one(len(PACES))]
            alike = self.voices.alike[which]
            rows = []
            for utterance, length in ((which, long), (alike[self._one(len(alike))], other)):
                part = self.voices.crop(utterance, math.ceil(length * pace) + 1, self.generator)
                paced = resample(part[None], pace.numerator, pace.denominator)[0, :length]
                rows.append(nn.functional.pad(paced, (0, length - len(paced))) * self._gain())
            said.append(rows[0])
            heard.append(rows[1])
        which = torch.randint(len(WARPS), (self.recipe.batch,), generator=self.generator)
        plain = self.filters[len(WARPS) // 2].expand(self.recipe.batch, -1, -1)
        moved, kept = (narrowed(f.mT, self.config, self.generator).mT for f in (self.filters[which], plain))
        return torch.stack(said), torch.stack(heard), moved, kept

    def _one(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def _gain(self) -> float:
        return float(10 ** ((torch.rand((), generator=self.generator) * 18 - 12) / 20))


class Course:
    """A converter whose listener has learned, and what changes as the rest of it learns."""

    def __init__(self, model: Converter, recipe: Recipe, crew: Crew) -> None:
        self.model, self.recipe, self.crew = shared(model.to(crew.device), crew).train(), recipe, crew
        self.model.listener.eval().requires_grad_(False)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.learning = Optimizer(_taught(self.model), recipe.rate)
        self.spectral = Spectral(model.config.listener.rate, SHORTEST).to(crew.device)
        self.pesq = Pesq(model.config.listener.rate).to(crew.device) if recipe.pesq else None

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return states(self, *PARTS)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, with the listener that is there now: it may have learned more since."""
        listener = {name: value.clone() for name, value in self.model.listener.state_dict().items()}
        restore(self, state, *PARTS)
        averaged = cast(Converter, self.average.module)
        for model in (self.model, averaged):
            model.listener.load_state_dict(listener)

    def step(self, drawn: Batch, rate: float) -> dict[str, Tensor]:
        """Learn from one batch at a share of the peak rate; give what was measured."""
        sound, other, *filters = (part.to(self.crew.device) for part in drawn)
        made, again, target = self._made(*self._told(sound, other, *filters), sound)
        seen, loss = self._distance(made, target)
        loss = 0.5 * (loss + self._distance(again, target)[1] - self._distance(made, again)[1])
        if self.pesq:
            level = 0.1 / target.square().mean(1, keepdim=True).sqrt().clamp_min(1e-3)
            worse = self.pesq(made * level, target * level)
            seen["pesq"], loss = worse.detach(), loss + self.recipe.pesq * worse
        loss.backward()
        average(gradients(self.model), self.crew)
        seen["norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), 30.0)
        if seen["norm"].isfinite():
            self.learning.step(self.recipe.rate * rate)
        self.model.zero_grad()
        self.average.update_parameters(self.model)
        return seen

    def _told(self, sound: Tensor, other: Tensor, filters: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says of each frame, and the pulses; what was told late is now."""
        model, batch = self.model, len(sound)
        late = model.config.listener.late
        with torch.no_grad():
            (content, tone, pitch), _ = model.listener(sound, model.listener.start(batch), filters)
            content, tone, pitch = content[:, late // 2 :], tone[:, late:], pitch[:, late:, 1]
            pulses, _ = model.pulses(pitch, model.pulses.start(batch))
            spectrum, _ = model.listener.spectra(other, model.listener.spectra.start(batch))
            bands = pressed(power(spectrum) @ others)
        with precision(sound.device, self.recipe.half):
            tokens, _ = model.voice(bands, model.voice.start(batch))
            voice = model.hear(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=sound.device))
            told, _ = model.spectra(content, tone, voice, model.start(batch)["layers"])
        return told.float(), pulses

    def _made(self, told: Tensor, pulses: Tensor, sound: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two draws of what is made, and the sound of the same hops: the first are of before the crop."""
        first, edge = (n * self.model.config.listener.hop for n in (self.model.config.ahead, EDGE))
        made, again = (part[:, first + edge :] for part in self.model.synthesis.several(told, pulses, 2))
        return made, again, sound[:, edge:][:, : made.shape[1]]

    def _distance(self, heard: Tensor, sound: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        mel, weighed = self.spectral(heard, sound)
        return {"mel": mel.detach(), "spectra": weighed.detach()}, MEL * mel + WEIGHED * weighed


def _taught(model: Converter) -> nn.Module:
    """All of a converter but its listener."""
    return nn.ModuleList(part for name, part in model.named_children() if name != "listener")


def train(
    model: Converter,
    recipe: Recipe,
    voices: Voices,
    out: Path,
    crew: Crew,
    save: Callable[[Converter, Path], None] | None = None,
    resume: bool = False,
) -> list[dict[str, float]]:
    """Train until the minutes are up; `model` ends with averaged weights. Give the log, also in `out`/log.jsonl.

    The listener stays as it is. `save` is called each `save_minutes` and at the end, when `out`/last.pt gets what
    resuming needs: with `resume`, a run goes on from there with the minutes it had left.
    """
    torch.manual_seed(recipe.seed)
    course = Course(model, recipe, crew)

    def draws(step: int) -> Iterator[Batch]:
        pairs = Pairs(voices, model, recipe, recipe.seed + step + OTHER * crew.process_index)
        while True:
            yield pairs.draw()

    return follow(
        course, recipe, draws, lambda drawn, rate, _: course.step(drawn, rate), out, crew, save, resume
    )
