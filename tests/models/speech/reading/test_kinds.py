"""A text is said as the kind its writer names, or refused."""

import pytest

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading.kinds import Kind, say_as
from tests.models.speech.reading.said import line


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("Ab-9", "characters", "A B dash nine"),
        ("1984", "digits", "one nine eight four"),
        ("1,984", "cardinal", "one thousand nine hundred eighty four"),
        ("-3", "cardinal", "minus three"),
        ("XIV", "ordinal", "fourteenth"),
        ("21", "ordinal", "twenty first"),
        ("2024-03-31", "date", "March thirty first twenty twenty four"),
        ("17:30", "time", "seventeen thirty"),
        ("5 pm", "time", "five P M"),
        ("555-0199", "telephone", "five five five, zero one nine nine"),
        ("+1 (555)", "telephone", "plus one, five five five"),
        ("  ", "digits", ""),
    ],
)
def test_kinds(text: str, kind: Kind, said: str) -> None:
    assert line(say_as(text, kind)) == said


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("many", "cardinal"),
        ("9" * 60, "ordinal"),
        ("none", "digits"),
        ("soon", "date"),
        ("99/99/2024", "date"),
        ("late", "time"),
        ("1" + "," * 90_000, "cardinal"),
    ],
)
def test_what_is_not_of_the_kind_is_refused(text: str, kind: Kind) -> None:
    with pytest.raises(InvalidRequest, match=f"cannot be said as {kind}, expected"):
        say_as(text, kind)


def test_spans_are_those_of_the_text() -> None:
    assert [(word.start, word.end) for word in say_as(" 42 ", "cardinal")] == [(1, 3), (1, 3)]
    assert [(word.start, word.end) for word in say_as("é1", "characters")] == [(0, 1), (1, 2)]
