"""The mark is the same however speech is cut and whoever is beside, survives a call, and is found only where it is."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from riverrun.media import read
from riverrun.models.errors import CheckpointError
from riverrun.models.evaluation.marking import opus
from riverrun.models.speech import marking, perth
from riverrun.models.speech.lite import Said, speak
from riverrun.models.speech.marking import MARKED, Detector, Marker, Sound, detect
from riverrun.models.state import clone, row, stack
from riverrun.models.training.corpus import resample
from tests.models.speech.small import small

RATE = 24_000


@pytest.fixture(scope="module")
def clean() -> Sound:
    return read(str(files("riverrun.assets") / "sample-clean.flac"))[0][:, 0]


@pytest.fixture(scope="module")
def marker() -> Marker:
    return Marker(RATE)


@pytest.fixture(scope="module")
def marked(clean: Sound, marker: Marker) -> Sound:
    return run(marker, torch.from_numpy(clean)[None], [len(clean)])[0].numpy()


def run(marker: Marker, sound: Tensor, sizes: list[int]) -> Tensor:
    """Mark sound in pieces of these sizes, over and over.  # [b, n]"""
    state, parts, at = marker.start(len(sound)), list[Tensor](), 0
    while at < sound.shape[1]:
        size = sizes[len(parts) % len(sizes)]
        made, state = marker(sound[:, at : at + size], state)
        parts.append(made)
        at += size
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("sizes", [[1, 2, 700], [2400], [480, 7, 5000], [20_000]], ids=str)
def test_the_mark_is_the_same_however_speech_is_cut(marker: Marker, clean: Sound, sizes: list[int]) -> None:
    sound = torch.from_numpy(clean)[None, 20_000:60_000]
    whole = run(marker, sound, [40_000])
    assert (run(marker, sound, sizes) - whole).abs().max() < 1e-5
    assert (whole - sound).abs().max() > 1e-3


def test_a_batch_is_marked_as_each_alone(marker: Marker, clean: Sound) -> None:
    sounds = torch.from_numpy(clean[:192_000]).reshape(3, 64_000)
    states = [marker(sounds[i : i + 1, :999], marker.start(1))[1] for i in range(3)]
    alone = [marker(sounds[i : i + 1, 999:], clone(states[i]))[0] for i in range(3)]
    together, state = marker(sounds[:, 999:], stack(states))
    assert (together - torch.cat(alone)).abs().max() < 1e-5
    assert row(state, 1)["past"].shape == states[1]["past"].shape


def test_nothing_is_delayed_and_silence_stays_silent(marker: Marker) -> None:
    sound = torch.zeros(1, 4_000)
    sound[0, 1_000] = 0.5
    made = run(marker, sound, [4_000])
    assert made[0, :1_000].abs().max() < 1e-6
    assert made.abs().argmax() == 1_000
    assert run(marker, torch.zeros(1, 4_000), [4_000]).abs().max() == 0


def test_what_lies_above_the_mark_is_untouched(marker: Marker) -> None:
    change = torch.fft.rfft(torch.nn.functional.pad(marker.change, (0, 24_000 - len(marker.change)))).abs()
    assert change[2_200:].max() < 0.02 and 0.2 < change[:2_000].max() < 0.4


@pytest.mark.parametrize("kbps", [24, 32, 64])
def test_the_mark_is_found_after_opus_and_only_where_it_is(marked: Sound, clean: Sound, kbps: int) -> None:
    assert detect(opus(marked, RATE, kbps), RATE) > MARKED
    assert detect(opus(clean, RATE, kbps), RATE) < 0.2


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_the_mark_is_found_at_other_rates_and_levels(marked: Sound, clean: Sound, rate: int) -> None:
    assert detect(0.03 * resample(marked, RATE, rate), rate) > MARKED
    assert detect(0.03 * resample(clean, RATE, rate), rate) < 0.2


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_speech_of_another_rate_is_marked_alike(clean: Sound, rate: int) -> None:
    sound = torch.from_numpy(resample(clean, RATE, rate))[None]
    made = run(Marker(rate), sound, [sound.shape[1]])
    assert detect(resample(made[0].numpy(), rate, RATE), RATE) > MARKED


def test_a_marked_part_of_a_long_recording_is_found(marked: Sound, clean: Sound) -> None:
    assert detect(np.concatenate([clean, marked, clean]), RATE) > MARKED
    assert detect(np.concatenate([clean, clean]), RATE) < 0.2


def test_a_recording_is_heard_the_same_however_it_is_cut(marked: Sound) -> None:
    detector = Detector(RATE)
    for part in np.array_split(np.tile(marked, 2), 37):
        detector.push(np.stack([part, part], axis=1))
    found = detector.finish()
    assert found.confidence == pytest.approx(detect(np.tile(marked, 2), RATE), abs=1e-4)
    assert found.marked and found.seconds == pytest.approx(2 * len(marked) / RATE)
    assert len(detector.left) <= marking.WINDOW


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.3, 4.0])
def test_silence_and_what_is_too_short_are_not_marked(seconds: float) -> None:
    assert detect(np.zeros(int(seconds * RATE), np.float32), RATE) == 0


def test_noise_and_tones_are_not_marked() -> None:
    t = np.arange(6 * RATE) / RATE
    for sound in (
        0.1 * np.random.default_rng(0).standard_normal(len(t)),
        0.1 * np.sin(2 * np.pi * 440 * t),
    ):
        assert detect(np.asarray(sound, np.float32), RATE) < 0.2


def test_what_is_put_in_is_what_the_net_puts_in() -> None:
    kept = load_file(str(files("riverrun.assets") / marking.GAINS))["gains"]
    assert torch.allclose(kept, marking.net().gains(), atol=1e-3)


def test_without_the_package_speech_is_marked_and_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perth, "PACKAGE", "no-such-package")
    marking.net.cache_clear()
    assert len(Marker(RATE).change) > 1000
    with pytest.raises(CheckpointError, match=r"pip install 'riverrun\[mark\]'"):
        detect(np.zeros(RATE, np.float32), RATE)


def test_what_a_model_says_is_marked_unless_it_is_not_to_be() -> None:
    model = small()
    marked, plain = (
        speak(model, Said(" some words " * 40, voice="anna", mark=mark)) for mark in (True, False)
    )
    want, _ = Marker(24_000)(torch.from_numpy(plain)[None], Marker(24_000).start(1))
    assert np.allclose(marked, want[0].numpy(), atol=1e-5) and not np.allclose(marked, plain, atol=1e-4)


def test_a_damaged_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"no weights")
    monkeypatch.setattr(perth, "weights", lambda: tmp_path / "weights")
    marking.net.cache_clear()
    with pytest.raises(CheckpointError, match="cannot be read"):
        marking.net()
