"""Training from the command line: from a folder of recordings to weights that load, and on from there."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from riverrun.cli import main
from riverrun.cli.train import read
from riverrun.models import load
from tests.sdk.mutants import write

CONFIG = """
preset = "vocode-lite"
out = "made"
damage = "voice"
rooms = 0
speech = [{ path = "recordings", licence = "CC0-1.0" }]
stages = [{ stage = "predictor", steps = 2, batch = 1 }]
"""


def train(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "restoration", *arguments])
    assert not ended.value.code


def test_recordings_become_weights_and_a_second_call_goes_on(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    for i in range(2):
        sound = 0.1 * np.random.default_rng(i).standard_normal((40_000, 1)).astype(np.float32)
        write(tmp_path / "recordings" / f"{i}.flac", sound, 16_000, "flac")
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    train(str(config))
    weights = tmp_path / "made" / "vocode-lite.safetensors"
    assert load(str(weights)).spec.latency == 256
    first = load_file(weights)
    train(str(config))
    again = load_file(weights)
    assert all(torch.equal(again[name], value) for name, value in first.items()), "it was done"
    config.write_text(CONFIG.replace("steps = 2", "steps = 3"))
    train(str(config))
    further = load_file(weights)
    assert not all(torch.equal(further[name], value) for name, value in first.items())
    index = json.loads((tmp_path / "made" / "pool" / "index.json").read_text())
    assert [source["licence"] for source in index["sources"]] == ["CC0-1.0"]


def test_a_flow_that_no_stage_trains_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    sound = 0.1 * np.random.default_rng(0).standard_normal((40_000, 1)).astype(np.float32)
    write(tmp_path / "recordings" / "a.flac", sound, 16_000, "flac")
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.replace("vocode-lite", "restore-lite").replace("voice", "clean"))
    train(str(config))
    weights = load_file(tmp_path / "made" / "restore-lite.safetensors")
    assert {name.split(".")[0] for name in weights} == {"predictor"}


@pytest.mark.parametrize(
    ("preset", "stage", "words"),
    [
        ("vocode-lite", "eval", "eval"),
        ("vocode-lite", "flow", "preset vocode-lite has no such network"),
        ("restore-lite", "flow", "no stage trains the predictor of restore-lite"),
        ("restore-lite", 'predictor" }, { stage = "tableau', "of a flow that no stage trains"),
    ],
)
def test_a_stage_that_is_not_there_is_told_before_any_work(
    preset: str, stage: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.replace("vocode-lite", preset).replace("predictor", stage))
    with pytest.raises(SystemExit) as ended:
        main(["train", "restoration", str(config)])
    assert ended.value.code == 1 and words in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["restore-lite", "vocode-lite"])
def test_the_recipes_of_the_default_weights_can_be_read(name: str) -> None:
    plan = read(Path(str(files("riverrun.models.training"))) / "recipes" / f"{name}.toml")
    assert plan.preset == name
    assert all(source.licence != "not stated" for source in (*plan.speech, *plan.textures))
