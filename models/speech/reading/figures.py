"""How what begins with a figure is read: phone and version numbers, fractions, ordinals, years, plain numbers."""

import re

from riverrun.models.speech.reading import dates, measures
from riverrun.models.speech.reading.numbers import (
    ONES,
    cardinal,
    decimal,
    digits,
    ordinal,
    plural,
    whole,
    year,
)
from riverrun.models.speech.reading.parts import NUMBER, Found, Part, Place, Rule, all_of, digits_of

PARTS_OF = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth", 9: "ninth",
            10: "tenth", 12: "twelfth", 16: "sixteenth", 32: "thirty second", 64: "sixty fourth",
            100: "hundredth", 1000: "thousandth"}  # fmt: skip
KNOWN = {"24/7": "twenty four seven", "9/11": "nine eleven", "7/11": "seven eleven", "50/50": "fifty fifty"}
POWERS = {"2": "squared", "3": "cubed"}
RELEASES = frozenset(
    "version release v python ubuntu ios android macos windows firmware kernel java php".split()
)
"""Words before a number with a point whose second half is a number, too."""
DATED = frozenset(
    "in since until till by from before after during circa around early mid late year years of and between the "
    "january february march april may june july august september october november december spring summer autumn fall "
    "winter class".split()
)
"""Words before a number of four figures that make it a year."""
SINGULAR = frozenset(
    "was is has as this its does plus versus vs across less us always perhaps thus yes gas towards besides sometimes "
    "unless whereas his hers ours ss".split()
)
COUNTED = re.compile(r" (?:people|men|women|children|feet|(?P<word>[a-z]{2,24}s))(?![\w'])")
OF = re.compile(r" of\b")


def _phone(found: Found, place: Place) -> list[Part]:
    """Digit by digit, with a pause between groups."""
    said: list[Part] = []
    if found[0].startswith("+"):
        said.append(Part("plus", found.start(), found.start() + 1))
    for group in re.finditer(r"\d+", found[0]):
        if said and said[-1].said != "plus":
            said[-1] = said[-1]._replace(pause=",")
        said += digits_of(group[0], found.start() + group.start(), ONES)
    return said


def _ratio(found: Found, place: Place) -> list[Part]:
    return all_of(found, f"{decimal(found['first'])} to {decimal(found['second'])}")


def _short_phone(found: Found, place: Place) -> list[Part] | None:
    """555-1234; but 500-1000 is a range."""
    first, second = int(found["first"]), int(found["second"])
    return None if second > first and not first % 10 and not second % 10 else _phone(found, place)


def _row(found: Found, place: Place) -> list[Part] | None:
    """1-2-3, or a number in groups such as 123-45-6789."""
    groups = found[0].split("-")
    if any(len(group) > 2 for group in groups):
        return _phone(found, place)
    return all_of(found, " ".join(whole(group) for group in groups))


def _version(found: Found, place: Place) -> list[Part]:
    groups = found["groups"].split(".")
    if len(groups) == 4 and all(len(group) <= 3 for group in groups):
        return all_of(found, " dot ".join(digits(group) for group in groups))
    return all_of(found, " point ".join(whole(group, place.british) for group in groups))


def _fraction(found: Found, place: Place) -> list[Part] | None:
    above, below = int(found["above"]), int(found["below"])
    before = found["whole"]
    if not before and found["fraction"] in KNOWN:
        return all_of(found, KNOWN[found["fraction"]])
    unit = PARTS_OF.get(below)
    if unit is None or above >= 2 * below or above == 0:
        return all_of(found, f"{cardinal(above)} over {cardinal(below)}") if not before else None
    share = OF.match(found.string, found.end()) or above == 1 or before
    if below in (10, 100, 1000) and not share or above == below:
        return all_of(found, f"{cardinal(above)} out of {cardinal(below)}")
    several = "halves" if unit == "half" else f"{unit}s"
    said = f"{cardinal(above)} {unit if above == 1 else several}"
    if not before:
        return all_of(found, said)
    said = f"a {unit}" if above == 1 else said
    return all_of(found, f"{decimal(before, place.british)} and {said}")


def _ordinal(found: Found, place: Place) -> list[Part]:
    return all_of(found, ordinal(int(found["number"].replace(",", "")), place.british))


def _times(found: Found, place: Place) -> list[Part]:
    """10x is ten times; 4x4 and 800×600 are sizes, 2×3 is a product."""
    figures = found["number"]
    pairs = len(figures) == 4 and figures.isdigit() and figures[0] != "0"
    said = year(int(figures), place.british) if pairs else decimal(figures, place.british)
    size = found["by"] is not None and (found["sign"] != "×" or len(figures) > 2)
    return all_of(found, f"{said} by" if size else f"{said} times")


def _scientific(found: Found, place: Place) -> list[Part]:
    power = cardinal(int(found["power"]), place.british)
    return all_of(found, f"{decimal(found['number'], place.british)} times ten to the {power}")


def _power(found: Found, place: Place) -> list[Part]:
    power = POWERS.get(found["power"]) or f"to the {cardinal(int(found['power']), place.british)}"
    return all_of(found, f"{decimal(found['number'], place.british)} {power}")


def _point(found: Found, place: Place) -> list[Part]:
    return all_of(found, f"{'minus ' if found['minus'] else ''}point {digits(found['after'])}")


def _number(found: Found, place: Place) -> list[Part]:
    figures, text = found["number"], found.string
    glued = found.start() > 0 and text[found.start() - 1].isalpha()
    said = measures.signed(found, "number", place)
    before, point, after = figures.partition(".")
    if point and place.before.lower() in RELEASES and len(after) == 2:
        said = f"{whole(before, place.british)} point {whole(after, place.british)}"
    elif figures.isdigit() and figures[0] != "0" and not found["minus"]:
        if len(figures) == 4 and (glued or _is_year(found, place)):
            said = year(int(figures), place.british)
        elif len(figures) == 3 and glued and figures[1:] != "00":
            said = f"{cardinal(int(figures[0]))} {'oh ' if figures[1] == '0' else ''}{cardinal(int(figures[1:]))}"
    return all_of(found, plural(said) if found["several"] else said)


def _is_year(found: Found, place: Place) -> bool:
    dated = place.before.lower() in DATED
    if dated or not 1100 <= int(found["number"]) < 2100:
        return dated
    counted = COUNTED.match(found.string, found.end())
    return counted is None or counted["word"] in SINGULAR


GROUP = r"(?:[ -]\(?\d{1,5}\)?)"
RULES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    *dates.FIGURES,
    (re.compile(r"(?:\+?1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])"), _phone),
    (re.compile(rf"\+\d{{1,3}}{GROUP}{{2,6}}+(?!\w)|\+\d{{7,15}}(?!\w)"), _phone),
    (re.compile(r"\(?0\d{2,4}\)? \d{3,4} \d{3,4}(?!\w)|\(?0\d{4}\)? \d{6}(?!\w)"), _phone),
    (re.compile(r"(?P<first>\d{1,3}(?:\.\d{1,3})?):(?P<second>\d{1,3}(?:\.\d{1,3})?)(?![\d:])"), _ratio),
    (re.compile(r"(?P<first>\d{3})-(?P<second>\d{4})(?![\w-])"), _short_phone),
    (re.compile(r"\d{1,5}(?:-\d{1,5}){2,5}+(?![\w-])"), _row),
    (re.compile(r"(?P<groups>\d{1,6}(?:\.\d{1,6}){2,5}+)(?!\w)"), _version),
    *measures.RULES,
    (
        re.compile(
            r"(?:(?P<whole>\d{1,6}) )?(?P<fraction>(?P<above>\d{1,4})/(?P<below>\d{1,4}))(?![\w/]|\.\d)"
        ),
        _fraction,
    ),
    (re.compile(r"(?P<number>\d{1,3}(?:,\d{3}){1,5}+|\d{1,12})(?:st|nd|rd|th)(?!\w)"), _ordinal),
    (re.compile(rf"(?P<number>{NUMBER}) ?(?P<sign>[xX×])(?:(?P<by>(?= ?\d))|(?!\w))"), _times),
    (re.compile(rf"(?P<number>{NUMBER})[eE](?P<power>[+-]?\d{{1,3}})(?!\w)"), _scientific),
    (re.compile(rf"(?P<number>{NUMBER})\^(?P<power>-?\d{{1,4}})"), _power),
    (re.compile(r"(?P<minus>(?<![\w.)])[-−–])?(?<!\d)\.(?P<after>\d{1,40}+)(?!\.?\d)"), _point),
    (re.compile(rf"{measures.MINUS}(?P<number>{NUMBER})(?P<several>'?s(?!\w))?"), _number),
)
STARTS = frozenset(f"0123456789.+-−–({''.join(mark for mark in measures.CURRENCIES if len(mark) == 1)}")
"""What may begin something of these rules, letters aside."""
