"""One clip on several devices: the patches of a frame are shared out, in the way of Ulysses, whatever their number.

    attention within frames    heads are exchanged for patches, or keys are gathered where heads do not divide
    attention along time       nothing to exchange: every rank has all frames of its patches
    attention to the caption   nothing: every rank has the caption

Patches are padded to as many for each rank, and no real one attends to padding. Every rank is given the same, and has
the whole result. For inference: what is exchanged carries no gradients.
Letters: b session and frame, s patch of a rank, n patch of a frame, h head, d width, e width of a head.
Source: arXiv 2309.14509 (DeepSpeed-Ulysses).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from riverrun.models.state import State
from riverrun.models.training.loop import Alone, Crew, assemble
from riverrun.models.video.blocks import SelfAttention
from riverrun.models.video.caching import Reuse
from riverrun.models.video.stdit3 import STDiT3


def crew(device: str) -> Crew:
    """The processes that torchrun started, each with a device of that kind, or this one alone.

    Raises ModelError for a device that several processes cannot share.
    """
    return assemble(device) if dist.is_torchelastic_launched() else Alone(torch.device(device))


def least(value: int | None, crew: Crew) -> int | None:
    """The least value of all processes, so that they decide alike; None if it is that of any."""
    if crew.num_processes == 1:
        return value
    found = torch.tensor([-1 if value is None else value], device=crew.device)
    dist.all_reduce(found, dist.ReduceOp.MIN)
    return None if found.item() < 0 else int(found.item())


@dataclass(frozen=True)
class Shares:
    """The patches of `count` a frame that a rank of a group has. None is the group of all processes."""

    count: int
    group: dist.ProcessGroup | None = None

    @property
    def ranks(self) -> int:
        return dist.get_world_size(self.group)

    @property
    def each(self) -> int:
        """Patches of a rank, padding among them."""
        return -(-self.count // self.ranks)

    def cut(self, x: Tensor) -> Tensor:
        """The share of this rank of all patches.  # [b, f, n, d] -> [b, f, s, d]"""
        start = dist.get_rank(self.group) * self.each
        whole = F.pad(x, (0, 0, 0, self.each * self.ranks - self.count))
        return whole[:, :, start : start + self.each]

    def join(self, x: Tensor) -> Tensor:
        """All patches of the shares of all ranks.  # [_, _, s, _] -> [_, _, n, _]"""
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.ranks)]
        dist.all_gather(parts, x.contiguous(), self.group)
        return torch.cat(parts, dim=2)[:, :, : self.count]

    def within(self, attn: SelfAttention, x: Tensor) -> Tensor:
        """Each frame by itself, as blocks.within does with all of its patches.  # [b, f, s, d]"""
        f = x.shape[1]
        q, k, v = attn.cut(rearrange(x, "b f s d -> (b f) s d"))
        q, k = attn.norm(q, k)
        if attn.heads % self.ranks:
            y = F.scaled_dot_product_attention(q, self.join(k), self.join(v))
        else:
            q = self.to_heads(q)  # one after the other: each lets go of what it was
            k = self.to_heads(k)
            v = self.to_heads(v)
            y = self.to_patches(F.scaled_dot_product_attention(q, k, v))
        joined: Tensor = attn.proj(rearrange(y, "(b f) h s e -> b f s (h e)", f=f))
        return joined

    def to_heads(self, x: Tensor) -> Tensor:
        """All patches of this rank's heads, for some patches of all heads.  # [b, h, s, e] -> [b, h', n, e]"""
        sent = rearrange(x, "b (r h) s e -> r b h s e", r=self.ranks)
        return rearrange(self.exchange(sent), "r b h s e -> b h (r s) e")[:, :, : self.count]

    def to_patches(self, y: Tensor) -> Tensor:
        """The way back.  # [b, h', n, e] -> [b, h, s, e]"""
        whole = F.pad(y, (0, 0, 0, self.each * self.ranks - self.count))
        sent = rearrange(whole, "b h (r s) e -> r b h s e", r=self.ranks)
        return rearrange(self.exchange(sent), "r b h s e -> b (r h) s e")

    def exchange(self, x: Tensor) -> Tensor:
        """Part r goes to rank r, and comes from it.  # [r, ...]"""
        sent = x.contiguous()
        taken = torch.empty_like(sent)
        dist.all_to_all_single(taken, sent, group=self.group)
        return taken


@dataclass(frozen=True)
class Parallel:
    """An STDiT3 that every process of a group has, computed by all of them together.

    As the network to whoever calls it: `Parallel(net)` stands for `net` in `rflow.guided`.
    """

    net: STDiT3
    group: dist.ProcessGroup | None = None

    @property
    def config(self) -> Any:
        return self.net.config

    @property
    def dtype(self) -> torch.dtype:
        return self.net.dtype

    def __call__(
        self,
        x: Tensor,
        time: Tensor,
        caption: State,
        fps: Tensor,
        size: tuple[float, float],
        noisy: Tensor | None = None,
        reuse: Reuse | None = None,
    ) -> tuple[Tensor, None]:
        """As STDiT3 without a timeline; what is taken over or left is of this process's patches."""
        patch = self.config.patch
        count = -(-x.shape[3] // patch) * -(-x.shape[4] // patch)
        made, _ = self.net(x, time, caption, fps, size, noisy, reuse=reuse, shares=Shares(count, self.group))
        return made, None

    def look(
        self, x: Tensor, time: Tensor, fps: Tensor, size: tuple[float, float], noisy: Tensor | None = None
    ) -> Tensor:
        """As STDiT3.look: what the first rank sees, so that all decide alike what is taken over."""
        seen = self.net.look(x, time, fps, size, noisy).contiguous()
        dist.broadcast(seen, group=self.group, group_src=0)
        return seen
