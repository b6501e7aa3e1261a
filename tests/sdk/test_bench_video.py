"""riverrun bench video: a model's file, or random weights of a preset, to the end, with nothing fetched."""

import json
from pathlib import Path
from typing import Any

import pytest

from riverrun.cli import main
from riverrun.models.errors import ModelError
from riverrun.models.evaluation.recordings import Packages
from riverrun.models.training.world.captions import vocabulary
from riverrun.models.video import lite
from tests.models.pictures import bank
from tests.models.video.shows import net


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package can be had that is not installed."""

    def absent(*_: Any) -> Path:
        raise ModelError("no network")

    monkeypatch.setattr(Packages, "npm", absent)


def bench(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "video", "--frames", "9", "--steps", "3", "--delta", "1e9", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny model of the world."""
    path = tmp_path_factory.mktemp("video") / "tiny.safetensors"
    lite.save(path, net(words=vocabulary(), size=(24, 24)))
    return path


def test_a_model_of_the_world_is_told_captions_too(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank().save(tmp_path / "sprites.npz")
    options = ["--model", str(weights), "--sprites", str(tmp_path / "sprites.npz"), "--scenes", "1"]
    assert bench(*options, "--drift", "0") == 0
    out, told = capsys.readouterr()
    assert "tiny, 9 frames on cpu; processor time, one thread." in out and "| streamed | 3 |" in out
    assert "| whole, TeaCache 1e+09 |" in out and "1 of 3" in out
    assert "| drawn |" in out and "| 3 steps |" in out and "following 1 captions, 3 steps" in told


def test_random_weights_are_timed_and_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--preset", "show-lite", "--size", "16x24", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "show-lite of random weights" and not found["followed"] and not found["drifts"]
    assert len(found["speeds"]) == 6 and found["speeds"][0]["stages"]["denoise"] > 0
    assert bench("--preset", "show-lite", "--size", "16x24", "--no-caching") == 0
    assert "PSNR" not in capsys.readouterr().out


def test_what_cannot_be_judged_is_told_in_a_line(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cases = [
        (["--model", str(weights)], "no network"),
        (["--model", str(weights), "--size", "16x24"], "name a --preset"),
        (["--preset", "opensora"], "preset is 'opensora', expected one of stdit3-xl, show-lite"),
        (["--preset", "show-lite", "--size", "large"], "'large' is no ROWSxCOLUMNS"),
        (["--model", "restore-lite"], "the model is for another task"),
        (["--model", str(weights), "--scenes", "0", "--prompt", "Wörter"], "no word of it is known"),
    ]
    for options, why in cases:
        assert bench(*options) != 0
        told = capsys.readouterr().err
        assert why in " ".join(told.replace("│", " ").split()) and "Traceback" not in told
