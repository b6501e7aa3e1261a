"""riverrun check: does a model keep what every streaming model promises?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True)

MEANING = {
    "whole": "stream - offline",
    "batched": "in a batch - alone",
    "resumed": "saved and loaded - never stopped",
    "forked": "after a clone went its way - before",
    "repeated": "the same input - again",
    "pieces": "text in pieces - at once",
}


@app.callback()
def check() -> None:
    """Check a model."""


@app.command()
def stream(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name `riverrun models` lists, or weights.")
    ],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    hops: Annotated[int, typer.Option(min=4, help="How long each stream is.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the input and of the sessions.")] = 0,
    preset: Annotated[
        str, typer.Option(help="One of the model's, or auto: each of them in turn. Default: as it is.")
    ] = "",
) -> None:
    """Compare a model's stream with its whole-clip pass; the exit status is 1 where they differ."""
    from riverrun.models import load
    from riverrun.models.voice.fitting import ways

    made = load(model, device)
    for name, way in (ways(made, preset) if preset else {"": made}).items():
        examine(f"{model}, preset {name}" if name else model, way, device, hops, seed)


def examine(what: str, made: Any, device: str, hops: int, seed: int) -> None:
    """Print how far a model's streams are from what they promise. Raises as `check_stream`."""
    from riverrun.models.checking import check_stream, sample
    from riverrun.models.restoration.stream import Request

    scripts = list[list[Any]]()
    requests: list[Any] = [Request(seed=seed), Request(seed=seed + 1), Request(strength=0.5, seed=seed + 2)]
    if symbols := made.spec.symbols[:hops]:
        said = made.request
        requests = [said(symbols, seed=seed), said(symbols[::-1], seed=seed + 1, speed=1.5)]
        scripts = [[said(symbols)], [said(symbols[:9], False), said(symbols[9:])]]
    elif made.spec.shows or (made.spec.converts and not made.spec.voices):
        requests = [sample(made, seed + i) for i in range(3)]
    elif made.spec.converts:
        asked = made.request
        requests = [asked(seed=seed), asked(seed=seed + 1, pitch=2.0), asked(seed=seed + 2, pitch=-2.0)]
    report = asdict(check_stream(made, requests, scripts, seed=seed, hops=hops, device=device))
    for name, meaning in MEANING.items():
        if report[name] is not None:
            typer.echo(f"max |{meaning}|".ljust(44) + told(report[name], made.spec.gives[0].kind))
    typer.echo(
        f"{what}: {report['ticks']} ticks a stream, up to {report['batch']} streams a step, all the same"
    )


def told(difference: float, kind: str) -> str:
    """A difference that was measured, of full scale; that of pictures in shades, too."""
    if not difference:
        return "0, bit for bit"
    return f"{difference:.2e}" + (f", {255 * difference:.0f} of 255 shades" if kind == "video" else "")


@app.command()
def parity(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A recording of the reference implementation.")
    ],
) -> None:
    """Compare a model with tensors recorded from its reference; the exit status is 1 where one is too far off."""
    from riverrun.models.parity import compare, kind

    tolerance, worst, failed = kind(folder).tolerance, 0.0, False
    for line in compare(folder):
        typer.echo(str(line))
        worst = max(worst, line.error) if line.counted else worst
        failed = failed or not line.ok
    typer.echo(f"worst {worst:.3e} tolerance {tolerance:g}")
    if failed:
        raise typer.Exit(1)
