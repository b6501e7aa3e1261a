"""What is heard: a level of its own for each recording, features whose units and references are easily mistaken."""

import math

import numpy as np
import pytest
import torch

from riverrun.models.voice.features import banks, highpass, level, log_mel, prepare
from riverrun.models.voice.xvc import XVc

TIME = np.arange(16_000) / 16_000
TONE = np.sin(2 * math.pi * 440 * TIME)


@pytest.mark.parametrize("size", [0.15, 0.3, 0.9])
def test_recordings_come_to_one_level(size: float) -> None:
    loud = np.sort(np.abs(level(size * TONE)))
    assert loud[int(0.9 * len(loud)) : int(0.99 * len(loud))].mean() == pytest.approx(0.2, rel=0.02)


def test_a_quiet_recording_is_raised_twice_as_published() -> None:
    """First to a peak of 0.1, then by what its level was before."""
    assert np.abs(level(0.05 * TONE)).max() == pytest.approx(0.1 * 0.2 / 0.05, rel=0.05)


def test_silence_stays_silent_and_nothing_stays_nothing() -> None:
    assert np.abs(prepare(np.zeros(1_281))).max() == 0 and len(prepare(np.zeros(1_281))) == 2_560
    assert len(prepare(np.zeros(0))) == 0


def test_rumble_is_taken_out_and_speech_is_not() -> None:
    low = highpass(0.5 * np.sin(2 * math.pi * 10 * TIME))[8_000:]
    assert np.abs(low).max() < 0.05 and np.abs(highpass(0.5 * TONE)[8_000:]).max() > 0.49


def test_each_row_of_a_batch_is_what_it_is_alone(net: XVc) -> None:
    """The loudest value, from which the depth is counted, is the row's and not the batch's."""
    rows = torch.stack([torch.randn(8_000), 1e-3 * torch.randn(8_000)])
    for features in (net.mel_extractor, log_mel, banks):
        together, alone = features(rows), torch.cat([features(row[None]) for row in rows])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_decibels_are_of_amplitude_and_80_deep(net: XVc) -> None:
    sound = torch.from_numpy(TONE).float()[None]
    mel = net.mel_extractor(sound)
    assert mel.max() - mel.min() == pytest.approx(80, abs=1e-3)
    torch.testing.assert_close(net.mel_extractor(10 * sound).max(), mel.max() + 20, atol=1e-3, rtol=0)


def test_filter_banks_want_a_whole_frame() -> None:
    assert banks(torch.randn(1, 400)).shape == (1, 1, 80)
    with pytest.raises(ValueError, match="399 samples, expected 400"):
        banks(torch.randn(1, 399))
