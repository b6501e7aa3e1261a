"""Training examples: the same from the same seed and number, in any process and any order."""

import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from riverrun.models.training.mixtures import SAMPLES, Mixtures


def test_an_item_depends_on_seed_and_number_alone(pool: Path) -> None:
    pytest.importorskip("pyroomacoustics")
    one = Mixtures(pool, "restore", seed=4)
    first = [one.item(i) for i in range(6)]
    other = pickle.loads(pickle.dumps(Mixtures(pool, "restore", seed=4)))
    for i in (5, 2, 0):
        assert all(np.array_equal(a, b) for a, b in zip(other[i], first[i], strict=True))
    assert not np.array_equal(Mixtures(pool, "restore", seed=5).item(0)[1], first[0][1])


def test_batches_are_items_in_a_row(pool: Path) -> None:
    mixtures = Mixtures(pool, "bandwidth", seed=1, samples=8000)
    (noisy, clean), (later, _) = islice(mixtures.batches(10, 3), 2)
    assert noisy.shape == clean.shape == (3, 8000)
    assert np.array_equal(noisy[2], mixtures.item(12)[0]) and np.array_equal(later[0], mixtures.item(13)[0])


def test_the_clean_recipe_gives_equal_pairs(pool: Path) -> None:
    mixtures = Mixtures(pool, "clean")
    for i in range(5):
        noisy, clean = mixtures[i]
        assert len(noisy) == SAMPLES and np.array_equal(noisy, clean) and clean.any()


def test_some_examples_are_untouched_and_some_hold_no_speech(pool: Path) -> None:
    mixtures = Mixtures(pool, "enhance", seed=2, samples=4000)
    pairs = [mixtures.item(i) for i in range(300)]
    untouched = sum(np.array_equal(noisy, clean) and clean.any() for noisy, clean in pairs)
    absent = sum(noisy.any() and not clean.any() for noisy, clean in pairs)
    assert 8 <= untouched <= 60 and 3 <= absent <= 40


def test_an_endless_set_has_a_length_for_loaders(pool: Path) -> None:
    assert len(Mixtures(pool)) >= 10**9


def test_an_unknown_task_names_the_known_ones(pool: Path) -> None:
    with pytest.raises(ValueError, match="restore"):
        Mixtures(pool, "upscale")
