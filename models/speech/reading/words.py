"""How what begins with a letter is read: abbreviations, initialisms, Roman numerals, names, words."""

import re
from collections.abc import Iterable

from riverrun.models.speech.reading import addresses, dates, lists, measures
from riverrun.models.speech.reading.numbers import cardinal, ordinal, roman, whole
from riverrun.models.speech.reading.parts import Found, Part, Place, Rule, all_of, letters_of
from riverrun.models.speech.reading.stops import ahead_of, pause_after, starts_sentence

VOWEL = re.compile(r"[AEIOUY]")
CONSONANTS = re.compile(r"[BCDFGHJKLMNPQRSTVWXZ]{4}")
CAPITALS = re.compile(r",? ([A-Z]{2,12})(?![A-Za-z])")
NAME_AHEAD = re.compile(r" [\"']?[A-Z]")
GOES_ON = re.compile(r" (?!of\b|and\b|was\b)[a-zA-Z]")
PAIR_AHEAD = re.compile(r" (?:and|&) ")
ORDINAL = re.compile(r"\d(?:st|nd|rd|th)$")
PLACES = frozenset("mount fort port lake in at the of from to near and via".split())
"""Words before "St." that make it a saint, though they may have capitals."""
MUTTERED = frozenset(
    "hm hmm mm mmm mhm sh shh psst pst tsk grr brr zz zzz nth pfft pff mr mrs ms dr sr jr".split()
)
"""Short words without a vowel that are no initialisms."""
CLIPPED = frozenset("tis twas twere em til n bout".split())


def _title(found: Found, place: Place) -> list[Part] | None:
    """Mr. and St.: a title before a name, or part of an address after one."""
    name, stop = found["title"], found["stop"]
    ahead = NAME_AHEAD.match(found.string, found.end())
    named = place.before[:1].isupper() or ORDINAL.search(place.before)
    if name in lists.AFTER and stop and named and place.before.lower() not in PLACES:
        known = place.before not in lists.TITLES and place.before.lower() not in lists.STARTERS
        if known and (not ahead or name == "St" or starts_sentence(ahead_of(found))):
            return all_of(found, lists.AFTER[name], pause_after(found))
    if name not in lists.TITLES or not stop and name not in lists.BARE:
        return None
    if ahead or name in lists.BARE and PAIR_AHEAD.match(found.string, found.end()):
        return all_of(found, lists.TITLES[name])
    return all_of(found, lists.TITLES[name], pause_after(found)) if name == "Dr" else None


def _after_name(found: Found, place: Place) -> list[Part] | None:
    """Jr., Inc., Ave.: said in full after a word with a capital."""
    apart = found.string[max(0, found.start() - 2) : found.start()] == ", "
    if not (apart or place.before[:1].isupper() or place.before == "&" or ORDINAL.search(place.before)):
        return None
    return all_of(found, lists.AFTER[found["name"]], pause_after(found))


def _counted(found: Found, place: Place) -> list[Part]:
    return all_of(found, lists.COUNTED[found["short"].lower()])


def _short(found: Found, place: Place) -> list[Part] | None:
    name = found["short"].lower()
    if not found["stop"] and name not in lists.STOPLESS:
        return None
    return all_of(found, lists.SHORT[name], pause_after(found) if found["stop"] else "")


def _day_name(found: Found, place: Place) -> list[Part]:
    return all_of(found, lists.DAYS[found["day"]], pause_after(found))


def _dotted(found: Found, place: Place) -> list[Part]:
    """e.g. has words, U.S. and Ph.D. are letters."""
    letters = found[0].rstrip(".")
    if said := lists.DOTTED.get(letters.lower()):
        return all_of(found, said)
    parts = letters_of(letters, found.start())
    parts[-1] = parts[-1]._replace(
        end=found.end(), pause=pause_after(found) if found[0].endswith(".") else ""
    )
    return parts


def _numeral(found: Found, place: Place) -> list[Part] | None:
    """Chapter IV is four, Henry VIII the eighth; a single letter needs to stand before a mark or "of"."""
    value = roman(found["numeral"])
    before = place.before.lower().removesuffix("'s")
    if value is None:
        return None
    if before in lists.COUNTING:
        return all_of(found, cardinal(value, place.british) + (found["tail"] or ""))
    doubtful = len(found["numeral"]) == 1 and GOES_ON.match(ahead_of(found))
    if not place.before[:1].isupper() or before not in lists.RULERS or doubtful or value > 40:
        return None
    return all_of(found, f"the {ordinal(value, place.british)}{found['tail'] or ''}")


def _capitals(found: Found, place: Place) -> list[Part] | None:
    """Letters in capitals: a word if it is one, its letters if not."""
    word, tail = found["word"], found["tail"] or ""
    if tail == "s" and len(word) < 2:
        return None
    common = word.lower() in lists.COMMON
    if word in lists.AMBIGUOUS:
        common = _beside_capitals(found, place)
    long = len(word) > 3 and word not in lists.SPELT and _sayable(word)
    if "&" in _beside(found):
        common = long = False
    if word in lists.SAID:
        return all_of(found, word + ("'s" if tail else ""))
    if common or long:
        return all_of(found, word.lower() + tail)
    return letters_of(word, found.start(), len(tail))


def _beside(found: Found) -> tuple[str, str]:
    """The characters before and after what was found, "" at the ends."""
    start, end = found.span()
    return found.string[max(0, start - 1) : start], found.string[end : end + 1]


def _touches_figure(found: Found) -> bool:
    return any(character.isdigit() for character in _beside(found))


def _sayable(word: str) -> bool:
    return VOWEL.search(word) is not None and CONSONANTS.search(word) is None


def _beside_capitals(found: Found, place: Place) -> bool:
    """Whether a whole sentence is in capitals, as far as the words beside this one tell."""
    ahead = CAPITALS.match(found.string, found.end())
    beside = [place.before] if place.before.isupper() and len(place.before) > 1 else []
    beside += [ahead[1]] if ahead else []
    return any(len(word) > 3 or word.lower() in lists.COMMON for word in beside)


def _letter(found: Found, place: Place) -> list[Part] | None:
    """A letter by itself: a name of a letter, but for the words "a" and "I"."""
    letter = found[0]
    if not _touches_figure(found) and (letter in "aI" or letter == "A" and not _is_name(found, place)):
        return all_of(found, letter)
    return letters_of(letter, found.start())


def _is_name(found: Found, place: Place) -> bool:
    """Whether a capital A is the letter: not at the start of a sentence, nor where all is in capitals."""
    ahead = ahead_of(found)
    if ahead.startswith("-"):
        return True
    if not place.before or place.before.isupper() and len(place.before) > 1:
        return False
    return not (ahead[:1] == " " and ahead[1:2].isalpha() and ahead[1:3].isupper())


def _initial(found: Found, place: Place) -> list[Part] | None:
    """J. K. Rowling: a stop that ends no sentence."""
    if found[0][0] == "I" and place.before or starts_sentence(ahead_of(found)):
        return None
    return [Part(found[0][0], found.start(), found.end(), "", True)]


def _version(found: Found, place: Place) -> list[Part]:
    groups = found["groups"].split(".")
    return all_of(found, f"version {' point '.join(whole(group, place.british) for group in groups)}")


def _with(found: Found, place: Place) -> list[Part]:
    return all_of(found, "without" if found[0].lower().endswith("o") else "with")


def _word(found: Found, place: Place) -> list[Part]:
    """A word as it is written, but a short one without a vowel, such as tv, is spelt."""
    word = found[0]
    if len(word) < 5 and word.isalpha() and not VOWEL.search(word.upper()) and word.lower() not in MUTTERED:
        return letters_of(word, found.start())
    return all_of(found, word)


def _one_of(names: Iterable[str]) -> str:
    return "|".join(sorted(names, key=len, reverse=True))


RULES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (re.compile(r"[a-z]{4,40}+(?![\w'.@:/+-])"), _word),
    *addresses.RULES,
    (re.compile(rf"(?P<code>{measures.CODE}) ?{measures.AMOUNT}{measures.PER_PATTERN}"), measures.money),
    (
        re.compile(rf"(?P<country>[A-Z]{{1,2}})(?P<mark>\$) ?{measures.AMOUNT}{measures.PER_PATTERN}"),
        measures.money,
    ),
    *dates.WORDS,
    (re.compile(rf"(?P<short>{_one_of(lists.COUNTED)})\. ?(?=#?\d)", re.IGNORECASE), _counted),
    (re.compile(rf"(?P<title>{_one_of(lists.TITLES)})\b(?P<stop>\.)?(?!\w)"), _title),
    (re.compile(rf"(?P<name>{_one_of(lists.AFTER)})\.(?!\w)"), _after_name),
    (re.compile(rf"(?P<short>{_one_of(lists.SHORT)})\b(?P<stop>\.)?(?!\w)", re.IGNORECASE), _short),
    (re.compile(rf"(?P<day>{_one_of(lists.DAYS)})\.(?!\w)"), _day_name),
    (re.compile(r"(?:Ph\.?D|Ed\.?D|M\.?Sc|B\.?Sc|M\.?Ed|B\.?Ed|LL\.?[BDM])\b\.?(?!\w)"), _dotted),
    (re.compile(r"(?:[A-Za-z]\.){2,6}+(?:[A-Za-z](?!\w))?"), _dotted),
    (re.compile(r"(?<!&)[A-Z]\.(?= ?[A-Z])"), _initial),
    (re.compile(r"v(?P<groups>\d{1,4}(?:\.\d{1,6}){0,5}+)(?!\w)"), _version),
    (re.compile(r"[Ww]/o?(?!\w)"), _with),
    (re.compile(r"(?P<numeral>[IVXLCDM]{1,9}+)(?P<tail>'s)?(?![\w'])"), _numeral),
    (re.compile(r"(?P<word>[A-Z]{2,40}+)(?P<tail>'?s)?(?![a-z'])"), _capitals),
    (re.compile(r"[A-Za-z](?![A-Za-z'])"), _letter),
    (re.compile(r"[A-Za-z]{1,40}+(?:'[A-Za-z]{1,12}+){0,3}"), _word),
)
