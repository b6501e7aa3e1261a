"""STDiT3 as of Open-Sora 1.3: attention in windows instead of along single places, positions in three axes.

Windows hold a few rows and columns of all frames. Frames may be known by latents that are given beside the noise; they
read the caption that says nothing. Letters: b session, f latent frame, s patch of a frame, n caption token,
c latent channel, d width, h and w rows and columns of patches, e width of a head.
Source: the release of Open-Sora 1.3; module names as published.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from riverrun.models.state import State
from riverrun.models.video import stdit3
from riverrun.models.video.blocks import Block, FinalLayer, SelfAttention, Words, read, spread
from riverrun.models.video.config import Config
from riverrun.models.video.embedding import (
    CaptionEmbedder,
    PatchEmbed,
    Rope,
    Rotary,
    ScalarEmbedder,
    grid,
    padded,
    places,
    turn_pairs,
    unpatch,
)


@dataclass(frozen=True)
class Known:
    """Latents that are given: `frames` says which hold something, and `without` is the caption that says nothing.

    Shapes: latents `[b, c, f, y, x]`.
    """

    frames: tuple[int, ...]
    latents: Tensor
    without: State


class STDiT3V13(nn.Module):
    """The network of one Config. Raises ValueError for heads that do not divide into three parts of even width."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, self.config = config.width, config
        if config.head % 6:
            raise ValueError(f"heads of width {config.head} do not divide into three even parts")
        self.rope = Rotary(config.head // 3)
        self.x_embedder, self.x_embedder_cond, self.x_embedder_cond_mask = (
            PatchEmbed(config.latent, d, config.patch) for _ in range(3)
        )
        self.t_embedder, self.fps_embedder = ScalarEmbedder(d), ScalarEmbedder(d)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(d, 6 * d))
        self.y_embedder = CaptionEmbedder(config.text, d, config.tokens)
        self.spatial_blocks, self.temporal_blocks = (
            nn.ModuleList(Block(d, config.heads, config.inner, config.normed) for _ in range(config.depth))
            for _ in range(2)
        )
        self.final_layer = FinalLayer(d, config.patch**2 * config.out)
        stdit3.draw(self)
        for part in (self.x_embedder_cond, self.x_embedder_cond_mask):  # nothing is known at first
            for value in part.parameters():
                nn.init.zeros_(value)

    def read(self, captions: Tensor, mask: Tensor | None = None, dropped: Tensor | None = None) -> State:
        """What the blocks need of captions, once for all evaluations: as `STDiT3.read`."""
        return read(self.y_embedder(captions, dropped), stdit3.cross_attentions(self), mask)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        caption: State,
        fps: Tensor,
        size: tuple[float, float],
        known: Known | None = None,
    ) -> Tensor:
        """What comes of x, in float32: velocities towards the data, and with `sigma` as many channels more.

        `time` is 0 (clean) to 1000; `caption` is what `read` gave; `fps` is the rate of the pixels and `size` theirs,
        (height, width). Shapes: x `[b, c, f, y, x]`, time, fps `[b]` -> `[b, out, f, y, x]`.
        """
        (f, y, w), config = x.shape[2:], self.config
        now, _, six = stdit3.conditions(self, time, fps, None)
        h = self.embed(x, known)
        rows, columns = (-(-n // config.patch) for n in (y, w))
        h = h + places(*grid(rows, columns, size, config.square, h.device), config.width).to(h)
        scale = math.sqrt(size[0] * size[1]) / config.square
        within = partial(_pictures, at=self.axes(1, rows, columns, scale) if self.config.turned else None)
        beside = partial(
            _windows, at=self.axes(f, *self.config.window, scale), rows=rows, window=self.config.window
        )
        words = spread(caption) if known is None else divided(caption, known, f, rows * columns)
        for i, (space, course) in enumerate(zip(self.spatial_blocks, self.temporal_blocks, strict=True)):
            h = space(h, six, words[2 * i], within)
            h = course(h, six, words[2 * i + 1], beside)
        return unpatch(self.final_layer(h, now), rows, config.patch)[..., :y, :w].float()

    def embed(self, x: Tensor, known: Known | None) -> Tensor:
        """Patches of what is noisy, and of what is known and where.  # [b, c, f, y, x] -> [b, f, s, d]"""
        patch = self.config.patch
        h: Tensor = self.x_embedder(padded(x, patch))
        if known is None:
            return h
        mask = torch.zeros_like(x)
        mask[:, :, list(known.frames)] = 1
        given = self.x_embedder_cond(padded(known.latents.to(x) * mask, patch))
        told: Tensor = h + given + self.x_embedder_cond_mask(padded(mask, patch))
        return told

    def axes(self, frames: int, rows: int, columns: int, scale: float) -> Rope:
        """Angles of a box of patches: a third of each head turns with each axis.  # [(f h w), e] twice"""
        sizes, device = (frames, rows, columns), self.final_layer.linear.weight.device
        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        for axis, n in enumerate(sizes):
            positions = torch.arange(n, device=device) / (scale if axis else 1)
            shape = [n if i == axis else 1 for i in range(3)]
            for made, value in zip(parts, self.rope(positions), strict=True):
                made.append(value.view(*shape, -1).expand(*sizes, -1))
        cos, sin = (torch.cat(part, dim=-1).flatten(0, 2) for part in parts)
        return cos, sin


def divided(caption: State, known: Known, frames: int, patches: int) -> list[Words]:
    """What each layer attends to where known frames read another caption: both, each seen by its frames."""
    is_known = torch.zeros(frames, dtype=torch.bool)
    is_known[list(known.frames)] = True
    words, seen = [], []
    for told, frame_sees in ((caption, ~is_known), (known.without, is_known)):
        b, n = told["words"].shape[0], told["words"].shape[4]
        tokens = told.get("mask", torch.ones(b, n, dtype=torch.bool, device=told["words"].device))
        seen.append(tokens[:, None] & frame_sees.to(tokens.device)[:, None])
        words.append(told["words"])
    mask = repeat(torch.cat(seen, dim=2), "b f n -> b 1 (f s) n", s=patches)
    return [(pair[:, 0], pair[:, 1], mask) for pair in torch.cat(words, dim=4).unbind(1)]


def _pictures(attn: SelfAttention, x: Tensor, at: Rope | None) -> Tensor:
    """Each frame by itself, with positions where they are given.  # [b, f, s, d]"""
    q, k, v = attn.cut(rearrange(x, "b f s d -> (b f) s d"))
    q, k = attn.norm(q, k)
    if at is not None:
        q, k = turn_pairs(q, at), turn_pairs(k, at)
    return rearrange(attn.join(q, k, v), "(b f) s d -> b f s d", f=x.shape[1])


def _windows(attn: SelfAttention, x: Tensor, at: Rope, rows: int, window: tuple[int, int]) -> Tensor:
    """Each window of all frames by itself; what lies below and on the right of the picture is not seen."""
    (p, q), columns = window, x.shape[2] // rows
    down, right = -rows % p, -columns % q
    box = F.pad(rearrange(x, "b f (h w) d -> b f h w d", h=rows), (0, 0, 0, right, 0, down))
    cut = "b f (m p) (n q) d -> (b m n) (f p q) d"
    queries, keys, values = attn.cut(rearrange(box, cut, p=p, q=q))
    queries, keys = attn.norm(queries, keys)
    mask = None
    if down or right:
        inside = F.pad(box.new_ones(rows, columns, dtype=torch.bool), (0, right, 0, down))
        inside = rearrange(inside, "(m p) (n q) -> (m n) (p q)", p=p, q=q)
        mask = repeat(inside, "m k -> (b m) 1 1 (f k)", b=len(x), f=x.shape[1])
    y = attn.join(turn_pairs(queries, at), turn_pairs(keys, at), values, mask)
    m, n = (rows + down) // p, (columns + right) // q
    y = rearrange(y, "(b m n) (f p q) d -> b f (m p) (n q) d", m=m, n=n, p=p, q=q)
    return y[:, :, :rows, :columns].flatten(2, 3)
