"""Noise is a pure function of seed, tick and shape, and it is normal and white."""

import numpy as np
import pytest

from riverrun.models.noise import noise, noise_rows


def test_it_depends_on_seed_and_tick_alone() -> None:
    first = noise(3, 5, (4, 7))
    noise(9, 9, (2,))
    assert np.array_equal(first, noise(3, 5, (4, 7))) and first.dtype == np.float32
    assert not np.array_equal(first, noise(3, 6, (4, 7))) and not np.array_equal(first, noise(4, 5, (4, 7)))


def test_its_values_never_change() -> None:
    assert np.allclose(noise(1, 2, (3,)), [-0.360827, -0.208633, -0.120694])


def test_it_is_normal_and_ticks_are_independent() -> None:
    x = np.stack([noise(0, tick, (1_000,)) for tick in range(100)])
    assert abs(x.mean()) < 0.01 and abs(x.std() - 1) < 0.01 and abs((x**4).mean() - 3) < 0.1
    assert abs((x[1:] * x[:-1]).mean()) < 0.01


def test_negative_numbers_are_numbers_too() -> None:
    values = [noise(seed, tick, (4,)).tobytes() for seed in (-1, -2, 1, 2) for tick in (-1, -2, 1, 2)]
    assert len(set(values)) == 16


def test_rows_are_each_its_own() -> None:
    got = noise_rows([1, 2], [7, -8], (3, 2)).numpy()
    assert np.array_equal(got[0], noise(1, 7, (3, 2))) and np.array_equal(got[1], noise(2, -8, (3, 2)))


@pytest.mark.parametrize(("seed", "tick"), [(2**63, 0), (0, -(2**63) - 1)])
def test_numbers_beyond_64_bits_are_refused(seed: int, tick: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        noise(seed, tick, (1,))
