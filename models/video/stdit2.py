"""STDiT2, the transformer of Open-Sora 1.1: of any size, shape, length and rate, all of which it is told.

Blocks attend within frames, then along time, then to the caption. Frames may be known. Letters: b session, f latent
frame, s patch of a frame, n caption token, c latent channel, d width.
Source: the release of Open-Sora 1.1; arXiv 2412.20404; module names as published.
"""

from functools import partial
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.modulation import modulate
from riverrun.models.state import State
from riverrun.models.video.blocks import (
    EPS,
    CrossAttention,
    FinalLayer,
    SelfAttention,
    Words,
    read,
    spread,
    vectors,
    within,
)
from riverrun.models.video.config import Config
from riverrun.models.video.embedding import (
    CaptionEmbedder,
    Mlp,
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


class Shape(NamedTuple):
    """What a clip is told of: sizes in pixels, `ratio` of height to width, frames, frames a second.  # [b] each"""

    height: Tensor
    width: Tensor
    ratio: Tensor
    frames: Tensor
    fps: Tensor


class Told(NamedTuple):
    """Conditions of frames: of the last layer, of blocks within frames, and of blocks along time."""

    final: Tensor  # [b, 1, d]
    six: Tensor  # [b, 1 or f, 6, d]
    three: Tensor  # [b, 1 or f, 3, d]


class Block(nn.Module):
    """Attention within frames, along time and to the caption, then feed-forward; all but the third conditioned."""

    def __init__(self, d: int, heads: int, inner: int, normed: bool) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(6, d) / d**0.5)
        self.scale_shift_table_temporal = nn.Parameter(torch.randn(3, d) / d**0.5)
        self.attn, self.attn_temp = (SelfAttention(d, heads, normed) for _ in range(2))
        self.cross_attn, self.mlp = CrossAttention(d, heads), Mlp(d, inner, d)

    def forward(self, x: Tensor, told: Told, words: Words, at: Rope) -> Tensor:
        """# [b, f, s, d]"""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = vectors(self.scale_shift_table, told.six)
        x = x + gate * within(self.attn, modulate(x, scale, shift, EPS))
        shift, scale, gate = vectors(self.scale_shift_table_temporal, told.three)
        x = x + gate * along(self.attn_temp, modulate(x, scale, shift, EPS), at)
        x = x + self.cross_attn(x, words)
        y: Tensor = x + mlp_gate * self.mlp(modulate(x, mlp_scale, mlp_shift, EPS))
        return y


def along(attn: SelfAttention, x: Tensor, at: Rope) -> Tensor:
    """Each place by itself, through all frames, turned before the norm as published.  # [b, f, s, d]"""
    q, k, v = attn.cut(rearrange(x, "b f s d -> (b s) f d"))
    q, k = attn.norm(turn_pairs(q, at), turn_pairs(k, at))
    return rearrange(attn.join(q, k, v), "(b s) f d -> b f s d", s=x.shape[2])


class STDiT2(nn.Module):
    """The network of one Config. Raises ValueError for a width that three parts do not tell of size and shape."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, self.config = config.width, config
        if d % 3:
            raise ValueError(f"width {d} does not divide into three parts")
        self.rope = Rotary(config.head)
        self.x_embedder = PatchEmbed(config.latent, d, config.patch)
        self.t_embedder, self.fl_embedder, self.fps_embedder = (ScalarEmbedder(d) for _ in range(3))
        self.csize_embedder, self.ar_embedder = ScalarEmbedder(d // 3), ScalarEmbedder(d // 3)
        self.t_block, self.t_block_temp = (nn.Sequential(nn.SiLU(), nn.Linear(d, k * d)) for k in (6, 3))
        self.y_embedder = CaptionEmbedder(config.text, d, config.tokens)
        blocks = (Block(d, config.heads, config.inner, config.normed) for _ in range(config.depth))
        self.blocks = nn.ModuleList(blocks)
        self.final_layer = FinalLayer(d, config.patch**2 * config.out)

    def read(self, captions: Tensor, mask: Tensor | None = None, dropped: Tensor | None = None) -> State:
        """What the blocks need of captions, once for all evaluations: as `STDiT3.read`."""
        layers = [block.cross_attn for block in self.blocks]
        return read(self.y_embedder(captions, dropped), layers, mask)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, time: Tensor, caption: State, shape: Shape, noisy: Tensor | None = None
    ) -> Tensor:
        """The noise in x, in float32, and with `sigma` as many channels more of its variance.

        `time` is 0 (clean) to 999; `caption` is what `read` gave; the size of the first row counts for all. `noisy`
        is false for frames that are known: they have time 0, and are normed twice in the end, as published.
        Shapes: x `[b, c, f, y, x]`, time `[b]`, noisy `[b, f]` -> `[b, out, f, y, x]`.
        """
        (f, y, w), patch = x.shape[2:], self.config.patch
        x = padded(x, patch)
        rows, columns = (n // patch for n in x.shape[3:])
        size = float(shape.height[0]), float(shape.width[0])
        h = self.x_embedder(x)
        h = h + places(*grid(rows, columns, size, self.config.square, h.device), self.config.width).to(h)
        told, known = self.conditions(time, shape, noisy)
        at = self.rope(torch.arange(f, device=h.device))
        for block, words in zip(self.blocks, spread(caption), strict=True):
            h = block(h, told, words, at)
        return unpatch(self.final_layer(h, told.final, known, noisy), rows, patch)[..., :y, :w].float()

    def conditions(self, time: Tensor, shape: Shape, noisy: Tensor | None) -> tuple[Told, Tensor | None]:
        """Of all frames, and of the last layer for known ones, which alone are told of the size there."""
        size = torch.cat([self.csize_embedder(shape.height), self.csize_embedder(shape.width)], dim=1)
        size = torch.cat([size, self.ar_embedder(shape.ratio)], dim=1)[:, None]
        course = (self.fl_embedder(shape.frames) + self.fps_embedder(shape.fps))[:, None]
        blocks = partial(self._blocks, size=size, course=course)
        now = self.t_embedder(time.float()[:, None])
        if noisy is None:
            return Told(now, *blocks(now)), None
        start = self.t_embedder(torch.zeros_like(time[:, None], dtype=torch.float32))
        mask = noisy[:, :, None, None]
        six, three = (torch.where(mask, *pair) for pair in zip(blocks(now), blocks(start), strict=True))
        return Told(now, six, three), start + size

    def _blocks(self, now: Tensor, size: Tensor, course: Tensor) -> tuple[Tensor, Tensor]:
        six, three = self.t_block(now + size), self.t_block_temp(now + course)
        return (rearrange(six, "b f (k d) -> b f k d", k=6), rearrange(three, "b f (k d) -> b f k d", k=3))
