"""Where frames lie in time, what each may see of the others, and what is remembered of earlier ones.

Letters: b session, f frame of this call, n frame that is seen (those remembered, then this call's), s patch,
h head, e width of a head.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor

from riverrun.models.video.blocks import SelfAttention
from riverrun.models.video.embedding import Rope, Rotary, turn_pairs


@dataclass(frozen=True)
class Memory:
    """Keys and values of earlier frames for every temporal block: keys normed, not turned to any position.

    So the same memory can be read at other positions, and the first axis is the session, as in a State.
    """

    keys: Tensor  # [b, depth, s, h, n, e]
    values: Tensor  # [b, depth, s, h, n, e]

    @property
    def frames(self) -> int:
        return self.keys.shape[4]

    def block(self, i: int) -> tuple[Tensor, Tensor]:
        """Of one temporal block, a row for each place.  # [(b s), h, n, e] twice"""
        return self.keys[:, i].flatten(0, 1), self.values[:, i].flatten(0, 1)

    def then(self, later: "Memory") -> "Memory":
        """These frames and later ones."""
        return Memory(torch.cat([self.keys, later.keys], 4), torch.cat([self.values, later.values], 4))

    def keep(self, frames: Tensor | slice) -> "Memory":
        """Some of the frames: a slice, or their numbers."""
        return Memory(self.keys[..., frames, :], self.values[..., frames, :])


@dataclass(frozen=True)
class Timeline:
    """What the frames of a call attend to along time.

    `positions` holds one whole number a frame, those remembered first; only differences count. `mask` is true where
    a frame of this call sees another; None: everywhere. `memory` holds earlier frames; with `remember` a memory of
    this call's is given back.
    Shapes: positions `[n]`, mask `[f, n]` or `[b, f, n]`; n is the number of frames in memory + f.
    """

    positions: Tensor
    mask: Tensor | None = None
    memory: Memory | None = None
    remember: bool = False


class Lane:
    """Attention along time for one call of a transformer, block by block."""

    def __init__(self, timeline: Timeline, frames: int, at: Rope, mask: Tensor | None) -> None:
        self.timeline, self.frames, self.at, self.mask = timeline, frames, at, mask
        self.kept: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def of(cls, timeline: Timeline | None, frames: int, rope: Rotary, like: Tensor) -> "Lane":
        """For tokens `like`, `[b, f, s, d]`. Raises ValueError if the timeline is made for other frames."""
        timeline = timeline or Timeline(torch.arange(frames, device=like.device))
        seen = frames + (timeline.memory.frames if timeline.memory else 0)
        if timeline.positions.shape != (seen,):
            found = tuple(timeline.positions.shape)
            raise ValueError(f"positions {found}, expected one for each of {seen} frames")
        mask = timeline.mask
        if mask is not None:
            if mask.shape[-2:] != (frames, seen):
                raise ValueError(f"mask {tuple(mask.shape)}, expected one of {(frames, seen)} frames")
            mask = mask.to(like.device)
            mask = mask if mask.ndim == 2 else repeat(mask, "b f n -> (b s) 1 f n", s=like.shape[2])
        return cls(timeline, frames, rope(timeline.positions.to(like.device)), mask)

    def along(self, i: int, attn: SelfAttention, x: Tensor) -> Tensor:
        """Each place by itself, as temporal block i does.  # [b, f, s, d]"""
        q, k, v = attn.cut(rearrange(x, "b f s d -> (b s) f d"))
        q, k = attn.norm(q, k)
        if self.timeline.remember:
            self.kept.append((k, v))
        if self.timeline.memory:
            k, v = (torch.cat(pair, 2) for pair in zip(self.timeline.memory.block(i), (k, v), strict=True))
        cos, sin = self.at
        q, k = turn_pairs(q, (cos[-self.frames :], sin[-self.frames :])), turn_pairs(k, self.at)
        return rearrange(attn.join(q, k, v, self.mask), "(b s) f d -> b f s d", s=x.shape[2])

    def memory(self, batch: int) -> Memory | None:
        """Of this call's frames, if it is to be remembered."""
        if not self.kept:
            return None
        keys, values = (
            rearrange(list(part), "l (b s) h f e -> b l s h f e", b=batch)
            for part in zip(*self.kept, strict=True)
        )
        return Memory(keys, values)


def causal(frames: int, chunk: int, window: int | None = None, sink: int = 0) -> Tensor:
    """What each frame sees where chunks of frames see themselves and chunks before.

    `window` chunks, its own among them, are seen; None: all; and the first `sink` chunks in any case.  # [f, f] bool
    """
    at = torch.arange(frames) // chunk
    behind = at[:, None] - at
    near = (behind < (window or frames)) | (at < sink)
    return (behind >= 0) & near


def forced(frames: int, chunk: int, window: int | None = None, sink: int = 0) -> Tensor:
    """What each frame sees in training on clean frames, then as many noisy ones, at the same positions.

    Noisy chunks see themselves and the clean ones before them, clean ones see as in `causal`.  # [2 f, 2 f] bool
    """
    clean = causal(frames, chunk, window, sink)
    at = torch.arange(frames) // chunk
    same = at[:, None] == at
    return torch.cat(
        [torch.cat([clean, torch.zeros_like(clean)], 1), torch.cat([clean & ~same, same], 1)], dim=0
    )
