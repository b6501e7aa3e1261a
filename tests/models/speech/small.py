"""A tiny model that speaks, of random weights: noise, but as long as what it says."""

from pathlib import Path

import torch

from riverrun.models.speech.chunks import ChunkConfig
from riverrun.models.speech.frames import FrameConfig
from riverrun.models.speech.lite import SpeakLite, SpeakLiteNet, save
from riverrun.models.speech.reading.phonemes import LETTERS


def small() -> SpeakLite:
    """It reads letters, says each in about two frames of 40 ms, and knows two voices."""
    torch.manual_seed(0)
    chunks = ChunkConfig(LETTERS.size, 4, 16, 1, 2, 2.0, chunk=8, past=16, reads=1, hears=1, pool=4)
    net = SpeakLiteNet(chunks, FrameConfig(4, 240, 4, (8, 1, 1), (8, 1, 1), noise=True))
    with torch.no_grad():
        for value in net.dit.parameters():
            value.add_(0.2 * torch.randn_like(value))
    torch.nn.init.constant_(net.dit.reader.time.bias, 0.9)
    voices = {"anna": torch.randn(20, 4), "ben": torch.randn(20, 4)}
    return SpeakLite(net.eval().requires_grad_(False), voices, LETTERS.symbols)


def stored(folder: Path) -> str:
    """The same as a file of weights."""
    model, path = small(), folder / "small.safetensors"
    save(path, model.net, model.voices, LETTERS.symbols)
    return str(path)
