"""Numbers become the words a person would say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.models.speech.reading.numbers import (
    LONGEST,
    cardinal,
    decimal,
    digits,
    ordinal,
    plural,
    roman,
    to_roman,
    whole,
    year,
)


@pytest.mark.parametrize(
    ("number", "said", "british"),
    [
        (0, "zero", "zero"),
        (13, "thirteen", "thirteen"),
        (20, "twenty", "twenty"),
        (42, "forty two", "forty two"),
        (100, "one hundred", "one hundred"),
        (105, "one hundred five", "one hundred and five"),
        (1_001, "one thousand one", "one thousand and one"),
        (-7, "minus seven", "minus seven"),
        (10**6, "one million", "one million"),
        (10**33 + 1, "one decillion one", "one decillion and one"),
        (
            1_234_567,
            "one million two hundred thirty four thousand five hundred sixty seven",
            "one million two hundred and thirty four thousand five hundred and sixty seven",
        ),
    ],
)
def test_cardinals(number: int, said: str, british: str) -> None:
    assert cardinal(number) == said
    assert cardinal(number, british=True) == british


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "first"),
        (3, "third"),
        (12, "twelfth"),
        (20, "twentieth"),
        (21, "twenty first"),
        (100, "one hundredth"),
    ],
)
def test_ordinals(number: int, said: str) -> None:
    assert ordinal(number) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1984, "nineteen eighty four"),
        (1905, "nineteen oh five"),
        (1900, "nineteen hundred"),
        (2000, "two thousand"),
        (2004, "two thousand four"),
        (2024, "twenty twenty four"),
        (1066, "ten sixty six"),
        (79, "seventy nine"),
    ],
)
def test_years(number: int, said: str) -> None:
    assert year(number) == said


def test_figures_are_read_as_they_are_written() -> None:
    assert whole("12,345") == "twelve thousand three hundred forty five"
    assert whole("007") == "zero zero seven"
    assert whole("1" * (LONGEST + 1)) == digits("1" * (LONGEST + 1)) == " ".join(["one"] * (LONGEST + 1))
    assert decimal("3.140") == "three point one four zero"
    assert decimal(".5") == "point five"


def test_plurals() -> None:
    assert [plural(word) for word in ("eighty", "six", "hundred")] == ["eighties", "sixes", "hundreds"]


def test_too_long_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="36 digits"):
        cardinal(10**LONGEST)


@given(st.integers(1, 3_999))
def test_roman_numerals_come_back(number: int) -> None:
    assert roman(to_roman(number)) == number


@pytest.mark.parametrize("word", ["", "IIII", "VX", "IC", "MIXED", "x", "CIVIL"])
def test_what_only_looks_roman_is_none(word: str) -> None:
    assert roman(word) is None
