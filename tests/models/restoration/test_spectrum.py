"""The front-end: perfect reconstruction, streaming, compression, tasks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.models.restoration.backbone import BackboneConfig
from riverrun.models.restoration.network import Config, Task
from riverrun.models.restoration.spectrum import (
    SpectrumConfig,
    analyse,
    compress,
    expand,
    synthesise,
    to_complex,
    to_real,
)
from riverrun.models.restoration.tasks import mel_filters, observe

FRONT_ENDS = {
    "512/256": SpectrumConfig(),
    "640/320": SpectrumConfig(size=640, hop=320),
    "256/128": SpectrumConfig(size=256, hop=128),
    "512/256 hann": SpectrumConfig(window="hann"),
    "512/128": SpectrumConfig(hop=128),
}
NET = BackboneConfig(inputs=1, width=8, multipliers=(1,), blocks=1, timed=False)


def tone(samples: int) -> torch.Tensor:
    """Three partials below the dropped Nyquist bin.  # [2, samples]"""
    t = torch.arange(samples) / 16_000
    wave = torch.stack([torch.sin(2 * torch.pi * f * t) * 0.2 for f in (220, 1700, 5100)]).sum(0)
    return torch.stack([wave, wave.flip(0)])


@pytest.mark.parametrize("config", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
def test_analysis_then_synthesis_gives_the_input_back_delayed(config: SpectrumConfig) -> None:
    x = tone(config.hop * 40)
    y, _ = synthesise(config, analyse(config, x)[0])
    assert torch.allclose(y[:, config.latency :], x[:, : -config.latency], atol=2e-3)


@pytest.mark.parametrize("config", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
@settings(max_examples=10, deadline=None)
@given(at=st.lists(st.integers(1, 19), max_size=5, unique=True).map(sorted))
def test_the_front_end_does_not_care_how_it_is_cut(config: SpectrumConfig, at: list[int]) -> None:
    x = torch.randn(2, config.hop * 20)
    whole, _ = synthesise(config, analyse(config, x)[0])
    past = tail = None
    parts = []
    for part in x.tensor_split([i * config.hop for i in at], dim=1):
        spectrum, past = analyse(config, part, past)
        y, tail = synthesise(config, spectrum, tail)
        parts.append(y)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


def test_compression_takes_the_root_of_magnitudes_and_keeps_phases() -> None:
    config = SpectrumConfig(alpha=0.5, beta=2.0)
    x = torch.polar(torch.tensor([0.0, 1e-4, 0.25, 9.0]), torch.tensor([0.0, 1.0, -2.0, 3.0]))
    y = compress(config, x)
    assert torch.allclose(y.abs(), 2 * x.abs().sqrt(), atol=1e-4)
    assert torch.allclose(y.angle()[1:], x.angle()[1:], atol=1e-5)
    assert torch.allclose(expand(config, y), x, atol=1e-5)


def test_silence_has_a_derivative() -> None:
    x = torch.zeros(1, 2048, requires_grad=True)
    config = SpectrumConfig()
    y, _ = synthesise(config, analyse(config, x)[0])
    y.sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_real_parts_come_before_imaginary_ones() -> None:
    a, b = torch.randn(2, 1, 4, 3, dtype=torch.complex64)
    x = to_real(a, b)
    assert torch.equal(x[:, 1], b.real) and torch.equal(x[:, 2], a.imag)
    assert torch.equal(to_complex(x)[:, 1], b)


def test_phase_retrieval_and_mel_see_no_phase() -> None:
    config = SpectrumConfig(window="hann")
    spectrum = analyse(config, tone(4096))[0]
    turned = spectrum * torch.polar(torch.ones(256, 16), torch.rand(256, 16) * 6)
    tasks: tuple[Task, ...] = ("phase", "mel")
    for task in tasks:
        seen = observe(Config(task, config, NET), spectrum)[0]
        assert not seen.imag.any()
        assert torch.allclose(observe(Config(task, config, NET), turned)[0].real, seen.real, atol=1e-4)
    assert torch.equal(observe(Config("enhance", config, NET), spectrum)[0], spectrum)


def test_mel_keeps_the_mel_bands_of_the_input() -> None:
    """The pseudo-inverse gives a spectrum with nearly the mel bands it was made from."""
    config = SpectrumConfig(window="hann")
    filters = mel_filters(16_000, 512)
    assert filters.shape == (80, 256)
    spectrum = analyse(config, torch.randn(1, 8192) * 0.1)[0]
    wanted = filters @ spectrum.abs().square()
    got = filters @ observe(Config("mel", config, NET), spectrum)[0].abs().square()
    assert float((got - wanted).abs().mean() / wanted.mean()) < 0.15


@pytest.mark.parametrize("config", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
def test_a_frame_is_a_normalised_fourier_transform(config: SpectrumConfig) -> None:
    config = replace(config, alpha=1.0)
    x = torch.randn(2, config.hop * 9)
    window = torch.hann_window(config.size)
    wanted = torch.stft(
        x,
        config.size,
        config.hop,
        window=window.sqrt() if config.window == "root" else window,
        center=False,
        normalized=True,
        return_complex=True,
    )
    got = analyse(config, x)[0][:, :, config.latency // config.hop :]
    assert torch.allclose(got, wanted[:, :-1], atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"hop": 300}, "two whole hops"),
        ({"hop": 0}, "hop is 0"),
        ({"rate": -5}, "rate is -5"),
        ({"window": "kaiser"}, "root, hann"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"beta": 0.0}, "beta 0"),
    ],
)
def test_values_that_make_no_front_end_are_refused(bad: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        SpectrumConfig(**bad)
