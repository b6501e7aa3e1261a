"""Speech comes to one loudness however loud it was, within seconds, and silence is left alone."""

import numpy as np
import pytest

from riverrun.models.checking import check_stream
from riverrun.models.voice.gain import Gain, Request
from tests.models.toys import stream
from tests.models.voice.chained import HOP, PORT, RATE, Audio, loudness, noise, words

ON, OFF = Request(), Request(False)


def gains(made: Audio, sound: Audio) -> Audio:
    """The gain of each hop in dB, where there is sound."""
    power = [np.square(x.reshape(-1, HOP)).mean(1) for x in (made, sound)]
    return np.asarray(10 * np.log10(power[0][power[1] > 0] / power[1][power[1] > 0]), np.float32)


def test_it_keeps_the_promises_of_a_filter() -> None:
    model = Gain(PORT)
    report = check_stream(model, [ON, OFF, ON], hops=40)
    assert report.max_difference < 1e-5 and report.batch == 3 and model.spec.latency == 0


@pytest.mark.parametrize("level", [-40.0, -30.0, -15.0, -5.0])
@pytest.mark.parametrize("background", [-300.0, -30.0], ids=["quiet", "noisy"])
def test_loud_and_soft_speech_come_out_alike_after_three_seconds(level: float, background: float) -> None:
    after = slice(3 * RATE, None)
    sound = words(300, level) + noise(300, level + background, seed=1)
    made = stream(Gain(PORT), sound, ON)[after]
    assert loudness(made) == pytest.approx(-23, abs=1)


def test_it_is_bounded() -> None:
    soft = words(400, -52.0)
    found = gains(stream(Gain(PORT), soft, ON), soft)
    assert found.max() == pytest.approx(24, abs=0.1) and found.min() > -0.1


def test_it_moves_along_ramps() -> None:
    sound = np.full(100 * HOP, 0.5, np.float32) * (
        np.arange(100 * HOP) // (10 * HOP) % 2
    )  # 200 ms, on and off
    made = stream(Gain(PORT), sound.astype(np.float32), ON)
    steps = np.abs(np.diff(made))[np.diff(sound) == 0]
    assert 0 < steps.max() < 1e-4


@pytest.mark.parametrize("sound", [noise(200, -60.0), noise(200, -300.0)], ids=["hiss", "silence"])
def test_silence_is_not_made_louder(sound: Audio) -> None:
    assert np.array_equal(stream(Gain(PORT), sound, ON), sound)


def test_a_pause_leaves_the_gain_where_it_was() -> None:
    sound = noise(300, -60.0)
    sound[: 100 * HOP] += words(100, -30.0)
    found = gains(stream(Gain(PORT), sound, ON), sound)
    assert np.ptp(found[100:]) < 0.01 and found[-1] == pytest.approx(7, abs=1)


def test_steady_noise_is_taken_for_speech_only_for_a_while() -> None:
    sound = noise(400, -45.0)
    sound[: 50 * HOP] = 0
    found = gains(stream(Gain(PORT), sound, ON), sound)
    assert np.ptp(found[-100:]) < 0.01


def test_off_it_is_not_there_and_it_goes_back_slowly() -> None:
    sound = words(300, -35.0)
    assert np.array_equal(stream(Gain(PORT), sound, OFF), sound)
    back = stream(Gain(PORT), sound, ON, {150: OFF})
    assert np.allclose(back[200 * HOP :], sound[200 * HOP :]) and gains(back, sound).max() > 10
