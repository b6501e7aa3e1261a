"""riverrun weights: published weights made ready to be used."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True)


class Published(StrEnum):
    xvc = "x-vc"


@app.callback()
def weights() -> None:
    """Make published weights ready to be used."""


@app.command("import")
def bring(
    name: Annotated[Published, typer.Argument(metavar="NAME", help="Whose weights: x-vc.")],
    source: Annotated[Path, typer.Argument(metavar="PATH", help="The file as published: xvc.pt.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="What to write. Default: beside it, as .safetensors."),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licences that are shown.")
    ] = False,
    averaged: Annotated[
        bool, typer.Option("--averaged", help="Take the moving average of the weights, not the last.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="A config.json of another size than the released one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a result that is there.")] = False,
) -> None:
    """Turn a published pickle into safetensors: nothing in it is run, and what does not fit is named."""
    from riverrun.models.voice.importing import LICENCE
    from riverrun.models.voice.importing import bring as brought
    from riverrun.models.voice.xvc import parse

    typer.echo(LICENCE, err=True)
    if not accept_licence:
        typer.echo(f"riverrun: {name.value} is imported with --accept-licence only", err=True)
        raise typer.Exit(1)
    target = out or source.with_suffix(".safetensors")
    if target.exists() and not force:
        raise typer.BadParameter(f"{target} is there already: name another with --out, or say --force")
    if not target.parent.is_dir():
        raise typer.BadParameter(f"{target.parent} is no folder to write into")
    done = brought(source, target, parse(config) if config else None, averaged)
    left = ", ".join(f"{count} of {what}" for what, count in sorted(done.left.items()))
    typer.echo(f"{target}: {done.tensors} tensors, {done.values / 1e6:.1f} M values")
    typer.echo(f"left out, as only training needs them or they are other copies: {left or 'nothing'}")
