"""Train an aligner: all ways through the text count, each frame learns from what they hold likely for it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models import checkpoint
from riverrun.models.speech.aligner import (
    BLANK,
    KIND,
    NEVER,
    SILENCE,
    Aligner,
    AlignerConfig,
    Way,
    path,
    reach,
    starts,
)
from riverrun.models.training import plans
from riverrun.models.training.alignments import errors
from riverrun.models.training.loop import Clock, gone, keep, kept, means, precision, restore, schedule, states
from riverrun.models.training.optimizer import Optimizer
from riverrun.models.training.readings import Pool, build, splits

RAREST = 2e-4  # frequency of a symbol below which it counts as no rarer
RECENT = 0.05  # share of one batch in what is known of frequencies

log = logging.getLogger(__name__)
PARTS = ("model", "average", "optimizer")  # of a course, that are saved


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train an aligner.

    Units: `minutes` of wall clock (or `steps`, whichever ends first), over which the rate falls from `rate` to 2 %
    of it; `batch` frames a step. Over the first `flat` steps what is heard comes to count as much as how many ways
    there are, so that sounds begin evenly spread. `prior` is the power to which the frequency of a symbol is taken
    out, so that rare sounds keep their length. `vary` is how much, at most, tempo and formants are changed.
    """

    minutes: float = 30
    steps: int | None = None
    batch: int = 4000
    rate: float = 2e-3
    flat: int = 400
    prior: float = 1.0
    vary: float = 0.15
    ema: float = 0.995
    seed: int = 0
    save_minutes: float = 2
    log_steps: int = 50


@dataclass(frozen=True)
class Batch:
    """Utterances side by side, padded.

    Shapes: mel `[b, t, m]`, frames `[b]`; columns and optional `[b, s]`, one state more than the longest path has.
    """

    mel: Tensor
    frames: Tensor
    columns: Tensor
    optional: Tensor
    states: Tensor


def gather(mels: Sequence[Tensor], ways: Sequence[Way]) -> Batch:
    """Pad to the longest."""
    frames = torch.tensor([len(mel) for mel in mels])
    states = torch.tensor([len(way.columns) for way in ways])
    mel = nn.utils.rnn.pad_sequence(list(mels), batch_first=True, padding_value=SILENCE)
    most = int(states.max()) + 1
    columns = torch.full((len(ways), most), BLANK)
    optional = torch.zeros(len(ways), most, dtype=torch.bool)
    for i, way in enumerate(ways):
        columns[i, : len(way.columns)] = torch.tensor(way.columns)
        optional[i, : len(way.columns)] = torch.tensor(way.optional)
    return Batch(mel, frames, columns, optional, states)


def occupancy(emission: Tensor, batch: Batch) -> Tensor:
    """How likely each state is at each frame, after all ways from the first to the last.  # [b, t, s] -> [b, t, s]

    Behind the last state lies one more, where a way waits from the end of its utterance to that of the longest.
    """
    emission = F.pad(emission, (0, 0, 0, 1))
    reachable = torch.arange(emission.shape[2]) < batch.states[:, None]
    spoken = torch.arange(emission.shape[1]) < batch.frames[:, None]
    emission = torch.where(reachable[:, None] & spoken[..., None], emission, NEVER)
    emission = torch.where(~reachable[:, None] & ~spoken[..., None], 0.0, emission)
    last = torch.full_like(emission[:, 0], NEVER).scatter(1, batch.states[:, None], 0.0)
    ways = reach(
        torch.cat([emission, emission.flip(1, 2)]),
        torch.cat([batch.optional, batch.optional.flip(1)]),
        torch.cat([starts(batch.optional), last.flip(1)]),
        torch.logaddexp,
    )
    there, back = ways.chunk(2)
    return (there + back.flip(1, 2) - emission).softmax(2)[:, :-1]


def vary(mel: Tensor, frames: Tensor, most: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Other tempo, formants, colour and noise for each row, and a few bands hidden.  # [b, t, m] -> [b, t', m]

    Features as `aligner.features` gives them; the new lengths come with them.
    """
    rows, _, bands = mel.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(rows, *shape, generator=generator)

    tempo = (draw(-most, most)).exp()
    lengths = (frames * tempo).round().long()
    count = int(lengths.max())
    # Where each new frame and band lies in the old ones, from -1 to 1 between their outer edges.
    when = 2 * (torch.arange(count) + 0.5) / (tempo[:, None] * mel.shape[1]) - 1
    band = 2 * (torch.arange(bands) * (1 + draw(-0.4, 0.4, 1) * most) + 0.5) / bands - 1
    places = torch.stack(
        [repeat(band, "b m -> b t m", t=count), repeat(when, "b t -> b t m", m=bands)], dim=3
    )
    seen = F.grid_sample(mel[:, None], places, padding_mode="border", align_corners=False)[:, 0]
    colour = curve(draw(-1, 1, 1, 6) * draw(0, 0.5, 1, 1), bands)
    level = draw(-3.0, -0.3, 1, 1) + curve(draw(-0.5, 0.5, 1, 6), bands)
    hiss = level + 0.25 * torch.randn(seen.shape, generator=generator).clamp(-2, 2)
    seen = torch.logaddexp(4 * (seen + colour), 4 * hiss) / 4
    hidden = draw(0, bands, 2, 1)
    near = (torch.arange(bands) - hidden).abs() < draw(0, 6, 2, 1)
    return seen.masked_fill(near.any(1)[:, None], 0.0), lengths


def curve(knots: Tensor, count: int) -> Tensor:
    """Straight lines through knots evenly apart.  # [b, 1, k] -> [b, 1, count]"""
    return F.interpolate(knots, count, mode="linear", align_corners=True)


class Course:
    """A model and everything else that changes from step to step."""

    def __init__(self, model: Aligner, recipe: Recipe) -> None:
        self.model, self.recipe = model.train(), recipe
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.optimizer = Optimizer(model, recipe.rate)
        count = len(model.config.symbols) + 1
        self.prior = torch.full((count,), 1 / count)
        self.taken, self.seconds = 0, 0.0

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Learn from one batch at a share of the way; give what was measured."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.taken)
        mel, frames = vary(batch.mel, batch.frames, self.recipe.vary, generator)
        batch = Batch(mel, frames, batch.columns, batch.optional, batch.states)
        with precision(torch.device("cpu"), half=True):
            near, far = self.model.near(mel), self.model.far(mel)
        places = batch.columns[:, None].expand(-1, mel.shape[1], -1)
        heard, known = near.gather(2, places), far.gather(2, places)
        spoken = (torch.arange(mel.shape[1]) < frames[:, None])[..., None]
        with torch.no_grad():
            trust = min(1.0, (self.taken + 1) / self.recipe.flat)
            rarity = self.recipe.prior * self.prior.log()[batch.columns]
            held = occupancy(trust * (heard - rarity[:, None]), batch) * spoken / frames.sum()
            often = (near.exp() * spoken).sum((0, 1)) / frames.sum()
            self.prior.lerp_(often.clamp_min(RAREST), RECENT)
        losses = -(held * heard).sum(), -(held * known).sum()
        loss = losses[0] + losses[1]
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step(self.recipe.rate * schedule(progress, self.taken))
        self.model.zero_grad()
        self.average.update_parameters(self.model)
        self.taken += 1
        return {"near": losses[0].detach(), "far": losses[1].detach(), "norm": norm, "pauses": often[BLANK]}

    def save(self, out: Path) -> None:
        """Keep all that resuming needs."""
        parts = states(self, *PARTS)
        keep(out, {**parts, "prior": self.prior, "taken": self.taken, "seconds": self.seconds})

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `save` kept."""
        restore(self, state, *PARTS)
        self.prior, self.taken, self.seconds = state["prior"], state["taken"], state["seconds"]


def endless(pool: Pool, recipe: Recipe, skip: int) -> Iterator[list[int]]:
    """Batches of one epoch after another, all but the first `skip`."""
    epoch = 0
    while True:
        made = pool.batches(recipe.batch, recipe.seed, epoch)
        yield from made[skip:]
        skip, epoch = max(0, skip - len(made)), epoch + 1


def train(
    model: Aligner, recipe: Recipe, pool: Pool, out: Path, resume: bool = True
) -> list[dict[str, float]]:
    """Train until the minutes are up; `model` ends with averaged weights. Give the log, also in `out`/log.jsonl.

    `out`/last.pt holds what resuming needs; a resumed run goes on with the minutes it had left.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    course, rows = Course(model, recipe), []
    if resume and (saved := kept(out, torch.device("cpu"))):
        course.resume(saved)
    ways = [path(phonemes, model.config.symbols) for phonemes in pool.phonemes]
    clock = Clock(0.0, recipe.save_minutes, course.seconds)
    totals: dict[str, list[Tensor]] = {}
    for chosen in endless(pool, recipe, course.taken):
        course.seconds = clock.spent
        progress = gone(recipe, course.taken, course.seconds)
        if progress >= 1:
            break
        batch = gather([pool.mel(i) for i in chosen], [ways[i] for i in chosen])
        for name, value in course.step(batch, progress).items():
            totals.setdefault(name, []).append(value)
        if course.taken % recipe.log_steps == 0:
            rows.append(means(out, course.taken, course.seconds, totals))
            totals = {}
        if clock.saves():
            course.save(out)
    course.save(out)
    model.load_state_dict(course.average.module.state_dict())
    model.eval().requires_grad_(False)
    return rows


@dataclass(frozen=True)
class Plan:
    """What a config file says: folders of speech with a manifest, where to work, the shape, and how to train."""

    speech: tuple[str, ...]
    out: str
    model: AlignerConfig = AlignerConfig()
    recipe: Recipe = Recipe()


def read(config: Path) -> Plan:
    """Parse a config file. Raises as `plans.read`."""
    return plans.read(Plan, config)


def run(plan: Plan, base: Path, fresh: bool = False) -> Path:
    """Build the pool if there is none, train, write the weights; give their path. Raises as `readings.build`.

    Where the pool has a split "heldout", how well it is heard is logged.
    """
    out = base / plan.out
    if not (out / "pool" / "index.json").exists():
        build([base / folder for folder in plan.speech], out / "pool", plan.model)
    torch.manual_seed(plan.recipe.seed)
    model = Aligner(plan.model)
    train(model, plan.recipe, Pool(out / "pool"), out, resume=not fresh)
    if "heldout" in splits(out / "pool"):
        log.info("phoneme error rate, held out: %.3f", errors(model, Pool(out / "pool", "heldout")))
    checkpoint.save(out / "aligner.safetensors", model, KIND, plan.model)
    return out / "aligner.safetensors"
