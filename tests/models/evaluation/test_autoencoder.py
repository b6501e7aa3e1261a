"""An autoencoder's bench: what it is judged by, on which recordings, and that a buzz shows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from riverrun.models.errors import ModelError
from riverrun.models.evaluation.autoencoder import bench, recordings
from riverrun.models.evaluation.metrics import NAMES, repetition
from riverrun.models.speech.frames import FrameConfig
from riverrun.models.speech.vae import WaveVae
from tests.sdk.mutants import write

TINY = FrameConfig(4, 60, 2, (8, 1, 1), (8, 1, 1))


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(24_000 * seconds))).astype(np.float32)


def test_every_judge_has_a_column_and_every_way_a_row() -> None:
    def judge(heard: np.ndarray, clean: np.ndarray) -> list[float]:
        assert heard.shape == clean.shape == (16_000 * 2,)
        return [float(np.array_equal(heard, clean))] * len(NAMES)

    told = bench(WaveVae(TINY).eval(), [("a", noise(2)), ("b", noise(2, 1))], judge).splitlines()
    assert told[0].split(" | ")[1:] == [*NAMES, "repetition |"]
    recorded, mean, drawn = told[2:5]
    assert recorded.startswith("| recorded | 1.00") and mean.startswith("| mean | 0.00") and "drawn" in drawn
    assert "2 recordings" in told[-1] and "frame of 5 ms" in told[-1]


def test_noise_that_repeats_is_told_from_noise_that_does_not() -> None:
    once = noise(0.02)
    assert repetition(np.tile(once, 50), 24_000, len(once)) > 0.95
    assert abs(repetition(noise(1), 24_000, len(once))) < 0.05
    t = np.arange(24_000) / 24_000
    hum = np.sin(2 * np.pi * 100 * t).astype(np.float32)
    assert abs(repetition(hum + noise(1), 24_000, 240)) < 0.05, "what is low may repeat"


def test_held_out_recordings_are_judged_where_a_manifest_says_which(tmp_path: Path) -> None:
    for name, seconds in (("a", 2), ("b", 2), ("short", 1)):
        write(tmp_path / f"{name}.flac", noise(seconds)[:, None], 24_000, "flac")
    assert sorted(name for name, _ in recordings(tmp_path, 9, 24_000)) == ["a.flac", "b.flac"]
    assert len(list(recordings(tmp_path, 1, 24_000))) == 1
    rows = [{"file": "a.flac", "split": "train"}, {"file": "b.flac", "split": "heldout"}]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ((name, sound),) = recordings(tmp_path, 9, 24_000)
    assert name == "b.flac" and len(sound) == 48_000
    (tmp_path / "manifest.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(ModelError, match="no recording"):
        list(recordings(tmp_path, 9, 24_000))


def test_judging_leaves_no_gradient_behind() -> None:
    model = WaveVae(TINY)
    bench(model, [("a", noise(2))], lambda heard, clean: [0.0] * len(NAMES))
    assert all(p.grad is None for p in model.parameters()) and torch.is_grad_enabled()
