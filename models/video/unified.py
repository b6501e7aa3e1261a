"""The video autoencoder of Open-Sora 1.3: one network for pictures and time, 4 x 8 x 8 to one.

Groups of 17 frames become 5 latent frames; the last frame of one is the first of the next, and what both show of it is
averaged. Convolutions see a frame and those before it. Letters: b session, c channel, f frame, y and x rows and
columns. Pixels are in [-1, 1].
Source: the release of Open-Sora 1.3; arXiv 2310.05737 (MAGVIT-v2); module names as published.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.checkpoint import fill, gather, on_meta
from riverrun.models.video.temporal import WIDEST, sample
from riverrun.models.video.vae import Draw

EPS = 1e-6
FACTOR = 4  # frames in a latent frame


@dataclass(frozen=True)
class Config:
    """The shape of the autoencoder, by levels from the pixels inwards, and the norms of its latents.

    All levels but the last halve rows and columns, all but the first and the last time, too.
    Raises ValueError for sizes that are not positive, groups that do not divide a level, or norms of other channels.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)
    depth: int = 2
    latent: int = 16
    groups: int = 32
    group: int = 17
    mean: tuple[float, ...] = (
        -0.19017, -0.0448, 0.02079, 0.01865, -0.01159, 0.00109, 0.08379, 0.08902,
        0.00941, 0.08087, -0.07252, 0.05052, -0.02097, -0.12231, -0.00386, -0.02307,
    )  # fmt: skip
    std: tuple[float, ...] = (
        0.94908, 0.95941, 0.94443, 0.91033, 0.95935, 0.84304, 0.88881, 0.92911,
        0.97259, 0.8918, 0.86309, 0.82799, 0.91143, 0.79228, 0.89914, 0.94735,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if min(self.depth, self.latent, self.groups, *self.channels) < 1 or len(self.channels) != 4:
            raise ValueError(f"{self}, expected four levels of at least one channel")
        if any(n % self.groups for n in self.channels):
            raise ValueError(f"channels {self.channels} do not divide into {self.groups} groups")
        if {len(self.mean), len(self.std)} != {self.latent}:
            raise ValueError(
                f"norms of {len(self.mean)} and {len(self.std)} channels, expected {self.latent}"
            )
        if self.group < 2 or self.group % FACTOR != 1:
            raise ValueError(f"group is {self.group} frames, expected 1 and a multiple of {FACTOR}")

    @property
    def latents(self) -> int:
        """Latent frames of a group."""
        return (self.group - 1) // FACTOR + 1

    def groups_of(self, frames: int) -> int:
        """How many groups make up a clip. Raises ValueError unless they make it up wholly, or it is a picture."""
        count, rest = divmod(frames - 1, self.group - 1)
        if frames < 1 or rest:
            raise ValueError(f"{frames} frames, expected 1 and a multiple of {self.group - 1}")
        return count

    def size(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip."""
        return max(self.groups_of(frames) * self.latents, 1), -(-height // 8), -(-width // 8)


class Conv(nn.Module):
    """A causal convolution, padded with zeros.  # [b, c, f, y, x]"""

    def __init__(self, c: int, d: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.kernel = nn.Conv3d(c, d, kernel, stride), kernel

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(causal(x, self.kernel))
        return y


def causal(x: Tensor, kernel: int = 3) -> Tensor:
    """Zeros around each frame and before the first."""
    return F.pad(x, ((kernel // 2,) * 4 + (kernel - 1, 0)))


class ResBlock(nn.Module):
    """Two normed convolutions beside the input."""

    def __init__(self, c: int, d: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, c, EPS), nn.GroupNorm(groups, d, EPS)
        self.conv1, self.conv2 = Conv(c, d), Conv(d, d)
        if c != d:
            self.nin_shortcut = Conv(c, d, 1)
        self.widens = c != d

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        joined: Tensor = y + (self.nin_shortcut(x) if self.widens else x)
        return joined


class Attention(nn.Module):
    """Each place of each frame attends to those before it, frame by frame and row by row."""

    def __init__(self, c: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, c, EPS)
        self.q, self.k, self.v, self.proj_out = (Conv(c, c, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (rearrange(part(y), "b c f y x -> b 1 (f y x) c") for part in (self.q, self.k, self.v))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        made: Tensor = x + self.proj_out(rearrange(seen, "b 1 n c -> b c n").view_as(x))
        return made


class Smaller(nn.Module):
    """Halve rows and columns of pictures."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        flat = F.pad(rearrange(x, "b c f y x -> (b f) c y x"), (0, 1, 0, 1))
        y: Tensor = rearrange(self.conv(flat), "(b f) c y x -> b c f y x", b=len(x))
        return y


class Shorter(nn.Module):
    """Halve time, rows and columns."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = Conv(c, c, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class Larger(nn.Module):
    """Double rows and columns of pictures."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        flat = F.interpolate(rearrange(x, "b c f y x -> (b f) c y x"), scale_factor=2.0)
        y: Tensor = rearrange(self.conv(flat), "(b f) c y x -> b c f y x", b=len(x))
        return y


class Refinement(nn.Module):
    """What is added to frames that were doubled."""

    def __init__(self, c: int, groups: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(c, c), Conv(c, c)
        self.norm1, self.norm2 = nn.GroupNorm(groups, c), nn.GroupNorm(groups, c)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm1(self.conv1(x)))
        return F.silu(self.norm2(self.conv2(y)) + x)


class Longer(nn.Module):
    """Double time, rows and columns."""

    def __init__(self, c: int, groups: int) -> None:
        super().__init__()
        self.conv3d = Refinement(c, groups)

    def forward(self, x: Tensor) -> Tensor:
        doubled = F.interpolate(x, scale_factor=2.0)
        y: Tensor = doubled + self.conv3d(doubled)
        return y


def middle(c: int, groups: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {"block_1": ResBlock(c, c, groups), "attn_1": Attention(c, groups), "block_2": ResBlock(c, c, groups)}
    )


def chain(c: int, d: int, count: int, groups: int) -> nn.Sequential:
    """Blocks of which the first changes the channels."""
    return nn.Sequential(*(ResBlock(c if i == 0 else d, d, groups) for i in range(count)))


def through(level: nn.Module, x: Tensor) -> Tensor:
    """One part of a level after the other."""
    for part in level.children():
        x = part(x)
    return x


class Encoder(nn.Module):
    """# [b, 3, f, y, x] -> [b, 2 latent, f', y', x']"""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, last = config.channels, len(config.channels) - 1
        self.conv_in = Conv(3, widths[0])
        self.down = nn.ModuleList()
        for i, (c, d) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            level = nn.ModuleDict({"block": chain(c, d, config.depth, config.groups)})
            if i < last:
                level["downsample"] = Shorter(d) if i else Smaller(d)
            self.down.append(level)
        self.mid = middle(widths[-1], config.groups)
        self.norm_out = nn.GroupNorm(config.groups, widths[-1], EPS)
        self.conv_out = Conv(widths[-1], 2 * config.latent)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in (*self.down, self.mid):
            x = through(level, x)
        y: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return y


class Decoder(nn.Module):
    """# [b, latent, f', y', x'] -> [b, 3, f, y, x]"""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, last = config.channels, len(config.channels) - 1
        self.conv_in = Conv(config.latent, widths[-1])
        self.mid = middle(widths[-1], config.groups)
        self.up = nn.ModuleList()
        for i, (c, d) in enumerate(zip((*widths[1:], widths[-1]), widths, strict=True)):
            level = nn.ModuleDict({"block": chain(c, d, config.depth + 1, config.groups)})
            if i:
                level["upsample"] = Longer(d, config.groups) if i > last - 2 else Larger(d)
            self.up.append(level)
        self.norm_out = nn.GroupNorm(config.groups, widths[0], EPS)
        self.conv_out = nn.Conv3d(widths[0], 3, 3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.conv_in(z)
        for level in (self.mid, *reversed(self.up)):
            x = through(level, x)
        y: Tensor = self.conv_out(causal(F.silu(self.norm_out(x))))
        return y[:, :, FACTOR - 1 :]


class UnifiedVae(nn.Module):
    """The autoencoder of one config. Latents are normed by channel."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def _norms(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (like.new_tensor(v)[:, None, None, None] for v in (self.config.mean, self.config.std))
        return mean, std

    def encode(self, pixels: Tensor, draw: Draw | None = None) -> Tensor:
        """Latents of a clip, drawn as published, or without `draw` the middle of what they may be.

        Shapes: `[b, 3, f, y, x]` -> `[b, c, f', y', x']`, as `Config.size` says. Raises ValueError for a clip that
        groups do not make up.
        """
        count, step = self.config.groups_of(pixels.shape[2]), self.config.group - 1
        parts = [pixels[:, :, i * step : (i + 1) * step + 1] for i in range(max(count, 1))]
        told = torch.cat([self.encoder(part) for part in parts], dim=2)
        mean, spread = told.chunk(2, dim=1)
        z = sample(mean, spread.clamp(*WIDEST), draw(mean.shape) if draw else None)
        centre, scale = self._norms(z)
        return (z - centre) / scale

    def decode(self, z: Tensor) -> Tensor:
        """A clip of its latents.  # [b, c, f', y', x'] -> [b, 3, f, 8 y', 8 x']"""
        return torch.cat(list(self.stream(z)), dim=2)

    def stream(self, z: Tensor) -> Iterator[Tensor]:
        """The same, group by group; the frame that two of them share comes with the second.

        Raises ValueError if the latents are not of whole groups, or of a picture.
        """
        whole, rest = divmod(z.shape[2], self.config.latents)
        if rest and z.shape[2] != 1:
            raise ValueError(f"{z.shape[2]} latent frames, expected 1 or a multiple of {self.config.latents}")
        centre, scale = self._norms(z)
        groups, last = (z * scale + centre).split(self.config.latents, dim=2), None
        for i, part in enumerate(groups, 1):
            frames = self.decoder(part)
            if last is not None:
                frames = torch.cat([(last + frames[:, :, :1]) / 2, frames[:, :, 1:]], dim=2)
            yield frames if i == len(groups) else frames[:, :, :-1]
            last = frames[:, :, -1:]


def load(path: Path, device: str = "cpu", dtype: str = "float32", config: Config | None = None) -> UnifiedVae:
    """The autoencoder from its weights file or the folder of one, for inference.

    Raises CheckpointError for what is missing, unexpected or mis-shaped.
    """
    model = on_meta(lambda: UnifiedVae(config or Config()))
    assert isinstance(model, UnifiedVae)
    fill(model, gather(path), path)
    return model.eval().requires_grad_(False).to(device, getattr(torch, dtype))
