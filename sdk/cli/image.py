"""riverrun image: a picture of a prompt."""

from typing import Annotated

import typer

from riverrun.files import PIPE

app = typer.Typer(add_completion=False)


@app.command()
def image(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What is to be seen.")],
    out: Annotated[str, typer.Option("--out", "-o", help="A .png, .jpg or .webp file.")] = "picture.png",
    model: Annotated[
        str | None,
        typer.Option(help="A name, or what `riverrun train video` made. Default: what comes along."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal pictures.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Evaluations. Default: the model's own.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
) -> None:
    """Show a prompt in one picture."""
    from riverrun.local import guard
    from riverrun.media.pictures import save
    from riverrun.projector import Projector

    place = guard(PIPE, out, force)
    save(place, Projector(model, device=device, seed=seed, steps=steps).picture(prompt))
    typer.echo(out, err=True)
