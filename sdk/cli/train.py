"""riverrun train: weights from recordings."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from riverrun.models.restoration.network import Restorer

app = typer.Typer(add_completion=False, no_args_is_help=True)

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file; see the README.")]
Minutes = Annotated[
    float | None, typer.Option(min=0, help="For all parts and runs together, instead of what CONFIG says.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew instead of going on.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ... Default: the first there is.")]


@app.callback()
def train() -> None:
    """Train a model."""


@dataclass(frozen=True)
class Folder:
    """Recordings to learn from: their path, share of the draws (0: by duration), and licence."""

    path: str
    weight: float = 0.0
    licence: str = "not stated"


@dataclass(frozen=True)
class Stage:
    """One stage, "predictor", "flow" or "tableau"; units as in models.training.restoration.Recipe."""

    stage: Literal["predictor", "flow", "tableau"]
    minutes: float = 60
    steps: int = 0  # 0: as many as the minutes allow
    batch: int = 8
    rate: float = 2e-3
    pesq: bool = True


@dataclass(frozen=True)
class Plan:
    """What a config file says; paths are taken from the folder of the file.

    `preset` names the shape, `damage` the mixture of degradations, `rooms` how many to simulate beforehand;
    `out` gets the pool, the logs, what resuming needs, and at last <preset>.safetensors.
    """

    preset: str
    out: str
    speech: tuple[Folder, ...]
    textures: tuple[Folder, ...] = ()
    stages: tuple[Stage, ...] = (Stage("predictor"), Stage("flow"))
    damage: str = "restore"
    rooms: int = 500
    seed: int = 0


@app.command()
def restoration(
    config: Config,
    minutes: Minutes = None,
    fresh: Fresh = False,
) -> None:
    """Train a speech restorer; called again, it goes on where it stopped."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = read(config)
    if minutes is not None:
        whole = sum(stage.minutes for stage in plan.stages) or 1.0
        plan = replace(
            plan, stages=tuple(replace(s, minutes=s.minutes * minutes / whole) for s in plan.stages)
        )
    typer.echo(run(plan, config.parent, fresh))


@app.command()
def corpus(
    sentences: Annotated[Path, typer.Argument(metavar="TEXT", help="A text file, one sentence a line.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to fill.")],
    teacher: Annotated[
        Path | None, typer.Option(help="The folder of the Kokoro model. Default: fetched into the cache.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of voices and speeds; another one adds to the folder.")] = 0,
) -> None:
    """Let a teacher read sentences in many voices: clean speech to train with."""
    from riverrun.models.errors import ModelError
    from riverrun.models.evaluation.recordings import Packages, cache
    from riverrun.models.training.teacher import Teacher, read_aloud

    try:
        lines = [line.strip() for line in sentences.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ModelError(f"{sentences} is not a text file: {error}") from error
    count = read_aloud(Teacher(teacher or Packages(cache()).kokoro()), filter(None, lines), out, seed)
    typer.echo(f"{count} sentences in {out}")


@app.command()
def aligner(
    config: Config,
    minutes: Minutes = None,
    fresh: Fresh = False,
) -> None:
    """Train what says when phonemes are spoken; called again, it goes on where it stopped."""
    import logging

    from riverrun.models.training import aligner as training

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = training.read(config)
    if minutes is not None:
        plan = replace(plan, recipe=replace(plan.recipe, minutes=minutes))
    typer.echo(training.run(plan, config.parent, fresh))


@app.command()
def alignments(
    corpus: Annotated[Path, typer.Argument(metavar="FOLDER", help="Speech, with phonemes in its manifest.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to fill.")],
    weights: Annotated[
        Path | None, typer.Option(help="What `train aligner` wrote. Default: those of the package.")
    ] = None,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Confidence below which a file is left out.")
    ] = 0.5,
) -> None:
    """Write when each phoneme of a corpus is spoken."""
    from riverrun.models.speech.aligner import load, packaged
    from riverrun.models.training.alignments import write

    kept, lost = write(load(weights or packaged()), corpus, out, least)
    typer.echo(f"{kept} files aligned, {lost} listed in {out / 'skipped.jsonl'}")


@app.command()
def speech(
    config: Config,
    minutes: Minutes = None,
    fresh: Fresh = False,
    device: Device = None,
) -> None:
    """Train what speaks, an autoencoder and then a transformer; called again, it goes on where it stopped."""
    from riverrun.models.training import speaking

    parted(speaking, config, minutes, fresh, device)


@app.command()
def voice(
    config: Config,
    minutes: Minutes = None,
    fresh: Fresh = False,
    device: Device = None,
) -> None:
    """Train what converts voices, what listens and then the rest; called again, it goes on where it stopped."""
    from riverrun.models.training import voice

    parted(voice, config, minutes, fresh, device)


@app.command()
def sprites(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, such as sprites.npz.")],
    icons: Annotated[
        Path | None, typer.Option(help="An unpacked icon set. Default: fetched from npm into the cache.")
    ] = None,
) -> None:
    """Draw the sprites of the world that `train video` learns from, out of an icon set with a free licence."""
    from riverrun.models.evaluation.recordings import Packages, cache
    from riverrun.models.training.world.sprites import build

    bank = build([icons or Packages(cache()).npm("emoji")])
    bank.save(out)
    typer.echo(f"{len(bank)} sprites in {out}")


@app.command()
def video(
    config: Config,
    minutes: Minutes = None,
    fresh: Fresh = False,
    device: Device = None,
) -> None:
    """Train what shows: from a drawn world, where CONFIG has `sprites`, all of a small model; from clips of your own,
    where it has `model`, the transformer of a published one. Called again, it goes on where it stopped."""
    from riverrun.models.training import opensora, plans, showing

    training = plans.kind(config, {"sprites": showing, "model": opensora})
    parted(training, config, minutes, fresh, device)


def parted(training: Any, config: Path, minutes: float | None, fresh: bool, device: str | None) -> None:
    """Run a training of several parts, alone or in a crew."""
    import logging

    from riverrun.models.training.loop import assemble

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = training.read(config)
    if minutes is not None:
        plan = training.shorten(plan, minutes)
    crew = assemble(device)
    path = training.run(plan, config.parent, crew, fresh)
    if crew.is_main_process:
        typer.echo(path)


def read(config: Path) -> Plan:
    """Parse a config file. Raises ModelError if it is missing, no TOML, or has unknown or missing keys."""
    from riverrun.models.errors import ModelError
    from riverrun.models.training import plans

    plan = plans.read(Plan, config)
    if not plan.speech or not plan.stages:
        raise ModelError(f"{config} names no speech or no stages: add [[speech]] path = ... and [[stages]]")
    return plan


def run(plan: Plan, base: Path, fresh: bool) -> Path:
    """Build the pool if there is none, train each stage, write the weights; give their path."""
    from riverrun.models.errors import ModelError
    from riverrun.models.restoration.network import Restorer
    from riverrun.models.restoration.presets import PRESETS
    from riverrun.models.restoration.stream import save

    if plan.preset not in PRESETS:
        raise ModelError(f"preset is {plan.preset!r}, expected one of {', '.join(PRESETS)}")
    out, config, stages = base / plan.out, PRESETS[plan.preset], {stage.stage for stage in plan.stages}
    for stage in stages:
        if (config.predictor if stage == "predictor" else config.flow) is None:
            raise ModelError(f"stage is {stage!r}, and preset {plan.preset} has no such network")
    if config.predictor and "predictor" not in stages:
        raise ModelError(f"no stage trains the predictor of {plan.preset}: add a stage 'predictor'")
    if "tableau" in stages and "flow" not in stages:
        raise ModelError("stage 'tableau' fits the solver of a flow that no stage trains: add a stage 'flow'")
    if "flow" not in stages:
        config = replace(config, flow=None)  # what it would refine is a result already
    model = Restorer(config)
    learn(plan, model, pool(plan, base, out / "pool"), out, fresh)
    weights = out / f"{plan.preset}.safetensors"
    save(weights, model.cpu(), {"preset": plan.preset})
    return weights


def pool(plan: Plan, base: Path, folder: Path) -> Path:
    """Decode the recordings and simulate the rooms once."""
    from riverrun.models.training import corpus, rooms

    def sources(folders: tuple[Folder, ...]) -> list[corpus.Source]:
        return [corpus.Source(base / f.path, f.weight or None, f.licence) for f in folders]

    if not (folder / "index.json").exists():
        corpus.build(sources(plan.speech), folder)
    if plan.textures and not (folder / "textures.json").exists():
        corpus.build(sources(plan.textures), folder, name="textures", least=0.1)  # knocks are short
    if plan.rooms and not (folder / "rooms.npy").exists():
        rooms.bank(plan.seed, plan.rooms, folder / "rooms.npy")
    return folder


def learn(plan: Plan, model: "Restorer", folder: Path, out: Path, fresh: bool) -> None:
    """Train the stages in order; each keeps its own log and place to resume from."""
    import torch

    from riverrun.models.training.mixtures import Mixtures
    from riverrun.models.training.restoration import Recipe, train

    torch.manual_seed(plan.seed)
    mixtures = Mixtures(folder, plan.damage, plan.seed)
    for stage in plan.stages:
        recipe = Recipe(
            stage.stage,
            stage.minutes,
            stage.steps or None,
            stage.batch,
            stage.rate,
            pesq=stage.pesq,
            seed=plan.seed,
        )
        train(model, recipe, mixtures, out / stage.stage, resume=not fresh)
