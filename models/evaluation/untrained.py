"""Networks that show, of random weights: as fast as trained ones, so that speeds can be compared on any machine."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch

from riverrun.models.errors import InvalidRequest
from riverrun.models.training import showing
from riverrun.models.training.world.captions import vocabulary
from riverrun.models.video.causal import Window
from riverrun.models.video.config import V12
from riverrun.models.video.lite import Config, ShowLiteNet
from riverrun.models.video.resolutions import shift_frames
from riverrun.models.video.rflow import ratio
from riverrun.models.video.vae import PUBLISHED

PRESETS = ("stdit3-xl", "show-lite")
LARGE = 480, 854  # rows and columns of the published speeds


def config(preset: str, size: tuple[int, int] | None, frames: int) -> Config:
    """The shape of a preset for pictures of a size, what is left over of a latent one cut off, and clips of `frames`.

    "stdit3-xl" is that of Open-Sora 1.2 with its autoencoder and its guidance; words are looked up, as there is no T5.
    "show-lite" is that of the recipe. Raises InvalidRequest for another preset, or pictures without a latent one.
    """
    if preset not in PRESETS:
        raise InvalidRequest(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    if preset == "show-lite":
        made = showing.read(
            Path(str(files("riverrun.models.training") / "recipes" / "show-lite.toml"))
        ).config
        wanted = size or (made.size[0], made.size[1])
    else:
        wanted = size or LARGE
        shift = ratio(wanted, max(1, shift_frames(frames)))
        made = Config(
            V12,
            PUBLISHED,
            vocabulary(),
            LARGE,
            rate=24,
            most=V12.tokens,
            depth=0,
            steps=30,
            shift=shift,
            guidance=7.0,
            window=Window(2 * PUBLISHED.latents),
        )
    factor = made.vae.spatial.factor
    if min(wanted) < factor:
        raise InvalidRequest(f"size is {wanted[0]} x {wanted[1]}, expected at least {factor} x {factor}")
    return replace(made, size=tuple(side // factor * factor for side in wanted))


def build(preset: str, size: tuple[int, int] | None, frames: int, device: str) -> ShowLiteNet:
    """The networks, in bfloat16 where the device is no CPU. Raises InvalidRequest, as above."""
    torch.manual_seed(0)
    net = ShowLiteNet(config(preset, size, frames)).to(device).eval().requires_grad_(False)
    if torch.device(device).type != "cpu":
        for part in (net.dit, net.vae):
            part.to(torch.bfloat16)
    return net
