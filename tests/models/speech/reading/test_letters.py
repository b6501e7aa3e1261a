"""Any text becomes plain, or is refused by name; each character knows where it came from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading.letters import plain


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("naïve café Zürich", "naive cafe Zurich"),
        ("e\u0301te\u0301", "ete"),
        ("Øresund, Łódź, straße, Æsop", "Oresund, Lodz, strasse, AEsop"),
        ("ﬁne ｗｉｄｅ １２", "fine wide 12"),
        ("“quoted” ‘so’", "\"quoted\" 'so'"),
        ("٣ and २", "3 and 2"),
        ("x² H₂O ½", "x^2 H2O  1/2"),
        ("a\u200bb\ufeffc\u00add", "abcd"),
        ("a\x00b\x1bc", "a b c"),
        ("a😀b", "a b"),
        ("a\ud83db\udc00", "a b "),
        ("1️⃣", "1"),
        ("π and μ", "π and μ"),
    ],
)
def test_a_text_is_folded(text: str, folded: str) -> None:
    assert plain(text).text == folded


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("你好 world", "'你好' from character 0 on, which is CJK"),
        ("say مرحبا", "from character 4 on, which is Arabic"),
        ("Привет", "which is Cyrillic"),
        ("καλημέρα", "which is Greek"),
        ("안녕", "which is Hangul"),
        ("नमस्ते", "which is Devanagari"),
    ],
)
def test_another_script_is_refused_with_the_way_out(text: str, shown: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{shown}.*write it in Latin letters"):
        plain(text)


def test_a_character_with_marks_reaches_over_them() -> None:
    folded = plain("xe\u0301\u0301y")
    assert folded.span(1, 2) == (1, 4) and folded.span(2, 3) == (4, 5)


@given(st.text())
def test_every_character_has_its_place(text: str) -> None:
    try:
        folded = plain(text)
    except InvalidRequest:
        return
    assert len(folded.text) == len(folded.starts) == len(folded.ends)
    assert list(folded.starts) == sorted(folded.starts) and list(folded.ends) == sorted(folded.ends)
    assert all(0 <= start < end <= len(text) for start, end in zip(folded.starts, folded.ends, strict=True))
