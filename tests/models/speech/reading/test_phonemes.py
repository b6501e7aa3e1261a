"""Words become symbols of an alphabet, each with its own."""

import sys
import types
from collections.abc import Sequence

import pytest

from riverrun.models.errors import InvalidRequest, ModelError
from riverrun.models.speech.reading.normal import Word, normalise
from riverrun.models.speech.reading.phonemes import (
    LETTERS,
    PHONEMES,
    Alphabet,
    Pronunciation,
    best,
    letters,
    phonemes,
    spans,
    written,
)


@pytest.fixture(scope="module")
def american() -> Pronunciation:
    pytest.importorskip("hibari")
    return phonemes()


def symbols(text: str, pronunciation: Pronunciation) -> list[str]:
    return [sound.symbols for sound in pronunciation(normalise(text))]


def test_an_alphabet_goes_there_and_back() -> None:
    small = Alphabet("ab ")
    assert small.size == 4
    assert small.encode("ab b") == [1, 2, 3, 2]
    assert small.decode([0, 1, 2, 0, 3, 2, 0]) == "ab b"
    assert PHONEMES.decode(PHONEMES.encode(PHONEMES.symbols)) == PHONEMES.symbols


def test_an_alphabet_refuses_what_it_does_not_know() -> None:
    with pytest.raises(InvalidRequest, match="'!c' at 1 are no symbols of this alphabet, which has 'ab '"):
        Alphabet("ab ").encode("ac!")
    with pytest.raises(InvalidRequest, match="9 is no number of a symbol, expected 0 to 3"):
        Alphabet("ab ").decode([1, 9])
    with pytest.raises(ValueError, match="twice"):
        Alphabet("aba")


def test_the_order_of_symbols_is_for_ever() -> None:
    """Weights are trained on these numbers: symbols may be added at the end, and nothing else."""
    assert PHONEMES.symbols.startswith(' ,.?!;:—…"()“”ˈˌːᵊᵻAIOQTWYabdfhijklmnpstuvwzæðŋɐɑɒɔəɛɜɡɪɹʃʊʌʒʤʧθ')
    assert LETTERS.symbols == " ,.?!;:—'abcdefghijklmnopqrstuvwxyz"


def test_letters_are_the_words_themselves() -> None:
    sounds = letters()(normalise("Don't go — it's 5 well-known TVs!"))
    assert written(sounds) == "don't go— it's five well known t v's!"
    assert LETTERS.decode(LETTERS.encode(written(sounds))) == written(sounds)


def test_each_word_has_its_place_among_the_symbols() -> None:
    sounds = letters()(normalise("One, two. 3"))
    line = written(sounds)
    assert line == "one, two. three"
    assert [line[start:end] for start, end in spans(sounds)] == ["one", "two", "three"]


def test_words_are_read_among_others(american: Pronunciation) -> None:
    assert symbols("the apple, the tree", american)[::2] == ["ði", "ðə"]
    assert symbols("I will read. I have read it.", american)[2::4][0] == "ɹˈid"
    assert "ɹˈɛd" in symbols("I have read it.", american)


def test_a_letter_is_not_an_article(american: Pronunciation) -> None:
    assert symbols("a plan A", american) == ["ɐ", "plˈæn", "ˈA"]
    assert symbols("the FBI", american)[1:] == ["ˌɛf", "bˌi", "ˈI"]


def test_compounds_are_said_as_one_word_and_shared_out(american: Pronunciation) -> None:
    sounds = american(normalise("a well-known BBC man"))
    assert written(sounds) == "ɐ wˌɛlnˈOn bˌibˌisˈi mˈæn"
    assert [sound.symbols for sound in sounds] == ["ɐ", "wˌɛl", "nˈOn", "bˌi", "bˌi", "sˈi", "mˈæn"]


def test_accents_differ(american: Pronunciation) -> None:
    assert symbols("bath", american) != symbols("bath", phonemes("en-GB"))
    with pytest.raises(InvalidRequest, match="known are en-US and en-GB"):
        phonemes("fr-FR")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "hmm pfft brrr", "x" * 3_000, "'tis 'n'", "Zoë o'clock 3D https://a.io/b_c"]
)
def test_any_word_has_symbols_of_the_alphabet(text: str, american: Pronunciation) -> None:
    words = normalise(text)
    sounds = american(words)
    assert [sound.word for sound in sounds] == words
    assert all(sound.symbols for sound in sounds)
    assert len(PHONEMES.encode(written(sounds))) == len(written(sounds))


def test_words_are_read_one_by_one_where_they_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Token:
        def __init__(self, text: str, whitespace: str) -> None:
            self.phonemes, self.whitespace = text, whitespace

    class Reader:
        def __init__(self, british: bool) -> None:
            assert not british

        def tokenize(self, text: str) -> str:
            return text

        def phonemize_tokens(self, text: str) -> list[Token]:
            return [Token(text.replace(" ", ""), "")]

    monkeypatch.setitem(sys.modules, "hibari.g2p", types.SimpleNamespace(G2P=Reader))
    assert symbols("bad bass", phonemes()) == ["bad", "bass"]


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari.g2p", None)
    with pytest.raises(ModelError, match=r"pip install 'riverrun\[phonemes\]'"):
        phonemes()
    assert best().alphabet is LETTERS
    with pytest.raises(InvalidRequest):
        best("fr-FR")  # type: ignore[arg-type]


def test_the_best_is_phonemes_where_there_is_the_library(american: Pronunciation) -> None:
    words: Sequence[Word] = normalise("yes")
    assert best().alphabet is PHONEMES and best()(words) == american(words)
