"""Resampling is exact in length and place, clean, and the same however it is cut."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from riverrun.media import Resampler

PAIRS = [
    (48_000, 16_000),
    (16_000, 48_000),
    (44_100, 16_000),
    (16_000, 44_100),
    (8_000, 16_000),
    (96_000, 16_000),
]


def whole(x: NDArray[np.float32], rate_in: int, rate_out: int) -> NDArray[np.float32]:
    resampler = Resampler(rate_in, rate_out, x.shape[1])
    return np.concatenate([resampler.push(x), resampler.flush()])


def tones(rate: int, hertz: list[float], ticks: int) -> NDArray[np.float32]:
    t = np.arange(ticks)[:, None] / rate
    return np.asarray(np.sin(2 * np.pi * np.array(hertz) * t).mean(1, keepdims=True), np.float32)


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
@settings(max_examples=5)
@given(at=st.lists(st.integers(0, 4_000), max_size=8).map(sorted), ticks=st.integers(4_000, 4_100))
def test_any_cutting_gives_the_same(rate_in: int, rate_out: int, at: list[int], ticks: int) -> None:
    x = np.random.default_rng(1).normal(size=(ticks, 2)).astype(np.float32)
    resampler = Resampler(rate_in, rate_out, 2)
    parts = [resampler.push(part) for part in np.split(x, at)] + [resampler.flush()]
    got = np.concatenate(parts)
    assert len(got) == -(-ticks * rate_out // rate_in)
    assert np.abs(got - whole(x, rate_in, rate_out)).max() < 1e-6


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_a_tick_stays_at_its_time_and_the_band_is_flat(rate_in: int, rate_out: int) -> None:
    lower = min(rate_in, rate_out)
    hertz = [lower * share for share in (0.01, 0.2, 0.4)]
    got = whole(tones(rate_in, hertz, rate_in), rate_in, rate_out)
    assert np.abs(got - tones(rate_out, hertz, rate_out))[200:-200].max() < 2e-3


@pytest.mark.parametrize(("rate_in", "rate_out"), [p for p in PAIRS if p[0] > p[1]])
def test_what_the_lower_rate_cannot_hold_is_gone(rate_in: int, rate_out: int) -> None:
    got = whole(tones(rate_in, [0.52 * rate_out], rate_in), rate_in, rate_out)
    assert np.abs(got[200:-200]).max() < 1e-4


def test_what_comes_out_waits_for_the_latency_it_states() -> None:
    resampler = Resampler(48_000, 16_000)
    known = len(resampler.push(np.zeros((4_800, 1), np.float32)))
    assert resampler.latency / 48_000 < 0.002
    assert known == -(-(4_800 - resampler.latency) // 3)


def test_equal_rates_pass_through() -> None:
    x = np.ones((5, 1), np.float32)
    assert Resampler(16_000, 16_000).push(x) is x and Resampler(16_000, 16_000).latency == 0


def test_a_copy_goes_on_alike() -> None:
    x = np.random.default_rng(2).normal(size=(3_000, 1)).astype(np.float32)
    one = Resampler(44_100, 16_000)
    one.push(x[:1234])
    other = pickle.loads(pickle.dumps(one))
    assert np.array_equal(one.push(x[1234:]), other.push(x[1234:]))


def test_rates_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="0 and 16000"):
        Resampler(0, 16_000)
