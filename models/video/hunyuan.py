"""The video autoencoder of Open-Sora 2.0, HunyuanVideo's: 4 x 8 x 8 to one, 4 k + 1 frames to k + 1.

It is diffusers' AutoencoderKLHunyuanVideo; the published weights have its names.
Source: arXiv 2412.03603 (HunyuanVideo), section on the 3D autoencoder.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from riverrun.models.checkpoint import fill, gather, on_meta
from riverrun.models.video.temporal import sample
from riverrun.models.video.vae import Draw

FACTOR = 4  # frames in a latent frame, but the first


@dataclass(frozen=True)
class Config:
    """The shape of the autoencoder, by levels from the pixels inwards; latents are multiplied by `factor`."""

    channels: tuple[int, ...] = (128, 256, 512, 512)
    depth: int = 2
    latent: int = 16
    groups: int = 32
    factor: float = 0.476986

    def size(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip. Raises ValueError unless it has 4 k + 1 frames."""
        if frames < 1 or frames % FACTOR != 1:
            raise ValueError(f"{frames} frames, expected 1 and a multiple of {FACTOR}")
        return (frames - 1) // FACTOR + 1, height // 8, width // 8


class HunyuanVae:
    """The autoencoder of one config. With `tiled`, large pictures are coded in tiles, which bounds memory."""

    def __init__(self, config: Config, module: Any, tiled: bool = False) -> None:
        self.config, self.module = config, module
        if tiled:
            module.enable_tiling()
            module.use_framewise_encoding = module.use_framewise_decoding = False  # tiles are of all frames

    def encode(self, pixels: Tensor, draw: Draw | None = None) -> Tensor:
        """Latents, drawn as published, or without `draw` the middle of what they may be.

        Shapes: `[b, 3, f, y, x]` in [-1, 1] -> `[b, c, f', y', x']`. Raises ValueError unless f is 4 k + 1.
        """
        self.config.size(*pixels.shape[2:])
        told = self.module.encode(pixels).latent_dist
        return self.config.factor * sample(told.mean, told.logvar, draw(told.mean.shape) if draw else None)

    def decode(self, z: Tensor) -> Tensor:
        """A clip.  # [b, c, f', y', x'] -> [b, 3, f, y, x]"""
        pixels: Tensor = self.module.decode(z / self.config.factor).sample
        return pixels


def network(config: Config) -> Any:
    """The network with random weights; nothing is downloaded."""
    from diffusers import AutoencoderKLHunyuanVideo

    return AutoencoderKLHunyuanVideo(  # type: ignore[no-untyped-call]
        block_out_channels=config.channels,
        layers_per_block=config.depth,
        latent_channels=config.latent,
        norm_num_groups=config.groups,
        scaling_factor=config.factor,
    )


def load(
    path: Path, device: str = "cpu", dtype: str = "float32", tiled: bool = True, config: Config | None = None
) -> HunyuanVae:
    """The autoencoder from its weights file or a folder of one, for inference.

    Raises CheckpointError for what is missing, unexpected or mis-shaped.
    """
    config = config or Config()
    module: nn.Module = on_meta(lambda: network(config))
    fill(module, gather(path), path)
    module.eval().requires_grad_(False).to(device, getattr(torch, dtype))
    return HunyuanVae(config, module, tiled)
