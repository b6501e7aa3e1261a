"""A text becomes lines of symbols whose words know their characters, however the text comes."""

import pytest

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading.phonemes import LETTERS, PHONEMES
from riverrun.models.speech.reading.script import Line, Script

TEXT = "It costs $5 here. Dr. Smith said so, and went on! Then he left"


@pytest.mark.parametrize("cuts", [[1], [17], [9, 10, 30], list(range(1, len(TEXT)))], ids=len)
@pytest.mark.parametrize("alphabet", [LETTERS.symbols, PHONEMES.symbols], ids=["letters", "phonemes"])
def test_lines_are_the_same_however_text_comes(cuts: list[int], alphabet: str) -> None:
    whole = list(Script(alphabet).whole(TEXT))
    edges = [0, *cuts, len(TEXT)]
    pieces = [TEXT[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert list(Script(alphabet).all(pieces)) == whole and len(whole) == 3


def test_words_know_their_characters_and_their_symbols() -> None:
    lines = list(Script(LETTERS.symbols).whole(TEXT))
    told = [(TEXT[w.start : w.end], line.symbols[w.first : w.last]) for line in lines for w in line.words]
    assert told[:5] == [("It", "it"), ("costs", "costs"), ("$5", "five"), ("$5", "dollars"), ("here", "here")]
    assert told[5] == ("Dr.", "doctor") and told[-1] == ("left", "left")
    assert all(line.symbols[0] == line.symbols[-1] == " " for line in lines)


def test_what_is_cleared_is_not_said_and_places_count_on() -> None:
    script = Script(LETTERS.symbols)
    assert not list(script.feed("Never said"))
    script.clear()
    (line,) = [*script.feed("Now"), *script.flush()]
    assert line.symbols == " now " and line.words[0].start == len("Never said")


def test_markup_gives_pauses_rates_and_places_in_the_source() -> None:
    spelt = '<say-as interpret-as="characters">AB</say-as>'
    text = f'<speak>Hi<break time="500ms"/><prosody rate="fast">you</prosody> {spelt}</speak>'
    lines = list(Script(LETTERS.symbols).whole(text))
    assert [(line.symbols, line.pause, line.rate) for line in lines] == [
        (" hi ", 0, 1), ("", 0.5, 1), (" you ", 0, 1.25), (" a b ", 0, 1)
    ]  # fmt: skip
    assert [text[w.start : w.end] for line in lines for w in line.words] == ["Hi", "you", "A", "B"]


def test_nothing_to_say_is_no_line_and_no_english_is_refused() -> None:
    assert list(Script(LETTERS.symbols).whole(" ☺ \n")) == list[Line]()
    with pytest.raises(InvalidRequest, match="CJK"):
        list(Script(LETTERS.symbols).whole("日本"))
    with pytest.raises(InvalidRequest, match="phonemes"):
        Script("abc")
