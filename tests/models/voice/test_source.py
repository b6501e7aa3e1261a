"""Pulses and noise, filtered: the pitch that is asked for, nothing that clicks, and the same however it is cut."""

import numpy as np
import pytest
import torch
from torch import Tensor

from riverrun.models.voice.source import Pulses, Synthesis

RATE, HOP, LOWEST = 24_000, 240, 50.0


def spectrum(sound: Tensor) -> np.ndarray:
    return np.abs(np.fft.rfft(sound.double().numpy() * np.hanning(len(sound))))


def test_pulses_have_the_pitch_that_is_asked_for_and_all_its_harmonics() -> None:
    pulses = Pulses(RATE, HOP, LOWEST)
    sound, _ = pulses(torch.full((1, 100), 2.0), pulses.start(1))  # two octaves above 50 Hz
    heard = spectrum(sound[0])
    peaks = [int(np.argmax(heard[200 * k - 60 : 200 * k + 60])) + 200 * k - 60 for k in (1, 7, 40)]
    assert peaks == [200, 1400, 8000]
    assert heard[200 * 50] / heard[200] == pytest.approx(1, abs=0.05), "none is weaker than another"
    assert float(sound.square().mean()) == pytest.approx(1, abs=0.05)


def test_pulses_go_on_without_a_break_however_they_are_cut() -> None:
    pulses, pitch = Pulses(RATE, HOP, LOWEST), 2 + torch.randn(2, 24).cumsum(1) * 0.05
    whole, _ = pulses(pitch, pulses.start(2))
    state, parts = pulses.start(2), []
    for piece in pitch.split([1, 7, 2, 14], dim=1):
        part, state = pulses(piece, state)
        parts.append(part)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)


def test_a_harmonic_that_passes_half_the_rate_fades() -> None:
    pulses = Pulses(RATE, HOP, LOWEST)
    octaves = np.log2(RATE / 2 / 100 / LOWEST)  # the 100th harmonic is at half the rate
    below, above = (
        pulses(torch.full((1, 1), octaves + off), pulses.start(1))[0][0, :8] for off in (-2e-3, 2e-3)
    )
    assert float((below - above).abs().max()) < 0.01


def told(count: int, size: float, loud: float) -> Tensor:
    bins = 2 * HOP + 1
    return torch.cat([torch.full((1, count, bins), v) for v in (size, 0.0, loud)], dim=2)


def test_open_filters_let_pulses_through_three_hops_later() -> None:
    synthesis = Synthesis(HOP)
    sound = torch.randn(1, 30 * HOP) * 0.1
    made, _ = synthesis(told(30, 0.0, -20.0), sound, synthesis.start(1))
    late = 3 * HOP
    assert torch.allclose(made[:, late + late :], sound[:, late:-late], atol=1e-4)


def test_noise_is_as_loud_as_it_is_told_to_be_and_comes_from_the_seed() -> None:
    synthesis = Synthesis(HOP)
    state = synthesis.start(1)
    made, _ = synthesis(told(200, -20.0, 0.1), torch.zeros(1, 200 * HOP), {**state, "seed": [7]})
    level = float(made[:, 4 * HOP :].square().mean().sqrt())
    assert level == pytest.approx(np.exp(0.1), rel=0.1)
    again, _ = synthesis(told(200, -20.0, 0.1), torch.zeros(1, 200 * HOP), {**state, "seed": [7]})
    other, _ = synthesis(told(200, -20.0, 0.1), torch.zeros(1, 200 * HOP), {**state, "seed": [8]})
    assert torch.equal(made, again) and not torch.allclose(made, other, atol=0.1)


def test_synthesis_goes_on_however_it_is_cut() -> None:
    synthesis, sound = Synthesis(HOP), torch.randn(1, 12 * HOP)
    parts = torch.randn(1, 12, 3 * (2 * HOP + 1)) * 0.5
    whole, _ = synthesis(parts, sound, synthesis.start(1))
    state, made = synthesis.start(1), []
    for at in range(0, 12, 2):
        piece, state = synthesis(parts[:, at : at + 2], sound[:, at * HOP : (at + 2) * HOP], state)
        made.append(piece)
    assert torch.allclose(torch.cat(made, dim=1), whole, atol=1e-5)
