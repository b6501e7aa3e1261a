"""What a rule of reading is: from what was found at a place in a text to words, each with its characters."""

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

Pause = Literal["", ",", "-", ":", ";", ".", "!", "?"]
"""The mark of a pause, "" for none."""


class Part(NamedTuple):
    """Words said in a row for some characters of the plain text, and the pause after them.

    `spelt` says that the word is the name of a letter, `joined` that the next word follows without a gap.
    """

    said: str
    start: int
    end: int
    pause: Pause = ""
    spelt: bool = False
    joined: bool = False


class Place(NamedTuple):
    """Where a rule stands: the characters of the word before, "" at the start of a sentence or after a pause."""

    before: str
    british: bool


Found = re.Match[str]
Rule = Callable[[Found, Place], list[Part] | None]
"""None where the rule has nothing to say after all. What is found is read as a whole, to its end."""
NUMBER = r"(?>\d{1,3}(?:,\d{3}){1,11}+(?!\d)|\d++)(?:\.\d++)?"
"""A number with or without commas and a point; it never gives back what it has taken."""


def all_of(found: Found, said: str, pause: Pause = "") -> list[Part]:
    """Words for all that was found."""
    return [Part(said, found.start(), found.end(), pause)]


def group_of(found: Found, name: str, said: str, pause: Pause = "") -> Part:
    """Words for a named group of what was found."""
    return Part(said, found.start(name), found.end(name), pause)


def letters_of(text: str, start: int, tail: int = 0) -> list[Part]:
    """The names of letters that stand at `start`; what is no letter is left out.

    A tail of so many characters after the text ("s" or "'s") makes the last name a plural or possessive.
    """
    spelt = [
        Part(c.upper(), start + i, start + i + 1, "", True, True) for i, c in enumerate(text) if c.isalpha()
    ]
    if spelt:
        spelt[-1] = spelt[-1]._replace(joined=False)
    if spelt and tail:
        spelt[-1] = spelt[-1]._replace(said=f"{spelt[-1].said}'s", end=start + len(text) + tail)
    return spelt


def digits_of(text: str, start: int, names: list[str]) -> list[Part]:
    """The names of digits that stand at `start`; what is no digit is left out."""
    return [Part(names[int(c)], start + i, start + i + 1) for i, c in enumerate(text) if c.isdigit()]
