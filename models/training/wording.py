"""Teach the network that reads captions what they speak of, before a picture is made.

At each noun it has to know how the thing looks and what it does, and in which scene. What a name looks like is then in
what is read, and the transformer that shows need not learn it name by name: it learns once to draw what it is told.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.training.loop import Crew, descend, follow, precision, restore, shared, states
from riverrun.models.training.optimizer import Optimizer
from riverrun.models.training.stories import encoded
from riverrun.models.training.world.captions import caption, plural
from riverrun.models.training.world.colors import LIGHTS
from riverrun.models.training.world.labels import ACTIONS
from riverrun.models.training.world.scenes import CAMERAS, PALE, PATTERNS, PLACES, Scene, Thing, draw
from riverrun.models.training.world.shapes import drawn
from riverrun.models.training.world.sprites import Bank, Pixels
from riverrun.models.video.lite import ShowLiteNet
from riverrun.models.video.vae import VideoVae
from riverrun.models.video.words import Vocabulary

GRAY = 128  # behind things that are looked at
SIDES = 6  # latents, of a thing that is looked at
MOST = 4  # copies of a thing
KINDS = (ACTIONS, range(MOST), PATTERNS + PLACES, ("", *PALE), tuple(LIGHTS), CAMERAS)
PARTS = ("model", "average", "heads", "optimizer")  # of a course, that are saved


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    Units: `minutes` of wall clock (or `steps`, whichever ends first); `batch` captions a step and process.
    """

    minutes: float = 0
    steps: int | None = None
    batch: int = 64
    rate: float = 2e-3
    half: bool = False
    ema: float = 0.99
    seed: int = 0
    save_minutes: float = 2
    log_seconds: float = 10


@dataclass(frozen=True)
class Batch:
    """Captions, and of each noun in them where it is, how it looks, and of which KINDS it is.

    Shapes: captions `[b, n]`, numbers of words; spots `[k]`, of `b n`; looks `[k, d]`; kinds `[k, 6]`.
    """

    captions: Tensor
    spots: Tensor
    looks: Tensor
    kinds: Tensor


class Looks:
    """How all things of the world look, as latents."""

    def __init__(self, vae: VideoVae, bank: Bank) -> None:
        self.vae, self.bank = vae, bank
        self.seen: dict[tuple[str, str, bool], Tensor] = {}

    def __call__(self, thing: Thing) -> Tensor:
        """A thing by day, as it looks towards where it goes.  # [d]"""
        key = (thing.name, thing.color, thing.direction == "right")
        if key not in self.seen:
            self.seen[key] = self._latents(drawn(self.bank, *key))
        return self.seen[key]

    @torch.inference_mode()
    def _latents(self, sprite: Pixels) -> Tensor:
        side = SIDES * self.vae.config.spatial.factor
        share = sprite[..., 3:].astype(np.float32) / 255
        picture = torch.from_numpy(sprite[..., :3] * share + GRAY * (1 - share)).permute(2, 0, 1)[None]
        small = nn.functional.interpolate(picture, (side, side), mode="bilinear", antialias=True)
        frame = small[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
        return encoded(self.vae, frame[None], 1).flatten().cpu().clone()


def draws(net: ShowLiteNet, bank: Bank, recipe: Recipe, device: torch.device, *dice: int) -> Iterator[Batch]:
    """Captions of scenes of the split "train", without end."""
    rng, vocabulary, looks = (
        np.random.default_rng([recipe.seed, *dice]),
        Vocabulary(net.config.words),
        Looks(net.vae, bank),
    )
    most = net.config.most
    while True:
        captions = torch.zeros(recipe.batch, most, dtype=torch.long)
        spots, seen, kinds = list[int](), list[Tensor](), list[list[int]]()
        for row in range(recipe.batch):
            scene = draw(int(rng.integers(2**62)), "train", bank)
            words = vocabulary.encode(caption(scene, rng, bank), most)
            captions[row, : len(words)] = torch.tensor(words)
            taken = set[int]()
            # a polar bear before a bear
            for thing in sorted(scene.things, key=lambda thing: -len(thing.name)):
                if (spot := noun(words, thing, vocabulary, taken)) is not None:
                    taken.add(spot)
                    spots.append(row * most + spot)
                    seen.append(looks(thing))
                    kinds.append(kinds_of(scene, thing))
        if not spots:
            continue
        rows = captions, torch.tensor(spots), torch.stack(seen), torch.tensor(kinds)
        yield Batch(*(part.to(device) for part in rows))


def noun(words: list[int], thing: Thing, vocabulary: Vocabulary, taken: Container[int] = ()) -> int | None:
    """Where a caption names a thing: its last word, of those not taken; None if it was cut off."""
    for text in (thing.name, plural(thing.name)):
        name = [vocabulary.known(word) for word in text.split()]
        for i in range(len(words) - len(name) + 1):
            last = i + len(name) - 1
            if words[i : last + 1] == name and last not in taken:
                return last
    return None


def kinds_of(scene: Scene, thing: Thing) -> list[int]:
    """What a thing does, how many there are, and of the scene its background, light and camera, as in KINDS."""
    ground = scene.background
    found = (
        (thing.verb, thing.direction),
        thing.count - 1,
        ground.kind,
        ground.color,
        scene.light,
        scene.camera.kind,
    )
    return [list(kind).index(value) for kind, value in zip(KINDS, found, strict=True)]


class Course:
    """The network and everything else that changes from step to step."""

    def __init__(self, net: ShowLiteNet, recipe: Recipe, crew: Crew) -> None:
        self.model, self.recipe, self.crew = shared(net.text.to(crew.device), crew).train(), recipe, crew
        d, looks = net.config.dit.text, net.config.dit.latent * SIDES**2
        self.heads = nn.ModuleList(nn.Linear(d, n) for n in (looks, *map(len, KINDS))).to(crew.device)
        shared(self.heads, crew)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.learned = nn.ModuleList([self.model, self.heads])
        self.optimizer = Optimizer(self.learned, recipe.rate)

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return states(self, *PARTS)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore(self, state, *PARTS)

    def step(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        """Learn from a batch at a share of the peak rate; give what was measured."""
        with precision(self.crew.device, self.recipe.half):
            features = self.model(batch.captions).flatten(0, 1)[batch.spots]
            looks, *kinds = (head(features).float() for head in self.heads)
        look = mse_loss(looks, batch.looks)
        kind = torch.stack(
            [cross_entropy(k, right) for k, right in zip(kinds, batch.kinds.unbind(1), strict=True)]
        ).mean()
        norm = descend(look + kind, self.learned, self.optimizer, self.recipe.rate * rate, self.crew)
        self.average.update_parameters(self.model)
        return {"look": look.detach(), "kind": kind.detach(), "norm": norm}


def train(
    net: ShowLiteNet, recipe: Recipe, bank: Bank, out: Path, crew: Crew, resume: bool = False
) -> list[dict[str, float]]:
    """Train until the minutes are up; what `net` reads captions with ends with averaged weights. Give the log."""
    torch.manual_seed(recipe.seed)
    course = Course(net, recipe, crew)

    def begin(step: int) -> Iterator[Batch]:
        return draws(net, bank, recipe, crew.device, step, crew.process_index)

    def learn(batch: Batch, rate: float, progress: float) -> dict[str, Tensor]:
        return course.step(batch, rate)

    return follow(course, recipe, begin, learn, out, crew, lambda model, folder: None, resume)
