"""The blocks of Open-Sora's transformers of frames: attention within a frame, along time, and to a caption.

Letters: b session, f latent frame, s patch of a frame, n caption token, d width, h head, e width of a head.
Source: arXiv 2412.20404 (Open-Sora), section on STDiT; arXiv 2310.00426 (PixArt-α), single adaLN; names as published.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.attention import RmsNorm
from riverrun.models.layers.modulation import modulate
from riverrun.models.state import State
from riverrun.models.video.embedding import Mlp

EPS = 1e-6
Words = tuple[Tensor, Tensor, Tensor | None]
"""Keys and values of a caption for one block, and which tokens there are.  # [b, h, n, e] twice, [b, 1, 1, n]"""
Attend = Callable[["SelfAttention", Tensor], Tensor]
"""Which tokens attend to which: (attention, tokens) -> tokens  # [b, f, s, d] -> [b, f, s, d]"""
Recall = Callable[[str, Callable[[], Tensor]], Tensor]
"""What attention gives, made now or taken over: ("self" or "cross", how it is made) -> tokens  # [b, f, s, d]"""


def anew(name: str, make: Callable[[], Tensor]) -> Tensor:
    """Take over nothing."""
    return make()


class SelfAttention(nn.Module):
    """Multi-head attention whose queries and keys are normed by head, where `normed`."""

    def __init__(self, d: int, heads: int, normed: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        if normed:
            self.q_norm, self.k_norm = RmsNorm(d // heads, EPS), RmsNorm(d // heads, EPS)
        self.normed = normed

    def cut(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by head, before the norm.  # [b, t, d] -> [b, h, t, e] three times"""
        q, k, v = rearrange(self.qkv(x), "b t (k h e) -> k b h t e", k=3, h=self.heads)
        return q, k, v

    def norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return (self.q_norm(q), self.k_norm(k)) if self.normed else (q, k)

    def join(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend to where the mask is true, or to all.  # [b, h, t, e], [b, h, n, e] twice -> [b, t, d]"""
        y = F.scaled_dot_product_attention(q, k, v, mask)
        joined: Tensor = self.proj(rearrange(y, "b h t e -> b t (h e)"))
        return joined

    def forward(self, x: Tensor) -> Tensor:
        """Attend to all, without positions.  # [b, t, d]"""
        q, k, v = self.cut(x)
        return self.join(*self.norm(q, k), v)


class CrossAttention(nn.Module):
    """Attention to a caption, without norms or positions."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear, self.kv_linear, self.proj = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)

    def read(self, caption: Tensor) -> Tensor:
        """Keys and values of a caption.  # [b, n, d] -> [b, 2, h, n, e]"""
        pair: Tensor = rearrange(self.kv_linear(caption), "b n (k h e) -> b k h n e", k=2, h=self.heads)
        return pair

    def forward(self, x: Tensor, words: Words) -> Tensor:
        """# [b, f, s, d]"""
        q = rearrange(self.q_linear(x), "b f s (h e) -> b h (f s) e", h=self.heads)
        y = F.scaled_dot_product_attention(q, *words)
        joined: Tensor = self.proj(rearrange(y, "b h (f s) e -> b f s (h e)", f=x.shape[1]))
        return joined


class Block(nn.Module):
    """Attention of tokens to tokens, then to the caption, then feed-forward; the condition moves two of the three."""

    def __init__(self, d: int, heads: int, inner: int, normed: bool = True) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(6, d) / d**0.5)
        self.attn, self.cross_attn = SelfAttention(d, heads, normed), CrossAttention(d, heads)
        self.mlp = Mlp(d, inner, d)

    def forward(self, x: Tensor, six: Tensor, words: Words, attend: Attend, recall: Recall = anew) -> Tensor:
        """`six` vectors of the condition, for all frames or for each.  # [b, f, s, d], [b, 1 or f, 6, d]"""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = vectors(self.scale_shift_table, six)
        x = x + gate * recall("self", lambda: attend(self.attn, modulate(x, scale, shift, EPS)))
        x = x + recall("cross", lambda: self.cross_attn(x, words))
        y: Tensor = x + mlp_gate * self.mlp(modulate(x, mlp_scale, mlp_shift, EPS))
        return y


def vectors(table: Tensor, condition: Tensor) -> tuple[Tensor, ...]:
    """A block's own vectors moved by a condition.  # [k, d], [b, f, k, d] -> k times [b, f, 1, d]"""
    return (table + condition)[:, :, :, None].unbind(2)


class FinalLayer(nn.Module):
    """Tokens to what is made of each patch.  # [b, f, s, d] -> [b, f, s, c]"""

    def __init__(self, d: int, c: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(2, d) / d**0.5)
        self.linear = nn.Linear(d, c)

    def modulated(self, x: Tensor, condition: Tensor) -> Tensor:
        """# [b, f, s, d], [b, 1 or f, d]"""
        shift, scale = vectors(self.scale_shift_table, condition[:, :, None])
        return modulate(x, scale, shift, EPS)

    def forward(
        self, x: Tensor, condition: Tensor, known: Tensor | None = None, noisy: Tensor | None = None
    ) -> Tensor:
        """Frames that are not `noisy` have the condition `known`, which norms them twice, as published.

        Shapes: conditions `[b, 1 or f, d]`, noisy `[b, f]`.
        """
        y = self.modulated(x, condition)
        if known is not None and noisy is not None:
            y = torch.where(noisy[:, :, None, None], y, self.modulated(y, known))
        made: Tensor = self.linear(y)
        return made


def read(caption: Tensor, layers: Iterable[CrossAttention], mask: Tensor | None) -> State:
    """A caption as each of the layers attends to it, and which tokens there are.  # [b, n, d], [b, n]"""
    words = torch.stack([layer.read(caption) for layer in layers], dim=1)
    return {"words": words} | ({} if mask is None else {"mask": mask.bool()})


def spread(caption: State) -> list[Words]:
    """What each layer attends to, of what `read` gave: "words" `[b, layers, 2, h, n, e]`, perhaps "mask" `[b, n]`."""
    mask = caption["mask"][:, None, None] if "mask" in caption else None
    return [(k, v, mask) for k, v in (words.unbind(1) for words in caption["words"].unbind(1))]


def within(attn: SelfAttention, x: Tensor) -> Tensor:
    """Each frame by itself.  # [b, f, s, d]"""
    y: Tensor = rearrange(attn(rearrange(x, "b f s d -> (b f) s d")), "(b f) s d -> b f s d", f=x.shape[1])
    return y


def across(attn: SelfAttention, x: Tensor) -> Tensor:
    """Each place by itself, through all frames.  # [b, f, s, d]"""
    y: Tensor = rearrange(attn(rearrange(x, "b f s d -> (b s) f d")), "(b s) f d -> b f s d", s=x.shape[2])
    return y
