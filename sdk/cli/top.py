"""riverrun top: what a server does now, once a second."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from riverrun.blocking import Client

app = typer.Typer(add_completion=False)
EVERY = 1.0  # seconds
ROOMY = 140  # characters a line from which on there is room for the stages of delay
BAR = 20  # characters
ID = 16  # characters of a stream's name, which is shown whole
WIDE = 160  # characters, where there is no terminal
STAGES = ("lookahead", "transport", "wait", "compute", "send", "buffer")


@app.command()
def top(
    url: Annotated[str, typer.Argument(help="The server.")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(help="An API key, where the server wants one.")] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print it once, plainly, as without a terminal.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print it once, as JSON.")] = False,
) -> None:
    """Watch a server: its streams, where their delay arises, its lanes, what it refuses. q leaves."""
    from riverrun.blocking import Client

    try:
        client = Client(url, key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with client:
        status = client.status()
        if json:
            from json import dumps

            typer.echo(dumps(status))
        elif once or not sys.stdout.isatty():
            from rich.console import Console

            console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
            console.print(view(status, url, console.width))
        else:
            watch(client, status, url)


def watch(client: "Client", status: dict[str, Any], url: str) -> None:
    """Show a status and those that follow, until q or Ctrl-C; a server that is away is waited for."""
    from rich.live import Live

    from riverrun.streaming.errors import StreamError

    trouble = ""
    try:
        with keys() as pressed, Live(screen=True, auto_refresh=False) as live:
            while True:
                live.update(view(status, url, live.console.width, trouble), refresh=True)
                if pressed(EVERY):
                    return
                try:
                    status, trouble = client.status(), ""
                except StreamError as error:
                    trouble = str(error)
    except KeyboardInterrupt:
        return


@contextmanager
def keys() -> "Iterator[Any]":
    """Have single keys of the terminal heard: gives what waits so many seconds, and tells whether q was pressed."""
    import select
    import termios
    import tty

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in ("q", "Q", ""):
                return True
        return False

    def asleep(seconds: float) -> bool:
        time.sleep(seconds)
        return False

    if not sys.stdin.isatty():
        yield asleep
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def view(status: dict[str, Any], url: str, width: int = WIDE, trouble: str = "") -> "RenderableType":
    """A status as a page of so many characters a line."""
    from rich.console import Group
    from rich.text import Text

    head = (
        f"riverrun {status['version']} at {url}: {status['state']}, up {span(status['uptime'])}, "
        f"{len(status['sessions'])} of {status['limit']} streams, event loop {1e3 * status['loop_late']:.0f} ms late, "
        f"{status['restarts']} engines failed"
    )
    refused = ", ".join(f"{code} {count}" for code, count in sorted(status["refused"].items())) or "nothing"
    parts: list[RenderableType] = [
        Text(head, style="bold"),
        sessions(status["sessions"], STAGES if width >= ROOMY else ()),
    ]
    engine = status["engine"]
    parts.append(lanes(engine["lanes"]) if engine else Text("the engine does not answer", style="bold red"))
    if engine and engine["models"]:
        sizes = (f"{name} {size / 1e6:.1f} MB" for name, size in engine["models"].items())
        parts.append(Text(f"in memory: {', '.join(sizes)}"))
    parts.append(Text(f"refused: {refused}"))
    return Group(*parts, *([Text(trouble, style="bold red")] if trouble else []))


def sessions(found: list[dict[str, Any]], stages: tuple[str, ...]) -> "Table":
    """The streams, those with the most delay first; delays in ms, p50 by stage and both of the whole."""
    rows = []
    for one in sorted(found, key=lambda one: -one["delay"].get("p99", {}).get("total", 0)):
        p50, p99 = one["delay"].get("p50", {}), one["delay"].get("p99", {})
        rows.append(
            [one["id"], one["model"], one["transport"], span(one["seconds"]), number(p50.get("total")),
             number(p99.get("total")), *(number(p50.get(stage)) for stage in stages), f"{one['queue']:.2f}",
             f"{one['dropped']:.2f}", ", ".join(one["degraded"])]
        )  # fmt: skip
    names = ["stream", "model", "over", "open", "p50 ms", "p99", *stages, "queue s", "dropped s", "less of"]
    return table(names, rows, left=("stream", "model", "over", "less of"))


def lanes(found: list[dict[str, Any]]) -> "Table":
    """The engine's lanes."""
    rows = []
    for lane in found:
        late = [number(1e3 * value) for value in lane["late"]] or ["", ""]
        each = lane["rows"] / lane["steps"] if lane["steps"] else 0.0
        counts = (f"{sum(lane[what].values())}" for what in ("sessions", "waiting"))
        rows.append([lane["name"], bar(lane["load"]), f"{lane['load']:.0%}", *counts, *late, f"{each:.1f}"])
    names = ["lane", "load", "", "sessions", "waiting", "late p50 ms", "p99", "rows a step"]
    return table(names, rows, left=("lane", "load"))


def table(names: list[str], rows: Iterable[list[str]], left: tuple[str, ...]) -> "Table":
    """A table without lines around it; all columns are numbers but those on the left."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        width = ID if name == "stream" else None
        made.add_column(name, justify="left" if name in left else "right", no_wrap=True, min_width=width)
    for row in rows:
        made.add_row(*row)
    return made


def bar(share: float) -> str:
    """A share of 1 as a bar."""
    full = round(BAR * min(1.0, max(0.0, share)))
    return "█" * full + "░" * (BAR - full)


def number(value: float | None) -> str:
    """A figure as short as it may be; nothing where there is none."""
    return "" if value is None else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def span(seconds: float) -> str:
    """A time as people say it."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}" if hours else f"{minutes}m{rest:02}" if minutes else f"{rest}s"
