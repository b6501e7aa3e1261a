"""Noise families: finite, as loud as promised, different from one another."""

from pathlib import Path

import numpy as np
import pytest

from riverrun.models.training.corpus import Speech
from riverrun.models.training.noises import FAMILIES, Family, Sound, babble, noise, texture
from riverrun.models.training.sounds import db, times, unit

N = 16_256
PARAMETERS = [pytest.param(family, id=family.__name__) for family, _ in FAMILIES]


@pytest.mark.parametrize("family", PARAMETERS)
def test_each_family_is_finite_audible_and_repeatable(family: Family, pool: Path) -> None:
    material = Speech(pool, "textures" if family is texture else "speech")
    for seed in range(12):
        sound = family(np.random.default_rng(seed), N, material)
        assert sound.shape == (N,) and sound.dtype == np.float32
        assert np.isfinite(sound).all() and np.abs(sound).max() > 0
    again = family(np.random.default_rng(11), N, material)
    assert np.array_equal(sound, again)


@pytest.mark.parametrize("n", [800, 32_512])
def test_noise_has_an_rms_of_one(n: int, pool: Path) -> None:
    speech, textures = Speech(pool), Speech(pool, "textures")
    for seed in range(60):
        sound = noise(np.random.default_rng(seed), n, speech, textures)
        assert np.isfinite(sound).all()
        assert np.mean(sound**2) == pytest.approx(1, rel=1e-3)


def test_noise_needs_no_recordings() -> None:
    assert all(noise(np.random.default_rng(seed), N).any() for seed in range(60))


def test_noises_differ_in_colour_and_in_time() -> None:
    draws = [noise(np.random.default_rng(seed), N) for seed in range(60)]
    spectra = np.abs(np.fft.rfft(draws, axis=1)) ** 2
    bins = np.arange(spectra.shape[1]) / spectra.shape[1] * 8000
    centres = (spectra * bins).sum(axis=1) / spectra.sum(axis=1)
    assert np.quantile(centres, 0.1) < 500 and np.quantile(centres, 0.9) > 2000
    frames = np.square(np.array(draws)[:, : N // 320 * 320].reshape(60, -1, 320)).mean(axis=2)
    steadiness = np.quantile(frames, 0.1, axis=1) / frames.mean(axis=1)
    assert steadiness.min() < 0.05 and steadiness.max() > 0.7


def test_babble_holds_several_talkers(pool: Path) -> None:
    asked: list[float] = []

    class Counted:
        def crop(self, rng: np.random.Generator, n: int, vary: float = 0.0) -> np.ndarray:
            asked.append(vary)
            return Speech(pool).crop(rng, n, vary)

        pick, piece = Speech(pool).pick, Speech(pool).piece

    counted: Sound = Counted()
    babble(np.random.default_rng(0), N, counted)
    assert 3 <= len(asked) <= 8 and min(asked) > 0


def test_events_come_at_their_rate() -> None:
    rng = np.random.default_rng(0)
    counts = [len(times(rng, 160_000, 5.0, regular)) for regular in (0.0, 0.5, 1.0) for _ in range(20)]
    assert np.mean(counts) == pytest.approx(50, rel=0.1)


def test_silence_stays_silent() -> None:
    assert not unit(np.zeros(10, np.float32)).any()
    assert db(20) == pytest.approx(10)
