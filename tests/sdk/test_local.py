"""riverrun.restore on arrays: what comes back has the form of what went in."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import riverrun
from riverrun.media import CorruptMedia, UnsupportedMedia, read
from riverrun.models import CheckpointError, InvalidRequest
from riverrun.streaming.errors import ProtocolError
from tests.sdk.mutants import tone, write


def noisy(rate: int, channels: int) -> NDArray[np.float32]:
    """A tone with a little noise, 0.3 s.  # [t, c]"""
    rng = np.random.default_rng(0)
    sound = tone(rate, channels, 0.3)
    return (sound + 0.01 * rng.standard_normal(sound.shape)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_array_keeps_its_shape_and_is_changed(tiny: str, rate: int, channels: int) -> None:
    sound = noisy(rate, channels)
    clean = riverrun.restore(sound, rate, model=tiny)
    assert (clean.shape, clean.dtype) == (sound.shape, sound.dtype)
    assert 1e-4 < np.abs(clean - sound).max() < 1


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_strength_0_gives_the_input_back(tiny: str, rate: int) -> None:
    sound = noisy(rate, 2)
    assert np.abs(riverrun.restore(sound, rate, model=tiny, strength=0.0) - sound).max() < 1e-5


def test_band_8k_cuts_what_lies_above(tiny: str) -> None:
    t = np.arange(24_000) / 48_000
    sound = (0.2 * np.sin(2 * np.pi * 1_000 * t) + 0.2 * np.sin(2 * np.pi * 12_000 * t)).astype(np.float32)
    heard = {
        band: np.abs(np.fft.rfft(riverrun.restore(sound, 48_000, model=tiny, strength=0.0, band=band)))[6_000]
        for band in ("full", "8k")
    }
    assert heard["8k"] < 0.01 * heard["full"]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "int32"])
def test_an_array_keeps_its_dtype_and_level(tiny: str, dtype: str) -> None:
    sound = noisy(16_000, 1)[:, 0]
    full = 1 if dtype.startswith("float") else np.iinfo(dtype).max
    given = (sound * full).astype(dtype)
    clean = riverrun.restore(given, 16_000, model=tiny, strength=0.0)
    assert (clean.shape, clean.dtype) == (given.shape, given.dtype)
    assert np.abs(clean / full - given / full).max() < 1e-4


def test_equal_seeds_give_equal_sound_and_others_do_not(tiny: str) -> None:
    sound = noisy(16_000, 1)
    one, same, other = (riverrun.restore(sound, 16_000, model=tiny, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("data", [np.zeros((2, 2, 2)), np.zeros(4, complex), np.zeros(0), np.zeros(4, bool)])
def test_an_array_of_another_kind_is_refused(tiny: str, data: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="expected"):
        riverrun.restore(data, 16_000, model=tiny)


def test_nan_is_refused(tiny: str) -> None:
    with pytest.raises(CorruptMedia, match="NaN"):
        riverrun.restore(np.full(100, np.nan), 16_000, model=tiny)


def test_the_callers_threads_are_left_as_they_were(tiny: str) -> None:
    import torch

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        riverrun.restore(noisy(16_000, 1), 16_000, model=tiny)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_path_with_a_rate_and_an_array_without_are_refused(tiny: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        riverrun.restore("x.wav", 16_000)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="rate"):
        riverrun.restore(np.zeros(10))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "settings", [{"strength": 2.0}, {"band": "4k"}, {"task": "sing"}, {"model": "nobody"}]
)
def test_settings_outside_their_limits_are_refused(tiny: str, settings: dict[str, Any]) -> None:
    given = settings if "task" in settings else {"model": tiny} | settings
    with pytest.raises(InvalidRequest, match="expected"):
        riverrun.restore(noisy(16_000, 1), 16_000, **given)


def test_unknown_settings_and_missing_weights_are_refused() -> None:
    with pytest.raises(TypeError, match="strenght"):
        riverrun.restore("x.wav", strenght=0.5)  # type: ignore[call-overload]
    with pytest.raises(CheckpointError, match="no such file"):
        riverrun.restore(noisy(16_000, 1), 16_000, model="gone.safetensors")


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64"])
def test_full_scale_stays_on_its_side(tiny: str, dtype: str) -> None:
    limits = np.iinfo(dtype)
    sound = np.array([limits.max, limits.min] * 800, dtype)
    made = riverrun.restore(sound, 16_000, model=tiny, strength=0.0)
    assert (np.sign(made) == np.sign(sound)).all() and abs(int(made[0]) / limits.max - 1) < 1e-6


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_named(tiny: str, device: str) -> None:
    with pytest.raises(InvalidRequest, match=f"device is '{device}'"):
        riverrun.Restorer(model=tiny, device=device)


def test_a_rate_of_nothing_is_refused(tiny: str) -> None:
    with pytest.raises(ProtocolError, match="rate is 0"):
        riverrun.restore(noisy(16_000, 1), 0, model=tiny)


def test_links_are_followed_and_what_is_no_file_is_kept(tiny: str, tmp_path: Path) -> None:
    write(tmp_path / "in.wav", noisy(16_000, 1), 16_000, "pcm_s16le")
    (tmp_path / "real.wav").write_bytes(b"old")
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    restorer = riverrun.Restorer(model=tiny)
    restorer.file(str(tmp_path / "in.wav"), str(tmp_path / "link.wav"), force=True)
    assert (tmp_path / "link.wav").is_symlink() and len(read(tmp_path / "real.wav")[0]) == 4_800
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(UnsupportedMedia, match="no ordinary file"):
        restorer.file(str(tmp_path / "in.wav"), str(tmp_path / "pipe.wav"), force=True)
