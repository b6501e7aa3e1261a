"""Pools: what of a folder gets in, and what a crop is."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from riverrun.media.errors import CorruptMedia, UnsupportedMedia
from riverrun.models.training.corpus import LEVEL, RATE, Source, Speech, build, decode, level, resample


def test_only_the_train_rows_of_a_manifest_get_in(folders: Path, tmp_path: Path) -> None:
    index = build([folders / "listed"], tmp_path)
    assert index["file"] == ["0.wav", "1.wav"]
    assert index["voice"] == ["ann:1", "ann:0.5+bob:0.5"]
    assert build([folders / "listed"], tmp_path, split="heldout")["file"] == ["2.wav"]


def test_skipped_files_are_listed_with_the_reason(folders: Path, tmp_path: Path) -> None:
    index = build([Source(folders / "plain", skip=("beep",))], tmp_path)
    assert len(index["file"]) == 6
    reasons = {Path(path).name: reason for path, reason in index["skipped"].items()}
    assert set(reasons) == {"short.wav", "silent.wav", "broken.ogg"}
    assert "cannot be opened" in reasons["broken.ogg"]


def test_the_pool_is_flat_int16_that_numpy_maps(pool: Path) -> None:
    samples = np.load(pool / "speech.npy", mmap_mode="r")
    index = json.loads((pool / "index.json").read_text())
    assert samples.dtype == np.int16 and samples.ndim == 1
    assert index["offset"][-1] + index["length"][-1] == len(samples)
    assert index["sources"][0]["licence"] == "CC0-1.0"


def test_files_of_another_rate_keep_their_pitch_and_length(folders: Path) -> None:
    sound = decode(folders / "listed" / "0.wav")
    assert len(sound) == 2 * RATE
    tone = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(resample(tone, 24_000, RATE)))
    assert np.argmax(spectrum) == 1000


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="no usable audio"):
        build([tmp_path], tmp_path / "out")
    with pytest.raises(UnsupportedMedia, match="neither a folder nor a file"):
        build([tmp_path / "nowhere"], tmp_path / "out")
    with pytest.raises(UnsupportedMedia, match="build the pool first"):
        Speech(tmp_path / "nowhere")


def test_a_damaged_file_names_itself(folders: Path) -> None:
    with pytest.raises(CorruptMedia, match="broken.ogg"):
        decode(folders / "plain" / "low" / "broken.ogg")


def test_crops_have_one_level_and_never_clip(pool: Path) -> None:
    speech = Speech(pool)
    rng = np.random.default_rng(1)
    for n in (4000, 32_512, 160_000):  # the longest needs several utterances joined
        for vary in (0.0, 0.2):
            crop = speech.crop(rng, n, vary)
            assert crop.shape == (n,) and crop.dtype == np.float32
            assert np.abs(crop).max() <= 0.95 + 1e-6
    assert level(speech.crop(rng, 32_512)) == pytest.approx(LEVEL, abs=2)


def test_a_joined_crop_stays_with_one_voice(pool: Path) -> None:
    speech = Speech(pool)
    drawn: list[int] = []
    piece = speech.piece
    speech.piece = lambda rng, which, n: drawn.append(which) or piece(rng, which, n)  # type: ignore[method-assign, func-returns-value]
    voices = json.loads((pool / "index.json").read_text())["voice"]
    for seed in range(10):
        drawn.clear()
        speech.crop(np.random.default_rng(seed), 160_000)
        assert len(drawn) > 1 and len({voices[i] for i in drawn}) == 1


def test_sources_are_drawn_by_weight_not_by_size(pool: Path) -> None:
    speech = Speech(pool)
    source = json.loads((pool / "index.json").read_text())["source"]
    rng = np.random.default_rng(0)
    share = np.mean([source[speech.pick(rng)] == 0 for _ in range(2000)])
    assert share == pytest.approx(0.7, abs=0.04)


def test_a_pool_pickles_as_its_path(pool: Path) -> None:
    speech = Speech(pool)
    frozen = pickle.dumps(speech)
    assert len(frozen) < 1000
    one, two = (s.crop(np.random.default_rng(3), 8000) for s in (speech, pickle.loads(frozen)))
    assert np.array_equal(one, two)
