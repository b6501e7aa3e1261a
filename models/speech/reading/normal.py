"""Written English as the words that are spoken, each with its characters of the text.

Pure and in linear time: every repetition of a pattern is bounded, or takes what it takes for good.
"""

import re
from dataclasses import dataclass, replace

from riverrun.models.speech.reading import figures, words
from riverrun.models.speech.reading.dates import QUOTED, quoted_year
from riverrun.models.speech.reading.letters import NAMED, Plain, plain
from riverrun.models.speech.reading.parts import Found, Part, Pause, Place

STRENGTH: tuple[Pause, ...] = ("", ",", "-", ":", ";", ".", "!", "?")


@dataclass(frozen=True)
class Word:
    """One spoken word, the characters of the written text it says, and the pause after it.

    Several words may say the same characters: "25" is two. `spelt` says that it is the name of a letter, `joined` that
    the next word follows without a gap, as in well-known and BBC.
    """

    text: str
    start: int
    end: int
    pause: Pause = ""
    spelt: bool = False
    joined: bool = False


SIGNS = {
    **NAMED,
    **{"&": "and", "%": "percent", "@": "at", "=": "equals", "+": "plus", "©": "copyright", "§": "section"},
    **{"×": "times", "÷": "divided by", "±": "plus or minus", "−": "minus", "≈": "approximately"},
    **{
        "≤": "less than or equal to",
        "≥": "greater than or equal to",
        "≠": "not equal to",
        "√": "square root of",
    },
    **{"∞": "infinity", "→": "to", "°": "degrees", "$": "dollar", "£": "pound", "€": "euro", "¥": "yen"},
    **{"‰": "per mille", "₿": "bitcoin"},
}
FACES = re.compile(r"(?:[:;=]-?[)(DPpOo|]|<3|:'\()(?!\w)")
DIGIT = re.compile(r"[0-9]")
BLANK = re.compile(r"\s++")
STOPS = re.compile(r"[.!?]++")
DASHES = re.compile(r"[-–—]++")
CONTRACTED = re.compile(rf"'(?:{'|'.join(sorted(words.CLIPPED))})(?!\w)", re.IGNORECASE)
NUMBERED = re.compile(r"#(?=\d)")
RAISED = re.compile(r"\^(?P<power>\d{1,3})")
SYMBOL = re.compile(r"(?:^|[^A-Za-z])[A-Za-z]{1,2}$|\)$")
TAGGED = re.compile(r"#(?=[A-Za-z])")
ABOUT = re.compile(r"~ ?(?=[\d$£€])")
COMPARED = re.compile(r"[<>](?= ?-?[\d.])")
SLASH = re.compile(r"/(?=\w)")
PAUSES: dict[str, Pause] = {",": ",", ";": ";", ":": ":", "(": ",", ")": ",", "[": ",", "]": ",", "|": ","}


def normalise(text: str, british: bool = False) -> list[Word]:
    """Write a text out in the words that are spoken; spans grow, and each word holds only letters and apostrophes.

    `british` reads 105 with an "and" and 4/7 as the fourth of July. Nothing to be said gives an empty list.
    Raises InvalidRequest if the text has letters that are no English.
    """
    return spoken(plain(text), british)


def spoken(source: Plain, british: bool = False) -> list[Word]:
    """`normalise` for a text that has been folded."""
    said: list[Word] = []
    text, at, before = source.text, 0, ""
    while at < len(text):
        parts, end, before_next = _next(text, at, Place(before, british))
        for part in parts:
            if part.said:
                said += _words(part, source)
            elif said and (part.pause or part.joined):
                said[-1] = replace(said[-1], pause=_stronger(said[-1].pause, part.pause), joined=part.joined)
        at, before = end, "" if said and said[-1].pause else before_next
    return said


def _words(part: Part, source: Plain) -> list[Word]:
    """A part's words; what comes after is that of the last."""
    start, end = source.span(part.start, part.end)
    *most, last = part.said.split()
    made = [Word(word, start, end, "", part.spelt) for word in most]
    return [*made, Word(last, start, end, part.pause, part.spelt, part.joined)]


def _stronger(one: Pause, other: Pause) -> Pause:
    return max(one, other, key=STRENGTH.index)


def _next(text: str, at: int, place: Place) -> tuple[list[Part], int, str]:
    """What is said at a place, where it ends, and the written word that others see before them."""
    first = text[at]
    if first.isascii() and first.isalpha():
        rules = words.RULES
    elif first in figures.STARTS and DIGIT.search(text, at, at + 4):
        rules = figures.RULES
    else:
        return _sign(text, at, place)
    for pattern, rule in rules:
        if (found := pattern.match(text, at)) and (parts := rule(found, place)) is not None:
            return parts, found.end(), found[0].rstrip(".")
    return _sign(text, at, place)


def _sign(text: str, at: int, place: Place) -> tuple[list[Part], int, str]:
    """A mark, a space or a sign."""
    first = text[at]
    if found := BLANK.match(text, at):
        blank = found[0].count("\n") > 1
        return [Part("", at, at, "." if blank else "")], found.end(), "" if blank else place.before
    if first in ".!?" and (found := STOPS.match(text, at)):
        return _stops(found, place)
    if found := FACES.match(text, at):
        return [], found.end(), place.before
    if first in "-–—" and (found := DASHES.match(text, at)):
        return _dashes(found, place)
    if first in PAUSES:
        return [Part("", at, at, PAUSES[first])], at + 1, ""
    if first == "'" and (found := QUOTED.match(text, at)):
        return quoted_year(found), found.end(), found[0]
    if first == "'" and (found := CONTRACTED.match(text, at)):
        return [Part(found[0], at, found.end())], found.end(), found[0]
    if first == "^" and (found := RAISED.match(text, at)):
        power = figures.POWERS.get(found["power"], "") if SYMBOL.search(text[max(0, at - 3) : at]) else ""
        return [Part(power, at, found.end())], found.end(), place.before
    said = _named(text, at)
    return [Part(said, at, at + 1)] if said else [], at + 1, first if said else place.before


def _stops(found: Found, place: Place) -> tuple[list[Part], int, str]:
    """Stops end a sentence, but "dot" is said within a word, and dots before a small letter are a short pause."""
    text, start, end = found.string, found.start(), found.end()
    beside = text[start - 1 : start] if start else ""
    ahead = text[end : end + 1]
    begins = ahead.isupper() and not beside.isupper()
    if found[0] == "." and beside.isalnum() and ahead.isalnum() and not begins:
        return [Part("dot", start, end)], end, place.before
    if found[0] == "." and beside in ("", " ", "/", "\n") and ahead.islower():
        return [Part("dot", start, end)], end, place.before
    pause: Pause = "?" if "?" in found[0] else "!" if "!" in found[0] else "."
    if pause == "." and len(found[0]) > 1 and text[end : end + 2].strip()[:1].islower():
        pause = ","
    return [Part("", start, start, pause)], end, ""


def _dashes(found: Found, place: Place) -> tuple[list[Part], int, str]:
    """A hyphen is silent, one between figures is "to" or "minus", a dash is a pause."""
    text, start, end = found.string, found.start(), found.end()
    left, right = text[max(0, start - 2) : start], text[end : end + 2]
    figures_beside = (left.strip()[-1:].isdigit() or left[-1:] in ("%", "m")) and right.strip()[:1].isdigit()
    if figures_beside and (left[-1:] != " ") == (right[:1] != " ") and found[0] in "-–":
        minus = left[-1:] == " " and re.match(r" \d{1,20}+(?:\.\d{1,20}+)? =", text[end : end + 50])
        return [Part("minus" if minus else "to", start, end)], end, "to"
    if found[0] in "-–" and left[-1:].strip() and right[:1].isalnum():
        joined = found[0] == "-" and left[-1:].isalpha() and right[:1].isalpha()
        return [Part("", start, start, joined=joined)], end, place.before
    return [Part("", start, start, "-")], end, ""


def _named(text: str, at: int) -> str:
    """The name of a sign that is said where it stands, "" for the rest."""
    first, beside, ahead = text[at], text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    if first == "#":
        if NUMBERED.match(text, at):
            return "number"
        sharp = beside.isalpha() and not text[max(0, at - 2) : at - 1].isalpha()
        return "sharp" if sharp else "hashtag" if TAGGED.match(text, at) else ""
    if first == "/":
        return _slash(text, at)
    if first == "~":
        return "about" if ABOUT.match(text, at) else ""
    if first in "<>":
        return ("less than" if first == "<" else "greater than") if COMPARED.match(text, at) else ""
    if first == "*":
        return "times" if beside.isdigit() and ahead.isdigit() else ""
    return SIGNS.get(first, "")


def _slash(text: str, at: int) -> str:
    """Silent between two words, "per" after a unit it did not belong to; said where a path begins."""
    beside = text[at - 1 : at] if at else ""
    if not SLASH.match(text, at):
        return ""
    if beside.isalnum() or beside in ("%", ")", "."):
        return "" if not beside.isdigit() else "per" if text[at + 1 : at + 2].isalpha() else "slash"
    return "slash"
