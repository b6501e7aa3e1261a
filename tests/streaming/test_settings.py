"""Settings: which source wins, and that a mistake is named."""

from pathlib import Path

import pytest

from riverrun.cli import main
from riverrun.streaming import server
from riverrun.streaming.server import serve
from riverrun.streaming.settings import Settings, read


def test_code_is_overruled_by_the_file_that_by_the_environment_that_by_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.toml"
    file.write_text("port = 1\n[streams]\nresume = 2\nidle = 3\n")
    monkeypatch.setenv("RIVERRUN_STREAMS__RESUME", "20")
    settings = read(file, port=10)
    assert (settings.port, settings.streams.resume, settings.streams.idle) == (10, 20, 3)
    assert settings.streams.journal == Settings().streams.journal


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "prot"),
        ("[streams]\nresme = 1", "streams.resme"),
        ("[streams]\nresume = -1", "streams.resume"),
        ("port = 99999", "port"),
        ('[access]\nkeys = ["secret"]', "new-key"),
        ("port = ", "(?i)invalid|value"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "s.toml")


def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVERRUN_PROT", "1")
    with pytest.raises(ValueError, match="RIVERRUN_PROT"):
        read()


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        read(tmp_path / "nothing.toml")


def test_other_machines_need_a_key() -> None:
    with pytest.raises(ValueError, match="no API key is set"):
        serve(Settings(host="0.0.0.0"))


def test_models_named_on_the_command_line_are_those_that_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = list[Settings]()
    monkeypatch.setattr(server, "serve", served.append)
    (tmp_path / "a.toml").write_text('models = ["restore-lite"]\nport = 9')
    for arguments in ([], ["--model", "one.safetensors", "--model", "two"]):
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--config", str(tmp_path / "a.toml"), *arguments])
        assert not ended.value.code
    assert [one.models for one in served] == [["restore-lite"], ["one.safetensors", "two"]]
    assert [one.port for one in served] == [9, 9]
