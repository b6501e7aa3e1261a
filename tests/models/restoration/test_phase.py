"""Phase retrieval: it keeps the magnitudes, finds a sound that has them, and does not care how it is called."""

import pytest
import torch

from riverrun.models.restoration.network import Config
from riverrun.models.restoration.phase import retrieve
from riverrun.models.restoration.presets import VOCODE_LITE
from riverrun.models.restoration.spectrum import SpectrumConfig, analyse, synthesise
from riverrun.models.restoration.tasks import look
from tests.models.restoration.test_spectrum import tone

CONFIGS = [SpectrumConfig(window="hann"), SpectrumConfig(), SpectrumConfig(hop=128)]


def inconsistency(config: SpectrumConfig, spectrum: torch.Tensor, retrieved: torch.Tensor) -> float:
    """How far the magnitudes of the sound made from `retrieved` are from those asked for, as a share."""
    sound, _ = synthesise(config, retrieved)
    frames = config.size // config.hop - 1
    again = analyse(config, sound)[0][:, :, frames:]
    asked = spectrum[:, :, : again.shape[2]]
    return float((again.abs() - asked.abs()).square().sum() / asked.abs().square().sum())


@pytest.mark.parametrize("config", CONFIGS, ids=["hann", "root", "hop 128"])
def test_the_sound_comes_near_the_magnitudes_it_was_made_from(config: SpectrumConfig) -> None:
    spectrum = analyse(config, tone(config.hop * 60))[0]
    blind = torch.complex(spectrum.abs(), torch.zeros(spectrum.shape))
    found, _ = retrieve(config, blind, torch.zeros(2, config.latency), 16)
    assert torch.allclose(found.abs(), spectrum.abs(), atol=5e-3)
    assert inconsistency(config, spectrum, found) < 0.25 * inconsistency(config, spectrum, blind)


def test_rows_and_calls_do_not_change_a_bit() -> None:
    """Retrieval can amplify a rounding without bound, so near is not enough."""
    torch.manual_seed(0)
    x = torch.randn(3, 256 * 40) * 0.1
    start = torch.zeros(2, 3, 256)
    whole, _, _ = look(VOCODE_LITE, x, *start)
    for i in range(3):
        past, heard = start[:, :1]
        parts = []
        for hops in x[i : i + 1].split(256 * 7, 1):
            seen, past, heard = look(VOCODE_LITE, hops, past, heard)
            parts.append(seen)
        assert torch.equal(torch.cat(parts, 2)[0], whole[i])


def test_a_task_that_sees_phases_has_none_to_retrieve() -> None:
    with pytest.raises(ValueError, match="'enhance' sees phases"):
        Config("enhance", predictor=VOCODE_LITE.predictor, phase=4)
