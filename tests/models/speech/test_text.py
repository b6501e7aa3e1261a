"""Text is written plainly, made into numbers by the user's tokenizer, and takes as long as published."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from riverrun.models import CheckpointError, ModelError
from riverrun.models.speech.length import continued, frames, seconds
from riverrun.models.speech.longcat import LongCat
from riverrun.models.speech.text import joined, normalise, tokenizer
from tests.models.speech.conftest import LONGCAT

CASES = json.loads((LONGCAT / "duration_cases.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:12] or "empty")
def test_a_text_is_normalised_and_timed_as_published(case: dict[str, Any]) -> None:
    assert normalise(case["text"]) == case["normalized"]
    assert seconds(case["normalized"], 30) == pytest.approx(case["seconds_max30"], abs=1e-9)
    assert seconds(case["normalized"], 60) == pytest.approx(case["seconds_max60"], abs=1e-9)


@pytest.mark.parametrize(
    ("spoken", "pace"), [(0.41, 1.0), (0.82, 1.0), (0.984, 1.2), (1.23, 1.5), (8.2, 1.5)]
)
def test_a_slow_prompt_slows_the_text_and_a_fast_one_does_not_hurry_it(spoken: float, pace: float) -> None:
    assert continued("twenty letters is it", "ten.letter", spoken, 60) == pytest.approx(17 * 0.082 * pace)
    assert continued("a" * 1000, "ten.letter", 1.23, 30) == pytest.approx((30 - 1.23) * 1.5)


def test_a_prompt_needs_its_transcript() -> None:
    with pytest.raises(ValueError, match="transcript"):
        continued("text", " ", 1.0, 30)


def test_lengths_are_whole_frames() -> None:
    assert [frames(s, 24_000, 2048) for s in (0, 0.0853, 0.0854, 30, 60)] == [0, 0, 1, 351, 703]


def test_a_prompt_and_the_text_are_joined_by_either_published_rule() -> None:
    assert joined("one.", "two") == joined("one.", "two", "stop") == "one. two"
    assert joined("one", "two") == "one two" and joined("one", "two", "stop") == "onetwo"


def test_a_tokenizer_is_read_from_a_folder(letters: Path) -> None:
    ids, here = tokenizer(letters, 97)(["abc", "a"])
    assert ids.tolist() == [[4, 5, 6, 1], [4, 1, 0, 0]]
    assert here.tolist() == [[True] * 4, [True, True, False, False]]


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, letters: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        tokenizer(tmp_path / "gone", 97)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        tokenizer(tmp_path, 97)
    with pytest.raises(CheckpointError, match="45 tokens, the text encoder 40"):
        tokenizer(letters, 40)


def test_a_tokenizer_of_another_kind_of_model_is_refused(letters: Path, tmp_path: Path) -> None:
    told = json.loads((letters / "tokenizer.json").read_text()) | {"post_processor": None}
    for file in letters.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=r"ends in \(0, 4\), UMT5's \(0, 1\)"):
        tokenizer(tmp_path, 97)


def test_without_transformers_the_way_to_get_it_is_told(
    letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"riverrun\[speech\]"):
        tokenizer(letters, 97)


def test_padding_changes_no_feature_of_a_text(longcat: LongCat) -> None:
    ids = torch.tensor([[5, 9, 12, 1, 0, 0]])
    padded = longcat.text_encoder(ids, ids > 0)
    alone = longcat.text_encoder(ids[:, :4], ids[:, :4] > 0)
    assert padded.shape == (1, 6, 32)
    assert torch.allclose(padded[:, :4], alone, atol=1e-5)
