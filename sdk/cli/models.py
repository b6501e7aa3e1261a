"""riverrun models: what there is, and whose weights are there."""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import typer

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Row:
    """One model as a line of the table."""

    name: str
    task: str
    size: str
    rate: str
    latency: str
    weights: str
    licence: str


@app.command()
def models() -> None:
    """List the models: task, size, rate, latency, and whether their weights are here."""
    lines = [tuple(Row.__annotations__), *(astuple(row) for row in rows())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def rows() -> list[Row]:
    """Every published and embedded shape, the ones that load by name first."""
    from riverrun.models.registry import MODELS
    from riverrun.models.restoration.presets import PRESETS
    from riverrun.models.speech.presets import PRESETS as PUBLISHED

    embedded = [name for name in MODELS if name in PRESETS]
    restorers = [*embedded, *(n for n in PRESETS if n not in MODELS)]
    told = {"speak": speaker, "convert": converter, "show": shower}
    others = [told[entry.tasks[0]](name) for name, entry in MODELS.items() if entry.tasks[0] in told]
    restorations = (row(name, PRESETS[name]) for name in restorers)
    return [*others, *restorations, *map(speech, PUBLISHED, PUBLISHED.values()), xvc(), opensora()]


def speaker(name: str) -> Row:
    """Describe a model that speaks, by the weights that are here."""
    from riverrun.models.speech.lite import KIND, Config

    def pace(config: Config) -> tuple[int, int]:
        return config.frames.rate, config.chunks.chunk * config.frames.hop

    return small(name, "speak", KIND, Config, pace)


def converter(name: str) -> Row:
    """Describe a model that converts, by the weights that are here and what it is behind."""
    from riverrun.models.registry import load
    from riverrun.models.voice.lite import KIND
    from riverrun.models.voice.network import ConverterConfig

    def pace(config: ConverterConfig) -> tuple[int, int]:
        spec = load(name).spec
        return config.listener.rate, spec.gives[0].hop + spec.latency

    return small(name, "convert", KIND, ConverterConfig, pace)


def shower(name: str) -> Row:
    """Describe a model that shows, by the weights that are here; it is as late as a chunk is long."""
    from riverrun.models.video.lite import KIND, Config

    def pace(config: Config) -> tuple[int, int]:
        return config.rate, config.vae.group

    return small(name, "show", KIND, Config, pace, "")


def small(
    name: str,
    task: str,
    kind: str,
    shape: type[Any],
    pace: Callable[[Any], tuple[int, int]],
    part: str = "net.",
) -> Row:
    """Describe a model of a shape by those weights whose names begin with `part`.

    `pace` is its rate, and the samples or pictures of its latency.
    """
    from riverrun.models import checkpoint
    from riverrun.models.registry import MODELS

    path = MODELS[name].path
    if not path.exists():
        return Row(name, task, "-", "-", "-", "missing", "-")
    header, tensors = checkpoint.read(path)
    size = sum(value.numel() for key, value in tensors.items() if key.startswith(part))
    rate, latency = pace(checkpoint.config(header, kind, shape, path))
    licence = header.get("licence", "Apache-2.0")
    return Row(
        name,
        task,
        f"{size / 1e6:.1f} M",
        f"{rate} fps" if task == "show" else f"{rate / 1000:g} kHz",
        f"{1000 * latency / rate:g} ms",
        "here",
        licence,
    )


def speech(name: str, published: Any) -> Row:
    """Describe a published speech model, whose weights a user gets from its publisher; it makes whole clips."""
    rate = f"{published.config.vae.rate / 1000:g} kHz"
    size = f"{published.parameters / 1e6:.1f} M"
    return Row(name, "speak", size, rate, "whole clip", f"not here: {published.source}", published.licence)


def xvc() -> Row:
    """Describe X-VC as released, without making it."""
    from riverrun.models import checkpoint
    from riverrun.models.voice.features import RATE
    from riverrun.models.voice.importing import SHORT
    from riverrun.models.voice.windows import Windows
    from riverrun.models.voice.xvc import KIND, Config, XVc

    size = checkpoint.parameters(checkpoint.on_meta(lambda: XVc(Config())))
    return Row(KIND, "convert", f"{size / 1e6:.1f} M", f"{RATE / 1000:g} kHz", f"{Windows().latency} ms",
               f"not here: riverrun weights import {KIND}", SHORT)  # fmt: skip


def opensora() -> Row:
    """Describe Open-Sora 1.2 as released, without making it; it makes whole clips."""
    from riverrun.models import checkpoint
    from riverrun.models.video.config import V12
    from riverrun.models.video.stdit3 import STDiT3

    size = checkpoint.parameters(checkpoint.on_meta(lambda: STDiT3(V12)))
    source = "not here: hpcai-tech/OpenSora-STDiT-v3"
    return Row("open-sora-1.2", "show", f"{size / 1e6:.1f} M", "24 fps", "whole clip", source, "Apache-2.0")


def row(name: str, config: Any) -> Row:
    """Describe a preset, or the weights that are here of it, which may be of less, without making them."""
    from riverrun.models import checkpoint
    from riverrun.models.registry import MODELS
    from riverrun.models.restoration.network import Config, Restorer
    from riverrun.models.restoration.stream import KIND

    entry, licence = MODELS.get(name), "-"
    here = entry is not None and entry.path.exists()
    if entry and here:
        header, _ = checkpoint.read(entry.path)
        config = checkpoint.config(header, KIND, Config, entry.path)
        licence = header.get("licence", "Apache-2.0")
    size = checkpoint.parameters(checkpoint.on_meta(lambda: Restorer(config)))
    spectrum = config.spectrum
    return Row(
        name=name,
        task=", ".join(entry.tasks) if entry else config.task,
        size=f"{size / 1e6:.1f} M",
        rate=f"{spectrum.rate / 1000:g} kHz",
        latency=f"{1000 * spectrum.size / spectrum.rate:g} ms",
        weights="here" if here else "missing" if entry else "train or import",
        licence=licence,
    )
