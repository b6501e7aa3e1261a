"""The converter of X-VC: frames of the source, given to attend to those of a recording of who is wanted.

    frames ─ embed ─────────────── x ─┬─ joint attention ─┬─ x ─ feed-forward ─ … ─ norm ─ frames
                                      │                   │
    recording's mel ─ embed ────── c ─┘                   └─ c ─ feed-forward ─ …
    speaker ──────────────────────── scale, shift and gate of every norm of x

What depends on the recording alone is worked out once by `read`, and is a State.
Letters: b session, t frame, n frame of the recording, d width, h head, e width of a head.
Source: arXiv 2604.12456 (X-VC); module names as published.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.modulation import modulate
from riverrun.models.state import State

EPS = 1e-6
KERNEL, GROUPS = 31, 16
FURTHEST = 1023  # frames of a recording that have a position of their own; all later ones share it
ALL = slice(None)

Projected = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values by head, turned to their positions.  # [b, h, t, e] each"""


@dataclass(frozen=True)
class ConverterConfig:
    """The shape of the transformer: `latent` channels in and out, `bands` and `speaker` of the recording."""

    latent: int = 1024
    bands: int = 128
    speaker: int = 192
    width: int = 512
    depth: int = 6
    heads: int = 8
    ratio: int = 4

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads) or self.width % GROUPS or self.depth < 1:
            raise ValueError(
                f"width {self.width} at depth {self.depth} must divide into {self.heads} even heads and {GROUPS} groups"
            )


class ConvPosition(nn.Module):
    """Where frames are, told by their neighbours.  # [b, t, d]"""

    def __init__(self, d: int) -> None:
        super().__init__()
        convs = [nn.Conv1d(d, d, KERNEL, padding=KERNEL // 2, groups=GROUPS) for _ in range(2)]
        self.conv1d = nn.Sequential(convs[0], nn.Mish(), convs[1], nn.Mish())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = rearrange(self.conv1d(rearrange(x, "b t d -> b d t")), "b d t -> b t d")
        return y


class InputEmbed(nn.Module):
    """Frames and mel at the transformer's width."""

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__()
        d = config.width
        self.linear_x, self.linear_cond = nn.Linear(config.latent, d), nn.Linear(config.bands, d)
        self.conv_pos_embed_x, self.conv_pos_embed_cond = ConvPosition(d), ConvPosition(d)

    def forward(self, x: Tensor) -> Tensor:
        """Of the source.  # [b, latent, t] -> [b, t, d]"""
        h = self.linear_x(rearrange(x, "b c t -> b t c"))
        y: Tensor = h + self.conv_pos_embed_x(h)
        return y

    def recording(self, mel: Tensor) -> Tensor:
        """Of the recording, with absolute positions.  # [b, bands, n] -> [b, n, d]"""
        c = self.linear_cond(rearrange(mel, "b m n -> b n m"))
        c = c + places(c.shape[1], c.shape[2], c.device)
        y: Tensor = c + self.conv_pos_embed_cond(c)
        return y


def places(n: int, d: int, device: torch.device) -> Tensor:
    """Cosines, then sines, of positions.  # [n, d]"""
    rate = 10_000.0 ** -(torch.arange(0, d, 2, device=device).float() / d)
    angles = torch.arange(n, device=device).clamp_max(FURTHEST).float()[:, None] * rate
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Rotary(nn.Module):
    """Rates at which the first head is turned, as a buffer of the checkpoint."""

    inv_freq: Tensor

    def __init__(self, e: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 10_000.0 ** -(torch.arange(0, e, 2).float() / e))

    def forward(self, x: Tensor) -> Tensor:
        """Turn pairs of neighbours in the first head only, as published: it was applied before the cut into heads.

        Shapes: `[b, h, t, e]`.
        """
        angles = torch.arange(x.shape[2], device=x.device).float()[:, None] * self.inv_freq
        cos, sin = angles.cos(), angles.sin()
        even, odd = x[:, :1, :, 0::2], x[:, :1, :, 1::2]
        turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)
        return torch.cat([turned, x[:, 1:]], dim=1)


class JointAttention(nn.Module):
    """Source and recording attend to one another; the last block gives nothing to the recording."""

    def __init__(self, d: int, heads: int, last: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(d, d) for _ in range(3))
        self.to_q_c, self.to_k_c, self.to_v_c = (nn.Linear(d, d) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(d, d))
        self.to_out_c = None if last else nn.Linear(d, d)

    def cut(self, x: Tensor) -> Tensor:
        return rearrange(x, "b t (h e) -> b h t e", h=self.heads)

    def source(self, x: Tensor, turn: Rotary) -> Projected:
        return turn(self.cut(self.to_q(x))), turn(self.cut(self.to_k(x))), self.cut(self.to_v(x))

    def recording(self, c: Tensor, turn: Rotary) -> Projected:
        return turn(self.cut(self.to_q_c(c))), turn(self.cut(self.to_k_c(c))), self.cut(self.to_v_c(c))

    def forward(self, source: Projected, recording: Projected, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """What source and recording hear; the queries of the source may be only some of its frames."""
        _, keys, values = (torch.cat(pair, dim=2) for pair in zip(source, recording, strict=True))
        queries, count = source[0], source[0].shape[2]
        if self.to_out_c is not None:
            queries = torch.cat([queries, recording[0]], dim=2)
        heard = F.scaled_dot_product_attention(queries, keys, values, mask)
        heard = rearrange(heard, "b h t e -> b t (h e)")
        x, c = heard[:, :count], heard[:, count:]
        return self.to_out(x), c if self.to_out_c is None else self.to_out_c(c)


class FeedForward(nn.Module):
    """Wider and back, frame by frame.  # [b, t, d]"""

    def __init__(self, d: int, inner: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(d, inner), nn.GELU("tanh"))
        self.ff = nn.Sequential(first, nn.Linear(inner, d))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.ff(x)
        return y


class Modulated(nn.Module):
    """Scales, shifts and gates made of the speaker.  # [b, speaker] -> [b, parts d]"""

    def __init__(self, speaker: int, d: int, parts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(speaker, parts * d)

    def forward(self, speaker: Tensor) -> Tensor:
        y: Tensor = self.linear(F.silu(speaker))
        return y


class Block(nn.Module):
    """Joint attention, then a feed-forward of each stream; the recording's norms know no speaker."""

    def __init__(self, config: ConverterConfig, last: bool) -> None:
        super().__init__()
        d, inner = config.width, config.ratio * config.width
        self.attn_norm_x, self.attn_norm_c = Modulated(config.speaker, d, 6), nn.LayerNorm(d, EPS)
        self.attn, self.ff_x = JointAttention(d, config.heads, last), FeedForward(d, inner)
        if not last:
            self.ff_norm_c, self.ff_c = nn.LayerNorm(d, EPS), FeedForward(d, inner)

    def forward(
        self,
        x: Tensor,
        c: Tensor,
        gates: Tensor,
        turn: Rotary,
        mask: Tensor | None = None,
        recording: Projected | None = None,
        kept: slice = ALL,
    ) -> tuple[Tensor, Tensor]:
        """The next x, of the `kept` frames, and the next c.

        `gates` is what the speaker says, `recording` what attention makes of c where that is known.
        Shapes: x `[b, t, d]`, c `[b, n, d]`, gates `[b, 6 d]`, mask `[b, 1, 1, t + n]`.
        """
        shift, scale, gate, shift_ff, scale_ff, gate_ff = rearrange(gates, "b (six d) -> six b 1 d", six=6)
        q, k, v = self.attn.source(modulate(x, scale, shift, EPS), turn)
        recording = recording or self.attn.recording(self.attn_norm_c(c), turn)
        heard, told = self.attn((q[:, :, kept], k, v), recording, mask)
        x = x[:, kept] + gate * heard
        x = x + gate_ff * self.ff_x(modulate(x, scale_ff, shift_ff, EPS))
        if self.attn.to_out_c is not None:
            c = c + told
            c = c + self.ff_c(self.ff_norm_c(c))
        return x, c


class Converter(nn.Module):
    """The whole transformer."""

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__()
        d, self.config = config.width, config
        self.input_embed, self.rotary_embed = InputEmbed(config), Rotary(d // config.heads)
        self.transformer_blocks = nn.ModuleList(
            Block(config, last=i == config.depth - 1) for i in range(config.depth)
        )
        self.norm_out, self.proj_out = Modulated(config.speaker, d, 2), nn.Linear(d, config.latent)

    def read(self, mel: Tensor, speaker: Tensor) -> State:
        """What the blocks need of a recording, once for all windows.  # [b, bands, n], [b, speaker]"""
        c = self.input_embed.recording(mel)
        first = self.transformer_blocks[0]
        assert isinstance(first, Block)
        q, k, v = first.attn.recording(first.attn_norm_c(c), self.rotary_embed)
        gates = [block.attn_norm_x(speaker) for block in self.transformer_blocks]  # type: ignore[operator]
        out = self.norm_out(speaker)
        return {"c": c, "q": q, "k": k, "v": v, "gates": torch.stack(gates, dim=1), "out": out}

    def forward(self, x: Tensor, told: State, here: Tensor | None = None, kept: slice = ALL) -> Tensor:
        """Frames in the voice of the recording that `read` told of, those that are `kept`.

        `here` is true for the frames of recordings that there are, where some are filled up to the length of others.
        Shapes: x `[b, latent, t]`, here `[b, n]` -> `[b, latent, kept]`.
        """
        h, c, mask = self.input_embed(x), told["c"], None
        if here is not None:
            mask = F.pad(here, (h.shape[1], 0), value=True)[:, None, None]
        first: Projected | None = (told["q"], told["k"], told["v"])
        for i, block in enumerate(self.transformer_blocks, 1):
            span = kept if i == self.config.depth else ALL
            h, c = block(h, c, told["gates"][:, i - 1], self.rotary_embed, mask, first, span)
            first = None
        scale, shift = rearrange(told["out"], "b (two d) -> two b 1 d", two=2)
        y: Tensor = rearrange(self.proj_out(modulate(h, scale, shift, EPS)), "b t c -> b c t")
        return y
