"""A small transformer of latents that are made chunk by chunk: speak-lite's.

    symbols ── embed ── layers ─┬── durations
                                └── spread over frames ─┐
    x ──────────────────── embed ───────────────────────┴─ [self-, cross-attention, feed-forward] x depth ── velocity
    voice ── embed ── layers ── tokens ─────────────────────────────┘                │
    time of each frame ── embed ── + the voice's mean ───── adaLN ───────────────────┘

A chunk sees itself whole, and what was made before through keys and values that were kept when that was clean. Symbols
are seen a few to either side, so that a text may go on while it is spoken.
Letters: b session, t latent frame, n symbol, m token of a voice, c latent channel, d width, h head, e width of a head.
Source: the transformer of arXiv 2603.29339, with a time for each frame as in arXiv 2407.01392 (diffusion forcing), and
chunks after clean ones as in arXiv 2503.09573 (block diffusion).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.attention import Attention, Memory, Rope, rope, turn
from riverrun.models.layers.convnext import KERNEL, Layer
from riverrun.models.layers.modulation import modulate
from riverrun.models.speech.dit import Embedder, FeedForward, Modulation, TimeEmbed, blank
from riverrun.models.state import State

LONGEST = 100.0  # frames that a symbol may take
NONE = 0.5  # frames that are added to durations before their logarithm, as some symbols take no time


@dataclass(frozen=True)
class ChunkConfig:
    """The shape of the transformer.

    `chunk` frames are made together and see `past` frames before them; `reads` layers see symbols, `hears` layers see a
    voice, `pool` frames of which become a token. Symbol 0 is nothing: what pads a text.
    Raises ValueError for sizes that are not positive, or heads that do not divide the width into even parts.
    """

    symbols: int = 96
    latent: int = 32
    width: int = 256
    depth: int = 8
    heads: int = 4
    ratio: float = 3.0
    chunk: int = 16
    past: int = 96
    reads: int = 4
    hears: int = 3
    pool: int = 8
    eps: float = 1e-6

    def __post_init__(self) -> None:
        sizes = (self.symbols, self.latent, self.width, self.depth, self.heads, self.chunk, self.pool)
        if min(sizes) < 1 or min(self.past, self.reads, self.hears) < 0:
            raise ValueError(f"{self} has sizes that are not positive")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads of even width")

    @property
    def reach(self) -> int:
        """Symbols that one is seen with, to either side."""
        return self.reads * (KERNEL // 2)

    @property
    def head(self) -> int:
        """Width of a head."""
        return self.width // self.heads


def placed(ends: Tensor, start: int, stop: int, begin: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """What `Reader.spread` needs of frames `start` to `stop`, given the frame at which each symbol ends, `[n]`.

    `begin` is where the first one begins. A frame is of the symbol that its middle lies in, or of none after the last.
    """
    middles = torch.arange(start, stop, device=ends.device) + 0.5
    owner = torch.searchsorted(ends, middles, right=True)
    known = owner.clamp_max(len(ends) - 1)
    begins = F.pad(ends, (1, 0), value=begin)[known]
    length = ends[known] - begins
    share = ((middles - begins) / length.clamp_min(1e-3)).clamp(0, 1)
    return torch.where(owner < len(ends), owner, -1), share, length


def logarithm(frames: Tensor) -> Tensor:
    """Durations as `Reader.durations` gives them."""
    return (frames + NONE).log()


def duration(logarithms: Tensor) -> Tensor:
    """Frames of what `Reader.durations` gave."""
    return (logarithms.float().exp() - NONE).clamp(0, LONGEST)


class Seen(nn.Module):
    """ConvNeXt layers over a sequence; where the mask is false there is nothing.  # [b, n, d], [b, n] -> [b, n, d]"""

    def __init__(self, d: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(d, False) for _ in range(count))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = blank(x, mask[..., None])
        for layer in self.layers:
            x = blank(layer(x, x[:, :0])[0], mask[..., None])
        return x


class Reader(nn.Module):
    """What is to be said: features of symbols, how long each takes, and both spread over frames."""

    def __init__(self, config: ChunkConfig) -> None:
        super().__init__()
        d = config.width
        self.embed, self.seen = nn.Embedding(config.symbols, d), Seen(d, config.reads)
        self.place = nn.Linear(3, d)
        self.pace, self.timed = nn.Linear(d, d), Seen(d, 1)
        self.norm, self.time = nn.LayerNorm(d), nn.Linear(d, 1)

    def forward(self, symbols: Tensor) -> Tensor:
        """Features.  # [b, n] -> [b, n, d]"""
        features: Tensor = self.seen(self.embed(symbols), symbols != 0)
        return features

    def durations(self, symbols: Tensor, features: Tensor, voice: Tensor) -> Tensor:
        """How long symbols last in a voice, given its mean: see `duration`.  # [b, n, d], [b, d] -> [b, n]"""
        x = self.timed(features.detach() + self.pace(voice.detach())[:, None], symbols != 0)
        times: Tensor = self.time(self.norm(x))
        return times.squeeze(2)

    def spread(self, features: Tensor, owner: Tensor, share: Tensor, length: Tensor) -> Tensor:
        """Features of frames: those of the symbol each belongs to, and where in it the frame is.

        Shapes: features `[b, n, d]`, owner `[b, t]`, a frame's symbol or -1, share `[b, t]` in [0, 1], length `[b, t]`.
        """
        index = owner.clamp_min(0)[..., None].expand(-1, -1, features.shape[2])
        where = torch.stack([share, 1 - share, length.clamp_min(1).log()], dim=2)
        placed: Tensor = features.gather(1, index) + self.place(where)
        return blank(placed, (owner >= 0)[..., None])


class Listener(nn.Module):
    """A voice, from latents of somebody who speaks."""

    def __init__(self, config: ChunkConfig) -> None:
        super().__init__()
        d, self.pool = config.width, config.pool
        self.embed, self.seen, self.norm = nn.Linear(config.latent, d), Seen(d, config.hears), nn.LayerNorm(d)

    def forward(self, latents: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, which of them there are, and their mean.  # [b, t, c], [b, t] -> [b, m, d], [b, m], [b, d]"""
        short = -latents.shape[1] % self.pool
        latents, frames = F.pad(latents, (0, 0, 0, short)), F.pad(frames, (0, short))
        x = self.seen(self.embed(latents), frames)
        counts = rearrange(frames, "b (m p) -> b m p", p=self.pool).sum(2)
        pooled = rearrange(x, "b (m p) d -> b m p d", p=self.pool).sum(2) / counts.clamp_min(1)[..., None]
        tokens, here = self.norm(pooled), counts > 0
        mean = blank(tokens, here[..., None]).sum(1) / here.sum(1, keepdim=True).clamp_min(1)
        return tokens, here, mean


def joined(before: Memory, own: Memory) -> Memory:
    """Keys and values, one after the other."""
    keys, values = (torch.cat(part, dim=-2) for part in zip(before, own, strict=True))
    return keys, values


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what a stream makes first, training uses later
def places(start: int, stop: int, e: int, device: torch.device) -> Rope:
    """Places in the window, or how far it moves where negative, as angles: the same at every step of every chunk."""
    return rope(stop, e, device, start=start)


class Block(nn.Module):
    """Attention to frames, to the voice, feed-forward.  # [b, t, d]"""

    def __init__(self, config: ChunkConfig) -> None:
        super().__init__()
        d, self.eps = config.width, config.eps
        self.adaln_scale_shift = nn.Parameter(torch.randn(6 * d) / d**0.5)
        self.self_attn, self.cross_attn = (Attention(d, config.heads, config.eps) for _ in range(2))
        self.ffn = FeedForward(d, int(d * config.ratio))

    def forward(
        self,
        h: Tensor,
        shared: Tensor,
        before: Memory | None,
        at: Rope,
        mask: Tensor | None,
        voice: Memory,
        here: Tensor,
    ) -> tuple[Tensor, Memory]:
        """Also gives the keys, turned to their places, and values of its frames.

        `at` are the places of the frames; `mask` `[b, t, n]` says what of `before` and then of them each may see, None
        that it is all.
        """
        gates = rearrange(shared + self.adaln_scale_shift, "b t (six d) -> six b t d", six=6)
        gate, scale, shift, gate_ff, scale_ff, shift_ff = gates
        y = modulate(h, scale, shift, self.eps)
        own = self.self_attn.memory(y, at)
        seen = own if before is None else joined(before, own)
        h = h + gate * self.self_attn(y, seen, at, mask)
        h = h + self.cross_attn(h, voice, None, here)
        h = h + gate_ff * self.ffn(modulate(h, scale_ff, shift_ff, self.eps))
        return h, own


class ChunkDit(nn.Module):
    """The whole transformer. Its blocks may compute in bfloat16; what goes in, comes out and is kept is float32."""

    def __init__(self, config: ChunkConfig) -> None:
        super().__init__()
        self.config, d = config, config.width
        self.reader, self.listener = Reader(config), Listener(config)
        self.nobody = nn.Parameter(
            torch.randn(1, 1, d) / d**0.5
        )  # a token that is there without a voice, too
        self.time_embed, self.adaln_global_mlp = TimeEmbed(d), Modulation(d)
        self.input_embed, self.pace_embed = Embedder(config.latent, d), nn.Linear(d, d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm_out, self.proj_out = nn.Linear(d, 2 * d), nn.Linear(d, config.latent)
        for part in (self.adaln_global_mlp, self.norm_out, self.proj_out):
            for value in part.parameters():
                nn.init.zeros_(value)

    def cast(self, dtype: torch.dtype) -> None:
        """Change the dtype of the blocks, which are run most often and have most of the weights."""
        self.blocks.to(dtype)

    @property
    def dtype(self) -> torch.dtype:
        """What the blocks compute in."""
        return self._blocks()[0].adaln_scale_shift.dtype

    def hear(self, latents: Tensor, frames: Tensor) -> State:
        """What the blocks need of a voice, once for all chunks; without frames, of nobody.  # [b, t, c], [b, t]"""
        tokens, here, mean = self.listener(latents, frames)
        tokens = torch.cat([self.nobody.expand(len(tokens), 1, -1), tokens], dim=1)
        here = F.pad(here, (1, 0), value=True)
        tokens = tokens.to(self.dtype)
        keys, values = zip(*(block.cross_attn.pair(tokens) for block in self._blocks()), strict=True)
        memory: State = {"keys": torch.stack(keys, 1).float(), "values": torch.stack(values, 1).float()}
        return {**memory, "here": here, "mean": mean}

    def start(self, batch: int) -> State:
        """What is remembered before the first chunk: nothing. Later, `keys`, turned to their places, and `values`."""
        shape = batch, self.config.depth, self.config.heads, self.config.past, self.config.head
        empty = self.proj_out.weight.new_zeros(shape)
        return {"keys": empty, "values": empty.clone(), "filled": [0] * batch}

    def forward(self, x: Tensor, time: Tensor, said: Tensor, voice: State, past: State) -> Tensor:
        """The velocity of a chunk.

        Shapes: x `[b, t, c]`, time `[b, t]`, or `[b, 1]` for all frames, 1 where clean, said `[b, t, d]` of
        `Reader.spread`.
        """
        h, condition, _ = self._window(x, time, said, voice, past)
        return self._velocity(h, condition)

    def after(self, x: Tensor, time: Tensor, said: Tensor, voice: State, past: State) -> State:
        """What is to be remembered when a chunk is clean. Shapes: see `forward`."""
        _, _, fresh = self._window(x, time, said, voice, past)
        count, kept = x.shape[1], self.config.past
        keys, values = (torch.stack(part, 1).float() for part in zip(*fresh, strict=True))
        keys, values = (
            part[..., part.shape[3] - kept :, :]
            for part in joined((past["keys"], past["values"]), (keys, values))
        )
        moved = turn(keys, places(-count, -count + 1, self.config.head, x.device))
        filled = [min(kept, n + count) for n in past["filled"]]
        return {"keys": moved, "values": values, "filled": filled}

    def _window(
        self, x: Tensor, time: Tensor, said: Tensor, voice: State, past: State
    ) -> tuple[Tensor, Tensor, list[Memory]]:
        """A chunk through the blocks, behind what is remembered."""
        count, kept = x.shape[1], self.config.past
        mask = None
        if min(past["filled"]) < kept:
            filled = torch.tensor(past["filled"], device=x.device)
            seen = torch.arange(kept + count, device=x.device) >= kept - filled[:, None]
            mask = seen[:, None].expand(-1, count, -1)
        at = places(kept, kept + count, self.config.head, x.device)
        return self._run(x, time, said, voice, self._memories(past), at, mask)

    def whole(
        self, x: Tensor, clean: Tensor, time: Tensor, said: Tensor, voice: State, frames: Tensor, phase: int
    ) -> Tensor:
        """The velocity of every chunk of whole clips, each after clean ones: what training needs, in one forward.

        `clean` is what comes before each chunk, at time `time[:, 0]`; chunks begin at `phase` and every `chunk` frames.
        Shapes: x, clean `[b, t, c]`, time `[b, 2, t]`, of both, said `[b, t, d]`, frames `[b, t]`.
        """
        count = x.shape[1]
        mask = self._sight(count, phase, x.device) & torch.cat([frames, frames], 1)[:, None]
        mask = mask | torch.eye(2 * count, dtype=torch.bool, device=x.device)  # no row sees nothing
        cos, sin = rope(count, self.config.head, x.device)
        at = cos.repeat(2, 1), sin.repeat(2, 1)  # clean and noisy frames are at the same places
        both, times = torch.cat([clean, x], 1), rearrange(time, "b two t -> b (two t)")
        nothing: list[Memory | None] = [None] * self.config.depth
        h, condition, _ = self._run(both, times, torch.cat([said, said], 1), voice, nothing, at, mask)
        return self._velocity(h[:, count:], condition[:, count:])

    def _sight(self, count: int, phase: int, device: torch.device) -> Tensor:
        """What each frame sees of clean frames, then of noisy ones.  # [2 t, 2 t]"""
        chunk = self.config.chunk
        at = torch.arange(count, device=device)
        begin = (at - phase).div(chunk, rounding_mode="floor") * chunk + phase
        same = begin[:, None] == begin
        earlier = (at < begin[:, None]) & (at >= begin[:, None] - self.config.past)
        nothing = torch.zeros_like(same)
        return torch.cat([torch.cat([earlier | same, nothing], 1), torch.cat([earlier, same], 1)])

    def _run(
        self, x: Tensor, time: Tensor, said: Tensor, voice: State, before: Iterable[Memory | None], at: Rope,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, list[Memory]]:  # fmt: skip
        """What comes out of the blocks, the condition, and keys and values of the frames in each block."""
        condition = rearrange(self.time_embed(time.flatten()), "(b t) d -> b t d", b=len(x))
        condition = condition + self.pace_embed(voice["mean"])[:, None]
        shared = self.adaln_global_mlp(condition)
        h, shared = (self.input_embed(x) + said).to(self.dtype), shared.to(self.dtype)
        fresh = []
        for block, memory, told in zip(self._blocks(), before, self._memories(voice), strict=True):
            h, own = block(h, shared, memory, at, mask, told, voice["here"])
            fresh.append(own)
        return h, condition, fresh

    def _velocity(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.norm_out(F.silu(condition)).chunk(2, dim=2)
        velocity: Tensor = self.proj_out(modulate(h.float(), scale, shift, self.config.eps))
        return velocity.float()

    def _memories(self, state: State) -> Iterable[Memory]:
        """Keys and values of each block."""
        keys, values = (state[name].to(self.dtype).unbind(1) for name in ("keys", "values"))
        return zip(keys, values, strict=True)

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]
