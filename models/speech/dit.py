"""The diffusion transformer of LongCat-AudioDiT: the velocity of latents, given text and what is known of them.

    text ── embed ── 4 ConvNeXt ─┬── mean ── + ── time
                                 │           │
                                 │     one adaLN for all blocks
    x ────── embed ─┐            │           │
                  joined ── [self-, cross-attention, feed-forward] x depth ── adaLN ── velocity
    known ── embed ─┘

What depends on the text alone is worked out once by `read`, and is a State.
Letters: b session, t latent frame, n text token, c latent channel, d width, h head, e width of a head.
Source: arXiv 2603.29339 (LongCat-AudioDiT), section 3; module names as published.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.attention import Attention, Memory, Rope, rope
from riverrun.models.layers.modulation import modulate
from riverrun.models.state import State


@dataclass(frozen=True)
class DitConfig:
    """The shape of the transformer: `text` and `latent` are the channels it is given, `ratio` widens feed-forward.

    After block `skip`, counted from 1, the first block's input is added once more; None: nowhere.
    Raises ValueError for sizes that are not positive or heads that do not divide the width into even parts.
    """

    width: int = 1536
    depth: int = 24
    heads: int = 24
    ratio: float = 4.0
    text: int = 768
    latent: int = 64
    skip: int | None = 8
    eps: float = 1e-6

    def __post_init__(self) -> None:
        sizes = (self.width, self.depth, self.heads, self.text, self.latent, self.inner)
        if min(sizes) < 1:
            raise ValueError(f"width, depth, heads, text, latent and inner are {sizes}, expected at least 1")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads of even width")

    @property
    def inner(self) -> int:
        """Channels inside feed-forward."""
        return int(self.width * self.ratio)


class Embedder(nn.Module):
    """Two linear layers; where a mask is false, zeros go in and come out.  # [b, t, c] -> [b, t, d]"""

    def __init__(self, c: int, d: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Linear(c, d), nn.SiLU(), nn.Linear(d, d))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return blank(self.proj(blank(x, mask)), mask)


class TimeEmbed(nn.Module):
    """Flow time as sinusoids, then two layers; float32 whatever the rest is.  # [b] -> [b, d]"""

    def __init__(self, d: int, c: int = 256) -> None:
        super().__init__()
        self.time_mlp = nn.Sequential(nn.Linear(c, d), nn.SiLU(), nn.Linear(d, d))
        self.c = c

    def forward(self, time: Tensor) -> Tensor:
        falling = -math.log(10_000) / (self.c // 2 - 1) * torch.arange(self.c // 2, device=time.device)
        angles = 1000 * time.float()[:, None] * falling.exp()
        y: Tensor = self.time_mlp(torch.cat([angles.sin(), angles.cos()], dim=1))
        return y


class ResponseNorm(nn.Module):
    """Scale each channel by its size over the whole text against the mean channel's.  # [b, n, d] -> [b, n, d]

    Source: arXiv 2301.00808 (ConvNeXt V2), global response normalisation.
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(1, 1, d)), nn.Parameter(torch.zeros(1, 1, d))

    def forward(self, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        relative = (size / (size.mean(2, keepdim=True) + 1e-6)).to(x.dtype)
        y: Tensor = self.gamma * (x * relative) + self.beta + x
        return y


class TextBlock(nn.Module):
    """A ConvNeXt V2 block over tokens; with a mask, padding stays out of it.  # [b, n, d] -> [b, n, d]"""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(d, d, 7, padding=3, groups=d)
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.pwconv1, self.grn, self.pwconv2 = nn.Linear(d, 2 * d), ResponseNorm(2 * d), nn.Linear(2 * d, d)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = rearrange(self.dwconv(rearrange(x, "b n d -> b d n")), "b d n -> b n d")
        y = self.grn(blank(F.silu(self.pwconv1(self.norm(y))), mask))
        return blank(x + self.pwconv2(y), mask)


class Modulation(nn.Module):
    """The adaLN that all blocks share: gate, scale, shift of attention, then of feed-forward.  # [b, d] -> [b, 6 d]"""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(d, 6 * d))

    def forward(self, condition: Tensor) -> Tensor:
        y: Tensor = self.mlp(condition)
        return y


class FeedForward(nn.Module):
    """Wider and back, frame by frame.  # [b, t, d]"""

    def __init__(self, d: int, inner: int) -> None:
        super().__init__()
        self.ff = nn.Sequential(nn.Linear(d, inner), nn.GELU("tanh"), nn.Identity(), nn.Linear(inner, d))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.ff(x)
        return y


class Block(nn.Module):
    """Attention to all frames, to the text (without norm or gate, as published), feed-forward.  # [b, t, d]"""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        d, self.eps = config.width, config.eps
        self.adaln_scale_shift = nn.Parameter(torch.randn(6 * d) / d**0.5)
        self.self_attn = Attention(d, config.heads, config.eps)
        self.cross_attn = Attention(d, config.heads, config.eps)
        self.ffn = FeedForward(d, config.inner)

    def forward(
        self, h: Tensor, shared: Tensor, at: Rope, frames: Tensor | None, text: Memory, tokens: Tensor
    ) -> Tensor:
        gates = rearrange(shared + self.adaln_scale_shift, "b (six d) -> six b 1 d", six=6)
        gate, scale, shift, gate_ff, scale_ff, shift_ff = gates
        y = modulate(h, scale, shift, self.eps)
        h = h + gate * self.self_attn(y, self.self_attn.memory(y, at), at, frames)
        h = h + self.cross_attn(h, text, at, tokens)
        h = h + gate_ff * self.ffn(modulate(h, scale_ff, shift_ff, self.eps))
        return h


class Out(nn.Module):
    """The last norm, scaled and shifted by the condition.  # [b, t, d], [b, d] -> [b, t, d]"""

    def __init__(self, d: int, eps: float) -> None:
        super().__init__()
        self.linear, self.eps = nn.Linear(d, 2 * d), eps

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = rearrange(self.linear(F.silu(condition)), "b (two d) -> two b 1 d", two=2)
        return modulate(h, scale, shift, self.eps)


class Dit(nn.Module):
    """The whole transformer. Its trunk may be bfloat16; float16 overflows where a prompt is known."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.config, d = config, config.width
        self.time_embed = TimeEmbed(d)
        self.text_embed = Embedder(config.text, d)
        self.text_conv_layer = nn.ModuleList(TextBlock(d) for _ in range(4))
        self.input_embed, self.latent_embed = Embedder(config.latent, d), Embedder(config.latent, d)
        self.latent_cond_embedder = Embedder(2 * d, d)
        self.adaln_global_mlp = Modulation(d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm_out = Out(d, config.eps)
        self.proj_out = nn.Linear(d, config.latent)
        _quieten(self)

    def cast(self, dtype: torch.dtype) -> None:
        """Change the dtype of all but the time embedding."""
        for name, part in self.named_children():
            if name != "time_embed":
                part.to(dtype)

    def read(self, text: Tensor, tokens: Tensor, leak: bool = False) -> State:
        """What the blocks need of a text, once for all evaluations.

        `tokens` is true for the tokens there are; padding changes nothing. With `leak` it does, as in the published
        code: that only matters where texts of different lengths share a batch.
        Shapes: text `[b, n, text]`, tokens `[b, n]`.
        """
        mask = tokens[..., None]
        c = self.text_embed(text.to(self.proj_out.weight.dtype), mask)
        for layer in self.text_conv_layer:
            c = layer(c, None if leak else mask)
        c = blank(c, mask)
        at = rope(c.shape[1], self.config.width // self.config.heads, c.device)
        memories = [block.cross_attn.memory(c, at) for block in self.blocks]  # type: ignore[union-attr, operator]
        keys, values = (torch.stack(part, dim=1) for part in zip(*memories, strict=True))
        mean = c.float().sum(1) / tokens.sum(1, keepdim=True)
        return {"keys": keys, "values": values, "mean": mean, "tokens": tokens}

    def forward(
        self, x: Tensor, time: Tensor, known: Tensor, text: State, frames: Tensor | None = None
    ) -> Tensor:
        """The velocity at x, in float32.

        `known` holds clean latents where they are known and zeros elsewhere; `text` is what `read` gave; `frames`
        is true for the frames there are, None for all.
        Shapes: x, known `[b, t, c]`, time `[b]` in [0, 1], frames `[b, t]` -> `[b, t, c]`.
        """
        dtype, mask = self.proj_out.weight.dtype, None if frames is None else frames[..., None]
        parts = self.input_embed(x.to(dtype), mask), self.latent_embed(known.to(dtype), mask)
        first = h = self.latent_cond_embedder(torch.cat(parts, dim=2))
        condition = (self.time_embed(time) + text["mean"]).to(dtype)
        shared = self.adaln_global_mlp(condition)
        at = rope(x.shape[1], self.config.width // self.config.heads, x.device)
        memories = zip(text["keys"].unbind(1), text["values"].unbind(1), strict=True)
        for i, (block, memory) in enumerate(zip(self.blocks, memories, strict=True), 1):
            h = block(h, shared, at, frames, memory, text["tokens"])
            if i == self.config.skip:
                h = h + first
        velocity: Tensor = self.proj_out(self.norm_out(h + first, condition))
        return velocity.float()


def blank(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros where a mask is false."""
    return x if mask is None else x.masked_fill(~mask, 0)


def _quieten(dit: Dit) -> None:
    """Start as published: gates closed and velocity zero, so that training begins smoothly."""
    small = (*dit.time_embed.modules(), *dit.text_embed.modules())
    silent = (*dit.adaln_global_mlp.modules(), dit.norm_out.linear, dit.proj_out)
    for std, layers in ((0.02, small), (0.0, silent)):
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)
