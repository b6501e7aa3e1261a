"""Sound changes its rate in a stream: the same however it is cut, at its own time, clean up to 7 kHz of 8."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from riverrun.models.layers.rate import Resample

PAIRS = [(24_000, 16_000), (16_000, 24_000), (48_000, 16_000), (16_000, 44_100)]


def whole(x: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """From the first tick's own time on."""
    resample = Resample(rate_in, rate_out)
    y: Tensor = resample(x, resample.start(len(x)))[0]
    return y[:, resample.told :]


def tone(rate: int, hertz: float) -> Tensor:
    return torch.sin(2 * np.pi * hertz * torch.arange(rate, dtype=torch.float64) / rate).float()[None]


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
@settings(max_examples=10, deadline=None)
@given(at=st.lists(st.integers(0, 2_000), max_size=8).map(sorted))
def test_any_cutting_gives_the_same(rate_in: int, rate_out: int, at: list[int]) -> None:
    resample, x = Resample(rate_in, rate_out), torch.randn(2, 2_000)
    past, parts = resample.start(2), []
    for part in x.tensor_split(at, dim=1):
        y, past = resample(part, past)
        parts.append(y)
    wanted, _ = resample(x, resample.start(2))
    assert torch.allclose(torch.cat(parts, dim=1), wanted, atol=1e-5)
    assert wanted.shape[1] == 2_000 // resample.down * resample.up


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
@pytest.mark.parametrize("hertz", [100.0, 3_000.0, 7_000.0])
def test_tones_stay_at_their_time_and_level(rate_in: int, rate_out: int, hertz: float) -> None:
    got, wanted = whole(tone(rate_in, hertz), rate_in, rate_out), tone(rate_out, hertz)
    assert (got - wanted[:, : got.shape[1]])[:, 200:-200].abs().max() < 5e-3


@pytest.mark.parametrize("rate_in", [24_000, 48_000])
def test_what_the_lower_rate_cannot_hold_is_gone(rate_in: int) -> None:
    assert whole(tone(rate_in, 8_200.0), rate_in, 16_000)[:, 200:-200].abs().max() < 2e-4


@pytest.mark.parametrize(
    ("rate_in", "rate_out", "late", "told"), [(24_000, 16_000, 54, 36), (16_000, 24_000, 36, 54)]
)
def test_it_is_late_by_whole_ticks_of_both_rates(rate_in: int, rate_out: int, late: int, told: int) -> None:
    resample = Resample(rate_in, rate_out)
    assert (resample.late, resample.told) == (late, told)
