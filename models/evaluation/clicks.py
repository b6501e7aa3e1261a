"""Clicks: needles in a sound that stand alone, as a broken seam makes them and a voice does not."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

LOUD = 0.1  # of full scale, at least
WIDEST = 0.0025  # seconds, of a click
NEAR, ABOVE = 0.008, 12.0  # seconds to either side, and how many times the median magnitude there
AROUND, ALONE = 0.016, 3.0  # seconds to either side, and how many times all that is there


def clicks(sound: NDArray[np.float32], rate: int) -> int:
    """How many clicks there are: far above what is near, and above all that is around but within 2.5 ms.  # [n]

    Pulses of a voice of 62 Hz or more follow one another as loud, so that none of them stands alone.
    """
    from scipy.ndimage import maximum_filter1d

    size, near, around = np.abs(sound), round(NEAR * rate), round(AROUND * rate)
    windows = sliding_window_view(np.pad(size, around), 2 * around + 1)
    found, last = 0, -around
    for at in np.flatnonzero((size > LOUD) & (size == maximum_filter1d(size, 2 * around + 1))).tolist():
        window = windows[at]
        loud = np.flatnonzero(window > size[at] / ALONE)
        alone = loud[-1] - loud[0] <= WIDEST * rate and at - last > around
        if alone and size[at] > ABOVE * np.median(window[around - near : around + near + 1]):
            found, last = found + 1, at
    return found
