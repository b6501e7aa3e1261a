"""Which frames are known in training, drawn as Open-Sora 1.2 was trained: some, a quarter, or a picture.

Source: arXiv 2412.20404 (Open-Sora), image and video conditioning; probabilities are those of its releases.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal[
    "random", "interpolate", "quarter_random", "quarter_head", "quarter_tail", "quarter_head_tail",
    "image_random", "image_head", "image_tail", "image_head_tail",
]  # fmt: skip
EARLY: Mapping[Kind, float] = {  # of the first two stages; in all other draws no frame is known
    "random": 0.05, "interpolate": 0.005, "quarter_random": 0.005, "quarter_head": 0.005, "quarter_tail": 0.005,
    "quarter_head_tail": 0.005, "image_random": 0.025, "image_head": 0.05, "image_tail": 0.025,
    "image_head_tail": 0.025,
}  # fmt: skip
LATE: Mapping[Kind, float] = {  # of the third
    "random": 0.01, "interpolate": 0.002, "quarter_random": 0.002, "quarter_head": 0.002, "quarter_tail": 0.002,
    "quarter_head_tail": 0.002, "image_head": 0.22, "image_tail": 0.005, "image_head_tail": 0.005,
}  # fmt: skip
LEAST, MOST = 0.1, 0.9  # share of the frames that are known at random


def draw(frames: int, shares: Mapping[Kind, float], random: np.random.Generator) -> NDArray[np.bool_]:
    """Which frames are noisy, for one clip; all of one that is a picture.  # [f]

    Raises ValueError for kinds that are not known, or shares that are not probabilities.
    """
    if unknown := sorted(set(shares) - set(get_args(Kind))):
        raise ValueError(f"frames are known as {unknown}, expected {', '.join(get_args(Kind))}")
    if min(shares.values(), default=0) < 0 or sum(shares.values()) > 1:
        raise ValueError(f"shares are {dict(shares)}, expected at least 0 and 1 together at most")
    at = int(np.searchsorted(np.cumsum(list(shares.values())), random.random(), side="right"))
    if frames == 1 or at == len(shares):
        return np.ones(frames, bool)
    return noisy(frames, list(shares)[at], random)


def noisy(frames: int, kind: Kind, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which frames are noisy where others are known in one way: at least one is.  # [f]"""
    mask = np.ones(frames, bool)
    if kind == "random":
        known = min(round(random.uniform(LEAST, MOST) * frames), frames - 1)
        mask[random.choice(frames, known, replace=False)] = False
    elif kind == "interpolate":
        mask[random.integers(2) :: 2] = False
    else:
        size, _, where = kind.partition("_")
        count = 1 if size == "image" else int(random.integers(1, max(frames // 4, 1), endpoint=True))
        start = int(random.integers(frames - count, endpoint=True))
        if where == "random":
            mask[start : start + count] = False
        if "head" in where:
            mask[:count] = False
        if "tail" in where:
            mask[frames - count :] = False
    mask[frames // 2] |= not mask.any()
    return mask
