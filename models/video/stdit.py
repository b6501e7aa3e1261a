"""STDiT, the transformer of Open-Sora 1.0: blocks that attend within frames, then along time, then to the caption.

Frames have places of a fixed table; there is no rate, and no frame is known. Letters: b session, f latent frame,
s patch of a frame, n caption token, c latent channel, d width.
Source: the release of Open-Sora 1.0; arXiv 2412.20404; module names as published.
"""

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
    across,
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
    ScalarEmbedder,
    padded,
    places,
    unpatch,
    waves,
)


class Block(nn.Module):
    """What is added along time has the gate of what is added within frames, and no norm."""

    def __init__(self, d: int, heads: int, inner: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(6, d) / d**0.5)
        self.attn, self.attn_temp = (SelfAttention(d, heads, normed=False) for _ in range(2))
        self.cross_attn, self.mlp = CrossAttention(d, heads), Mlp(d, inner, d)

    def forward(self, x: Tensor, six: Tensor, words: Words, frames: Tensor | None) -> Tensor:
        """`frames` are the places of frames, where they are added.  # [b, f, s, d], [b, 1, 6, d], [f, 1, d]"""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = vectors(self.scale_shift_table, six)
        x = x + gate * within(self.attn, modulate(x, scale, shift, EPS))
        x = x + gate * across(self.attn_temp, x if frames is None else x + frames)
        x = x + self.cross_attn(x, words)
        y: Tensor = x + mlp_gate * self.mlp(modulate(x, mlp_scale, mlp_shift, EPS))
        return y


class STDiT(nn.Module):
    """The network of one Config."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, self.config = config.width, config
        self.x_embedder = PatchEmbed(config.latent, d, config.patch)
        self.t_embedder = ScalarEmbedder(d)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(d, 6 * d))
        self.y_embedder = CaptionEmbedder(config.text, d, config.tokens)
        self.blocks = nn.ModuleList(Block(d, config.heads, config.inner) for _ in range(config.depth))
        self.final_layer = FinalLayer(d, config.patch**2 * config.out)

    def read(self, captions: Tensor, mask: Tensor | None = None, dropped: Tensor | None = None) -> State:
        """What the blocks need of captions, once for all evaluations: as `STDiT3.read`."""
        layers = [block.cross_attn for block in self.blocks]
        return read(self.y_embedder(captions, dropped), layers, mask)  # type: ignore[arg-type]

    def forward(self, x: Tensor, time: Tensor, caption: State) -> Tensor:
        """The noise in x, in float32, and with `sigma` as many channels more of its variance.

        `time` is 0 (clean) to 999; `caption` is what `read` gave.
        Shapes: x `[b, c, f, y, x]`, time `[b]` -> `[b, out, f, y, x]`.
        """
        (f, y, w), patch = x.shape[2:], self.config.patch
        x = padded(x, patch)
        rows, columns = (torch.arange(n // patch, device=x.device) / self.config.space for n in x.shape[3:])
        h = self.x_embedder(x)
        h = h + places(rows, columns, self.config.width).to(h)
        frames = waves(torch.arange(f, device=x.device) / self.config.time, self.config.width).to(h)[:, None]
        now = self.t_embedder(time.float()[:, None])
        six = rearrange(self.t_block(now), "b f (k d) -> b f k d", k=6)
        for i, (block, words) in enumerate(zip(self.blocks, spread(caption), strict=True)):
            h = block(h, six, words, frames if i == 0 else None)
        return unpatch(self.final_layer(h, now), len(rows), patch)[..., :y, :w].float()
