"""Train a small autoencoder of speech: by its spectra first, then against judges that learn beside it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.layers.spectra import spectra
from riverrun.models.speech.frames import FrameDecoder
from riverrun.models.speech.vae import WaveVae, spread
from riverrun.models.training.adversary import Judges, alike, deceived, judged
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
from riverrun.models.training.spectral import Spectral

PRESSURE = (math.log(0.001), math.log(3.0))  # bounds of the logarithm of the information's weight
STEP = 240  # samples between complex spectra
MEL, WEIGHED, COMPLEX, FOOLED, ALIKE = 15.0, 4.0, 20.0, 2.0, 20.0  # weights of the losses
PARTS = ("model", "average", "judges", "learning", "judging")  # of a course, that are saved


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train a small autoencoder.

    Units: `minutes` of wall clock (or `steps`, whichever ends first), of which the share `alone` is without judges;
    `batch` crops of `frames` latent frames a step and process; `nats` of information a latent frame may carry; `pesq`
    is the weight of PESQ. With `frozen` the encoder stays as it is, and with it what a transformer has learned to make.
    With `half` the layers compute in bfloat16, which halves a step on processors that know it.
    """

    minutes: float = 60
    steps: int | None = None
    batch: int = 64
    frames: int = 24
    alone: float = 0.5
    rate: float = 1e-3
    judge_rate: float = 3e-4
    nats: float = 80.0
    pesq: float = 0.0
    frozen: bool = False
    half: bool = False
    ema: float = 0.999
    seed: int = 0
    save_minutes: float = 1
    log_seconds: float = 10


class Crops:
    """Random crops of 16-bit sound `[n]` that lies whole on the device, in random level and polarity."""

    def __init__(self, sound: Tensor, length: int, seed: int) -> None:
        self.sound, self.reach = sound, torch.arange(length, device=sound.device)
        self.generator = torch.Generator(sound.device).manual_seed(seed)

    def draw(self, batch: int) -> Tensor:
        """Shapes: `[b, length]` in [-1, 1]."""
        u = torch.rand(3, batch, 1, generator=self.generator, device=self.sound.device)
        first = (u[0].double() * (len(self.sound) - len(self.reach))).long()
        level = 10 ** ((u[1] * 14 - 10) / 20) / 32768  # -10 to 4 dB
        crops = self.sound[first + self.reach].float() * level * (u[2] - 0.5).sign()
        return crops / crops.abs().amax(1, keepdim=True).clamp_min(1)


class Course:
    """A model, its judges, and everything else that changes from step to step."""

    def __init__(self, model: WaveVae, recipe: Recipe, crew: Crew) -> None:
        device = crew.device
        self.model, self.recipe, self.crew = shared(model.to(device), crew).train(), recipe, crew
        self.model.encoder.requires_grad_(not recipe.frozen)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.judges = shared(Judges().to(device), crew)
        self.spectral = Spectral(model.config.rate).to(device)
        self.pesq = Pesq(model.config.rate).to(device) if recipe.pesq else None
        self.learning = torch.optim.AdamW(self.model.parameters(), recipe.rate, (0.8, 0.95))
        self.judging = torch.optim.AdamW(self.judges.parameters(), recipe.judge_rate, (0.8, 0.99))
        self.pressure = torch.full((), math.log(0.01), device=device)  # log weight of the information
        self.together = 0  # steps with judges
        self.usual: Tensor | None = None  # size of the gradient

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        parts = states(self, *PARTS)
        return {**parts, "pressure": self.pressure, "together": self.together, "usual": self.usual}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore(self, state, *PARTS)
        self.pressure, self.together, self.usual = state["pressure"], state["together"], state["usual"]

    def step(self, sound: Tensor, rate: float, judging: bool) -> dict[str, Tensor]:
        """Learn from one batch of sound `[b, t]` at a share of the peak rate; give what was measured."""
        with precision(self.pressure.device, self.recipe.half):
            raw = self.model.encoder(sound[:, None])
        mean, sigma = spread(raw.float())
        latents = mean + sigma * torch.randn_like(sigma)
        nats = 0.5 * (mean.square() + sigma.square() - 1 - 2 * sigma.log()).sum(1).mean()
        with precision(self.pressure.device, self.recipe.half):
            made, *other = self._made(latents)
        made.register_hook(lambda slope: slope.nan_to_num(0, 0, 0))
        seen, loss = self._spectra(made, sound)
        for again in other:
            loss = 0.5 * (loss + self._spectra(again, sound)[1] - self._spectra(made, again)[1])
        if self.pesq:
            level = 0.1 / sound.square().mean(1, keepdim=True).sqrt().clamp_min(1e-3)
            worse = self.pesq(made * level, sound * level)
            seen["pesq"], loss = worse.detach(), loss + self.recipe.pesq * worse
        if judging:
            opinions, theirs = self._judge(made[::2], sound[::2], rate)
            seen |= opinions
            loss = loss + theirs
        (loss + self.pressure.exp() * nats).backward()
        nats = nats.detach()
        average([*gradients(self.model), nats], self.crew)
        norm = self._limit()
        advance(self.learning, self.recipe.rate * rate)
        self.average.update_parameters(self.model)
        excess = (nats / self.recipe.nats).log().clamp(-1, 1)
        self.pressure.add_(0.01 * excess).clamp_(*PRESSURE)
        seen |= {"nats": nats, "weight": self.pressure.exp()}
        return {**seen, "sigma": sigma.detach().mean(), "spread": mean.detach().std(), "norm": norm}

    def _made(self, latents: Tensor) -> list[Tensor]:
        """Sound of latents, twice where the decoder draws noise: two draws should be no more alike than each and what
        was recorded, by which the size of the noise is learned without a judge.

        Source: arXiv 2008.01160 (spectral energy distance).
        """
        decoder = self.model.decoder
        if isinstance(decoder, FrameDecoder):
            return decoder.several(latents, 1 + decoder.config.noise)
        return [decoder(latents, decoder.start(len(latents)))[0][:, 0]]

    def _spectra(self, heard: Tensor, sound: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Distances of spectra, one by one and weighed together."""
        mel, weighed = self.spectral(heard, sound)
        flat = F.l1_loss(pressed(heard), pressed(sound))
        seen = {"mel": mel.detach(), "spectra": weighed.detach(), "complex": flat.detach()}
        return seen, MEL * mel + WEIGHED * weighed + COMPLEX * flat

    def _judge(self, heard: Tensor, sound: Tensor, rate: float) -> tuple[dict[str, Tensor], Tensor]:
        """Let the judges learn; give what they think, and what that costs the decoder."""
        wrong = judged(self.judges(sound), self.judges(heard.detach()))
        wrong.backward()
        average(gradients(self.judges), self.crew)
        advance(self.judging, self.recipe.judge_rate * rate)
        self.judges.requires_grad_(False)
        decoded = self.judges(heard)
        with torch.no_grad():
            recorded = self.judges(sound)
        self.judges.requires_grad_(True)
        fooled, features = deceived(decoded), alike(recorded, decoded)
        self.together += 1
        share = min(1.0, self.together / 200)  # at first they know nothing
        seen = {"judged": wrong.detach(), "fooled": fooled.detach(), "alike": features.detach()}
        return seen, share * (FOOLED * fooled + ALIKE * features)

    def _limit(self) -> Tensor:
        """Let no batch pull more than three times as hard as batches do; give how hard this one pulls."""
        slopes = gradients(self.model)
        norm = nn.utils.get_total_norm(slopes)
        self.usual = norm if self.usual is None else self.usual
        torch._foreach_mul_(slopes, (3 * self.usual / norm.clamp_min(1e-9)).clamp_max(1))
        self.usual = torch.lerp(self.usual, torch.minimum(norm, 3 * self.usual), 0.03)
        return norm


def pressed(sound: Tensor) -> Tensor:
    """Spectra whose magnitudes are raised to 0.3, so that quiet parts count too.  # [b, t] -> [b, f, y, 2]"""
    spectrum = spectra(sound, STEP)
    size = (spectrum.real.square() + spectrum.imag.square() + 1e-6).sqrt()
    return torch.view_as_real(spectrum) * (size**-0.7)[..., None]


def train(
    model: WaveVae,
    recipe: Recipe,
    sound: Tensor,
    out: Path,
    crew: Crew,
    save: Callable[[WaveVae, Path], None] | None = None,
    resume: bool = False,
) -> list[dict[str, float]]:
    """Train until the minutes are up; `model` ends with averaged weights. Give the log, also in `out`/log.jsonl.

    `sound` is 16-bit, `[n]`, and each process holds it whole; `save` is called each `save_minutes` and at the end, when
    `out`/last.pt gets what resuming needs: with `resume`, a run goes on from there with the minutes it had left.
    """
    torch.manual_seed(recipe.seed)
    course, sound = Course(model, recipe, crew), sound.to(crew.device)

    def draws(step: int) -> Iterator[Tensor]:
        seed = recipe.seed + step + OTHER * crew.process_index
        crops = Crops(sound, recipe.frames * model.config.hop, seed)
        while True:
            yield crops.draw(recipe.batch)

    def learn(crops: Tensor, rate: float, progress: float) -> dict[str, Tensor]:
        return course.step(crops, rate, progress >= recipe.alone)

    return follow(course, recipe, draws, learn, out, crew, save, resume)


def advance(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One step at a rate; the gradients are used up."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
