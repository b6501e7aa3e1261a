"""The band above the model's: it comes through a model that changes nothing, and follows one that does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from riverrun.media import Chunk, join
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.streaming.bands import Gain
from riverrun.streaming.session import Session

RATE, HOP = 16_000, 256
Audio = NDArray[np.float32]


def through(data: Audio, rate: int, sizes: list[int], gain: Audio | None = None, band: str = "full") -> Audio:
    """A stream through a model that delays by 300 ticks and applies a gain, one a tick of its rate."""
    port, latency = Port("audio", RATE, HOP), 300
    session = Session(Spec(port, (port,), latency), rate, data.shape[1], band)  # type: ignore[arg-type]
    late = np.zeros((latency, data.shape[1]), np.float32)
    out: list[Chunk] = []

    def steps() -> None:
        nonlocal late
        while session.ready():
            hops = [hop for hop in session.take() if hop is not None]
            late = np.concatenate([late, np.concatenate([hop.data for hop in hops], axis=1)])
            ticks = np.arange(hops[0].pts - latency, hops[0].pts - latency + HOP)
            now, late = late[:HOP], late[HOP:]
            if gain is not None:
                now = now * gain[np.clip(ticks, 0, len(gain) - 1), None]
            answers: Outputs = [(Chunk(now[:, i : i + 1], int(ticks[0]), RATE),) for i in range(len(hops))]
            session.give(answers)
            out.extend(session.poll())

    at = 0
    while at < len(data):
        piece = data[at : at + sizes[len(out) % len(sizes)]]
        session.feed(Chunk(piece, at, rate))
        at += len(piece)
        steps()
    session.finish()
    steps()
    return join([*out, *session.poll()]).data


def hiss(ticks: int, channels: int = 1) -> Audio:
    return (0.1 * np.random.default_rng(0).normal(size=(ticks, channels))).astype(np.float32)


def level(data: Audio, rate: int, low: float, high: float) -> float:
    """Mean power between two frequencies, dB."""
    spectrum = np.abs(np.fft.rfft(data[:, 0] * np.hanning(len(data)))) ** 2
    f = np.fft.rfftfreq(len(data), 1 / rate)
    return float(10 * np.log10(spectrum[(f > low) & (f < high)].mean() + 1e-20))


@pytest.mark.parametrize("rate", [22_050, 32_000, 44_100, 48_000, 96_000])
@given(
    ticks=st.integers(1, 6_000),
    sizes=st.lists(st.integers(1, 2_000), min_size=1, max_size=4),
    channels=st.integers(1, 2),
)
def test_a_model_that_changes_nothing_gives_the_input_back(
    rate: int, ticks: int, sizes: list[int], channels: int
) -> None:
    data = hiss(ticks, channels)
    assert np.abs(through(data, rate, sizes) - data).max() < 1e-3


def test_the_band_can_be_dropped() -> None:
    data = hiss(48_000)
    got = through(data, 48_000, [960], band="8k")
    assert level(got, 48_000, 9_000, 23_000) < level(data, 48_000, 9_000, 23_000) - 50
    assert abs(level(got, 48_000, 200, 6_500) - level(data, 48_000, 200, 6_500)) < 0.2


@pytest.mark.parametrize("decibels", [-6.0, -20.0])
def test_the_band_follows_the_gain_below_it(decibels: float) -> None:
    data = hiss(48_000)
    got = through(data, 48_000, [960], np.full(16_000, 10 ** (decibels / 20), np.float32))
    for band in ((4_000, 7_000), (9_000, 23_000)):
        change = level(got[4_800:], 48_000, *band) - level(data[4_800:], 48_000, *band)
        assert change == pytest.approx(decibels, abs=1)


def test_a_fricative_out_of_noise_is_not_muffled() -> None:
    noise, s = 0.003 * hiss(48_000), np.zeros((48_000, 1), np.float32)
    s[19_200:24_000] = hiss(4_800)  # 100 ms
    gain = np.full(16_000, 0.05, np.float32)  # the model removes noise, and lets the fricative through
    gain[6_400:8_000] = 1
    got = through(noise + s, 48_000, [960], gain)
    for a, b, most in ((19_200, 19_440, 3.0), (19_440, 24_000, 0.5)):  # its first 5 ms, and the rest
        assert level(s[a:b], 48_000, 9_000, 23_000) - level(got[a:b], 48_000, 9_000, 23_000) < most
    before, after = got[9_600:19_100], got[33_600:]
    for part, original in ((before, noise[9_600:19_100]), (after, noise[33_600:])):
        assert level(part, 48_000, 9_000, 23_000) < level(original, 48_000, 9_000, 23_000) - 20


def test_a_gain_never_exceeds_one_and_silence_teaches_nothing() -> None:
    gain = Gain(HOP, RATE, 1, 0)
    x = hiss(HOP)
    gain.push(x, 3 * x)
    gain.push(x * 0, x * 0)
    assert np.all(gain.at(np.arange(2.0 * HOP)) == 1)


def test_it_starts_closed_over_noise() -> None:
    data = hiss(48_000)
    got = through(data, 48_000, [960], np.full(16_000, 0.01, np.float32))
    start = slice(480, 2_400)  # from 10 ms on
    assert level(got[start], 48_000, 9_000, 23_000) < level(data[start], 48_000, 9_000, 23_000) - 30
