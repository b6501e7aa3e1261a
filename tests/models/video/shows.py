"""A tiny model that shows, with random weights."""

import torch

from riverrun.models.video import vae
from riverrun.models.video.causal import Window
from riverrun.models.video.lite import Config, ShowLiteNet
from riverrun.models.video.stdit3 import Config as Transformer
from riverrun.models.video.temporal import TemporalConfig
from riverrun.models.video.vae import SpatialConfig

WORDS = ("a", "ball", "blue", "cat", "falls", "green", "left", "moves", "red", "right", "rolls", "the")
LATENT = 4


def config(**changes: object) -> Config:
    spatial = SpatialConfig((8, 8), 1, LATENT, 4, 2, attention=False)
    temporal = TemporalConfig(LATENT, 8, (1, 1, 1), 1, (True, True), 2)
    given = {
        "dit": Transformer(width=32, depth=2, heads=2, ratio=2, text=16, tokens=12, latent=LATENT, square=32),
        "vae": vae.Config(spatial, temporal, 9, 9, 1.0, (0.0,) * LATENT, (1.0,) * LATENT),
        "words": WORDS,
        "size": (16, 24),
        "most": 12,
        "depth": 1,
        "steps": 2,
        "window": Window(6, 3),
    }
    return Config(**{**given, **changes})  # type: ignore[arg-type]


def net(**changes: object) -> ShowLiteNet:
    """Networks all of whose parts count: none is zero, as some begin."""
    torch.manual_seed(0)
    made = ShowLiteNet(config(**changes))
    for value in made.dit.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.2)
    return made.eval().requires_grad_(False)
