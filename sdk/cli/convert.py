"""riverrun convert: give the speech of files, folders, globs and pipes another voice."""

from typing import Annotated

import typer

from riverrun.cli.restore import done, planned

app = typer.Typer(add_completion=False)


@app.command()
def convert(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN...", help="Files, folders, globs, or - for a pipe.")
    ],
    voice: Annotated[
        str | None,
        typer.Option(help="A name, or a recording of 10 s. Default: the first name the model knows."),
    ] = None,
    pitch: Annotated[
        float, typer.Option(min=-12, max=12, help="Semitones above the voice's own, or below.")
    ] = 0.0,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A file, a folder, or -. Default: beside the input.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A name `riverrun models` lists, or a file.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal results.")] = 0,
    mark: Annotated[
        bool,
        typer.Option(help="Carry the inaudible mark of generated speech, which `riverrun detect` finds."),
    ] = True,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Of a model that has any, as X-VC; auto times them, and takes the one of least latency that keeps "
            "pace here. What it takes is printed."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace results that are there.")] = False,
) -> None:
    """Give the speech in recordings and videos another voice; each result has the form of its source."""
    from riverrun.files import CONVERTED

    jobs = planned(inputs, out, CONVERTED)
    from riverrun.local import Converter

    converter = Converter(
        voice, pitch=pitch, model=model, device=device, seed=seed, mark=mark, preset=preset or ""
    )
    if converter.fit:
        typer.echo(str(converter.fit), err=True)
    if converter.doubt:
        typer.echo(converter.doubt, err=True)
    done(converter, jobs, force)
