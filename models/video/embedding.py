"""What Open-Sora's transformers are told beside latents: times and rates, captions, patches, and where tokens lie.

Letters: b session, f latent frame, s patch of a frame, n caption token, c latent channel, d width, e width of a head.
Source: arXiv 2412.20404 (Open-Sora), arXiv 2310.00426 (PixArt-α); module names as published.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Rope = tuple[Tensor, Tensor]
"""Cosines and sines of positions, a value for each of a pair's two neighbours.  # [t, e] twice, float32"""
SINUSOIDS = 256


class ScalarEmbedder(nn.Module):
    """Numbers as sinusoids, then two layers.  # [...] -> [..., d]"""

    def __init__(self, d: int, c: int = SINUSOIDS) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(c, d), nn.SiLU(), nn.Linear(d, d))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mlp(sinusoids(x).to(next(self.mlp.parameters()).dtype))
        return y


def sinusoids(x: Tensor, c: int = SINUSOIDS) -> Tensor:
    """Cosines, then sines, of x at c / 2 rates from 1 to nearly 1 / 10,000, in float32.  # [...] -> [..., c]"""
    rates = torch.exp(-math.log(10_000) / (c // 2) * torch.arange(c // 2, device=x.device))
    angles = x.float()[..., None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Mlp(nn.Module):
    """Two layers with a GELU between, by the tanh approximation.  # [..., c] -> [..., d]"""

    def __init__(self, c: int, inner: int, d: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(c, inner), nn.Linear(inner, d)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return y


class CaptionEmbedder(nn.Module):
    """Features of captions at the transformer's width; `y_embedding` is the caption that says nothing."""

    y_embedding: Tensor

    def __init__(self, c: int, d: int, tokens: int) -> None:
        super().__init__()
        self.y_proj = Mlp(c, d, d)
        self.register_buffer("y_embedding", torch.randn(tokens, c) / c**0.5)

    def forward(self, captions: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Where `dropped` is true the caption that says nothing is read.  # [b, n, c], [b] -> [b, n, d]"""
        captions = captions.to(self.y_embedding.dtype)
        if dropped is not None:
            nothing = self.y_embedding[: captions.shape[1]]
            captions = torch.where(dropped[:, None, None], nothing, captions)
        y: Tensor = self.y_proj(captions)
        return y


class PatchEmbed(nn.Module):
    """Patches of each latent frame as tokens, row by row.  # [b, c, f, y, x] -> [b, f, s, d]

    The convolution of the published weights, whose patches do not overlap, as the one product it is.
    """

    def __init__(self, c: int, d: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(c, d, (1, patch, patch), (1, patch, patch))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.proj.weight.dtype)
        cut = rearrange(x, "b c f (h p) (w q) -> b f (h w) (c p q)", p=self.patch, q=self.patch)
        return F.linear(cut, self.proj.weight.flatten(1), self.proj.bias)


def padded(x: Tensor, patch: int) -> Tensor:
    """Zeros below and on the right, up to whole patches.  # [..., y, x]"""
    return F.pad(x, (0, -x.shape[-1] % patch, 0, -x.shape[-2] % patch))


def unpatch(tokens: Tensor, rows: int, patch: int) -> Tensor:
    """Tokens as pictures again.  # [b, f, s, (p q c)] -> [b, c, f, y, x]"""
    return rearrange(tokens, "b f (h w) (p q c) -> b c f (h p) (w q)", h=rows, p=patch, q=patch).contiguous()


class Rotary(nn.Module):
    """Angles of positions, for turning pairs of neighbours in a head. Source: arXiv 2104.09864.

    `freqs` is of the checkpoint, and worked out anew in float32 so that half precision of a module does not round it.
    With `legacy` all is in the dtype of `freqs`, as the published code has it.
    """

    freqs: Tensor

    def __init__(self, e: int, legacy: bool = False) -> None:
        super().__init__()
        self.e, self.legacy = e, legacy
        self.register_buffer("freqs", self.rates(torch.device("cpu")))

    def rates(self, device: torch.device) -> Tensor:
        return 10_000.0 ** -(torch.arange(0, self.e, 2, device=device).float() / self.e)

    def forward(self, positions: Tensor) -> Rope:
        """Of whole or fractional positions.  # [t] -> [t, e] twice"""
        dtype = self.freqs.dtype if self.legacy else torch.float32
        rates = self.rates(positions.device).to(dtype)
        angles = (positions.to(dtype)[..., None] * rates).repeat_interleave(2, dim=-1)
        return angles.cos().float(), angles.sin().float()


def turn_pairs(x: Tensor, at: Rope) -> Tensor:
    """Turn each pair of neighbours in a head, in float32.  # [b, h, t, e]"""
    cos, sin = at
    y = x.float()
    crossed = torch.stack([-y[..., 1::2], y[..., 0::2]], dim=-1).flatten(-2)
    return (y * cos + crossed * sin).to(x.dtype)


def places(rows: Tensor, columns: Tensor, d: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sines, then cosines, of a token's column and then of its row, whose rates are rounded to `dtype`.

    Shapes: rows `[h]`, columns `[w]` -> `[h w, d]`, row by row, float32.
    """
    across, down = (waves(at, d // 2, dtype) for at in (columns, rows))
    h, w = len(rows), len(columns)
    return torch.cat([across[None].expand(h, -1, -1), down[:, None].expand(-1, w, -1)], dim=-1).flatten(0, 1)


def waves(at: Tensor, d: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sines, then cosines, of positions at d / 2 rates from 1 to nearly 1 / 10,000.  # [n] -> [n, d]"""
    rates = 1.0 / 10_000 ** (torch.arange(0, d, 2, device=at.device).float() / d)
    angles = at.float()[:, None] * rates.to(dtype).float()
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def grid(
    h: int, w: int, size: tuple[float, float], square: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rows and columns of h x w patches that show a picture of `size` pixels (height, width).

    They count as in a square picture of `square` pixels a side: a larger one has finer steps.  # [h], [w]
    """
    scale, base = math.sqrt(size[0] * size[1]) / square, round(math.sqrt(h * w))
    rows, columns = (torch.arange(n, device=device).float() / scale * base / n for n in (h, w))
    return rows, columns
