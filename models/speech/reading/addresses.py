"""How addresses of the web and of mail are read."""

import re

from riverrun.models.speech.reading.numbers import ONES, whole
from riverrun.models.speech.reading.parts import Found, Part, Place, Rule, digits_of, letters_of

SIGNS = {
    **{
        ".": "dot",
        "/": "slash",
        "-": "dash",
        "_": "underscore",
        "@": "at",
        ":": "colon",
        "?": "question mark",
    },
    **{"=": "equals", "&": "and", "%": "percent", "+": "plus", "#": "hash", "~": "tilde"},
}
TOPS = "com|org|net|edu|gov|io|ai|dev|app|info|co|uk|de|fr|eu|us|ca|au|nl|ch|me|tv|ly|gg|xyz"
SPELT = frozenset("uk de fr eu us ca au nl ch io ai tv ly gg xyz id js py md".split())
PIECE = re.compile(r"[A-Za-z]+|\d+|[^A-Za-z\d]")
VOWEL = re.compile(r"[aeiouyAEIOUY]")
LONGEST = 2_000  # characters of one address
END = ".,;:!?'\")]}>"
"""Marks that belong to the sentence where they end an address."""


def _address(found: Found, place: Place) -> list[Part]:
    """All pieces and signs of it, but for the scheme."""
    said: list[Part] = []
    for piece in PIECE.finditer(found["address"]):
        text, start = piece[0], found.start("address") + piece.start()
        if text.isalpha():
            said += _name(text, start)
        elif not text.isdigit():
            said += [Part(SIGNS[text], start, start + 1)] if text in SIGNS else []
        elif len(text) <= 2:
            said.append(Part(whole(text), start, start + len(text)))
        else:
            said += digits_of(text, start, ONES)
    while said and found["address"].endswith("/") and said[-1].said == "slash":
        said.pop()
    return said


def _name(text: str, start: int) -> list[Part]:
    """A word of an address, spelt where it could not be said."""
    if text.lower() in SPELT or len(text) == 1 or len(text) < 6 and not VOWEL.search(text):
        return letters_of(text, start)
    return [Part(text, start, start + len(text))]


LABEL = r"[A-Za-z0-9-]{1,63}+"
TAIL = rf"[^\s<>\"]{{0,{LONGEST}}}(?<![{re.escape(END)}])"
RULES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (
        re.compile(rf"(?P<address>[A-Za-z0-9][\w.+%-]{{0,63}}+@(?:{LABEL}\.){{1,5}}[A-Za-z]{{2,24}}+)"),
        _address,
    ),
    (re.compile(rf"(?:https?|ftp)://(?P<address>{TAIL})", re.IGNORECASE), _address),
    (
        re.compile(
            rf"(?P<address>(?:{LABEL}\.){{1,5}}(?:{TOPS})(?![\w-])(?!\.\w)(?:[/?:](?=[\w/~?-]){TAIL})?)",
            re.IGNORECASE,
        ),
        _address,
    ),
)
