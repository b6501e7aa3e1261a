"""Train what shows from the procedural world: the autoencoder, what words mean, reels of latents, the transformer."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from riverrun.models import checkpoint
from riverrun.models.errors import ModelError
from riverrun.models.training import flowing, pictures, plans, stories, wording
from riverrun.models.training.flowing import Recipe as FlowingRecipe
from riverrun.models.training.holding import hold
from riverrun.models.training.loop import OTHER, Crew
from riverrun.models.training.pictures import Recipe as PictureRecipe
from riverrun.models.training.stories import Groups
from riverrun.models.training.wording import Recipe as ReadingRecipe
from riverrun.models.training.world import sprites
from riverrun.models.training.world.captions import vocabulary
from riverrun.models.video import lite
from riverrun.models.video.lite import Config, ShowLiteNet
from riverrun.models.video.pixels import to_pixels
from riverrun.models.video.vae import VideoVae

KIND = "video autoencoder"  # of a checkpoint of that alone
SEEN = 32  # groups of pictures from which the scale of latents is taken
PICTURES, FLOWS = ("stills", "autoencoder"), ("looks", "transformer", "folding")
PARTS = (*PICTURES, "reading", *FLOWS)  # of a run


@dataclass(frozen=True)
class Plan:
    """What a config file says; paths are taken from the folder of the file.

    `config` is of the networks: its keys stand beside the others, but for its words, which are those of the world.
    `sprites` is what `riverrun train sprites` wrote; `out` gets the reels, the logs, what resuming needs, and at last
    show.safetensors. `stills` are for the 2D part of the autoencoder alone, `autoencoder` is all of it; `reading` is
    what captions speak of; `looks` are single frames for the transformer, before chunks, and `folding` folds guidance
    into it at last. What has 0 minutes stays as it is in `weights`, such a file or the autoencoder's alone, with which
    a run begins; what is done is not done again because a part before it got more minutes. `reels` of 64 stories,
    `chunks` long, are made for the transformer; pictures are drawn by as many `workers`, or with 0 by the process that
    learns.
    """

    sprites: str
    out: str
    config: Config
    stills: PictureRecipe = PictureRecipe()
    autoencoder: PictureRecipe = PictureRecipe()
    reading: ReadingRecipe = ReadingRecipe()
    looks: FlowingRecipe = FlowingRecipe()
    transformer: FlowingRecipe = FlowingRecipe()
    folding: FlowingRecipe = FlowingRecipe(minutes=0)
    reels: int = 64
    chunks: int = 4
    workers: int = 0
    weights: str | None = None
    seed: int = 0


def read(config: Path) -> Plan:
    """Parse a config file. Raises ModelError if it is missing, no TOML, or has unknown or missing keys."""
    plan = plans.read(Plan, config, apart)
    size, factor = plan.config.size, plan.config.vae.spatial.factor
    if len(size) != 2 or len(set(size)) > 1 or size[0] % factor:
        wanted = f"expected twice one multiple of {factor}: the world is square"
        raise ModelError(f"{config}: size is {size}, {wanted}")
    return plan


def apart(told: dict[str, Any]) -> dict[str, Any]:
    """What a file says, with the keys of the networks for themselves. Raises ModelError for unknown ones."""
    networks, others = ({field.name for field in fields(kind)} for kind in (Config, Plan))
    known = (networks | others) - {"words", "config"}
    if unknown := sorted(set(told) - known):
        raise ModelError(f"{', '.join(unknown)} is not known, expected keys {', '.join(sorted(known))}")
    theirs = {name: told[name] for name in told if name in networks}
    rest = {name: told[name] for name in told if name in others}
    return {**rest, "config": {**theirs, "words": vocabulary()}}


def shorten(plan: Plan, minutes: float) -> Plan:
    """The same with other minutes for all of it, shared out as before."""
    return plans.shortened(plan, PARTS, minutes)


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
    if plan.reading.minutes:
        wording.train(net, plan.reading, sprites.load(bank), out / "reading", crew, not fresh)
        net.text.requires_grad_(True)
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
        groups = Groups(bank, net.config.size[0], net.config.rate, 1 if still else net.config.vae.group, seed)
        return stories.groups(groups, recipe.batch, plan.workers)

    def save(model: VideoVae, folder: Path) -> None:
        if not still:
            seen = [next(draws(0, ahead=i + 1)) for i in range(-(-SEEN // recipe.batch))]
            pictures.normed(model, torch.cat(seen))
        checkpoint.save(folder / "vae.safetensors", model, KIND, net.config.vae)

    pictures.train(net.vae, recipe, draws, out, crew, save, resume, still)
    crew.wait_for_everyone()
    checkpoint.fill(net.vae, checkpoint.read(out / "vae.safetensors")[1], out / "vae.safetensors")
    net.vae.requires_grad_(True)


def learn_to_hold(net: ShowLiteNet, plan: Plan, bank: Path) -> None:
    """Have the autoencoder begin with what its 2D part learned: see holding.py."""
    groups = Groups(bank, net.config.size[0], net.config.rate, 1, plan.seed + OTHER)
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

    reels, namer = stories.reels(out / "reels")[: plan.reels], flowing.Namer(net.config)
    for part in FLOWS:
        recipe = getattr(plan, part)
        if recipe.minutes and recipe.guidance != 1:
            net.config = replace(net.config, guidance=1.0)  # that of the recipe is in the weights then
        if recipe.minutes or part == "transformer":
            still = part == "looks"
            flowing.train(net, recipe, reels, out / part, crew, save, resume, still, namer)
            net.requires_grad_(True)
