"""STDiT3, the transformer of Open-Sora 1.2: the velocity of latent video, given a caption.

    caption ── mlp ─────────┬──────────────────┐
    time + rate ── adaLN ───┼──────────┐       │
    x ── patches + places ── [within frames ── along time] x depth ── adaLN ── velocity
                                                   │
                                   earlier frames ─┘

Only the attention along time mixes frames, so a stream needs no more of earlier ones than its keys and values, and
frames may each have a time of their own. What depends on the caption alone is worked out once by `read`.
Letters: b session, f latent frame, s patch of a frame, n caption token, c latent channel, d width, h head.
Source: arXiv 2412.20404 (Open-Sora); module names as published.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from riverrun.models.layers.modulation import modulate
from riverrun.models.state import State
from riverrun.models.video.blocks import (
    EPS,
    Attend,
    Block,
    CrossAttention,
    FinalLayer,
    Words,
    read,
    spread,
    vectors,
    within,
)
from riverrun.models.video.caching import Reuse
from riverrun.models.video.config import Config as Config
from riverrun.models.video.embedding import (
    CaptionEmbedder,
    PatchEmbed,
    Rotary,
    ScalarEmbedder,
    grid,
    padded,
    places,
    unpatch,
)
from riverrun.models.video.timeline import Lane, Memory, Timeline

if TYPE_CHECKING:
    from riverrun.models.video.parallel import Shares


class STDiT3(nn.Module):
    """The network of one Config. Begins as published: attention along time adds nothing at first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, self.config = config.width, config
        self.rope = Rotary(config.head, config.legacy)
        self.x_embedder = PatchEmbed(config.latent, d, config.patch)
        self.t_embedder, self.fps_embedder = ScalarEmbedder(d), ScalarEmbedder(d)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(d, 6 * d))
        self.y_embedder = CaptionEmbedder(config.text, d, config.tokens)
        self.spatial_blocks, self.temporal_blocks = (
            nn.ModuleList(Block(d, config.heads, config.inner, config.normed) for _ in range(config.depth))
            for _ in range(2)
        )
        self.final_layer = FinalLayer(d, config.patch**2 * config.out)
        draw(self)

    @property
    def dtype(self) -> torch.dtype:
        return self.final_layer.linear.weight.dtype

    def read(self, captions: Tensor, mask: Tensor | None = None, dropped: Tensor | None = None) -> State:
        """What the blocks need of captions, once for all evaluations.

        `mask` is true for the tokens there are, None for all; where `dropped` is true the caption that says nothing
        is read instead, as many tokens of it as the mask has.
        Shapes: captions `[b, n, text]`, mask `[b, n]`, dropped `[b]`.
        """
        return read(self.y_embedder(captions, dropped), cross_attentions(self), mask)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        caption: State,
        fps: Tensor,
        size: tuple[float, float],
        noisy: Tensor | None = None,
        timeline: Timeline | None = None,
        reuse: Reuse | None = None,
        shares: "Shares | None" = None,
        recompute: bool = False,
    ) -> tuple[Tensor, Memory | None]:
        """What comes of x, in float32: velocities towards the data, and with `sigma` as many channels more.

        `time` is 0 (clean) to 1000, for all frames or for each; `caption` is what `read` gave; `fps` is the rate
        of the pixels, 120 for a picture; `size` is theirs, (height, width). `noisy` is false for frames that are
        known: they have time 0, and are normed twice in the end, as published. Without a `timeline` frames follow
        each other and see all others; one that says `remember` gives a memory of these frames, too. `reuse` is what
        is taken over from calls before, and left to the next: nothing. With `shares` this process computes some of the
        patches, and others the rest. With `recompute` what blocks hold is not kept for derivatives, but made again,
        which takes more time and much less memory.
        Shapes: x `[b, c, f, y, x]`, time `[b]` or `[b, f]`, fps `[b]`, noisy `[b, f]` -> `[b, out, f, y, x]`.
        Raises ValueError for a timeline of other frames, or one to be remembered of frames that are not computed.
        """
        (f, y, w), reuse = x.shape[2:], reuse or Reuse()
        now, known, six = conditions(self, time, fps, noisy, self.config.legacy)
        h, rows = self.embed(x, size)
        h, attend = (shares.cut(h), shares.within) if shares else (h, within)
        if reuse.plan and timeline and timeline.remember:
            raise ValueError(f"frames are to be remembered and {reuse.plan} taken over, expected nothing")
        lane = Lane.of(timeline, f, self.rope, h)
        run = partial(
            self.pairs,
            six=six,
            words=spread(caption),
            lane=lane,
            reuse=reuse,
            attend=attend,
            recompute=recompute,
        )
        made = self.final_layer(reuse.blocks(h, run), now, known, noisy)
        made = unpatch(shares.join(made) if shares else made, rows, self.config.patch)
        return made[..., :y, :w].float(), lane.memory(len(x))

    def embed(self, x: Tensor, size: tuple[float, float]) -> tuple[Tensor, int]:
        """Tokens in their places, and in how many rows they lie.  # [b, c, f, y, x] -> [b, f, s, d]"""
        x = padded(x, self.config.patch)
        h: Tensor = self.x_embedder(x)
        rows = x.shape[3] // self.config.patch
        return h + self.places(rows, h.shape[2] // rows, size).to(h), rows

    def pairs(
        self,
        h: Tensor,
        six: Tensor,
        words: list[Words],
        lane: Lane,
        reuse: Reuse,
        attend: Attend,
        recompute: bool = False,
    ) -> Tensor:
        """What the blocks make of tokens.  # [b, f, s, d]"""
        for i, pair in enumerate(zip(self.spatial_blocks, self.temporal_blocks, strict=True)):
            space, course = (partial(checkpoint, x, use_reentrant=False) for x in pair) if recompute else pair
            h = space(h, six, words[2 * i], attend, partial(reuse.recall, "spatial"))
            h = course(h, six, words[2 * i + 1], partial(lane.along, i), partial(reuse.recall, "temporal"))
        return h

    def look(
        self, x: Tensor, time: Tensor, fps: Tensor, size: tuple[float, float], noisy: Tensor | None = None
    ) -> Tensor:
        """What the first block would attend with, of what `forward` is given.  # [b, f, s, d]"""
        _, _, six = conditions(self, time, fps, noisy, self.config.legacy)
        first = self.spatial_blocks[0]
        assert isinstance(first, Block)
        shift, scale, *_ = vectors(first.scale_shift_table, six)
        return modulate(self.embed(x, size)[0], scale, shift, EPS)

    def places(self, h: int, w: int, size: tuple[float, float]) -> Tensor:
        """Where patches lie, the same in all frames.  # [h w, d]"""
        rates = self.dtype if self.config.legacy else torch.float32
        device = self.final_layer.linear.weight.device
        return places(*grid(h, w, size, self.config.square, device), self.config.width, rates)


def conditions(
    net: Any, time: Tensor, fps: Tensor, noisy: Tensor | None, rounded: bool = False
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Of the last layer, for frames that are noisy and those that are not, and of all blocks.

    With `rounded`, times and rates are first put into the dtype of the weights.
    Shapes: time `[b]` or `[b, f]`, fps `[b]`, noisy `[b, f]` -> `[b, 1 or f, d]` twice, `[b, 1 or f, 6, d]`.
    """
    time = time.float() if time.ndim == 2 else time.float()[:, None]
    if rounded:
        time, fps = time.to(net.dtype), fps.to(net.dtype)
    rate = net.fps_embedder(fps)[:, None]
    now, known = net.t_embedder(time) + rate, None
    six = net.t_block(now)
    if noisy is not None:
        known = net.t_embedder(torch.zeros_like(time[:, :1])) + rate
        six = torch.where(noisy[..., None], six, net.t_block(known))
    return now, known, rearrange(six, "b f (k d) -> b f k d", k=6)


def cross_attentions(net: Any) -> list[CrossAttention]:
    """All that attend to the caption, in the order in which they are run."""
    pairs = zip(net.spatial_blocks, net.temporal_blocks, strict=True)
    return [block.cross_attn for pair in pairs for block in pair]


def draw(model: Any) -> None:
    """Begin at random as published, with blocks along time that change nothing."""
    silent = [*model.fps_embedder.mlp[2:].modules()]
    for block in model.temporal_blocks:
        assert isinstance(block, Block)
        silent += [block.attn.proj, block.cross_attn.proj, block.mlp.fc2]
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.weight) if part in silent else nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
    nn.init.normal_(next(model.fps_embedder.parameters()), std=0.02)
