"""riverrun demo: clean the sample that comes with the package, and say what was measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from numpy.typing import NDArray

app = typer.Typer(add_completion=False)
NOISY, CLEAN = "sample-noisy.flac", "sample-clean.flac"


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the result.")] = Path("out"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
) -> None:
    """Clean a sample through the streaming path; print where it is and what was measured."""
    from importlib.resources import as_file, files

    from riverrun import restore
    from riverrun.models.evaluation.metrics import si_sdr

    target = out / "sample-restored.flac"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{out} is no folder and cannot become one: {error.strerror}") from error
    with (
        as_file(files("riverrun.assets") / NOISY) as noisy,
        as_file(files("riverrun.assets") / CLEAN) as clean,
    ):
        result = restore(noisy, out=target, device=device, force=True)
        wanted = sound(clean)
        before, after = (si_sdr(sound(path), wanted) for path in (noisy, target))
        typer.echo(f"before   {noisy}")
    typer.echo(f"after    {result.path}")
    typer.echo(f"         {result.seconds:.1f} s of sound, restored chunk by chunk in {result.elapsed:.1f} s")
    typer.echo("")
    typer.echo(
        f"signal to distortion   {before:6.1f} -> {after:6.1f} dB (SI-SDR, against the clean recording)"
    )
    typer.echo(f"background             {result.before:6.1f} -> {result.after:6.1f} dB below full scale")
    typer.echo(f"algorithmic latency    {1000 * result.latency:6.0f} ms")
    typer.echo(f"real-time factor       {result.rtf:6.2f} (below 1 keeps up with a live stream)")


def sound(path: Path) -> "NDArray[Any]":
    """A whole recording, its channels mixed.  # [t]"""
    import numpy as np

    from riverrun.media import read

    data, _ = read(path)
    return np.asarray(data.mean(axis=1))
