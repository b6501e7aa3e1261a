"""What the bench judges is what is served."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from riverrun.cli.bench import loaded
from riverrun.measure import Clip, Streamed, live
from riverrun.streaming.errors import TooSlow


def test_streamed_and_offline_are_aligned_and_equal(tiny: str) -> None:
    name, model = loaded("restore", tiny)
    x = 0.1 * np.random.default_rng(0).standard_normal(5_000, np.float32)
    whole, streamed = Clip(name, model).run(x), Streamed(name, model).run(x)
    assert whole.shape == streamed.shape == x.shape
    assert np.abs(whole - streamed).max() < 1e-5


def test_a_model_that_does_not_keep_up_is_told_not_waited_for(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, model = loaded("restore", tiny)
    step = model.step

    def slow(*arguments: Any) -> Any:
        time.sleep(0.06)  # for 16 ms of sound
        return step(*arguments)

    monkeypatch.setattr(model, "step", slow)
    with pytest.raises(TooSlow):
        asyncio.run(live(model, seconds=3))
