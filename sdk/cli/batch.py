"""riverrun batch: many lines of work from a file, as many runs as it takes."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from riverrun.streaming.jobs.folder import Folder
    from riverrun.streaming.jobs.store import Row

app = typer.Typer(add_completion=False)
SHOWN = 20  # failures told at the end; the manifest has all


@app.command()
def batch(
    file: Annotated[Path, typer.Argument(metavar="JOBS.jsonl", help="A line of JSON for each result.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the results.")],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Lines made at once.")] = 2,
    retry: Annotated[bool, typer.Option("--retry-failed", help="Try again whatever failed.")] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace files that are not of this batch.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Of lines that name none: a name or a file. Default: by task.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    server: Annotated[str | None, typer.Option(help="Have it made there: http://HOST:PORT.")] = None,
    key: Annotated[str | None, typer.Option(help="An API key of that server.")] = None,
) -> None:
    """Make every line of a file; called again, go on where it was stopped or killed.

    A line is {"id": "one", "task": "restore", "input": "in.wav", "output": "out.flac", "seed": 0}, or has the task
    "convert" and a "voice", or "speak" and a "text"; paths of inputs are relative to the file, outputs stay in the
    folder. DIR/manifest.jsonl says what was made from what.
    """
    if model and server is None and Path(model).is_file():
        model = str(Path(model).resolve())  # those that lines name are relative to the file of lines
    from riverrun.streaming.jobs.folder import Folder
    from riverrun.streaming.jobs.states import State

    try:
        folder = Folder(file, out, model)
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from error
    try:
        changes = folder.open(here=server is None, retry=retry, force=force)
        typer.echo(f"lines: {changes}; {len(folder.rows(State.queued))} to make", err=True)
        _run(folder, jobs, device, server, key)
        _finish(folder)
    finally:
        folder.close()


def _run(folder: "Folder", at_once: int, device: str, server: str | None, key: str | None) -> None:
    """Make what is queued. When stopped, say how to go on, and leave with the signal's status."""
    import asyncio

    from riverrun.streaming.jobs.states import State

    try:
        asyncio.run(_work(folder, at_once, device, server, key))
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        done, total = len(folder.rows(State.done)), len(folder.lines)
        typer.echo(f"stopped, {done} of {total} done: run the same command to go on", err=True)
        stopped = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        raise typer.Exit(128 + stopped) from None


async def _work(folder: "Folder", at_once: int, device: str, server: str | None, key: str | None) -> None:
    """Make what is queued, telling how it goes on stderr. SIGTERM cancels it."""
    import asyncio

    from rich.console import Console
    from rich.progress import Progress

    from riverrun.remote import Remote
    from riverrun.streaming.jobs.folder import here
    from riverrun.streaming.jobs.states import State

    work = asyncio.current_task()
    assert work
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    queued = [row.line for row in folder.rows(State.queued)]
    if not queued:
        folder.write()
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        total = len(folder.lines)
        bar = bars.add_task("lines", total=total, completed=total - len(queued))

        def told(row: "Row") -> None:
            bars.advance(bar)
            console.print(describe(row), markup=False)

        async with Remote(server, key) if server else here(queued, device) as do:
            await folder.run(do, at_once, told)


def describe(row: "Row") -> str:
    """One line on what became of a line."""
    line = row.line
    if row.error:
        return f"{line.id}: {row.state}: {row.error}"
    seconds = (row.made or {}).get("seconds") or 0.0
    elapsed = (row.finished or 0.0) - (row.started or 0.0)
    what = f"{line.input} -> " if line.input else ""
    return f"{line.id}: {what}{line.output}  {seconds:.1f} s in {elapsed:.1f} s"


def _finish(folder: "Folder") -> None:
    """List what failed, and leave with 1 if anything did."""
    from riverrun.streaming.jobs.states import State

    failed = folder.rows(State.failed)
    if not failed:
        typer.echo(f"all {len(folder.lines)} done, {folder.out / 'manifest.jsonl'} tells how", err=True)
        return
    typer.echo(f"{len(failed)} of {len(folder.lines)} failed:", err=True)
    for row in failed[:SHOWN]:
        typer.echo(f"  line {row.line.number}, {row.line.id}: {row.error}", err=True)
    if len(failed) > SHOWN:
        typer.echo(f"  and {len(failed) - SHOWN} more, see {folder.out / 'manifest.jsonl'}", err=True)
    typer.echo("mend them, or run the same command with --retry-failed", err=True)
    raise typer.Exit(1)
