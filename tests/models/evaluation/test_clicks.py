"""Clicks are found wherever they are made, and nothing that a voice does is taken for one."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from riverrun.models.evaluation.clicks import clicks

Sound = NDArray[np.float32]
RATE = 24_000


def voice(hertz: float, seconds: float = 3.0) -> Sound:
    """Pulses through two resonances, as loud as speech is."""
    pulses = np.zeros(round(seconds * RATE))
    pulses[:: round(RATE / hertz)] = 1
    for formant, width in ((600, 80), (1_500, 120)):
        pole = np.exp((-np.pi * width + 2j * np.pi * formant) / RATE)
        pulses = signal.lfilter([1], np.poly([pole, pole.conj()]).real, pulses)
    return np.asarray(0.4 * pulses / np.abs(pulses).max(), np.float32)


def clicked(sound: Sound, height: float, width: int, count: int = 5) -> Sound:
    made = sound.copy()
    for at in np.linspace(0, len(sound) - 1, count + 2).astype(int)[1:-1]:
        made[at : at + width] += height
    return made


@pytest.mark.parametrize("width", [1, 12, 48])
@pytest.mark.parametrize("height", [0.15, -0.9])
def test_needles_in_silence_are_clicks(height: float, width: int) -> None:
    assert clicks(clicked(np.zeros(3 * RATE, np.float32), height, width), RATE) == 5


def test_needles_above_what_is_around_them_are_clicks() -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    assert clicks(clicked(noise, 0.3, 2), RATE) == 5 and clicks(clicked(noise, 0.05, 2), RATE) == 0
    quiet = 0.1 * voice(120)
    assert clicks(clicked(quiet, 0.6, 2), RATE) == 5


def test_what_lasts_is_no_click() -> None:
    assert clicks(clicked(np.zeros(3 * RATE, np.float32), 0.5, 70), RATE) == 0, "2.9 ms"
    pair = np.zeros(RATE, np.float32)
    pair[[5_000, 5_200, 5_400]] = 0.5
    assert clicks(pair, RATE) == 0, "three in 17 ms do not stand alone"


@pytest.mark.parametrize("hertz", [65, 90, 130, 240])
def test_a_voice_has_none(hertz: float) -> None:
    assert clicks(voice(hertz), RATE) == 0


def test_noise_and_a_sudden_step_have_none() -> None:
    noise = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    assert clicks(0.2 * noise, RATE) == 0
    step = np.where(np.arange(RATE) < 9_000, 0, 0.3 * noise[:RATE])
    assert clicks(step.astype(np.float32), RATE) == 0


def test_the_rate_does_not_matter() -> None:
    assert clicks(clicked(np.zeros(16_000, np.float32), 0.5, 20), 16_000) == 5
    assert clicks(np.zeros(10, np.float32), RATE) == 0
