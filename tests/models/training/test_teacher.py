"""The teacher: what it needs is said, and what it reads becomes a source. Its model is replaced by a buzz."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from riverrun.models.errors import CheckpointError, InvalidRequest
from riverrun.models.training.corpus import build
from riverrun.models.training.teacher import Teacher, read_aloud


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.int8.onnx").write_bytes(b"")
    (tmp_path / "vocab.json").write_text(json.dumps({"vocab": {"a": 1, "b": 2}}))
    packs: dict[str, Any] = {
        name: np.ones((510, 1, 256), np.float32) for name in ("af_one", "af_two", "bm_three", "af_kore")
    }
    np.savez(tmp_path / "voices_en.npz", **packs)
    return tmp_path


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand-ins for onnxruntime and hibari; the list holds what the model was fed."""
    fed: list[dict[str, Any]] = []

    class Session:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def run(self, _: None, feeds: dict[str, Any]) -> list[np.ndarray]:
            fed.append(feeds)
            t = np.arange(24_000) / 24_000
            return [np.sin(2 * np.pi * 200 * t)[None].astype(np.float32) * 0.3]

    class G2P:
        def __init__(self, british: bool = False) -> None:
            self.sound = "b" if british else "a"

        def __call__(self, text: str) -> str:
            return self.sound * len(text)

    runtime = types.SimpleNamespace(InferenceSession=Session, SessionOptions=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setitem(sys.modules, "hibari", types.ModuleType("hibari"))
    monkeypatch.setitem(sys.modules, "hibari.g2p", types.SimpleNamespace(G2P=G2P))
    return fed


def test_what_is_read_aloud_is_a_source(folder: Path, packages: list[dict[str, Any]], tmp_path: Path) -> None:
    count = read_aloud(Teacher(folder), ["One.", "Two words.", "Three of them."], tmp_path / "read", seed=3)
    index = build([tmp_path / "read"], tmp_path / "pool", least=0.5)
    assert count == 3 and len(index["file"]) == 3
    rows = [json.loads(line) for line in (tmp_path / "read" / "manifest.jsonl").read_text().splitlines()]
    assert all(len(row["phonemes"]) == len(row["text"]) for row in rows), "what is said, as it was spelt"
    assert not any("af_kore" in voice for voice in index["voice"])  # held out
    assert len({voice[:1] for voice in index["voice"]} - {"a", "b"}) == 0


def test_the_accent_of_the_heaviest_voice_spells(folder: Path, packages: list[dict[str, Any]]) -> None:
    Teacher(folder).speak("abc", {"af_one": 0.2, "bm_three": 0.8})
    assert packages[0]["tokens"].tolist() == [[0, 2, 2, 2, 0]] and packages[0]["style"].shape == (1, 256)


def test_what_is_missing_is_named(
    folder: Path, packages: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidRequest, match="expected one of af_kore, af_one"):
        Teacher(folder).speak("a", {"nobody": 1.0})
    monkeypatch.setitem(sys.modules, "hibari.g2p", None)
    with pytest.raises(InvalidRequest, match="pip install hibari-tts"):
        Teacher(folder)
    (folder / "vocab.json").unlink()
    with pytest.raises(CheckpointError, match="vocab.json"):
        Teacher(folder)
