"""The command `riverrun`: one file a command, imported when it is called."""

import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

COMMANDS = (
    "restore",
    "convert",
    "speak",
    "video",
    "image",
    "detect",
    "batch",
    "serve",
    "top",
    "voices",
    "models",
    "load",
    "bench",
    "check",
    "train",
    "weights",
    "demo",
)


class Lazy(TyperGroup):
    """A group that imports `riverrun.cli.<name>` and takes its `app` when that command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from importlib import import_module

        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(import_module(f"riverrun.cli.{cmd_name}").app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=Lazy,
    name="riverrun",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("riverrun"))
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None:
    """Clean, convert, speak, show, serve, measure and train on your own machine, chunk by chunk."""


def expected() -> tuple[type[Exception], ...]:
    """The errors that are a user's to mend: told in one line, without a traceback."""
    from riverrun.media.errors import MediaError
    from riverrun.models.errors import ModelError
    from riverrun.streaming.errors import StreamError

    return MediaError, ModelError, StreamError


def _terminated(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # unwinds like Ctrl-C, so that unfinished files are removed


def main(args: Sequence[str] | None = None) -> None:
    """Run a command line and exit: 0 done, 1 something failed, 2 wrong usage, 130 interrupted."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app(args=args)
    except Exception as error:
        if not isinstance(error, expected()):
            raise
        typer.echo(f"riverrun: {error}", err=True)
        sys.exit(1)
