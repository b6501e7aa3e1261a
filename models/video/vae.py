"""The video autoencoder of Open-Sora 1.2: a 2D one on each picture, then one along time on groups of them.

Groups share nothing, so that a stream decodes each as soon as its latents are there: 17 pictures to 5 latent frames.
Letters: b session, c channel, f frame, y and x rows and columns. Pixels are in [-1, 1].
Source: arXiv 2412.20404 (Open-Sora), section on the autoencoder; the 2D one is diffusers' AutoencoderKL.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.noise import noise
from riverrun.models.video.temporal import TemporalConfig, TemporalVae, sample

Draw = Callable[[Sequence[int]], Tensor]
"""Standard normal values of a shape; each call gives others."""


@dataclass(frozen=True)
class SpatialConfig:
    """The shape of the 2D autoencoder, whose sides are halved between levels.

    `patch` x `patch` pixels are put into channels before it and taken out after it. Raises ValueError for sizes
    that are not positive or groups that do not divide a level.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)
    depth: int = 2
    latent: int = 4
    groups: int = 32
    patch: int = 1
    attention: bool = True  # in the middle

    def __post_init__(self) -> None:
        if min(self.depth, self.latent, self.groups, self.patch, *self.channels) < 1:
            raise ValueError(f"{self}, expected sizes of at least 1")
        if any(n % self.groups for n in self.channels):
            raise ValueError(f"channels {self.channels} do not divide into {self.groups} groups")

    @property
    def factor(self) -> int:
        """Pixels on a side of a latent one."""
        return int(self.patch * 2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class Config:
    """Both autoencoders; latents are normed by channel: (factor z - shift) / scale.

    `group` pictures are coded together along time, and `batch` at a time by the 2D one, which bounds memory.
    Raises ValueError where the parts do not fit each other.
    """

    spatial: SpatialConfig = SpatialConfig()
    temporal: TemporalConfig = TemporalConfig()
    group: int = 17
    batch: int = 4
    factor: float = 0.18215
    shift: tuple[float, ...] = (-0.10, 0.34, 0.27, 0.98)
    scale: tuple[float, ...] = (3.85, 2.32, 2.33, 3.06)

    def __post_init__(self) -> None:
        found = (self.temporal.latent, len(self.shift), len(self.scale))
        if set(found) != {self.spatial.latent}:
            raise ValueError(
                f"the autoencoder along time, shift and scale have {found} channels, the 2D one {self.spatial.latent}"
            )
        if min(self.group, self.batch, *self.scale, self.factor) <= 0:
            raise ValueError(f"group {self.group}, batch {self.batch}, factor and scale must be above 0")

    @property
    def latents(self) -> int:
        """Latent frames of a whole group."""
        return -(-self.group // self.temporal.factor)

    def groups(self, frames: int) -> list[int]:
        """How many frames there are in each group."""
        whole, rest = divmod(frames, self.group)
        return [self.group] * whole + [rest] * bool(rest)

    def size(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip; what does not fill a latent row or column is left out."""
        count = sum(-(-n // self.temporal.factor) for n in self.groups(frames))
        return count, height // self.spatial.factor, width // self.spatial.factor

    def frames(self, latents: int) -> int:
        """How many frames as many latent ones hold at most."""
        whole, rest = divmod(latents, self.latents)
        return whole * self.group + rest * self.temporal.factor


PUBLISHED = Config()
BY_NINE = replace(PUBLISHED, group=9)  # 3 latent frames: half the wait of a stream


class VideoVae(nn.Module):
    """The autoencoders of one config. Latents are normed, `[b, c, f, y, x]`."""

    scale: Tensor
    shift: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.spatial_vae = nn.ModuleDict({"module": spatial(config.spatial)})
        self.temporal_vae = TemporalVae(config.temporal)
        for name in ("scale", "shift"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32)
            self.register_buffer(name, values[None, :, None, None, None])

    def encode(self, pixels: Tensor, draw: Draw | None = None) -> Tensor:
        """Latents of a clip, drawn as published, or without `draw` the middle of what they may be.

        Shapes: `[b, 3, f, y, x]` -> `[b, c, f', y', x']`, as `Config.size` says.
        """
        z = torch.cat([self.seen(part, draw) for part in pixels.split(self.config.group, dim=2)], dim=2)
        return (z - self.shift) / self.scale

    def seen(self, pixels: Tensor, draw: Draw | None) -> Tensor:
        """Latents of one group, not normed."""
        mean, spread = self.told(pixels, draw)
        return sample(mean, spread, draw(mean.shape) if draw else None)

    def told(self, pixels: Tensor, draw: Draw | None = None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents of one group, not normed."""
        return self.temporal_vae.encode(self.flat(pixels, draw))

    def flat(self, pixels: Tensor, draw: Draw | None = None) -> Tensor:
        """What the 2D autoencoder tells of each picture by itself.  # [b, 3, f, y, x] -> [b, c, f, y', x']"""
        patch = self.config.spatial.patch
        y, x = (n // patch * patch for n in pixels.shape[3:])
        cut = rearrange(pixels[..., :y, :x], "b c f (y p) (x q) -> (b f) (c p q) y x", p=patch, q=patch)
        flat = torch.cat([self._picture(part, draw) for part in cut.split(self.config.batch)])
        return rearrange(flat, "(b f) c y x -> b c f y x", b=len(pixels)) * self.config.factor

    def _picture(self, x: Tensor, draw: Draw | None) -> Tensor:
        told = self.spatial_vae["module"].encode(x).latent_dist  # type: ignore[operator]
        return sample(told.mean, told.logvar, draw(told.mean.shape) if draw else None)

    def decode(self, z: Tensor, frames: int) -> Tensor:
        """A clip of its latents.  # [b, c, f', y', x'] -> [b, 3, frames, y, x]"""
        return torch.cat(list(self.stream(z, frames)), dim=2)

    def stream(self, z: Tensor, frames: int) -> Iterator[Tensor]:
        """The same, group by group. Raises ValueError if the latents are not of as many frames."""
        if (count := self.config.size(frames, 0, 0)[0]) != z.shape[2]:
            raise ValueError(f"{z.shape[2]} latent frames for {frames} frames, expected {count}")
        groups = zip(z.split(self.config.latents, dim=2), self.config.groups(frames), strict=True)
        yield from (self.group(part, n) for part, n in groups)

    def group(self, z: Tensor, frames: int) -> Tensor:
        """The pictures of one group of latents.  # [b, c, ≤ latents, y', x'] -> [b, 3, frames, y, x]"""
        return self.made(z * self.scale + self.shift, frames)

    def made(self, z: Tensor, frames: int) -> Tensor:
        """The pictures of one group of latents that are not normed."""
        return self.pictures(self.temporal_vae.decode(z, frames))

    def pictures(self, z: Tensor) -> Tensor:
        """What `flat` was given.  # [b, c, f, y', x'] -> [b, 3, f, y, x]"""
        flat = rearrange(z / self.config.factor, "b c f y x -> (b f) c y x").split(self.config.batch)
        made = torch.cat([self.spatial_vae["module"].decode(part).sample for part in flat])  # type: ignore[operator]
        patch = self.config.spatial.patch
        return rearrange(made, "(b f) (c p q) y x -> b c f (y p) (x q)", b=len(z), p=patch, q=patch)


def draws(seed: int) -> Draw:
    """Draws by a seed, one after the other."""
    ticks = count()
    return lambda shape: torch.from_numpy(noise(seed, next(ticks), shape))


def spatial(config: SpatialConfig) -> Any:
    """The 2D autoencoder, with random weights; nothing is downloaded."""
    from diffusers import AutoencoderKL

    levels, pixels = len(config.channels), 3 * config.patch**2
    return AutoencoderKL(  # type: ignore[no-untyped-call]
        in_channels=pixels,
        out_channels=pixels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.depth,
        latent_channels=config.latent,
        norm_num_groups=config.groups,
        mid_block_add_attention=config.attention,
    )
