"""Arrays as callers have them, and the sound they stand for. Imported inside functions only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.media.errors import CorruptMedia

LOUDEST = 1000  # times full scale; more is no sound


def taken(data: NDArray[Any]) -> NDArray[np.float32]:
    """Samples `[t]` or `[t, c]`, floats in [-1, 1] or whole numbers of full range, as sound `[t, c]`.

    Raises ValueError for another shape or dtype, CorruptMedia for NaN or infinite samples.
    """
    if data.ndim not in (1, 2) or data.dtype.kind not in "fi" or not data.size:
        raise ValueError(f"data is {data.dtype} of shape {data.shape}, expected [t] or [t, c], int or float")
    sound = (data.reshape(len(data), -1) / _full(data.dtype)).astype(np.float32)
    if not np.abs(sound).max() <= LOUDEST:  # NaN is not, either
        raise CorruptMedia(
            f"data holds NaN or infinite samples, or some beyond {LOUDEST} times full scale: scale floats to [-1, 1]"
        )
    return sound


def given(sound: NDArray[np.float32], like: NDArray[Any]) -> NDArray[Any]:
    """Sound `[t, c]` in the shape and dtype of the samples it was made from."""
    if like.dtype.kind == "f":
        return sound.astype(like.dtype).reshape(like.shape)
    full = _full(like.dtype)  # in double precision, where the largest whole number is not rounded up
    most = min(full - 1, np.nextafter(full, 0))
    whole = np.clip(np.rint(sound.astype(np.float64) * full), -full, most)
    return whole.astype(like.dtype).reshape(like.shape)


def _full(dtype: np.dtype[Any]) -> float:
    return 1.0 if dtype.kind == "f" else -float(np.iinfo(dtype).min)
