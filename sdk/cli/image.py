"""riverrun image: a picture of a prompt."""

from typing import Annotated

import typer

from riverrun.cli.video import (
    Aesthetic,
    Aspect,
    Guidance,
    Half,
    Model,
    Negative,
    Resolution,
    Size,
    pixels,
    tell,
)
from riverrun.files import PIPE

app = typer.Typer(add_completion=False)


@app.command()
def image(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What is to be seen.")],
    out: Annotated[str, typer.Option("--out", "-o", help="A .png, .jpg or .webp file.")] = "picture.png",
    model: Model = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    half: Half = False,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal pictures.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Evaluations. Default: the model's own.")] = None,
    resolution: Resolution = None,
    aspect: Aspect = None,
    size: Size = None,
    guidance: Guidance = None,
    negative: Negative = None,
    aesthetic: Aesthetic = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
) -> None:
    """Show a prompt in one picture."""
    from riverrun.local import guard
    from riverrun.media.pictures import save
    from riverrun.projector import Projector, Shot

    place = guard(PIPE, out, force)
    shot = Shot(steps=steps, size=pixels(resolution, aspect, size), guidance=guidance, negative=negative,
                aesthetic=aesthetic)  # fmt: skip
    projector = Projector(model, device=device, half=half, seed=seed)
    made = projector.picture(prompt, shot, tell=tell)
    if projector.leads:
        save(place, made)
        typer.echo(out, err=True)
