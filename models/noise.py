"""Counter-based noise: a pure draw from (seed, tick), the same however a stream is cut, batched or resumed."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def noise(seed: int, tick: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """Standard normal values that depend on seed, tick and shape alone.

    Drawn on the CPU whatever device uses them. Raises ValueError if seed or tick is outside [-2^63, 2^63).
    Source: Philox 4x64, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    if not all(-(2**63) <= v < 2**63 for v in (seed, tick)):
        raise ValueError(f"seed is {seed} and tick is {tick}, expected 64-bit signed integers")
    bits = np.random.Philox(key=np.array([seed % 2**64, tick % 2**64], np.uint64))
    return np.random.Generator(bits).standard_normal(tuple(shape), dtype=np.float32)


def noise_rows(seeds: Sequence[int], ticks: Sequence[int], shape: Sequence[int]) -> Tensor:
    """`noise` for several sessions, stacked.  # [b, *shape] float32 on the CPU"""
    return torch.from_numpy(np.stack([noise(s, t, shape) for s, t in zip(seeds, ticks, strict=True)]))
