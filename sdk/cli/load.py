"""riverrun load: how many live sessions a server holds, and how well."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riverrun.load import Plan
    from riverrun.playout import Report, Spread
    from riverrun.usage import Usage

app = typer.Typer(add_completion=False)
MIB = 1 << 20


@app.command()
def load(
    url: Annotated[
        str | None, typer.Argument(help="The server. Default: one that is started for it.")
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions at once.")] = 8,
    task: Annotated[
        str, typer.Option(help="What they ask for; the server's first model for it.")
    ] = "restore",
    model: Annotated[
        str | None, typer.Option(help="Which model, by its name there. Default: by task.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long each lasts.")] = 1.0,
    transport: Annotated[Literal["ws", "webrtc"], typer.Option(help="How sound travels.")] = "ws",
    ramp: Annotated[
        float | None, typer.Option(min=0, help="Seconds over which they begin. Default: N / 10.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that drive them.")] = 1,
    json: Annotated[Path | None, typer.Option("--json", help="A file for the figures.")] = None,
    key: Annotated[str | None, typer.Option(help="The server's API key.", envvar="RIVERRUN_KEY")] = None,
    aim: Annotated[float, typer.Option(min=0, max=1, help="The least continuity for exit status 0.")] = 0.99,
) -> None:
    """Drive live sessions at the pace of speech; print continuity, lateness, delay, processor time and memory.

    With --task speak each session has text after text said, and the time to the first sound is printed.
    """
    import asyncio

    from riverrun.load import Plan

    begun = sessions / 10 if ramp is None else ramp
    plan = Plan(url or "", sessions, 60 * minutes, begun, transport, task, model or "", key=key)
    values = asyncio.run(_run(plan, processes))
    if json:
        from json import dumps

        json.write_text(dumps(values, indent=1) + "\n")
    raise typer.Exit(values["continuity"] < aim)


async def _run(plan: "Plan", processes: int) -> dict[str, Any]:
    """Drive a plan, at a server of its own if it names none; print and give the figures."""
    from dataclasses import replace
    from json import dumps

    from riverrun.load import process, serving

    if plan.url:
        return await _driven(plan, processes, process(plan.url))
    models = {"models": dumps([plan.model])} if plan.model else {}
    async with serving(plan.sessions, **models) as (url, pid):
        return await _driven(replace(plan, url=url), processes, pid)


async def _driven(plan: "Plan", processes: int, pid: int | None) -> dict[str, Any]:
    import asyncio
    import time

    from riverrun.load import spread, watch
    from riverrun.playout import report

    samples: list[tuple[float, Usage]] = []
    watching = asyncio.create_task(watch(pid, samples)) if pid else None
    begun = time.monotonic()
    try:
        takes, cpu = await spread(plan, processes)
    finally:
        if watching:
            watching.cancel()
    found, own = report(takes), cpu / (time.monotonic() - begun)
    server = used(samples)
    show(plan, found, server, own)
    return {**found.values(), "server": server, "tester": {"cpu": own}}


def used(samples: "Sequence[tuple[float, Usage]]") -> dict[str, float] | None:
    """What a server used: processors, and MiB and files in the end and at most; None if nothing is known."""
    if len(samples) < 2:
        return None
    (begun, first), (ended, last) = samples[0], samples[-1]
    return {
        "cpu": (last.cpu - first.cpu) / (ended - begun),
        "memory": last.memory / MIB,
        "memory_most": max(sample.memory for _, sample in samples) / MIB,
        "files": last.files,
    }


def show(plan: "Plan", found: "Report", server: dict[str, float] | None, own: float) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{plan.sessions} sessions over {plan.transport}, {plan.seconds:g} s each", show_header=False
    )
    table.add_column()
    table.add_column(justify="right")
    rows = [
        ("continuity C100", f"{found.continuity:.1%}"),
        ("opened, refused, failed", f"{found.opened}, {found.refused}, {found.failed}"),
        ("worst underrun", f"{1000 * found.worst:.0f} ms"),
        ("underruns, silent", f"{found.underruns}, {found.silent:.2%}"),
        ("lateness p50, p99, most", _spread(found.late)),
        (
            f"{'first sound (TTFA)' if found.first else 'delay'} p50, p99, most",
            _spread(found.first or found.delay),
        ),
        ("dropped, skipped", f"{found.dropped:.2f} s, {found.skipped:.2f} s"),
        ("connections lost, resumed", f"{found.lost}, {found.resumed}"),
        ("server", _server(server)),
        ("tester", f"{own:.2f} cores; sends late by {_spread(found.own)}"),
    ]
    if found.retry_after:
        rows.insert(2, ("refused for", "{:g} to {:g} s".format(*found.retry_after)))
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)
    for error, count in found.errors.items():
        typer.echo(f"{count} x {error}", err=True)


def _spread(times: "Spread | None") -> str:
    return "-" if times is None else f"{times.p50:.1f}, {times.p99:.1f}, {times.most:.1f} ms"


def _server(values: dict[str, float] | None) -> str:
    if values is None:
        return "not on this machine, or no /proc here"
    return "{cpu:.2f} cores, {memory:.0f} MiB (at most {memory_most:.0f}), {files:.0f} files".format(**values)
