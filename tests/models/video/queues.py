"""Queues of latent frames moved as a whole: what a stream that does so window by window is compared with."""

from collections.abc import Callable, Iterator
from itertools import count

import torch
from torch import Tensor

from riverrun.models.video import fifo
from riverrun.models.video.fifo import Diagonal, Queue
from riverrun.models.video.rflow import Draw, Velocities


def advance(velocity: Velocities, queue: Queue, now: Tensor, until: Tensor, cut: Diagonal) -> Tensor:
    """All windows.  # [b, c, n, y, x]"""
    windows = range(cut.windows)
    return torch.cat([fifo.moved(velocity, queue, now, until, cut, i) for i in windows], dim=2)


def stream(
    velocity: Callable[[int], Velocities],
    base: Tensor,
    cut: Diagonal,
    draw: Draw,
    ratio: float = 1.0,
    group: int = 5,
) -> Iterator[Tensor]:
    """Groups without end, without those before the first frame of `base`; `velocity` is that of an iteration."""
    now, until = fifo.times(cut, ratio)
    queue, made = fifo.start(base, cut, now, draw), list[Tensor]()
    for i in count():
        head, queue = fifo.shift(queue, advance(velocity(i), queue, now, until, cut), draw(cut.slots + i))
        if i >= cut.late:
            made.append(head)
        if len(made) == group:
            yield torch.cat(made, dim=2)
            made = []
