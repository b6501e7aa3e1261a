"""How dates and times of day are read."""

import re

from riverrun.models.speech.reading.lists import MONTH, MONTHS
from riverrun.models.speech.reading.numbers import cardinal, ordinal, plural, year
from riverrun.models.speech.reading.parts import Found, Part, Place, Rule, all_of, group_of, letters_of
from riverrun.models.speech.reading.stops import pause_after

NAMES = "|".join([*MONTHS, "Sept", *(name[:3] for name in MONTHS if name != "May")])
DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?(?![\d:/%]|[.,]\d)"
YEAR_AFTER = r"(?:,? ?(?P<year>[12]\d{3})(?![\d%]|[.,/:-]\d))?"
HALF = r"(?P<half>[AaPp](?:\.[Mm]\.?|[Mm]))(?![\w])"


def _iso(found: Found, place: Place) -> list[Part] | None:
    return _date(found, int(found["month"]), int(found["day"]), place)


def _numeric(found: Found, place: Place) -> list[Part] | None:
    """4/7/2024: months first in America; stops between mean days first everywhere."""
    first, second = int(found["first"]), int(found["second"])
    day_first = place.british or found["sep"] == "." or first > 12
    day, month = (first, second) if day_first and second <= 12 else (second, first)
    return _date(found, month, day, place)


def _date(found: Found, month: int, day: int, place: Place) -> list[Part] | None:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    written = found["year"]
    number = int(written) if len(written) == 4 else int(written) + (1900 if int(written) > 40 else 2000)
    said = _day(month, day, place)
    return all_of(found, f"{said} {year(number, place.british)}")


def _day(month: int, day: int, place: Place) -> str:
    if place.british:
        return f"the {ordinal(day)} of {MONTHS[month - 1]}"
    return f"{MONTHS[month - 1]} {ordinal(day)}"


def _month_day(found: Found, place: Place) -> list[Part] | None:
    if not 1 <= int(found["day"]) <= 31:
        return None
    parts = [group_of(found, "month", MONTHS[MONTH[found["month"].lower()] - 1])]
    said = f"{'the ' if place.british else ''}{ordinal(int(found['day']))}"
    parts.append(group_of(found, "day", said, "," if found["year"] and "," in found[0] else ""))
    return parts + _year_of(found, place)


def _day_month(found: Found, place: Place) -> list[Part] | None:
    """3 March 2024, with the words that are said between."""
    if not 1 <= int(found["day"]) <= 31:
        return None
    the = "" if place.before.lower() in ("the", "every", "each") or found["of"] else "the "
    parts = [group_of(found, "day", f"{the}{ordinal(int(found['day']))} of")]
    parts.append(group_of(found, "month", MONTHS[MONTH[found["month"].lower()] - 1]))
    return parts + _year_of(found, place)


def _month_year(found: Found, place: Place) -> list[Part]:
    month = group_of(found, "month", MONTHS[MONTH[found["month"].lower()] - 1])
    return [month, *_year_of(found, place)]


def _short_month(found: Found, place: Place) -> list[Part]:
    return all_of(found, MONTHS[MONTH[found["month"].lower()] - 1])


def _year_of(found: Found, place: Place) -> list[Part]:
    written = found["year"]
    return [group_of(found, "year", year(int(written), place.british))] if written else []


def _time(found: Found, place: Place) -> list[Part] | None:
    hour, minute, second = int(found["hour"]), int(found["minute"]), found["second"]
    if hour > 24 or minute > 59 or second and int(second) > 59:
        return None
    said = cardinal(hour)
    if minute or second:
        said += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}" if minute else " hundred"
    elif not found["half"]:
        said += " o'clock" if 0 < hour < 13 else " hundred"
    if second:
        seconds = int(second)
        said += f" and {cardinal(seconds)} second{'' if seconds == 1 else 's'}"
    end = found.end("second" if second else "minute")
    return [Part(said, found.start(), end), *_half(found)]


def _hour(found: Found, place: Place) -> list[Part] | None:
    if not 0 < int(found["hour"]) < 13:
        return None
    return [group_of(found, "hour", cardinal(int(found["hour"]))), *_half(found)]


def _half(found: Found) -> list[Part]:
    if not found["half"]:
        return []
    first, second = letters_of(found["half"], found.start("half"))
    pause = pause_after(found) if found["half"].endswith(".") else ""
    return [first, second._replace(end=found.end("half"), pause=pause)]


def _decade(found: Found, place: Place) -> list[Part]:
    figures = found["year"]
    if len(figures) == 2:
        return all_of(found, plural(cardinal(int(figures))))
    return all_of(found, plural(year(int(figures), place.british)))


FIGURES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (re.compile(r"(?P<year>[12]\d{3})-(?P<month>[01]\d)-(?P<day>[0-3]\d)(?![\d-])"), _iso),
    (
        re.compile(
            r"(?P<first>\d{1,2})(?P<sep>[/.-])(?P<second>\d{1,2})(?P=sep)(?P<year>[12]\d{3})(?![\d/])"
        ),
        _numeric,
    ),
    (re.compile(r"(?P<first>\d{1,2})(?P<sep>/)(?P<second>\d{1,2})/(?P<year>\d\d)(?![\d/])"), _numeric),
    (
        re.compile(rf"(?P<hour>\d{{1,2}}):(?P<minute>\d\d)(?::(?P<second>\d\d))?(?!\d|:\d)(?: ?{HALF})?"),
        _time,
    ),
    (re.compile(rf"(?P<hour>\d{{1,2}}) ?{HALF}"), _hour),
    (
        re.compile(rf"(?P<day>[0-3]?\d)(?:st|nd|rd|th)? (?P<of>of )?(?P<month>{NAMES})\b{YEAR_AFTER}(?!\w)"),
        _day_month,
    ),
    (re.compile(r"(?P<year>(?:1\d|20)\d0|[2-9]0)'?s(?!\w)"), _decade),
)
WORDS: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (re.compile(rf"(?P<month>{NAMES})\b\.? {DAY}(?! (?:{NAMES}))(?!\w){YEAR_AFTER}"), _month_day),
    (re.compile(rf"(?P<month>{NAMES})\b[.,]? (?P<year>[12]\d{{3}})(?![\w]|[.,/:-]\d)"), _month_year),
    (re.compile(r"(?P<month>Jan|Feb|Apr|Aug|Sept|Sep|Oct|Nov|Dec)\.(?!\w)"), _short_month),
)
QUOTED = re.compile(r"'(?P<year>[2-9]0)s(?!\w)")


def date(text: str, british: bool = False) -> str | None:
    """A date in figures in words, None if it is none of those known."""
    for pattern, rule in FIGURES[:3]:
        if (found := pattern.fullmatch(text)) and (parts := rule(found, Place("", british))):
            return parts[0].said
    return None


def quoted_year(found: Found) -> list[Part]:
    """'90s, and such."""
    return all_of(found, plural(cardinal(int(found["year"]))))
