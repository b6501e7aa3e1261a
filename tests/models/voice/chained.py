"""What a live chain is tried with: a tiny converter that hums, and words with pauses between them."""

import numpy as np
import torch
from numpy.typing import NDArray

from riverrun.models.contract import Port
from riverrun.models.voice.listener import ListenerConfig
from riverrun.models.voice.lite import ConvertLite, Known
from riverrun.models.voice.network import Converter, ConverterConfig

Audio = NDArray[np.float32]
RATE, HOP = 24_000, 480
PORT = Port("audio", RATE, HOP)
LISTENER = ListenerConfig(width=16, layers=1, bands=8, content=4, pitch_width=8, pitch_layers=1, low=16)
CONFIG = ConverterConfig(
    LISTENER, width=16, slow=2, fast=1, attends=(1,), heads=2, hearing=12, ears=1, vector=8
)


def converter() -> ConvertLite:
    """It knows one voice; its random weights are so large that it sounds whatever it hears."""
    torch.manual_seed(0)
    net = Converter(CONFIG)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return ConvertLite(net, {"anna": Known(torch.randn(20, CONFIG.hearing), 1.0)})


def noise(hops: int, level: float, seed: int = 0) -> Audio:
    """Of a level in dB of full scale.  # [t]"""
    drawn = np.random.default_rng(seed).standard_normal(hops * HOP)
    return np.asarray(10 ** (level / 20) * drawn, np.float32)


def words(hops: int, level: float = -23.0) -> Audio:
    """A voice of a gliding pitch that comes and goes four times, then pauses for half a second; of a level.  # [t]"""
    seconds = np.arange(hops * HOP) / RATE
    phase = 2 * np.pi * (140 * seconds + 3 * np.sin(5 * seconds))
    swell = np.clip(np.sin(8 * np.pi * seconds), 0, 1) * (seconds % 1.5 < 1.0)
    sound = swell * sum(np.cos(k * phase) / k for k in range(1, 30))
    return np.asarray(sound * 10 ** ((level - loudness(sound)) / 20), np.float32)


def loudness(sound: Audio) -> float:
    """Of the hops within 20 dB of the loudest, in dB of full scale."""
    power = np.square(sound.reshape(-1, HOP)).mean(1)
    return float(10 * np.log10(power[power > power.max() / 100].mean()))
