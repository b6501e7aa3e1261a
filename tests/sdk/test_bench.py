"""What the bench judges is what is served."""

import numpy as np

from riverrun.cli.bench import loaded
from riverrun.measure import Clip, Streamed


def test_streamed_and_offline_are_aligned_and_equal(tiny: str) -> None:
    name, model = loaded("restore", tiny)
    x = 0.1 * np.random.default_rng(0).standard_normal(5_000, np.float32)
    whole, streamed = Clip(name, model).run(x), Streamed(name, model).run(x)
    assert whole.shape == streamed.shape == x.shape
    assert np.abs(whole - streamed).max() < 1e-5
