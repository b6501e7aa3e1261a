"""Damage keeps time: what is heard at sample t belongs to sample t of the clean speech."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media.lines import available
from riverrun.models.training.codecs import LINES, Line, codec, mulaw
from riverrun.models.training.corpus import RATE, Speech, level
from riverrun.models.training.degradations import (
    CEILING,
    RECIPES,
    Recipe,
    clip,
    degrade,
    equalise,
    lose,
    narrow,
    recipe,
    rumble,
)

Audio = NDArray[np.float32]
N = 32_512


@pytest.fixture(scope="module")
def speech(pool: Path) -> Speech:
    return Speech(pool)


def lag(heard: Audio, given: Audio) -> float:
    """By how many samples `heard` is late; spectra half whitened, in quarter samples."""
    size = 2 * len(given)
    cross = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(given, size))
    curve = np.fft.irfft(cross / np.sqrt(np.abs(cross) + 1e-9), 4 * size)
    at = int(np.argmax(curve))
    return (at if at < 2 * size else at - 4 * size) / 4


@pytest.mark.parametrize("change", [narrow, clip, codec, lose, lambda rng, x: equalise(rng, x, 6.0)])
def test_no_damage_shifts_the_speech(
    change: Callable[[np.random.Generator, Audio], Audio], speech: Speech
) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        clean = speech.crop(rng, N)
        heard = change(rng, clean)
        assert heard.shape == clean.shape and heard.dtype == np.float32 and np.isfinite(heard).all()
        assert abs(lag(heard, clean)) <= 1.5, (
            f"seed {seed}"
        )  # Opus in its speech mode is a sample late at 8 kHz


@pytest.mark.parametrize("line", [pytest.param(line, id=line.encoder) for line in LINES])
def test_codecs_come_back_in_time_at_their_own_rate(line: Line, speech: Speech) -> None:
    if not available(line.encoder):
        pytest.skip(f"this FFmpeg has no encoder {line.encoder}")
    clean = speech.crop(np.random.default_rng(2), N)
    for rate in set(line.rates):
        low = clean[:: RATE // rate]
        heard = line.coded(low, rate, line.bits[1])
        assert len(heard) == len(low) and abs(lag(heard, low)) <= 1
        assert 0.5 < np.corrcoef(heard, low)[0, 1] < 1 - 1e-9  # damaged, but the same speech


def test_mulaw_keeps_the_sign_and_errs_more_where_loud() -> None:
    x = np.linspace(-1, 1, 4001).astype(np.float32)
    error = np.abs(mulaw(x) - x)
    assert error.max() < 0.03 and error[np.abs(x) < 0.05].max() < 0.002


def test_narrowing_takes_the_upper_band_away(speech: Speech) -> None:
    removed = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        clean = speech.crop(rng, N)
        before, after = (np.abs(np.fft.rfft(x)[-N // 16 :]) ** 2 for x in (clean, narrow(rng, clean)))
        removed.append(after.sum() / before.sum())
    assert np.median(removed) < 0.01


def test_clipping_flattens_the_loudest_samples_only(speech: Speech) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        clean = speech.crop(rng, N)
        heard = clip(rng, clean)
        assert np.abs(heard).max() < np.abs(clean).max()
        quiet = np.abs(clean) < 0.05 * np.abs(clean).max()
        assert np.allclose(heard[quiet], clean[quiet], rtol=0.05, atol=1e-4)


def test_rumble_stays_below_60_hz() -> None:
    sound = rumble(np.random.default_rng(0), RATE)
    power = np.abs(np.fft.rfft(sound)) ** 2
    assert power[100:].sum() < 0.01 * power.sum()


def test_noise_is_added_at_the_snr_asked_for(speech: Speech) -> None:
    wanted = Recipe(noise=1.0, snr=(10.0, 10.0), light=0.0, tone=0.0, mute=0.0, clean=0.0, absent=0.0)
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noisy, target = degrade(rng, speech.crop(rng, N), wanted)
        found.append(level(target) - 10 * np.log10(np.mean((noisy - target) ** 2)))
    assert np.median(found) == pytest.approx(10, abs=3)
    assert np.quantile(found, 0.95) - np.quantile(found, 0.05) < 25


@pytest.mark.parametrize("task", RECIPES)
def test_every_task_gives_finite_bounded_aligned_pairs(task: str, speech: Speech) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        noisy, target = degrade(rng, speech.crop(rng, N), RECIPES[task], speech, speech)
        for sound in (noisy, target):
            assert sound.shape == (N,) and sound.dtype == np.float32 and np.isfinite(sound).all()
            assert np.abs(sound).max() <= CEILING + 1e-6


def test_the_clean_recipe_changes_nothing(speech: Speech) -> None:
    clean = speech.crop(np.random.default_rng(0), N)
    noisy, target = degrade(np.random.default_rng(1), clean, RECIPES["clean"])
    assert np.array_equal(noisy, clean) and np.array_equal(target, clean)


def test_damage_to_the_line_leaves_the_target_alone(speech: Speech) -> None:
    only = replace(RECIPES["clean"], clean=0.0, band=1.0, clip=1.0, lose=1.0, codec=1.0, rumble=1.0)
    clean = speech.crop(np.random.default_rng(0), N)
    noisy, target = degrade(np.random.default_rng(1), clean, only)
    assert not np.allclose(noisy, clean, atol=1e-3)
    gain = np.abs(target).max() / np.abs(clean).max()
    assert np.allclose(target, clean * gain, atol=1e-6)


def test_without_speech_the_target_is_silent_and_the_noise_is_not(speech: Speech) -> None:
    empty = replace(RECIPES["restore"], absent=1.0, clean=0.0, mute=0.0, codec=0.0)
    for seed in range(10):
        noisy, target = degrade(np.random.default_rng(seed), speech.crop(np.random.default_rng(0), N), empty)
        assert not target.any() and -95 < 10 * np.log10(np.mean(noisy**2)) < 0


def test_a_room_keeps_the_direct_sound_in_the_target(speech: Speech) -> None:
    pytest.importorskip("pyroomacoustics")
    wet = replace(RECIPES["clean"], clean=0.0, reverb=1.0)
    for seed in range(10):
        clean = speech.crop(np.random.default_rng(seed), N)
        noisy, target = degrade(np.random.default_rng(seed), clean, wet)
        assert abs(lag(target, clean)) <= 1 and abs(lag(noisy, target)) <= 1
        assert np.corrcoef(target, clean)[0, 1] > 0.6
        assert np.mean((noisy - target) ** 2) > 1e-3 * np.mean(target**2)


def test_muted_stretches_are_silent_in_both(speech: Speech) -> None:
    muted = replace(RECIPES["clean"], clean=0.0, mute=1.0, rumble=1.0)
    noisy, target = degrade(np.random.default_rng(5), speech.crop(np.random.default_rng(0), N), muted)
    gap = noisy == 0
    assert gap.sum() > 100 and not target[gap].any()


def test_recipes_are_named_and_changed_by_field() -> None:
    assert recipe("restore", noise=0.5).noise == 0.5
    with pytest.raises(ValueError, match="expected one of enhance"):
        recipe("upscale")
