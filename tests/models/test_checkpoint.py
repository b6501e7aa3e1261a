"""A config in a header is taken for what it is or refused with the file's name."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from riverrun.models import CheckpointError
from riverrun.models.checkpoint import CONFIG, KIND, config, read, write
from riverrun.models.restoration.network import Config
from riverrun.models.restoration.presets import PRESETS

PATH = Path("some/weights.safetensors")


def parse(data: Any) -> Config:
    return config({KIND: "it", CONFIG: json.dumps(data)}, "it", Config, PATH)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_comes_back(preset: str) -> None:
    assert parse(dataclasses.asdict(PRESETS[preset])) == PRESETS[preset]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("task", "karaoke"),
        ("task", None),
        ("head", "nonsense"),
        ("phase", 2),
        ("phase", 1.5),
        ("tableau.b", [math.nan, 1.0, 0.0, 0.0, 0.0]),
        ("tableau.c", 3),
        ("spectrum", None),
        ("spectrum.window", "kaiser"),
        ("spectrum.rate", -5),
        ("spectrum.rate", "16000"),
        ("spectrum.hop", 0),
        ("spectrum.alpha", math.nan),
        ("path.sigma", [0.1, 0.2]),
        ("path.sigma", math.inf),
        ("path.sigma", "much"),
        ("flow.bins", 128),
        ("flow.bins", 0),
        ("flow.timed", 1),
        ("flow.width", True),
        ("flow.patch", 0),
        ("flow.multipliers", []),
        ("flow.multipliers", [1, "2"]),
        ("flow.rank", 12),
        ("flow.depth", 3),
        ("predictor", {"inputs": 1, "timed": False, "bins": 512}),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_path(place: str, value: Any) -> None:
    data = dataclasses.asdict(PRESETS["stream-fm-dereverb"])
    *folders, name = place.split(".")
    inside = data
    for folder in folders:
        inside = inside[folder]
    inside[name] = value
    with pytest.raises(CheckpointError, match=str(PATH)):
        parse(data)


@pytest.mark.parametrize("data", [[], 3, None, "config"])
def test_what_is_no_config_is_refused(data: Any) -> None:
    with pytest.raises(CheckpointError, match="expected keys"):
        parse(data)


def test_weights_appear_whole_and_as_other_files_do(tmp_path: Path) -> None:
    path, other = tmp_path / "it.safetensors", tmp_path / "other"
    other.touch()
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T}
    write(path, tensors, "it", PRESETS["restore-lite"], {"licence": "none"})
    header, held = read(path)
    assert torch.equal(held["a"], tensors["a"]) and header["licence"] == "none"
    assert config(header, "it", Config, path) == PRESETS["restore-lite"]
    assert path.stat().st_mode == other.stat().st_mode
    with pytest.raises(AttributeError):
        write(path, {"a": "no tensor"}, "it", PRESETS["restore-lite"])  # type: ignore[dict-item]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["it.safetensors", "other"]
