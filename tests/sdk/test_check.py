"""riverrun check parity: one line a tensor, the worst, and an exit status that can be trusted."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from riverrun.models.video.lite import save
from tests.models.video.shows import net
from tests.sdk.test_cli import call

LONGCAT = Path(__file__).resolve().parents[1] / "models" / "speech" / "longcat"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LONGCAT, tmp_path / "recording"))


def test_every_tensor_has_a_line_and_the_worst_comes_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "parity", LONGCAT) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == set(load_file(LONGCAT / "outputs.safetensors"))
    assert all(len(line.split()) == 4 and line.endswith(" ok") for line in lines)
    word, worst, _, tolerance = last.split()
    assert word == "worst" and float(worst) < float(tolerance) == 2e-4


def test_what_shows_keeps_what_streams_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "show.safetensors", net())
    assert call("check", "stream", tmp_path / "show.safetensors") == 0
    told = capsys.readouterr().out
    assert "36 ticks a stream, up to 3 streams a step" in told
    exact = [line for line in told.splitlines() if line.endswith(" 0, bit for bit")]
    assert {line.split("|")[1] for line in exact} >= {
        "saved and loaded - never stopped",
        "after a clone went its way - before",
        "the same input - again",
    }
    assert call("check", "stream", tmp_path / "show.safetensors", "--preset", "480p") == 1
    assert "preset is '480p', and the model has none" in capsys.readouterr().err


def test_the_model_that_speaks_keeps_what_streams_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "stream", "speak-lite", "--hops", "24") == 0
    told = capsys.readouterr().out
    assert "max |text in pieces - at once|" in told and "all the same" in told


@pytest.mark.parametrize(
    "name", ["transformer.blocks.1.cross_attn.to_k.weight", "vae.decoder.layers.3.layers.1.weight_g"]
)
def test_a_weight_that_is_off_fails(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    held = load_file(folder / "weights.safetensors")
    held[name][0] += 0.05
    save_file(held, folder / "weights.safetensors")
    assert call("check", "parity", folder) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert any(line.endswith(" FAIL") for line in lines) and any(line.endswith(" ok") for line in lines)
    assert float(last.split()[1]) > 2e-4


@pytest.mark.parametrize("gone", ["config.json", "weights.safetensors", "outputs.safetensors", "meta.json"])
def test_a_missing_file_is_named(folder: Path, gone: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / gone).unlink()
    assert call("check", "parity", folder) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("riverrun: ") and gone in line


def test_an_unknown_kind_is_named_with_the_known_ones(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.json").write_text(json.dumps({"kind": "weather"}))
    assert call("check", "parity", folder) == 1
    assert "'weather', expected one of longcat" in capsys.readouterr().err
