"""riverrun video: a clip of a prompt, or of several that follow each other."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from riverrun.projector import Cue

app = typer.Typer(add_completion=False)
PIPE = "-"
Model = Annotated[
    str | None,
    typer.Option(
        help="A name, what `riverrun train video` made, or the folder of a published Open-Sora 1.2."
        " Default: what comes along."
    ),
]
Half = Annotated[bool, typer.Option("--half", help="Compute in half precision: half the memory, for GPUs.")]
Resolution = Annotated[
    str | None, typer.Option(help="144p to 1080p. Of published models, as all that follows.")
]
Aspect = Annotated[
    str | None, typer.Option(help="Height to width of a resolution. Default: 9:16, which is wide.")
]
Size = Annotated[
    str | None, typer.Option(metavar="ROWSxCOLUMNS", help="Pixels instead of a resolution: 240x426.")
]
Guidance = Annotated[
    float | None, typer.Option(help="How closely the prompt is followed, 1: not guided. Default: 7.")
]
Negative = Annotated[str | None, typer.Option(metavar="PROMPT", help="What is not to be seen.")]
Aesthetic = Annotated[float | None, typer.Option(help="How beautiful, most often 4 to 7. Default: 6.5.")]


@app.command()
def video(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What is to be seen.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="An .mp4 file, or - for fragmented MP4 in a pipe.")
    ] = "clip.mp4",
    seconds: Annotated[
        float | None, typer.Option(help="How long. Default: 2.25. Of published models, with --mode.")
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(metavar="SECONDS:PROMPT", help="Another prompt from then on. As often as you like."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="A picture to begin with.")] = None,
    model: Model = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    half: Half = False,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal clips.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Evaluations a chunk, or a clip. Default: the model's own.")
    ] = None,
    resolution: Resolution = None,
    aspect: Aspect = None,
    size: Size = None,
    frames: Annotated[
        str | None, typer.Option(help="How many, or how long: 51, 2s to 32s. Default: 51.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second. Default: 24.")] = None,
    guidance: Guidance = None,
    negative: Negative = None,
    loops: Annotated[
        int | None, typer.Option(help="Clips that go on from each other; |0| a sea |2| a storm names theirs.")
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="A picture or a video to go on from, and a second one to end with."
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS",
            help="What becomes of references, in latent frames: loop,reference,start,target,length,edit;...",
        ),
    ] = None,
    edit: Annotated[
        float | None, typer.Option(help="How much of a reference is changed, 0 to 1. Default: nothing.")
    ] = None,
    aesthetic: Aesthetic = None,
    motion: Annotated[float | None, typer.Option(help="How much moves, 0 to 100.")] = None,
    camera: Annotated[
        str | None, typer.Option(help="pan right, pan left, tilt up, tilt down, zoom in, zoom out or static.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="Go on for so many seconds, and follow --then: loop, clip by clip, or fifo, frame by frame."
        ),
    ] = None,
    caching: Annotated[
        str | None,
        typer.Option(
            help="Sooner, and not quite the same: pab, teacache-slow or teacache-fast. Not in --mode fifo."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
) -> None:
    """Show a prompt: pictures as they are made, in a file or a pipe (`| ffplay -`)."""
    from riverrun.media import picture
    from riverrun.projector import Projector, Shot

    shot = Shot(
        seconds=seconds, then=[cue(text) for text in then] if then else None,
        image=None if image is None else picture(image), steps=steps, frames=frames, fps=fps,
        size=pixels(resolution, aspect, size), guidance=guidance, negative=negative, loops=loops,
        references=reference or None, strategy=strategy, edit=edit, aesthetic=aesthetic, motion=motion, camera=camera,
        mode=mode, caching=caching,
    )  # fmt: skip
    projector = Projector(model, device=device, half=half, seed=seed)
    made = projector.file(prompt, out, shot, force=force, tell=tell)
    if not projector.leads:
        return
    typer.echo(
        f"{made.path}  {made.frames} frames, {made.seconds:.2f} s in {made.elapsed:.1f} s"
        f" ({made.frames / made.elapsed:.1f} frames/s), first after {made.first:.2f} s",
        err=True,
    )


def tell(plan: str) -> Any:
    """Beside what is written, before it is."""
    typer.echo(plan, err=True)


def cue(text: str) -> "Cue":
    """SECONDS:PROMPT. Raises BadParameter."""
    from riverrun.projector import Cue

    seconds, colon, prompt = text.partition(":")
    try:
        return Cue(float(seconds), prompt.strip() if colon else "")
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no SECONDS:PROMPT, such as '2.5:a blue cat'") from error


def pixels(resolution: str | None, aspect: str | None, size: str | None) -> tuple[int, int] | None:
    """Height and width, by name or in pixels. Raises BadParameter for both, InvalidRequest for what is neither."""
    from riverrun.models.video import resolutions

    if size and (resolution or aspect):
        raise typer.BadParameter("a size is given beside a resolution or an aspect: leave one out")
    if size:
        return resolutions.pixels(size)
    if resolution or aspect:
        return resolutions.size(resolution or "240p", aspect or "9:16")
    return None
