"""What listens: frames that belong together, whatever the pieces, and pitch as it is read."""

import pytest
import torch

from riverrun.models.voice.listener import Listener, ListenerConfig, mel, power, pressed

CONFIG = ListenerConfig(width=16, layers=2, content=4, pitch_width=16, pitch_layers=1)
HOP = CONFIG.hop


def listener() -> Listener:
    return Listener(CONFIG).eval().requires_grad_(False)


def test_it_hears_the_same_however_sound_is_cut() -> None:
    heard, sound = listener(), torch.randn(2, 16 * HOP) * 0.1
    whole, _ = heard(sound, heard.start(2))
    state, parts = heard.start(2), []
    for piece in sound.split([2 * HOP, 8 * HOP, 6 * HOP], dim=1):
        part, state = heard(piece, state)
        parts.append(part)
    for i, one in enumerate(whole):
        assert torch.allclose(torch.cat([part[i] for part in parts], dim=1), one, atol=1e-5)


def test_loudness_is_told_with_the_frame_that_is_loud() -> None:
    heard, sound = listener(), torch.zeros(1, 40 * HOP)
    sound[:, 20 * HOP : 21 * HOP] = torch.randn(1, HOP)
    (_, tone, _), _ = heard(sound, heard.start(1))
    assert int(tone[0, :, 2:].sum(1).argmax()) == 20 + CONFIG.late


def test_pitch_comes_before_the_tone_of_the_same_frame() -> None:
    heard, sound = listener(), torch.randn(1, 30 * HOP) * 0.1
    (_, tone, pitch), _ = heard(sound, heard.start(1))
    ahead = CONFIG.late - CONFIG.late_pitch
    assert ahead == 1 and torch.equal(tone[:, ahead:, :2], pitch[:, :-ahead])


def test_pitch_is_the_likeliest_and_between_two_that_are_as_likely() -> None:
    pitch = listener().pitch
    told = torch.full((1, 2, CONFIG.classes + 1), -20.0)
    told[0, 0, 1 + 24] = 5.0
    told[0, 1, [1 + 30, 1 + 31]] = 5.0
    read = pitch.read(told)
    assert read[0, :, 1].tolist() == pytest.approx([1.0, 30.5 / 24], abs=1e-3)
    assert float(read[0, 0, 0]) > 0.99


def test_bands_of_formants_elsewhere_are_those_of_sound_played_faster() -> None:
    tone = torch.sin(torch.arange(4 * HOP) * 0.2)[None]
    faster = torch.sin(torch.arange(4 * HOP) * 0.2 * 1.25)[None]
    spectra = Listener(CONFIG).spectra
    seen, wanted = (power(spectra(x, spectra.start(1))[0])[0, 3] for x in (tone, faster))
    assert int(pressed(seen @ mel(CONFIG, 1.25)).argmax()) == int(pressed(wanted @ mel(CONFIG)).argmax())
