"""Codecs in memory: what comes back is damaged, in time, and refused by name where it cannot be."""

import numpy as np
import pytest

from riverrun.media.errors import UnsupportedMedia
from riverrun.media.lines import available, delay, there_and_back

RATE = 16_000


def test_g722_comes_back_in_time() -> None:
    assert available("g722")  # in every FFmpeg
    late = delay("g722", "g722", RATE, 64_000)
    sound = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    heard = there_and_back(sound, "g722", "g722", RATE, 64_000, late=late)
    assert late > 0 and len(heard) >= len(sound)
    error = heard[800:RATE] - sound[800:]
    assert 0 < np.sqrt(np.mean(error**2)) < 0.02


def test_unknown_encoders_and_rates_are_refused_by_name() -> None:
    assert not available("no_such_codec")
    with pytest.raises(UnsupportedMedia, match="no_such_codec at 16000 Hz"):
        there_and_back(np.zeros(100, np.float32), "no_such_codec", "g722", RATE, 0)
    with pytest.raises(UnsupportedMedia, match="g723_1 at 16000 Hz"):
        there_and_back(np.zeros(100, np.float32), "g723_1", "g723_1", RATE, 6300)
