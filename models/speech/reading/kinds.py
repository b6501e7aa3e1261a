"""A text read as the kind of thing its writer says it is: SSML's `say-as`."""

import re
from dataclasses import replace
from typing import Literal

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading import dates
from riverrun.models.speech.reading.addresses import SIGNS as ADDRESSED
from riverrun.models.speech.reading.letters import Plain, plain
from riverrun.models.speech.reading.normal import SIGNS, Word, normalise
from riverrun.models.speech.reading.numbers import LONGEST, ONES, cardinal, ordinal, roman

Kind = Literal["characters", "digits", "cardinal", "ordinal", "date", "time", "telephone"]
KINDS: tuple[Kind, ...] = ("characters", "digits", "cardinal", "ordinal", "date", "time", "telephone")
WHOLE = re.compile(rf"-?\d[\d,]{{0,{LONGEST}}}")
CLOCK = re.compile(r"\d{1,2}:\d\d(?::\d\d)?(?: ?[AaPp]\.?[Mm]\.?)?|\d{1,2} ?[AaPp]\.?[Mm]\.?")


def say_as(text: str, kind: Kind, british: bool = False) -> list[Word]:
    """The spoken words of a text of a known kind, with spans as of `normalise`.

    Raises InvalidRequest if it is not of that kind: no number, no date in figures, no time.
    """
    source = plain(text)
    inner = source.text.strip()
    start = source.text.find(inner)
    if not inner:
        return []
    if kind == "characters":
        return _one_by_one(source, "")
    if kind in ("digits", "telephone"):
        if not any(c.isdigit() for c in inner):
            raise _refused(text, kind, "at least one digit")
        return _one_by_one(source, "," if kind == "telephone" else "")
    if kind == "time":
        if not CLOCK.fullmatch(inner):
            raise _refused(text, kind, "such as 17:30 or 5:30 pm")
        return normalise(text, british)
    said = dates.date(inner, british) if kind == "date" else _number(inner, kind, british)
    if said is None:
        raise _refused(text, kind, "such as 2024-03-31 or 31/3/2024" if kind == "date" else "a whole number")
    first, last = source.span(start, start + len(inner))
    return [Word(word, first, last) for word in said.split()]


def _number(text: str, kind: Kind, british: bool) -> str | None:
    value = roman(text)
    if value is None:
        figures = text.replace(",", "")
        if not WHOLE.fullmatch(text) or len(figures.lstrip("-")) > LONGEST:
            return None
        value = int(figures)
    return ordinal(value, british) if kind == "ordinal" else cardinal(value, british)


def _one_by_one(source: Plain, between: Literal["", ","]) -> list[Word]:
    """Each letter, digit and sign by its name; `between` is the pause where digits are set apart."""
    said: list[Word] = []
    for at, character in enumerate(source.text):
        start, end = source.span(at, at + 1)
        if character.isalpha() and character.isascii():
            said.append(Word(character.upper(), start, end, "", True))
            continue
        name = (
            ONES[int(character)]
            if character.isdigit()
            else SIGNS.get(character, ADDRESSED.get(character, ""))
        )
        if between and not character.isdigit():
            name = name if character in "+#*" else ""
            if said and not name:
                said[-1] = replace(said[-1], pause=between)
        said += [Word(word, start, end) for word in name.split()]
    if said and said[-1].pause:
        said[-1] = replace(said[-1], pause="")
    return said


def _refused(text: str, kind: Kind, expected: str) -> InvalidRequest:
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return InvalidRequest(
        f"{shown!r} cannot be said as {kind}, expected {expected}: correct it, or leave say-as out"
    )
