"""How alike clips are: by known values, and by what a change does to them."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riverrun.models.evaluation.resemblance import (
    ALEXNET,
    changes,
    colors,
    perceptual,
    psnr,
    recolored,
    seam,
    ssim,
)


def clip(seed: int = 0, frames: int = 3) -> NDArray[np.uint8]:
    """Noise, a little smooth."""
    made = np.random.default_rng(seed).integers(0, 240, (frames, 8, 12, 3), dtype=np.uint8)
    return np.repeat(np.repeat(made, 3, 1), 3, 2)


def test_signal_to_noise_is_that_of_the_error() -> None:
    assert psnr(clip(), clip()) == 100.0
    assert psnr(clip(), clip() + np.uint8(5)) == pytest.approx(20 * np.log10(255 / 5))


def test_structure_is_lost_by_noise_and_not_by_light() -> None:
    lit, noisy = clip() + np.uint8(10), clip() // 2 + clip(1) // 2
    assert ssim(clip(), clip()) == pytest.approx(1.0)
    assert ssim(clip(), lit) > 0.95 > 0.8 > ssim(clip(), noisy) > ssim(clip(), clip(1))


def test_changes_are_those_between_neighbours() -> None:
    flat = np.zeros((4, 2, 2, 3), np.uint8)
    flat[1:], flat[3:] = 10, 40
    np.testing.assert_allclose(changes(flat), [10, 0, 30])


def test_a_jump_at_every_border_is_a_seam() -> None:
    steps = np.arange(12) + 20 * (np.arange(12) // 4)
    frames = np.broadcast_to(steps.astype(np.uint8)[:, None, None, None], (12, 2, 2, 3))
    wrong = seam(frames, 5)
    assert seam(frames, 4) == pytest.approx(21) and wrong is not None and wrong < 10
    even = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None], (12, 2, 2, 3))
    assert seam(even, 4) == pytest.approx(1) and seam(even, 12) is None


def test_colors_are_counted_wherever_they_are() -> None:
    half = np.zeros((1, 4, 4, 3), np.uint8)
    half[:, :2] = 255
    assert colors(half).sum() == pytest.approx(1) and sorted(colors(half))[-2:] == [0.5, 0.5]
    assert recolored(half, half[:, ::-1]) == 0 and recolored(half, np.zeros_like(half)) == 0.5


def test_lpips_is_judged_only_where_all_of_it_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert perceptual() is None
    package = ModuleType("lpips")

    class Distance(torch.nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            assert a.shape == b.shape == (1, 3, 24, 36) and a.min() >= -1 and a.max() <= 1
            return (a - b).abs().mean()[None, None, None, None]

    package.LPIPS = Distance  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", package)
    assert perceptual() is None, "its weights would be downloaded"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ALEXNET).touch()
    judge = perceptual()
    assert judge is not None and judge(clip(), clip()) == 0 and judge(clip(), clip(1)) > 0.1
