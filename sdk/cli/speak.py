"""riverrun speak: say a text, in a voice."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)
PIPE = "-"
READ = 4096  # characters of a pipe that are read at once


@app.command()
def speak(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say, or - for a pipe.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="A name, what `riverrun train speech` made, or a published checkpoint; at a server, a name."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A file, or -. Default: speech.wav; of a pipe, a pipe.")
    ] = None,
    voice: Annotated[
        str | None, typer.Option(help="A name, or a recording whose first 15 s are heard.")
    ] = None,
    transcript: Annotated[
        str, typer.Option(help="What is said in the recording; published checkpoints need it.")
    ] = "",
    tokenizer: Annotated[
        str | None, typer.Option(help="The tokenizer's folder, if it is not the published checkpoint's.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    half: Annotated[
        bool, typer.Option("--half", help="Compute in half precision: half the memory, for GPUs.")
    ] = False,
    server: Annotated[str | None, typer.Option(help="Have it said there: http://HOST:PORT.")] = None,
    key: Annotated[str | None, typer.Option(help="An API key of that server.", envvar="RIVERRUN_KEY")] = None,
    speed: Annotated[float, typer.Option(min=0.25, max=4, help="1.1 takes a tenth less time.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal results.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Evaluations a chunk, or a clip. Default: the model's own.")
    ] = None,
    best_of: Annotated[
        int,
        typer.Option(min=1, max=16, help="Say each sentence so many times, keep what is understood best."),
    ] = 1,
    mark: Annotated[
        bool,
        typer.Option(help="Carry the inaudible mark of generated speech, which `riverrun detect` finds."),
    ] = True,
    voices: Annotated[
        bool, typer.Option("--voices", help="List the names of voices and say nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
) -> None:
    """Say a text of any length, a sentence at a time."""
    from riverrun.speaker import Speaker

    try:
        speaker = Speaker(model, server=server, key=key, voice=voice, transcript=transcript, tokenizer=tokenizer,
                          device=device, half=half, speed=speed, seed=seed, steps=steps, best_of=best_of,
                          mark=mark)  # fmt: skip
    except ValueError as error:  # of the address
        raise typer.BadParameter(str(error)) from error
    if voices:
        for name in speaker.model.names:
            typer.echo(name)
        return
    target = out or (PIPE if text == PIPE else "speech.wav")
    made = speaker.file(read() if text == PIPE else text, target, force=force)
    factor = made.elapsed / made.seconds
    typer.echo(
        f"{made.path}  {made.seconds:.1f} s in {made.elapsed:.1f} s (real-time factor {factor:.2f}), "
        f"first sound after {1000 * made.first:.0f} ms",
        err=True,
    )


def read() -> Iterator[str]:
    """Standard input as it comes."""
    while line := sys.stdin.readline(READ):
        yield line
