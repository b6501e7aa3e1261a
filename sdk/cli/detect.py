"""riverrun detect: is the speech in a recording marked as generated?"""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def detect(
    inputs: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recordings and videos.")],
    json: Annotated[bool, typer.Option("--json", help="A line of JSON a file.")] = False,
) -> None:
    """Look for the mark of generated speech, a line a file.

    The exit status is 0 if every file is marked, 3 if one is not, 1 if one could not be heard.
    """
    from dataclasses import asdict
    from json import dumps

    from riverrun.media import MediaError
    from riverrun.models.speech.marking import examine

    failed = plain = False
    for name in inputs:
        try:
            found = examine(name)
        except MediaError as error:
            failed = True
            typer.echo(f"riverrun: {error}", err=True)
            continue
        plain = plain or not found.marked
        if json:
            typer.echo(dumps({"file": name, **asdict(found)}))
        else:
            typer.echo(f"{'marked' if found.marked else 'not marked':10}  {found.confidence:.3f}  {name}")
    if failed or plain:
        raise typer.Exit(1 if failed else 3)
