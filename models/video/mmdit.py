"""The transformer of Open-Sora 2.0: text and video attend to each other in one sequence.

    text ── embed ──┐
                    ├─ [attention of both, a network each] x double ─ [one network] x single ── velocity
    video ─ embed ──┘
    time + pooled text ── adaLN of all

Tokens are 2 x 2 patches of latents, `pack`ed with the frame first. Letters: b session, n token of text, s token of
video, c channel, d width, h head, e width of a head.
Source: arXiv 2503.09642 (Open-Sora 2.0), arXiv 2403.03206 (MMDiT); module names as published.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.attention import Rope, turn
from riverrun.models.layers.modulation import modulate
from riverrun.models.video.blocks import EPS
from riverrun.models.video.embedding import SINUSOIDS, sinusoids

TIME = 1000.0  # by which times in [0, 1] are told


@dataclass(frozen=True)
class Config:
    """The shape of the transformer: `latent`, `text` and `pooled` are the channels of tokens it is given.

    `axes` are the channels of a head that turn with frame, row and column. With `known` tokens are told of latents
    that are given beside the noise, and of `patch` x `patch` values of where they are.
    Raises ValueError for sizes that are not positive or axes that do not make up a head.
    """

    width: int = 3072
    heads: int = 24
    double: int = 19
    single: int = 38
    ratio: float = 4.0
    latent: int = 64
    text: int = 4096
    pooled: int = 768
    axes: tuple[int, ...] = (16, 56, 56)
    base: float = 10_000.0
    patch: int = 2
    known: bool = True

    def __post_init__(self) -> None:
        sizes = (
            self.width,
            self.heads,
            self.double,
            self.single,
            self.latent,
            self.text,
            self.pooled,
            self.patch,
        )
        if min(*sizes, self.inner) < 1:
            raise ValueError(f"{self}, expected sizes of at least 1")
        if self.width % self.heads or sum(self.axes) != self.width // self.heads:
            raise ValueError(
                f"axes {self.axes} do not make up one of {self.heads} heads of width {self.width}"
            )
        if len(self.axes) != 3 or any(n % 2 for n in self.axes):
            raise ValueError(f"axes are {self.axes}, expected three even numbers")

    @property
    def inner(self) -> int:
        """Channels inside feed-forward."""
        return int(self.width * self.ratio)


class Embedder(nn.Module):
    """Two layers.  # [b, c] -> [b, d]"""

    def __init__(self, c: int, d: int) -> None:
        super().__init__()
        self.in_layer, self.out_layer = nn.Linear(c, d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out_layer(F.silu(self.in_layer(x)))
        return y


class RmsScale(nn.Module):
    """Root-mean-square norm in float32.  # [..., e]"""

    def __init__(self, e: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(e))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.scale.float(), EPS).to(x.dtype)


class QueryKeyNorm(nn.Module):
    """Queries and keys, each normed by head."""

    def __init__(self, e: int) -> None:
        super().__init__()
        self.query_norm, self.key_norm = RmsScale(e), RmsScale(e)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return self.query_norm(q), self.key_norm(k)


class Modulation(nn.Module):
    """`count` vectors of the condition: shifts, scales and gates in turn.  # [b, d] -> [b, 1, d] each"""

    def __init__(self, d: int, count: int) -> None:
        super().__init__()
        self.lin, self.count = nn.Linear(d, count * d), count

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        made: Tensor = self.lin(F.silu(condition))[:, None]
        return made.chunk(self.count, dim=-1)


class Projections(nn.Module):
    """Queries, keys and values of one of the two sequences, and the way back."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.proj = (nn.Linear(d, d) for _ in range(4))
        self.norm = QueryKeyNorm(d // heads)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """# [b, t, d] -> [b, h, t, e] three times"""
        q, k, v = (_cut(part(x), self.heads) for part in (self.q_proj, self.k_proj, self.v_proj))
        return *self.norm(q, k), v


def _cut(x: Tensor, heads: int) -> Tensor:
    return rearrange(x, "b t (h e) -> b h t e", h=heads)


def _attend(q: Tensor, k: Tensor, v: Tensor, at: Rope) -> Tensor:
    """# [b, h, t, e] three times -> [b, t, d]"""
    y = F.scaled_dot_product_attention(turn(q, at), turn(k, at), v)
    return rearrange(y, "b h t e -> b t (h e)")


class DoubleBlock(nn.Module):
    """Text and video with a network each, which attend to both."""

    def __init__(self, d: int, heads: int, inner: int) -> None:
        super().__init__()
        self.img_mod, self.txt_mod = Modulation(d, 6), Modulation(d, 6)
        self.img_attn, self.txt_attn = Projections(d, heads), Projections(d, heads)
        self.img_mlp, self.txt_mlp = (
            nn.Sequential(nn.Linear(d, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, d))
            for _ in range(2)
        )

    def forward(self, img: Tensor, txt: Tensor, condition: Tensor, at: Rope) -> tuple[Tensor, Tensor]:
        """# [b, s, d], [b, n, d], [b, d]"""
        parts = (
            (txt, self.txt_mod(condition), self.txt_attn, self.txt_mlp),
            (img, self.img_mod(condition), self.img_attn, self.img_mlp),
        )
        pairs = [attn(modulate(x, mod[1], mod[0], EPS)) for x, mod, attn, _ in parts]
        q, k, v = (torch.cat(both, dim=2) for both in zip(*pairs, strict=True))
        joined = _attend(q, k, v, at)
        made = []
        for (x, mod, attn, mlp), y in zip(
            parts, joined.split([txt.shape[1], img.shape[1]], dim=1), strict=True
        ):
            x = x + mod[2] * attn.proj(y)
            made.append(x + mod[5] * mlp(modulate(x, mod[4], mod[3], EPS)))
        return made[1], made[0]


class SingleBlock(nn.Module):
    """One network for both: attention and feed-forward side by side."""

    def __init__(self, d: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads, self.widths = heads, [d, inner]
        self.q_proj, self.k_proj, self.v_mlp = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d + inner)
        self.linear2, self.norm = nn.Linear(d + inner, d), QueryKeyNorm(d // heads)
        self.modulation = Modulation(d, 3)

    def forward(self, x: Tensor, condition: Tensor, at: Rope) -> Tensor:
        """# [b, n + s, d], [b, d]"""
        shift, scale, gate = self.modulation(condition)
        y = modulate(x, scale, shift, EPS)
        v, inner = self.v_mlp(y).split(self.widths, dim=-1)
        q, k = self.norm(_cut(self.q_proj(y), self.heads), _cut(self.k_proj(y), self.heads))
        parts = [_attend(q, k, _cut(v, self.heads), at), F.gelu(inner, approximate="tanh")]
        made: Tensor = x + gate * self.linear2(torch.cat(parts, dim=-1))
        return made


class FinalLayer(nn.Module):
    """Tokens to what is made of them.  # [b, s, d] -> [b, s, c]"""

    def __init__(self, d: int, c: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(d, 2 * d))
        self.linear = nn.Linear(d, c)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        y: Tensor = self.linear(modulate(x, scale, shift, EPS))
        return y


class MMDiT(nn.Module):
    """The network of one Config."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, self.config = config.width, config
        self.img_in, self.txt_in = nn.Linear(config.latent, d), nn.Linear(config.text, d)
        if config.known:
            self.cond_in = nn.Linear(config.latent + config.patch**2, d)
        self.time_in, self.vector_in = Embedder(SINUSOIDS, d), Embedder(config.pooled, d)
        shape = d, config.heads, config.inner
        self.double_blocks = nn.ModuleList(DoubleBlock(*shape) for _ in range(config.double))
        self.single_blocks = nn.ModuleList(SingleBlock(*shape) for _ in range(config.single))
        self.final_layer = FinalLayer(d, config.latent)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        text: Tensor,
        pooled: Tensor,
        places: Tensor,
        known: Tensor | None = None,
    ) -> Tensor:
        """Velocities of tokens away from the data, in float32.

        `time` is 0 (clean) to 1; `text` and `pooled` are features of the prompt; `places` are frame, row and column
        of each token; `known` is what `conditioned` gave.
        Shapes: x `[b, s, latent]`, time `[b]`, text `[b, n, text]`, pooled `[b, pooled]`, places `[s, 3]`,
        known `[b, s, latent + patch²]` -> `[b, s, latent]`.
        """
        dtype = self.img_in.weight.dtype
        told = sinusoids(TIME * time.float()).to(dtype)
        condition = self.time_in(told) + self.vector_in(pooled.to(dtype))
        img, txt = self.img_in(x.to(dtype)), self.txt_in(text.to(dtype))
        if known is not None:
            img = img + self.cond_in(known.to(dtype))
        words = places.new_zeros(txt.shape[1], 3)
        at = rope(torch.cat([words, places]).to(x.device), self.config)
        for block in self.double_blocks:
            img, txt = block(img, txt, condition, at)
        both = torch.cat([txt, img], dim=1)
        for block in self.single_blocks:
            both = block(both, condition, at)
        made: Tensor = self.final_layer(both[:, txt.shape[1] :], condition)
        return made.float()


def rope(places: Tensor, config: Config) -> Rope:
    """Angles of places, the same in both halves of a head.  # [t, 3] -> [t, e] twice, float32"""
    parts = []
    for axis, e in enumerate(config.axes):
        rates = config.base ** -(torch.arange(0, e, 2, device=places.device).float() / e)
        parts.append(places[:, axis, None].float() * rates)
    angles = torch.cat([*parts, *parts], dim=-1)
    return angles.cos(), angles.sin()


def pack(x: Tensor, patch: int = 2) -> Tensor:
    """Latents as tokens.  # [b, c, f, y, x] -> [b, s, c patch²]"""
    return rearrange(x, "b c f (h p) (w q) -> b (f h w) (c p q)", p=patch, q=patch)


def unpack(tokens: Tensor, frames: int, rows: int, patch: int = 2) -> Tensor:
    """Tokens of as many frames and rows of patches as latents.  # [b, s, c patch²] -> [b, c, f, y, x]"""
    return rearrange(
        tokens, "b (f h w) (c p q) -> b c f (h p) (w q)", f=frames, h=rows, p=patch, q=patch
    ).contiguous()


def spots(frames: int, rows: int, columns: int) -> Tensor:
    """Frame, row and column of each patch.  # [s, 3]"""
    axes = torch.meshgrid(*(torch.arange(n) for n in (frames, rows, columns)), indexing="ij")
    return torch.stack(axes, dim=-1).flatten(0, 2)


def conditioned(latents: Tensor, frames: tuple[int, ...], patch: int = 2) -> Tensor:
    """What is known of a video: where, and the latents there; of the rest zeros.  # [b, c, f, y, x] -> [b, s, ...]"""
    mask = torch.zeros_like(latents[:, :1])
    mask[:, :, list(frames)] = 1
    return pack(torch.cat([mask, latents * mask], dim=1), patch)
