"""Tiny models that convert, of random weights: noise, but as long as what they hear."""

import lzma
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load

from riverrun.models.voice.importing import bring
from riverrun.models.voice.listener import ListenerConfig
from riverrun.models.voice.lite import ConvertLite, Known, save
from riverrun.models.voice.network import Converter, ConverterConfig
from riverrun.models.voice.xvc import parse
from tests.models.voice.conftest import XVC

LISTENER = ListenerConfig(
    width=16, layers=1, bands=8, content=4, pitch_width=8, pitch_layers=1, low=16, classes=24
)


def small(voices: tuple[str, ...] = ("anna", "ben")) -> ConvertLite:
    """It converts at 24 kHz, hop by hop of 20 ms, into two voices or a recording's."""
    torch.manual_seed(0)
    config = ConverterConfig(
        LISTENER, width=16, slow=2, fast=1, attends=(1,), heads=2, hearing=12, ears=1, vector=8
    )
    net = Converter(config)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.2 * torch.randn_like(value))
    known = {name: Known(torch.randn(20, config.hearing), 1.0 + i) for i, name in enumerate(voices)}
    return ConvertLite(net, known)


def stored(folder: Path) -> str:
    """The same as a file of weights."""
    model, path = small(), folder / "small.safetensors"
    save(path, model.net, model.voices)
    return str(path)


def imported(folder: Path) -> str:
    """X-VC at the tiny size of its recording, as `weights import` writes it."""
    path = folder / "x-vc.safetensors"
    path.write_bytes(converted())
    return str(path)


@cache
def converted() -> bytes:
    """What `imported` writes: unpacking takes seconds, so once for all tests."""
    held = load(lzma.decompress((XVC / "weights.safetensors.xz").read_bytes()))
    plain = {name: value for name, value in held.items() if not name.startswith("cond_backbone")}
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "xvc.pt"), Path(folder, "x-vc.safetensors")
        torch.save({"generator": plain}, source)
        bring(source, target, parse(XVC / "config.json"))
        return target.read_bytes()
