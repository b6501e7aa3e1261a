"""A tiny model that shows, with random weights, and what a session of such models gives."""

import numpy as np
import torch
from numpy.typing import NDArray

from riverrun.media import Chunk, join
from riverrun.models.contract import StreamModel
from riverrun.models.shown import Shown
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


def show(
    model: StreamModel, request: Shown, *later: tuple[int, Shown]
) -> tuple[NDArray[np.uint8], list[Chunk]]:
    """All pictures of a request, others of which come once so many frames are shown; and what the times tell."""
    state, made, told, waiting = model.open(request), list[Chunk](), list[Chunk](), list(later)
    with torch.inference_mode():
        while not made or not made[-1].last:
            if waiting and made and made[-1].end >= waiting[0][0]:
                state = model.update(state, waiting.pop(0)[1])
            ((picture, times),), state = model.step([None], state)
            made += [picture] if picture is not None else []
            told += [times] if times is not None else []
    assert [chunk.pts for chunk in made] == [i * model.spec.gives[0].hop for i in range(len(made))]
    return join(made).data, told
