"""riverrun video: a clip of a prompt, or of several that follow each other."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from riverrun.projector import Cue

app = typer.Typer(add_completion=False)
PIPE = "-"


@app.command()
def video(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What is to be seen.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="An .mp4 file, or - for fragmented MP4 in a pipe.")
    ] = "clip.mp4",
    seconds: Annotated[float, typer.Option(help="How long.")] = 2.25,
    then: Annotated[
        list[str] | None,
        typer.Option(metavar="SECONDS:PROMPT", help="Another prompt from then on. As often as you like."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="A picture to begin with.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A name, or what `riverrun train video` made. Default: what comes along."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal clips.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Evaluations a chunk. Default: the model's own.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
) -> None:
    """Show a prompt: pictures as they are made, in a file or a pipe (`| ffplay -`)."""
    from riverrun.media import picture
    from riverrun.projector import Projector

    cues = [cue(text) for text in then or ()]
    first = None if image is None else picture(image)
    projector = Projector(model, device=device, seed=seed, steps=steps)
    made = projector.file(prompt, out, seconds, cues, first, force=force)
    typer.echo(
        f"{made.path}  {made.frames} frames, {made.seconds:.2f} s in {made.elapsed:.1f} s"
        f" ({made.frames / made.elapsed:.1f} frames/s), first after {made.first:.2f} s",
        err=True,
    )


def cue(text: str) -> "Cue":
    """SECONDS:PROMPT. Raises BadParameter."""
    from riverrun.projector import Cue

    seconds, colon, prompt = text.partition(":")
    try:
        return Cue(float(seconds), prompt.strip() if colon else "")
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no SECONDS:PROMPT, such as '2.5:a blue cat'") from error
