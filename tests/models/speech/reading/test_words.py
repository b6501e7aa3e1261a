"""Abbreviations are said in full, initialisms are spelt, and words are left alone."""

import pytest

from tests.models.speech.reading.said import say


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Mr. and Mrs. Smith", "mister and missus Smith"),
        ("Dr. Jones drives down Mulholland Dr.", "doctor Jones drives down Mulholland drive."),
        ("St. Paul's on Elm St. The end.", "saint Paul's on Elm street. The end."),
        ("2nd St. and 5th Ave.", "second street and fifth avenue."),
        ("Lake St. Clair", "Lake saint Clair"),
        ("Prof. Lee, Jr.", "professor Lee, junior."),
        ("Acme Inc. is old", "Acme incorporated is old"),
        ("etc., vs. them", "et cetera, versus them"),
        ("e.g. this, i.e. that", "for example this, that is that"),
        ("No. 5 is alive. No. It is.", "number five is alive. No. It is."),
        ("Fig. 3, pp. 5-7", "figure three, pages five to seven"),
        ("BBC and CDs", "B B C and C D's"),
        ("the UK's NHS", "the U K's N H S"),
        ("in the U.S. The Army", "in the U S. The Army"),
        ("the U.S. Army", "the U S Army"),
        ("U.S.-based", "U S based"),
        ("NASA and NATO", "NASA and NATO"),
        ("BUY ONE GET ONE FREE", "buy one get one free"),
        ("IT IS TRUE. The IT people in the US", "it is true. The I T people in the U S"),
        ("AT&T and R&D", "A T and T and R and D"),
        ("J. K. Rowling and George W. Bush", "J K Rowling and George W Bush"),
        ("J.R.R. Tolkien, Ph.D. students", "J R R Tolkien, P H D students"),
        ("Chapter IV of Henry VIII", "Chapter four of Henry the eighth"),
        ("World War II, Louis XIV's", "World War two, Louis the fourteenth's"),
        ("Henry I love you", "Henry I love you"),
        ("I saw MIX and CIVIL", "I saw mix and civil"),
        ("a plan, Plan A, vitamin B", "a plan, Plan A, vitamin B"),
        ("don't, y'all, 'tis, dogs' bones", "don't, y'all, 'tis, dogs bones"),
        ("well-known T-shirt", "well known T shirt"),
        ("tv, mp3, hmm", "T V, M P three, hmm"),
        ("iPhone McDonald", "iPhone McDonald"),
        ("w/o sugar, and/or", "without sugar, and or"),
    ],
)
def test_words(text: str, said: str) -> None:
    assert say(text) == said
