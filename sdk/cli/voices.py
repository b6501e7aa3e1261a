"""riverrun voices: the voices of a server, and your own among them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from riverrun.blocking import Client

app = typer.Typer(add_completion=False, no_args_is_help=True)
Server = Annotated[str, typer.Option(help="Where: http://HOST:PORT.")]
Key = Annotated[str | None, typer.Option(help="An API key of that server.")]
HERE = "http://127.0.0.1:8000"


@app.callback()
def voices() -> None:
    """List, add, transcribe and remove voices of a server."""


@app.command(name="list")
def listed(server: Server = HERE, key: Key = None) -> None:
    """List the voices that the models know by name, then your own."""
    with _client(server, key) as client:
        found = client.voices()
    width = max((len(voice["id"]) for voice in found), default=0)
    for voice in found:
        own = f"  {voice['name']}  {voice['seconds']:.1f} s" if "seconds" in voice else ""
        own += ", with its transcript" if voice.get("transcript") else ""
        typer.echo(f"{voice['id']:{width if own else 0}}{own}")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    sample: Annotated[Path, typer.Argument(help="A recording of it; 3 to 10 s are best, 15 s are kept.")],
    consent: Annotated[Path, typer.Option(help="A recording in which the speaker agrees.")],
    language: Annotated[str, typer.Option(help="What is spoken there, as a BCP 47 tag.")] = "en-US",
    transcript: Annotated[
        str, typer.Option(help="What is said in the sample; published models that speak need it.")
    ] = "",
    server: Server = HERE,
    key: Key = None,
) -> None:
    """Make a voice of a recording, and print its id."""
    with _client(server, key) as client:
        voice = client.add_voice(name, sample, consent=consent, language=language, transcript=transcript)
    typer.echo(f"{voice['seconds']:.1f} of {voice['sample_seconds']:.1f} s are kept", err=True)
    for warning in voice.get("warnings", ()):  # of which older servers know nothing
        typer.echo(warning, err=True)
    typer.echo(voice["id"])


@app.command()
def transcribe(
    voice: Annotated[str, typer.Argument(help="Its id.")],
    transcript: Annotated[str, typer.Argument(help="What is said in its sample, or '' to take that back.")],
    server: Server = HERE,
    key: Key = None,
) -> None:
    """Say what is said in the sample of a voice of yours."""
    with _client(server, key) as client:
        client.transcribe_voice(voice, transcript)


@app.command()
def remove(
    voice: Annotated[str, typer.Argument(help="Its id.")],
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Withdraw its consent: every voice made under that goes, too.")
    ] = False,
    server: Server = HERE,
    key: Key = None,
) -> None:
    """Erase a voice of yours."""
    with _client(server, key) as client:
        client.remove_voice(voice, withdraw=withdraw)


def _client(server: str, key: str | None) -> "Client":
    from riverrun.blocking import Client

    try:
        return Client(server, key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
