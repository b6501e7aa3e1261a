"""riverrun restore: clean the speech of files, folders, globs and pipes."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from riverrun.files import Job
    from riverrun.local import Filter, Result

app = typer.Typer(add_completion=False)


class Band(StrEnum):
    full = "full"
    narrow = "8k"


@app.command()
def restore(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN...", help="Files, folders, globs, or - for a pipe.")
    ],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A file, a folder, or -. Default: beside the input.")
    ] = None,
    task: Annotated[
        str, typer.Option(help="What is wrong with the sound; see `riverrun models`.")
    ] = "restore",
    strength: Annotated[float, typer.Option(min=0, max=1, help="0 changes nothing, 1 cleans fully.")] = 1.0,
    model: Annotated[
        str | None, typer.Option(help="A name `riverrun models` lists. Default: by task.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal results.")] = 0,
    band: Annotated[Band, typer.Option(help="Keep what lies above 8 kHz, or cut it off.")] = Band.full,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace results that are there.")] = False,
) -> None:
    """Clean the speech in recordings and videos; each result has the form of its source."""
    from riverrun.files import RESTORED

    jobs = planned(inputs, out, RESTORED)
    from riverrun.local import Restorer

    made = Restorer(task=task, model=model, device=device, strength=strength, seed=seed, band=band.value)
    done(made, jobs, force)


def planned(inputs: list[str], out: str | None, mark: str) -> "list[Job]":
    """What there is to do. Raises typer.BadParameter if a name stands for nothing."""
    from riverrun.files import plan

    try:
        return plan(inputs, out, mark)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error


def done(filter: "Filter", jobs: "list[Job]", force: bool) -> None:
    """Do every job, and tell at the end which failed. Raises typer.Exit if any did."""
    failures = work(filter, jobs, force)
    if failures:
        typer.echo(f"{len(failures)} of {len(jobs)} failed:", err=True)
        for failure in failures:
            typer.echo(f"  {failure}", err=True)
        raise typer.Exit(1)


def work(filter: "Filter", jobs: "list[Job]", force: bool) -> list[str]:
    """Do every job, telling how it goes on stderr; say for each that failed why it did."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    from riverrun.cli import expected

    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    failures = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None)

        def progress(done: float, total: float | None) -> None:
            bars.update(bar, completed=done, total=total)

        for job in jobs:
            bars.reset(bar, total=None, description=escape(Path(job.source).name))
            try:
                result = filter.file(job.source, job.target, force=force, progress=progress)
            except Exception as error:
                # A reader of our output that has left is nothing to tell; what is not a user's to mend is a bug.
                if isinstance(error, BrokenPipeError) or not isinstance(error, (*expected(), OSError)):
                    raise
                text = str(error)
                for start in (f"{job.source}: ", f"{job.source} "):
                    text = text.removeprefix(start)
                failures.append(f"{job.source}: {text}")
            else:
                console.print(describe(job, result), markup=False)
    return failures


def describe(job: "Job", result: "Result") -> str:
    """One line on what was done and measured."""
    return (
        f"{job.source} -> {job.target}  {result.seconds:.1f} s in {result.elapsed:.1f} s "
        f"(real-time factor {result.rtf:.2f}), latency {1000 * result.latency:.0f} ms, "
        f"background {result.before:.0f} -> {result.after:.0f} dB"
    )
