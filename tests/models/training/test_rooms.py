"""Rooms: the direct sound first, a decay of the right length, and a bank that gives the same back."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from riverrun.media.errors import UnsupportedMedia
from riverrun.models.training.rooms import EARLY, RATE, Rooms, bank, room

pytest.importorskip("pyroomacoustics")


def decay(response: np.ndarray) -> float:
    """T60 by Schroeder's backward integration between -10 and -30 dB."""
    energy = np.cumsum(response[::-1].astype(float) ** 2)[::-1]
    curve = 10 * np.log10(energy / energy[0] + 1e-12)
    return float(np.argmax(curve < -30) - np.argmax(curve < -10)) / RATE * 3


def test_the_direct_sound_comes_first_and_is_the_strongest() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        whole, head = room(rng)
        assert whole[0] == pytest.approx(1) and np.isfinite(whole).all()
        assert np.abs(whole[1:]).max() < 1.5
        assert head.shape == (EARLY,) and np.array_equal(head[: EARLY // 2], whole[: EARLY // 2])


def test_rooms_are_short_and_long_near_and_far() -> None:
    rng = np.random.default_rng(1)
    rooms = [room(rng)[0] for _ in range(40)]
    decays = [decay(r) for r in rooms]
    assert min(decays) < 0.3 and max(decays) > 0.6 and max(decays) < 1.6
    clarity = [10 * np.log10((r[:EARLY] ** 2).sum() / (r[EARLY:] ** 2).sum()) for r in rooms]
    assert min(clarity) < 2 and max(clarity) > 10


def test_high_frequencies_die_first() -> None:
    rng = np.random.default_rng(2)
    ratios = []
    for _ in range(10):
        whole, _ = room(rng)
        late = whole[int(0.1 * RATE) :]
        power = np.abs(np.fft.rfft(late)) ** 2
        split = len(power) // 4
        ratios.append(power[3 * split :].mean() / power[:split].mean())
    assert np.median(ratios) < 0.5


def test_a_bank_is_drawn_from_by_seed_and_pickles_as_its_path(tmp_path: Path) -> None:
    path = tmp_path / "rooms.npy"
    bank(5, 4, path)
    rooms = Rooms(path)
    assert len(rooms) == 4
    whole, head = rooms.draw(np.random.default_rng(0))
    again, _ = pickle.loads(pickle.dumps(rooms)).draw(np.random.default_rng(0))
    assert np.array_equal(whole, again) and whole[0] == pytest.approx(1, abs=1e-3)
    assert whole.dtype == head.dtype == np.float32


def test_a_missing_bank_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="rooms.bank"):
        Rooms(tmp_path / "none.npy")
