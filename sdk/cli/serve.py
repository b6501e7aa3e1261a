"""riverrun serve: the page, the API and the live streams."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


class Form(StrEnum):
    text = "text"
    json = "json"


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Default: 8000.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings; see the README.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A name, weights of yours or a published checkpoint, in place of the settings' models; as often as "
            "there are some."
        ),
    ] = None,
    log: Annotated[Form | None, typer.Option(help="How the log is written. Default: text.")] = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make an API key, and stop.")] = False,
) -> None:
    """Serve the page and the API on this machine."""
    if new_key:
        _new_key()
        return
    from riverrun.streaming.server import read, serve

    told = {"host": host, "port": port, "models": model or None, "log": log.value if log else None}
    try:
        serve(read(config, **{name: value for name, value in told.items() if value is not None}))
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error


def _new_key() -> None:
    import secrets

    from riverrun.streaming.server import digest

    key = secrets.token_urlsafe(32)
    typer.echo(f"the key, shown once: {key}")
    typer.echo(f'for the settings:    [access]\n                     keys = ["{digest(key)}"]')
