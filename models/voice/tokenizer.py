"""The semantic tokens of X-VC: half of a Whisper encoder, pooled to 12.5 Hz and quantised.

Source: arXiv 2412.02612 (GLM-4-Voice), its speech tokenizer; module names as published.
Letters: b session, t frame of 20 ms, n token of 80 ms, d width, h head, e width of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from riverrun.models.voice.features import BANDS, FRAME, log_mel, whole


@dataclass(frozen=True)
class TokenizerConfig:
    """The shape of the encoder: `positions` frames at most, attention within blocks of `block` frames and before.

    `layers` are those before the quantiser; each token is the mean of `pool` frames, one of `codes`.
    """

    width: int = 1280
    heads: int = 20
    inner: int = 5120
    layers: int = 16
    positions: int = 1500
    block: int = 200
    pool: int = 4
    codes: int = 16_384

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")


class SelfAttention(nn.Module):
    """Whisper's: keys have no bias.  # [b, t, d]"""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(d, d), nn.Linear(d, d, bias=False)
        self.v_proj, self.out_proj = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (
            rearrange(part(x), "b t (h e) -> b h t e", h=self.heads)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = None if mask is None else mask[:, None]
        y: Tensor = self.out_proj(
            rearrange(F.scaled_dot_product_attention(q, k, v, seen), "b h t e -> b t (h e)")
        )
        return y


class Layer(nn.Module):
    """Attention and feed-forward, each after its norm.  # [b, t, d]"""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        d = config.width
        self.self_attn, self.self_attn_layer_norm = SelfAttention(d, config.heads), nn.LayerNorm(d)
        self.fc1, self.fc2 = nn.Linear(d, config.inner), nn.Linear(config.inner, d)
        self.final_layer_norm = nn.LayerNorm(d)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask)
        y: Tensor = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return y


class Tokenizer(nn.Module):
    """Sound to tokens, and tokens to what stands for them."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config, d = config, config.width
        self.conv1, self.conv2 = nn.Conv1d(BANDS, d, 3), nn.Conv1d(d, d, 3, stride=2)
        self.embed_positions = nn.Embedding(config.positions, d)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.codebook = nn.Embedding(config.codes, d)
        self.embed_positions2 = nn.Embedding(config.positions // config.pool, d)

    def hidden(self, mel: Tensor, samples: int) -> Tensor:
        """The last layer's frames.  # [b, 128, 2 t] -> [b, t, d]

        Positions count from the start of the window. Of the frames only those that begin within `samples` are heard.
        Raises ValueError for more frames than there are positions.
        """
        x = mel
        for conv in (self.conv1, self.conv2):
            x = F.gelu(conv(F.pad(x, (2, 0))))
        x = rearrange(x, "b d t -> b t d")
        if x.shape[1] > self.config.positions:
            raise ValueError(
                f"{x.shape[1]} frames of sound at once, expected {self.config.positions} at most"
            )
        x, mask = x + self.embed_positions.weight[: x.shape[1]], self.mask(x.shape[1], samples, x.device)
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def mask(self, t: int, samples: int, device: torch.device) -> Tensor | None:
        """Which frames see which: all of their own block and all before; None where all see all.  # [1, t, t]"""
        valid = -(-samples // FRAME)
        if t <= self.config.block and valid >= t:
            return None
        at = torch.arange(t, device=device)
        block = at // self.config.block
        seen = (at <= at[:, None]) | (block == block[:, None])
        return (seen & (at < valid))[None]

    def nearest(self, hidden: Tensor) -> Tensor:
        """The numbers of the codes that pooled frames are nearest to.  # [b, t, d] -> [b, n]"""
        pooled = reduce(hidden, "b (n p) d -> b n d", "mean", p=self.config.pool)
        codes = self.codebook.weight
        distance = codes.square().sum(1) - 2 * pooled @ codes.T  # less the square of what is looked up
        return distance.argmin(2)

    def embed(self, tokens: Tensor) -> Tensor:
        """What stands for tokens, without a position.  # [b, n] -> [b, n, d]"""
        rows: Tensor = self.codebook(tokens)
        return rows

    def forward(self, sound: Tensor) -> Tensor:
        """Tokens of sound, of which the last may be only in part.  # [b, samples] -> [b, n]"""
        return self.nearest(self.hidden(log_mel(whole(sound)), sound.shape[1]))
