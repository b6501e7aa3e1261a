"""Spans are those of the best path: no gap, no order changed, pauses only between words."""

import math
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from riverrun.media import read
from riverrun.models import checkpoint
from riverrun.models.errors import CheckpointError, InvalidRequest
from riverrun.models.speech.aligner import (
    BLANK,
    KIND,
    MARKS,
    PHONES,
    SYMBOLS,
    Aligner,
    AlignerConfig,
    Span,
    Word,
    align,
    features,
    load,
    packaged,
    path,
    reach,
    spell,
    starts,
    words,
)

TINY = AlignerConfig(near=16, width=16, layers=1)


def heard(said: str, sure: float = 0.9) -> torch.Tensor:
    """What a recogniser tells that holds one symbol likely for two frames each, `_` for a pause."""
    told = torch.full((2 * len(said), len(SYMBOLS) + 1), (1 - sure) / len(SYMBOLS))
    for t, symbol in enumerate(said):
        told[2 * t : 2 * t + 2, BLANK if symbol == "_" else SYMBOLS.index(symbol) + 1] = sure
    return told.log()


def places(phonemes: str, said: str) -> list[tuple[str, float, float]]:
    """Spans of the phonemes as places in `said`."""
    return [(span.symbol, span.start / 2, span.end / 2) for span in align(heard(said), phonemes).spans]


def test_each_symbol_gets_the_frames_that_sound_like_it() -> None:
    found = places("hˈæt kɑː.", "__hhæææt___kkɑɑɑ____")
    assert found == [
        ("h", 2, 4), ("ˈ", 4, 4), ("æ", 4, 7), ("t", 7, 8), (" ", 8, 11),
        ("k", 11, 13), ("ɑ", 13, 16), ("ː", 16, 16), (".", 16, 20),
    ]  # fmt: skip


def test_a_pause_may_be_left_out_and_silence_inside_a_word_is_its_sounds() -> None:
    assert places("æt k", "æætkk") == [("æ", 0, 2), ("t", 2, 3), (" ", 3, 3), ("k", 3, 5)]
    inside = places("ætk", "æ__tk")
    assert inside[0][1] == 0 and inside[0][2] == inside[1][1] and inside[2] == ("k", 4, 5)


def test_of_several_symbols_between_words_the_first_has_the_pause() -> None:
    assert places("æ, “t”.", "æ__t__") == [
        ("æ", 0, 1), (",", 1, 3), (" ", 3, 3), ("“", 3, 3), ("t", 3, 4), ("”", 4, 6), (".", 6, 6),
    ]  # fmt: skip


def test_the_same_sound_twice_is_two_spans() -> None:
    assert places("s s", "ss__ss") == [("s", 0, 2), (" ", 2, 4), ("s", 4, 6)]
    one, _, two = places("s s", "sss")
    assert one[1] == 0 and one[2] == two[1] and two[2] == 3


def test_the_best_path_is_the_best_of_all_paths() -> None:
    way, told = path("æt k"), torch.randn(9, len(SYMBOLS) + 1).log_softmax(1)
    last = len(way.columns) - 1

    def best(t: int, state: int) -> float:
        here = float(told[t, way.columns[state]])
        if t == 0:
            return here if state <= 1 else -math.inf
        before = [state, state - 1] + ([state - 2] if state > 1 and way.optional[state - 1] else [])
        return here + max(best(t - 1, s) for s in before if s >= 0)

    optional = torch.tensor([way.optional])
    scores = reach(told[None, :, list(way.columns)], optional, starts(optional), torch.maximum)
    assert scores[0, -1, -2:].max().item() == pytest.approx(max(best(8, last), best(8, last - 1)), abs=1e-5)


@given(
    st.lists(st.text(PHONES + MARKS, min_size=1, max_size=5), min_size=1, max_size=4),
    st.sampled_from([" ", ", ", ". "]),
    st.integers(0, 9),
)
def test_spans_are_all_symbols_in_order_without_gaps(said: list[str], between: str, seed: int) -> None:
    phonemes = between.join(said)
    if not any(symbol in PHONES for symbol in phonemes):
        return
    told = torch.randn(50, len(SYMBOLS) + 1, generator=torch.Generator().manual_seed(seed)).log_softmax(1)
    found = align(told, phonemes)
    assert "".join(span.symbol for span in found.spans) == phonemes
    assert 0 <= found.spans[0].start and found.spans[-1].end <= 50 and 0 < found.confidence < 1
    for one, two in zip(found.spans, found.spans[1:], strict=False):
        assert one.end == two.start
    for span in found.spans:
        assert span.end >= span.start + 2 if span.symbol in PHONES else span.end >= span.start
    assert [word.phonemes for word in words(found.spans, 0.01)] == said


def test_confidence_is_high_for_what_was_said_and_low_for_what_was_not() -> None:
    told = heard("__hhæææt___kkɑɑɑ____")
    assert align(told, "hˈæt kɑː.").confidence == pytest.approx(1)
    assert align(told, "mˈu zɪv.").confidence < 0.2


def test_words_are_in_seconds() -> None:
    spans = align(heard("_hææt__kɑ_"), "hˈæt, kɑː.").spans
    assert words(spans, 0.25) == [Word("hˈæt", 0.5, 2.5), Word("kɑː", 3.5, 4.5)]
    assert words([Span(" ", 0, 2)], 0.5) == []


def test_what_is_heard_can_be_spelled() -> None:
    assert spell(heard("__hhæææt___kkɑɑɑ____")) == "hætkɑ"
    told = heard("ss__sst")
    assert spell(told) == "sst" and spell(told[:-1]) == "ss", "one frame is too short for a sound"


@pytest.mark.parametrize(
    ("phonemes", "told"),
    [
        ("hæ7t", "symbol 2 of 'hæ7t' is '7', expected one of"),
        ("ˈ, .", "holds no sound"),
        ("hæt kɑt", "holds 6 sounds of at least 2 frames, and the clip 10 frames"),
    ],
)
def test_what_cannot_be_aligned_is_told(phonemes: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        align(heard("hætkɑ"), phonemes)


@pytest.mark.parametrize("samples", [240, 1000, 24_000])
def test_features_do_not_depend_on_level_and_cover_the_clip(samples: int) -> None:
    sound = 0.1 * torch.randn(1, samples)
    mel = features(sound, TINY)
    assert mel.shape == (1, math.ceil(samples / TINY.hop), TINY.bands)
    assert torch.allclose(mel, features(8 * sound, TINY), atol=1e-4)
    assert torch.isfinite(features(torch.zeros(1, samples), TINY)).all()
    assert Aligner(TINY).hear(sound[0]).shape == (mel.shape[1], len(SYMBOLS) + 1)


def test_a_click_is_in_the_frame_of_its_sample() -> None:
    sound = torch.zeros(1, 4800)
    sound[0, 7 * TINY.hop + 120] = 1.0
    assert features(sound, TINY).mean(2).argmax() == 7


def test_weights_are_saved_with_their_symbols(tmp_path: Path) -> None:
    model, file = Aligner(TINY).eval(), tmp_path / "aligner.safetensors"
    checkpoint.save(file, model, KIND, TINY)
    again, sound = load(file), torch.randn(4800)
    assert again.config == TINY and torch.allclose(model.hear(sound), again.hear(sound), atol=2e-2)
    with pytest.raises(CheckpointError, match="no such file"):
        load(tmp_path / "other.safetensors")


def test_the_packaged_one_hears_speech_and_is_not_sure_where_there_is_none() -> None:
    model = load(packaged())
    sample = read(Path(str(files("riverrun.assets"))) / "sample-clean.flac")[0][:, 0]
    heard = spell(model.hear(torch.from_numpy(sample)), model.config.symbols)
    assert 5 < len(heard) / (len(sample) / 24_000) < 18, "sounds a second"
    hiss = 0.1 * torch.randn(2 * 24_000)
    assert model.align(hiss, "hˈaʊ ɑɹ ju").confidence < 0.3
