"""A gate lets speech in whole, without a click, and what is too soft neither in nor out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from riverrun.media import Chunk
from riverrun.models.checking import check_stream
from riverrun.models.contract import Outputs
from riverrun.models.errors import InvalidRequest
from riverrun.models.state import State
from riverrun.models.voice.gate import Gate, Request
from tests.models.toys import Loudness, Smooth, stream
from tests.models.voice.chained import HOP, RATE, Audio, noise, words

BLOCK, HANG = 120, 6_000  # ticks
SPOKEN = slice(20 * HOP + 50, 60 * HOP)  # begins in the middle of a block, at once
BARE = Request(Loudness())


def gate(latency: int = 0) -> Gate:
    """Around a filter that lets sound through as it is, or smooths it."""
    return Gate(Smooth(RATE, HOP, latency))


def spoken(level: float = -23.0) -> Audio:
    """Speech, and noise below it all the time."""
    sound = noise(120, -70.0, seed=1)
    sound[SPOKEN] += noise(120, level)[SPOKEN]
    return sound


@pytest.mark.parametrize("evaluations", [1, 2])
def test_it_keeps_the_promises_of_a_filter(evaluations: int) -> None:
    model = Gate(Smooth(RATE, HOP, 100, evaluations))
    levels = (-100.0, -55.0, -20.0)
    report = check_stream(model, [Request(Loudness(), level) for level in levels], hops=40)
    assert report.max_difference < 1e-5 and model.spec.latency == 100 + BLOCK


@pytest.mark.parametrize("level", [-23.0, -50.0])
def test_speech_is_let_through_whole_and_nothing_else(level: float) -> None:
    sound, start, stop = spoken(level), SPOKEN.start // BLOCK * BLOCK, SPOKEN.stop
    made = stream(gate(), sound, BARE)
    assert np.array_equal(made[start : stop + HANG - BLOCK], sound[start : stop + HANG - BLOCK])
    assert not made[: start - BLOCK].any() and not made[stop + HANG :].any()


def test_it_opens_and_closes_without_a_click() -> None:
    sound = spoken()
    made, steps = stream(gate(), sound, BARE), np.abs(np.diff(spoken()))
    for at in (SPOKEN.start, SPOKEN.stop + HANG):
        there = slice(at - 2 * BLOCK, at + 2 * BLOCK)
        assert np.abs(np.diff(made[there])).max() <= steps[there].max()


@pytest.mark.parametrize("level", [0.0, 1e-4], ids=["silence", "noise"])
def test_a_model_that_hums_is_not_heard_in_silence(level: float) -> None:
    class Humming(Smooth):
        def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
            outputs, state = super().step(inputs, state)
            return [(replace(c, data=c.data + np.float32(0.1)),) for (c,) in outputs if c is not None], state

    model = Gate(Humming(RATE, HOP, 100))
    assert not stream(model, noise(30, -300.0) + np.float32(level), BARE).any()
    assert stream(model, words(30), BARE)[: 10 * HOP].any()


def test_a_word_that_fades_is_not_cut_and_neither_is_a_short_break() -> None:
    sound = spoken()
    sound[40 * HOP : 40 * HOP + HANG - 2 * BLOCK] = 0
    sound[50 * HOP : 60 * HOP] *= 10 ** (-35 / 20)  # 3 dB below what opens it
    made = stream(gate(), sound, BARE)
    assert np.array_equal(made[SPOKEN], sound[SPOKEN])


def test_off_it_is_not_there_and_a_level_is_what_it_was_changed_to() -> None:
    sound, off = noise(60, -70.0), Request(Loudness(), -100)
    assert np.array_equal(stream(gate(), sound, off), sound)
    made = stream(gate(), sound, off, {20: BARE, 50: off})
    assert made[: 20 * HOP].all() and not made[40 * HOP : 49 * HOP].any() and made[51 * HOP :].all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(
        InvalidRequest, match=r"gate is 3 dB of full scale, expected -100 \(always open\) to 0"
    ):
        Request(Loudness(), 3)
    with pytest.raises(ValueError, match="hop is 500 ticks, expected a multiple of 120"):
        Gate(Smooth(RATE, 500))
