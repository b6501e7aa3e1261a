"""A small recipe of an autoencoder runs, learns alone and with judges, and says what it saw."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from riverrun.models.evaluation.metrics import repetition
from riverrun.models.speech.frames import FrameConfig
from riverrun.models.speech.vae import WaveVae
from riverrun.models.training.adversary import Judges, alike, judged
from riverrun.models.training.loop import Alone
from riverrun.models.training.spectral import Spectral, hearing, mel_filters
from riverrun.models.training.speech import Course, Crops, Recipe, train

CPU = Alone(torch.device("cpu"))
TINY = FrameConfig(4, 60, 4, (16, 1, 1), (16, 1, 1))
SMOKE = Recipe(minutes=5, steps=12, batch=2, frames=16, rate=5e-2, log_seconds=0, save_minutes=0)


def sound() -> torch.Tensor:
    """Two seconds of tones that come and go, as 16-bit samples."""
    t = torch.arange(48_000) / 24_000
    tones = sum(torch.sin(2 * torch.pi * f * t) / k for k, f in enumerate((220, 440, 1320), 1))
    return (tones * (2 * torch.pi * t).sin().square() * 8000).short()


def test_a_run_learns_alone_and_then_with_judges(tmp_path: Path) -> None:
    model, saved = WaveVae(TINY), []
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rows = train(model, SMOKE, sound(), tmp_path, CPU, lambda course, out: saved.append(out))
    early, late = (sum(row["mel"] for row in part) for part in (rows[:4], rows[-4:]))
    assert rows[-1]["step"] == 12 and late < early
    assert "judged" not in rows[0] and rows[-1]["judged"] > 0
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(rows)
    assert saved and not any(torch.equal(before[k], v) for k, v in model.state_dict().items() if "grow" in k)


def test_a_frozen_encoder_stays_as_it_is_while_the_decoder_learns(tmp_path: Path) -> None:
    model = WaveVae(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, replace(SMOKE, frozen=True, alone=1.0), sound(), tmp_path, CPU)
    same = {name for name, value in model.state_dict().items() if torch.equal(before[name], value)}
    assert same == {name for name in before if name.startswith("encoder.")}


def test_how_loud_noise_is_is_learned_without_judges() -> None:
    torch.manual_seed(0)
    recorded = (3000 * torch.randn(48_000)).short()
    course = Course(WaveVae(replace(TINY, noise=True)), replace(SMOKE, rate=3e-2), CPU)
    crops = Crops(recorded, 12 * TINY.hop, 0)
    for _ in range(40):
        course.step(crops.draw(2), 1.0, False)
    clip = Crops(recorded, 60 * TINY.hop, 1).draw(1)
    mean, _ = course.model.posterior(clip[:, None])
    heard = course.model.decode(mean)[0][0, 0].detach()
    assert abs(20 * math.log10(float(heard.std() / clip.std()))) < 3
    assert abs(repetition(heard.numpy(), 24_000, TINY.hop)) < 0.25


def test_more_information_than_allowed_is_pressed_harder() -> None:
    torch.manual_seed(0)
    weights = []
    for nats in (0.1, 1000.0):
        course = Course(WaveVae(TINY), replace(SMOKE, nats=nats), CPU)
        crops = Crops(sound(), 16 * TINY.hop, 0)
        weights.append([float(course.step(crops.draw(2), 1.0, False)["weight"]) for _ in range(3)])
    assert weights[0] == sorted(weights[0]) and weights[1] == sorted(weights[1], reverse=True)
    assert weights[0][-1] > weights[1][-1]


def test_crops_are_loud_and_quiet_and_inside_full_scale() -> None:
    crops = Crops(sound(), 4800, 0).draw(64)
    assert crops.shape == (64, 4800) and crops.abs().max() <= 1
    assert torch.equal(crops, Crops(sound(), 4800, 0).draw(64))


def test_spectra_tell_sounds_apart_and_not_a_sound_from_itself() -> None:
    spectral, clean = Spectral(24_000), sound()[None, 10_000:20_000] / 32768
    same, other = spectral(clean, clean), spectral(clean + 0.02 * torch.randn_like(clean), clean)
    assert all(a == 0 < b for a, b in zip(same, other, strict=True))


def test_hearing_is_keenest_where_speech_is() -> None:
    assert torch.allclose(hearing(torch.tensor([1000.0])), torch.ones(1), atol=1e-3)
    quiet, keen, high = hearing(torch.tensor([50.0, 2500.0, 11_000.0]))
    assert quiet < 0.05 < high < 1 < keen


@pytest.mark.parametrize(("size", "bands"), [(32, 5), (512, 80), (2048, 320)])
def test_every_mel_band_averages(size: int, bands: int) -> None:
    filters = mel_filters(24_000, size, bands)
    assert filters.shape == (bands, size // 2 + 1) and (filters >= 0).all()
    assert torch.allclose(filters.sum(1), torch.ones(bands))


def test_judges_learn_to_tell_recorded_from_decoded() -> None:
    judges = Judges((256, 128), 4)
    recorded, decoded = torch.randn(2, 4800), torch.randn(2, 4800).cumsum(1) / 30
    optimizer = torch.optim.AdamW(judges.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        loss = judged(judges(recorded), judges(decoded))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert alike(judges(recorded), judges(recorded)).item() == 0
