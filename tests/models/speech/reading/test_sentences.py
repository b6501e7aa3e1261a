"""A text is cut where a reader would breathe, however it came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.models.speech.reading.sentences import LONGEST, SHORTEST, Piece, Sentences


def cut(text: str, longest: int = LONGEST) -> list[str]:
    sentences = Sentences(longest)
    return [piece.text for piece in sentences.feed(text) + sentences.flush()]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" \n\t ", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith met Mrs. Jones. They spoke.", ["Dr. Smith met Mrs. Jones.", "They spoke."]),
        ("J. K. Rowling wrote. Fine.", ["J. K. Rowling wrote.", "Fine."]),
        ("It is 3.14. Next.", ["It is 3.14.", "Next."]),
        ("In the U.S. Army. In the U.S. The end.", ["In the U.S. Army.", "In the U.S.", "The end."]),
        ("At 5 p.m. on Monday. At 5 p.m. We left.", ["At 5 p.m. on Monday.", "At 5 p.m.", "We left."]),
        ("See fig. 3 and no. 5. No. Yes.", ["See fig. 3 and no. 5.", "No.", "Yes."]),
        ("Use e.g. This or i.e. that.", ["Use e.g. This or i.e. that."]),
        ("Wait... what? Wait... What?", ["Wait... what?", "Wait...", "What?"]),
        ('"Go!" he said. "Stay." She left.', ['"Go!" he said.', '"Stay."', "She left."]),
        ("(Really.) Yes.", ["(Really.)", "Yes."]),
        ("hey. how are you? fine! ok", ["hey.", "how are you?", "fine!", "ok"]),
        ("see example.com and a.b.c now", ["see example.com and a.b.c now"]),
        ("Title\n\nText goes\non.", ["Title", "Text goes\non."]),
        ("List:\n- one\n- two\n1. three\n12) four", ["List:", "- one", "- two", "1. three", "12) four"]),
        ("1. First. 2. Second.", ["1. First.", "2. Second."]),
        ("What?! No…  Yes", ["What?!", "No…", "Yes"]),
        ("In May. Then June.", ["In May.", "Then June."]),
    ],
)
def test_sentences(text: str, pieces: list[str]) -> None:
    assert cut(text) == pieces


def test_a_long_sentence_is_cut_at_a_clause_then_a_word_then_anywhere() -> None:
    clauses = "when it is long enough, it is cut; and so it goes on, and on without any end"
    assert cut(clauses, 40) == [
        "when it is long enough, it is cut;",
        "and so it goes on,",
        "and on without any end",
    ]
    assert cut("word " * 20, 32) == ["word word word word word word", "word word word word word word",
                                     "word word word word word word", "word word"]  # fmt: skip
    assert cut("a" * 10_000, 100) == ["a" * 100] * 100


def test_a_sentence_is_given_as_soon_as_the_next_begins() -> None:
    sentences = Sentences()
    assert sentences.feed("One is here. ") == []
    assert sentences.feed("T") == [Piece("One is here.", 0)]
    assert sentences.feed("wo") == []
    assert sentences.flush() == [Piece("Two", 13)]
    assert sentences.flush() == []


def test_what_is_cleared_is_not_said_but_counted() -> None:
    sentences = Sentences()
    sentences.feed("Never said")
    sentences.clear()
    assert sentences.flush() == []
    assert sentences.feed(" Yes. N") == [Piece("Yes.", 11)]


def test_too_short_a_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at least {SHORTEST}"):
        Sentences(SHORTEST - 1)


PIECES = [
    *("One", "two", "Dr", "U.S", "p.m", "e.g", "The", "A", "I", "3", "12", "1.", "abc" * 30, "é", "😀"),
    *(".", ".", ".", "?", "!", "...", "…", ",", ";", '"', "'", ")", "(", "-", "- ", "—", "." * 70),
    *(" ", " ", " ", "\n", "\n\n", " " * 70),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


@given(TEXTS, st.lists(st.integers(1, 12), min_size=1), st.integers(SHORTEST, 120))
def test_pieces_depend_on_the_text_and_not_on_how_it_came(text: str, sizes: list[int], longest: int) -> None:
    whole = Sentences(longest)
    expected = whole.feed(text) + whole.flush()
    parts, made, at, turn = Sentences(longest), [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        made += parts.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    made += parts.flush()
    assert made == expected
    assert all(text[piece.start : piece.end] == piece.text for piece in made)
    assert all(0 < len(piece.text) <= longest for piece in made)
    assert "".join("".join(piece.text for piece in made).split()) == "".join(text.split())


@given(TEXTS, st.integers(0, 400))
def test_a_flush_is_part_of_the_text(text: str, at: int) -> None:
    def fed(size: int) -> list[Piece]:
        sentences, made = Sentences(80), []
        for half in (text[:at], text[at:]):
            for start in range(0, len(half), size):
                made += sentences.feed(half[start : start + size])
            made += sentences.flush()
        return made

    assert fed(1) == fed(7) == fed(10_000)


@pytest.mark.parametrize("piece", ["a", " ", ".", "\n", "a. ", '"', ".\n ", "1. ", "…”", "\ud800", "e.g. "])
def test_no_text_makes_it_keep_much(piece: str) -> None:
    sentences = Sentences(100)
    for _ in range(2_000):
        sentences.feed(piece * 5)
        assert len(sentences._kept) < 300
    sentences.feed(piece * 100_000)
    assert len(sentences._kept) < 300
