"""Train what shows from the procedural world: the autoencoder, reels of latents, then the transformer."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from riverrun.models import checkpoint
from riverrun.models.errors import ModelError
from riverrun.models.training import flowing, pictures, plans, stories
from riverrun.models.training.flowing import Recipe as FlowingRecipe
from riverrun.models.training.holding import hold
from riverrun.models.training.loop import OTHER, Crew
from riverrun.models.training.pictures import Recipe as PictureRecipe
from riverrun.models.training.stories import Groups
from riverrun.models.training.world import sprites
from riverrun.models.training.world.captions import vocabulary
from riverrun.models.video import lite, stdit3, vae
from riverrun.models.video.causal import Window
from riverrun.models.video.lite import Config, ShowLiteNet
from riverrun.models.video.pixels import to_pixels
from riverrun.models.video.vae import VideoVae

KIND = "video autoencoder"  # of a checkpoint of that alone
SEEN = 32  # groups of pictures from which the scale of latents is taken


@dataclass(frozen=True)
class Plan:
    """What a config file says; paths are taken from the folder of the file.

    `sprites` is what `riverrun train sprites` wrote; `out` gets the reels, the logs, what resuming needs, and at last
    show.safetensors. `stills` are for the 2D part of the autoencoder alone, `autoencoder` is all of it; `looks` are
    single frames for the transformer, before chunks. What has 0 minutes stays as it is in `weights`, such a file or the
    autoencoder's alone, with which a run begins. `reels` of 64 stories, `chunks` long, are made for the transformer;
    pictures are drawn by as many `workers`, or with 0 by the process that learns.
    """

    sprites: str
    out: str
    dit: stdit3.Config
    vae: vae.Config
    size: tuple[int, ...] = (96, 96)
    rate: int = 12
    most: int = 48
    depth: int = 2
    steps: int = 8
    shift: float = 1.0
    window: Window = Window()
    stills: PictureRecipe = PictureRecipe()
    autoencoder: PictureRecipe = PictureRecipe()
    looks: FlowingRecipe = FlowingRecipe()
    transformer: FlowingRecipe = FlowingRecipe()
    reels: int = 64
    chunks: int = 4
    workers: int = 0
    weights: str | None = None
    seed: int = 0

    @property
    def config(self) -> Config:
        """Of the networks."""
        told = {
            name: getattr(self, name)
            for name in ("size", "rate", "most", "depth", "steps", "shift", "window")
        }
        return Config(self.dit, self.vae, vocabulary(), **told)


def read(config: Path) -> Plan:
    """Parse a config file. Raises ModelError if it is missing, no TOML, or has unknown or missing keys."""
    plan = plans.read(Plan, config)
    factor = plan.vae.spatial.factor
    if len(plan.size) != 2 or len(set(plan.size)) > 1 or plan.size[0] % factor:
        wanted = f"expected twice one multiple of {factor}: the world is square"
        raise ModelError(f"{config}: size is {plan.size}, {wanted}")
    return plan


def shorten(plan: Plan, minutes: float) -> Plan:
    """The same with other minutes for all of it, shared out as before."""
    return plans.shortened(plan, ("stills", "autoencoder", "looks", "transformer"), minutes)


def run(plan: Plan, base: Path, crew: Crew, fresh: bool = False) -> Path:
    """Do what is not done yet of a plan; give the path of the weights.

    All of a crew work in one folder. Raises ModelError where there are no sprites, or `weights` do not fit.
    """
    out, bank = base / plan.out, base / plan.sprites
    out.mkdir(parents=True, exist_ok=True)
    sprites.load(bank)
    net = begun(plan, base)
    if plan.stills.minutes:
        learn_pictures(net, plan, plan.stills, bank, out / "stills", crew, not fresh, still=True)
    if plan.stills.minutes or plan.weights is None:
        learn_to_hold(net, plan, bank)
    if plan.autoencoder.minutes:
        learn_pictures(net, plan, plan.autoencoder, bank, out / "autoencoder", crew, not fresh)
    net.vae.to(crew.device).eval().requires_grad_(False)
    learn_stories(net, plan, bank, out, crew, not fresh)
    crew.wait_for_everyone()
    return out / "show.safetensors"


def begun(plan: Plan, base: Path) -> ShowLiteNet:
    """The networks as a run begins. Raises ModelError if its weights do not fit, or it needs some and has none."""
    torch.manual_seed(plan.seed)
    net = ShowLiteNet(plan.config)
    path = plans.beginning(plan.weights, base, plan.autoencoder.minutes, "the autoencoder")
    if path is None:
        return net
    header, tensors = checkpoint.read(path)
    alone = header.get(checkpoint.KIND) == KIND
    checkpoint.fill(net.vae if alone else net, tensors, path)
    return net


def learn_pictures(
    net: ShowLiteNet,
    plan: Plan,
    recipe: PictureRecipe,
    bank: Path,
    out: Path,
    crew: Crew,
    resume: bool,
    still: bool = False,
) -> None:
    """Train the autoencoder, or its 2D part with single pictures; in the end latents have mean 0 and deviation 1."""

    def draws(step: int, ahead: int = 0) -> Iterator[Tensor]:
        seed = plan.seed + step * recipe.batch + OTHER * (crew.process_index + ahead)
        groups = Groups(bank, plan.size[0], plan.rate, 1 if still else plan.vae.group, seed)
        return stories.groups(groups, recipe.batch, plan.workers)

    def save(model: VideoVae, folder: Path) -> None:
        if not still:
            seen = [next(draws(0, ahead=i + 1)) for i in range(-(-SEEN // recipe.batch))]
            pictures.normed(model, torch.cat(seen))
        checkpoint.save(folder / "vae.safetensors", model, KIND, plan.vae)

    pictures.train(net.vae, recipe, draws, out, crew, save, resume, still)
    crew.wait_for_everyone()
    checkpoint.fill(net.vae, checkpoint.read(out / "vae.safetensors")[1], out / "vae.safetensors")
    net.vae.requires_grad_(True)


def learn_to_hold(net: ShowLiteNet, plan: Plan, bank: Path) -> None:
    """Have the autoencoder begin with what its 2D part learned: see holding.py."""
    groups = Groups(bank, plan.size[0], plan.rate, 1, plan.seed + OTHER)
    seen = torch.cat([one for one, _ in zip(stories.groups(groups, 1, 0), range(SEEN), strict=False)])
    with torch.inference_mode():
        deviation = float(net.vae.flat(to_pixels(seen).to(net.vae.scale.device)).std())
    hold(net.vae.temporal_vae, deviation)


def learn_stories(net: ShowLiteNet, plan: Plan, bank: Path, out: Path, crew: Crew, resume: bool) -> None:
    """Make what is missing of the reels, and train the transformer with them."""
    stories.film(net, sprites.load(bank), plan.reels, plan.chunks, plan.seed, out / "reels", crew)
    crew.wait_for_everyone()

    def save(model: ShowLiteNet, folder: Path) -> None:
        lite.save(out / "show.safetensors", model)

    reels = stories.reels(out / "reels")[: plan.reels]
    if plan.looks.minutes:
        flowing.train(net, plan.looks, reels, out / "looks", crew, save, resume, still=True)
        net.requires_grad_(True)
    flowing.train(net, plan.transformer, reels, out / "transformer", crew, save, resume)
