"""Whether a stop ends a sentence, or only the abbreviation before it."""

import re

from riverrun.models.speech.reading.lists import STARTERS
from riverrun.models.speech.reading.parts import Found, Pause

LONGEST = 14  # letters; none of STARTERS has as many
NEXT_WORD = re.compile(rf"[\"'(\[]{{0,3}}([A-Za-z]{{1,{LONGEST}}})")
LOOK = 40  # characters after a stop that are looked at


def starts_sentence(after: str, last: bool = True) -> bool | None:
    """Whether what stands after the stop of an abbreviation begins a sentence, judged by its first word.

    None where the text, which is not the `last` there will be, is too short to say.
    """
    ahead = after.lstrip()
    if not ahead:
        return True if last else None
    found = NEXT_WORD.match(ahead)
    if found is None:
        marks_only = len(ahead) < 4 and not ahead.strip("\"'([")
        return None if marks_only and not last else False
    if found.end() == len(ahead) and len(found[1]) < LONGEST and not last:
        return None
    return found[1][0].isupper() and found[1].lower() in STARTERS


def pause_after(found: Found) -> Pause:
    """The pause after an abbreviation that was found with its stop: that of a sentence, if one begins there."""
    after = ahead_of(found)
    blank = after[: len(after) - len(after.lstrip())]
    if blank.count("\n") > 1:
        return "."
    return "." if after[:1] in ("", " ", "\n") and starts_sentence(after) else ""


def ahead_of(found: Found) -> str:
    """The characters after what was found, LOOK at most."""
    return found.string[found.end() : found.end() + LOOK]
