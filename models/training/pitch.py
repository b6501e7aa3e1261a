"""Pitch of recordings, by WORLD."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.models.errors import ModelError

HIGHEST = 600.0  # Hz, of a voice


def world() -> Any:
    """The package pyworld. Raises ModelError if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyworld
    except ImportError as error:
        raise ModelError("pitch is measured by pyworld: pip install 'riverrun[train]', or [bench]") from error
    return pyworld


def contour(sound: NDArray[np.float64], rate: int, lowest: float, period: float) -> NDArray[np.float64]:
    """Hz at each multiple of a period, 0 where there is no pitch.  # [n] -> [t]; ms

    Source: Morise et al. 2016 (WORLD), by the pyworld package. Raises ModelError without it.
    """
    found = world()
    rough, times = found.dio(sound, rate, f0_floor=lowest, f0_ceil=HIGHEST, frame_period=period)
    hertz: NDArray[np.float64] = found.stonemask(sound, rough, times, rate)
    return hertz
