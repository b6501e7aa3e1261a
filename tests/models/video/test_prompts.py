"""Prompts: options, segments, scores, cleaning as published."""

import json
import sys
from pathlib import Path

import pytest

from riverrun.models import InvalidRequest, ModelError
from riverrun.models.video.prompts import cleaned, described, joined, options, paced, scored, segments

CLEANED: dict[str, str] = json.loads((Path(__file__).parent / "opensora/text_preprocessing.json").read_text())


@pytest.mark.parametrize("text", CLEANED)
def test_texts_are_cleaned_as_published(text: str) -> None:
    assert cleaned(text) == CLEANED[text]


def test_cleaning_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ModelError, match=r"riverrun\[video\]"):
        cleaned("a sea")


def test_scores_are_said_once() -> None:
    all_of_them = "a sea aesthetic score: 6.5. motion score: 5.0. camera motion: pan left."
    assert scored("a sea", 6.5, 5, "pan left") == scored(all_of_them, 4.0, 1.0, "static") == all_of_them
    assert scored("a sea") == "a sea"
    with pytest.raises(InvalidRequest, match="'sideways', expected one of pan right, pan left"):
        scored("a sea", camera="sideways")


@pytest.mark.parametrize(
    ("aesthetic", "word"),
    [(3.9, "terrible"), (4.0, "very poor"), (5.5, "good"), (6.4, "very good"), (6.5, "excellent")],
)
def test_later_models_read_words(aesthetic: float, word: str) -> None:
    assert described("a sea", aesthetic) == f"a sea The aesthetic score is {word}."


def test_motion_in_words_and_in_sentences() -> None:
    assert described("a sea", motion=0.4).endswith("strength is very low.")
    assert described("a sea", motion=20).endswith("strength is extremely high.")
    assert described("The motion strength is high.", motion=1) == "The motion strength is high."
    assert paced("a sea", 24, 4) == "a sea. 24 FPS. 4 motion score."
    with pytest.raises(InvalidRequest, match="motion score is 16, expected 1 to 15"):
        paced("a sea", motion=16)


def test_segments_can_be_put_together_again() -> None:
    assert segments("a sea") == (["a sea"], [0])
    assert segments(joined(["a sea", "a storm"], [0, 2])) == (["a sea", "a storm"], [0, 2])
    with pytest.raises(InvalidRequest, match=r"loops \[0, 2, 2\], expected rising"):
        segments("|0|a|2|b|2|c")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ('a sea {"seed": 3}', "options seed, expected reference_path or mask_strategy"),
        ('a sea {"mask_strategy": 0}', "mask_strategy in the prompt is 0, expected a text"),
        ("a sea {oops", "which is not JSON"),
    ],
)
def test_options_that_are_not_known_are_named(prompt: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        options(prompt)
    assert options("a sea").strategy == ""
