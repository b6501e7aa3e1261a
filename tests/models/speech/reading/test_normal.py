"""A text becomes spoken words that know their characters and the pauses between."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading.normal import normalise
from tests.models.speech.reading.said import say


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello, world! Really?", "Hello, world! Really?"),
        ("Wait... what? Wow!! Really?!", "Wait, what? Wow! Really?"),
        ("Well… Yes", "Well. Yes"),
        ("one — two -- three–four – five", "one- two- three four- five"),
        ("He said (really) no; yes: maybe", "He said, really, no; yes: maybe"),
        ('"Why?" he asked.', "Why? he asked."),
        ("end.Next", "end. Next"),
        ("a heading\n\nA text\nthat goes on", "a heading. A text that goes on"),
        ("**bold** `code`\n# Heading", "bold code Heading"),
        ("C# and C++", "C sharp and C plus plus"),
        ("#5 & ~5", "number five and about five"),
        ("x < 5 > -3", "X less than five greater than minus three"),
        ("E=mc²", "E equals M C squared"),
        ("π ≈ 3.14", "pi approximately three point one four"),
        ("hello 😀 world 👍🏽 :-)", "hello world"),
        ("©2024 ™", "copyright twenty twenty four"),
    ],
)
def test_marks_and_signs(text: str, said: str) -> None:
    assert say(text) == said


@pytest.mark.parametrize(
    "text", ["", "   ", "\n\n\t", "😀👍🏽", "\x00\x07\x1b", "...!?", "\ud800", "\u0301\u0301", "- *"]
)
def test_nothing_to_say_is_no_words(text: str) -> None:
    assert normalise(text) == []


def test_words_know_the_characters_they_say() -> None:
    text = "Pay $5 to “Zoë” at the BBC, 25% off."
    said = [(word.text, text[word.start : word.end], word.pause) for word in normalise(text)]
    assert said == [
        ("Pay", "Pay", ""),
        ("five", "$5", ""),
        ("dollars", "$5", ""),
        ("to", "to", ""),
        ("Zoe", "Zoë", ""),
        ("at", "at", ""),
        ("the", "the", ""),
        ("B", "B", ""),
        ("B", "B", ""),
        ("C", "C", ","),
        ("twenty", "25%", ""),
        ("five", "25%", ""),
        ("percent", "25%", ""),
        ("off", "off", "."),
    ]


def test_letters_and_compounds_are_joined() -> None:
    flags = [(word.text, word.spelt, word.joined) for word in normalise("a well-known TV")]
    assert flags == [
        ("a", False, False),
        ("well", False, True),
        ("known", False, False),
        ("T", True, True),
        ("V", True, False),
    ]


PIECES = [
    *(
        "12",
        "3.5",
        "$",
        "€",
        "%",
        "-",
        "–",
        " ",
        ".",
        ",",
        "/",
        ":",
        "a",
        "Dr.",
        "U.S.",
        "BBC",
        "I",
        "IV",
        "May ",
    ),
    *("p.m.", "km", "@", "www.", "http://", "'", "s", "th", "é", "½", "😀", "\n", "(", ")", "#", "^2", "×"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_said_in_letters_with_growing_spans_or_refused(text: str) -> None:
    try:
        said = normalise(text)
    except InvalidRequest:
        return
    assert all(re.fullmatch(r"[A-Za-z']+", word.text) for word in said)
    assert all(0 <= word.start < word.end <= len(text) for word in said)
    assert [word.start for word in said] == sorted(word.start for word in said)


ADVERSARIES = [
    *(
        "a",
        "1",
        " ",
        "a.",
        "1.",
        "1,",
        "1-",
        "1/1 ",
        "A",
        "A.",
        "$",
        "-",
        ".",
        "a@",
        "a-",
        "'",
        "a'",
        "1:",
        "(",
        "\n",
    ),
    *(
        "http://",
        "www.",
        "x.com/",
        "Dr. ",
        "May 1 ",
        "IV ",
        "1e",
        "5 k",
        "+1 ",
        "é",
        "e\u0301",
        "\u0301",
        "^2",
    ),
    *("\ud800", "A&", "#", "...", "1,000", "1 1/", "0" * 60 + " ", "word, "),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", ADVERSARIES)
def test_long_adversarial_texts_are_read(piece: str) -> None:
    """In a time that grows with their length: what grew with its square would not end in time."""
    said = normalise((piece * 30_000)[:30_000])
    assert all(len(word.text) <= 40 for word in said)


def test_a_text_of_100_000_characters_is_read() -> None:
    sentence = "On March 3rd, Dr. Smith paid $5.50 to 12 people in the U.S.; then he left. "
    text = (sentence * 100_000)[:100_000]
    assert len(normalise(text)) > 25_000
    assert all(len(word.text) <= 40 for word in normalise("a" * 100_000))
