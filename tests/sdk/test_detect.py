"""riverrun detect: a line a file, and an exit status that tells."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from riverrun.cli import main
from tests.streaming.test_detections import marked

CLEAN = str(files("riverrun.assets") / "sample-clean.flac")


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["detect", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("marked") / "speech.ogg"
    file.write_bytes(marked())
    return file


def test_each_file_gets_a_line(speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(speech) == 0
    assert call(speech, CLEAN) == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == ["marked", "marked", "not marked"]
    assert lines[2].endswith(CLEAN)


def test_lines_may_be_json(speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--json", speech) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(speech) and told["marked"] and told["confidence"] > 0.9


def test_what_cannot_be_heard_is_told_and_the_rest_is_done(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path / "none.wav", speech) == 1
    told = capsys.readouterr()
    assert "no such file" in told.err and told.out.startswith("marked")


def test_without_the_package_it_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from riverrun.models.speech import marking, perth

    monkeypatch.setattr(perth, "PACKAGE", "no-such-package")
    marking.net.cache_clear()
    assert call(CLEAN) == 1
    assert "pip install 'riverrun[mark]'" in capsys.readouterr().err
