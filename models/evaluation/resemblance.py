"""How alike clips are, picture by picture, and how much a clip changes from one picture to the next."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from riverrun.models.video.pixels import to_pixels

Frames = NDArray[np.uint8]  # [t, y, x, 3]
EXACT = 100.0  # dB, of pictures that are the same
LEVELS = 8  # of each colour in a histogram
ALEXNET = "alexnet-owt-7be5be79.pth"  # as torchvision's cache calls it


def psnr(one: Frames, other: Frames) -> float:
    """Peak signal-to-noise ratio in dB, the mean over pictures."""
    error = (one.astype(np.float64) - other).reshape(len(one), -1)
    power = np.maximum((error**2).mean(1), 255**2 * 10 ** (-EXACT / 10))
    return float((10 * np.log10(255**2 / power)).mean())


def ssim(one: Frames, other: Frames) -> float:
    """Structural similarity, with a Gaussian window of 1.5 pixels, the mean over pictures and colours.

    Source: Wang et al. 2004, Image quality assessment: from error visibility to structural similarity.
    """
    a, b = one.astype(np.float64), other.astype(np.float64)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        made: NDArray[np.float64] = gaussian_filter(values, (0, 1.5, 1.5, 0), truncate=3.5)
        return made

    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = (2 * ma * mb + c1) * (2 * both + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return float(found.mean())


def perceptual() -> Callable[[Frames, Frames], float] | None:
    """LPIPS on AlexNet, where the package lpips and torchvision's weights are here; nothing is downloaded.

    Source: arXiv 1801.03924.
    """
    try:
        from lpips import LPIPS
    except ImportError:
        return None
    if not (Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET).exists():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it calls torchvision in a way of before
        net = LPIPS(net="alex", verbose=False).eval()

    def judge(one: Frames, other: Frames) -> float:
        with torch.inference_mode():
            a, b = (to_pixels(torch.from_numpy(x)).transpose(0, 1) for x in (one, other))
            return float(
                torch.stack([net(*pair).mean() for pair in zip(a.split(1), b.split(1), strict=True)]).mean()
            )

    return judge


def changes(frames: Frames) -> NDArray[np.float64]:
    """How much each picture differs from the one before, in levels of 255.  # [t - 1]"""
    found: NDArray[np.float64] = abs(np.diff(frames.astype(np.float64), axis=0)).mean((1, 2, 3))
    return found


def seam(frames: Frames, hop: int) -> float | None:
    """How much more changes where a chunk of `hop` pictures begins than elsewhere: 1 is no more. None: of one chunk."""
    moved = changes(frames)
    border = (np.arange(len(moved)) + 1) % hop == 0
    return float(moved[border].mean() / max(moved[~border].mean(), 1e-9)) if border.any() else None


def colors(frames: Frames) -> NDArray[np.float64]:
    """The share of all pixels in each of 8 x 8 x 8 colours."""
    bins = (frames.reshape(-1, 3) // (256 // LEVELS)).astype(np.int64) @ (LEVELS**2, LEVELS, 1)
    return np.bincount(bins, minlength=LEVELS**3) / len(bins)


def recolored(one: Frames, other: Frames) -> float:
    """The share of pixels that would need another colour for two clips to have the same ones, 0 to 1."""
    return float(abs(colors(one) - colors(other)).sum() / 2)
