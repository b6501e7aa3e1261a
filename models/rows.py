"""Sound of many sessions: chunks to the rows of one tensor, and back."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from riverrun.media import Chunk
from riverrun.models.contract import Port, StreamModel


def mono(model: StreamModel) -> Port:
    """What a filter takes, and gives. Raises ValueError if that is not one channel of sound, the same both times."""
    port = model.spec.takes
    if port is None or (port,) != model.spec.gives or (port.kind, port.channels) != ("audio", 1):
        raise ValueError(
            f"model takes {port} and gives {model.spec.gives}, expected one channel of sound both times"
        )
    return port


def present(chunks: Iterable[Chunk | None]) -> list[Chunk]:
    """The chunk of every session; none where there is nothing to feed."""
    return [chunk for chunk in chunks if chunk is not None]


def gather(chunks: Sequence[Chunk], device: torch.device) -> Tensor:
    """One channel of sound, a row a session.  # -> [b, t]"""
    return torch.from_numpy(np.stack([chunk.data[:, 0] for chunk in chunks])).to(device)


def spread(data: Tensor, like: Sequence[Chunk], late: int = 0) -> list[Chunk]:
    """The rows of a tensor as chunks that begin `late` ticks before others.  # [b, t]"""
    sound = data[:, :, None].cpu().numpy()
    return [replace(chunk, data=row, pts=chunk.pts - late) for chunk, row in zip(like, sound, strict=True)]
