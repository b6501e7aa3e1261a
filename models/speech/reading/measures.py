"""How amounts are read: money, units, shares."""

import re

from riverrun.models.speech.reading.numbers import cardinal, decimal
from riverrun.models.speech.reading.parts import NUMBER, Found, Part, Place, Rule, all_of

CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"), "₩": ("won", "won", "jeon", "jeon"),
    "₽": ("ruble", "rubles", "kopek", "kopeks"), "₺": ("lira", "lira", "kurush", "kurush"),
    "₪": ("shekel", "shekels", "agora", "agorot"),
    "₿": ("bitcoin", "bitcoins", "cent", "cents"), "CHF": ("Swiss franc", "Swiss francs", "rappen", "rappen"),
}  # fmt: skip
CODES = {"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "INR": "₹", "CHF": "CHF"}
COUNTRIES = {"US": "U S", "A": "Australian", "AU": "Australian", "C": "Canadian", "CA": "Canadian",
             "NZ": "New Zealand", "HK": "Hong Kong"}  # fmt: skip
SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "tn": "trillion"}
BIG = r"(?:[ -]?(?P<big>hundred|thousand|million|billion|trillion)s?\b| ?(?P<short>[kKmMbB]n?|tn)(?!\w))?"
LENGTHS = {
    "mm": "millimeter", "cm": "centimeter", "dm": "decimeter", "m": "meter", "km": "kilometer", "nm": "nanometer",
    "μm": "micrometer", "mi": "mile", "yd": "yard",
}  # fmt: skip
BYTES = {"B": "byte", "b": "bit", "iB": "byte"}
PREFIXES = {"k": "kilo", "K": "kilo", "M": "mega", "G": "giga", "T": "tera", "P": "peta"}
UNITS = {
    **LENGTHS,
    **{p + unit: PREFIXES[p] + name for p in PREFIXES for unit, name in BYTES.items()},
    **{p + unit: PREFIXES[p] + name for p in "kMGT" for unit, name in (("Hz", "hertz"), ("W", "watt"))},
    **{p + unit: PREFIXES[p] + name for p in "kM" for unit, name in (("V", "volt"), ("J", "joule"))},
    **{p + "Pa": PREFIXES[p] + "pascal" for p in "kM"}, **{p + "Ω": PREFIXES[p] + "ohm" for p in "kM"},
    **{p + "bps": PREFIXES[p] + "bit per second" for p in "kMG"},
    "hPa": "hectopascal", "Pa": "pascal", "bar": "bar", "psi": "P S I", "Hz": "hertz", "W": "watt", "V": "volt",
    "mV": "millivolt", "mA": "milliamp", "mAh": "milliamp hour", "Ω": "ohm", "J": "joule", "cal": "calorie",
    "kcal": "kilocalorie", "Wh": "watt hour", "kWh": "kilowatt hour", "MWh": "megawatt hour", "mW": "milliwatt",
    "mg": "milligram", "μg": "microgram", "g": "gram", "kg": "kilogram", "t": "ton", "lb": "pound", "lbs": "pound",
    "oz": "ounce", "ml": "milliliter", "mL": "milliliter", "cl": "centiliter", "dl": "deciliter", "l": "liter",
    "L": "liter", "gal": "gallon", "ns": "nanosecond", "μs": "microsecond", "ms": "millisecond", "s": "second",
    "sec": "second", "secs": "second", "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour",
    "dB": "decibel", "px": "pixel", "ppm": "part per million", "dpi": "dot per inch", "rpm": "revolution per minute",
    "fps": "frame per second", "mph": "mile per hour", "kph": "kilometer per hour", "mpg": "mile per gallon",
    "ha": "hectare", "mol": "mole", "ft": "foot", "tbsp": "tablespoon", "tsp": "teaspoon", "lx": "lux",
    "yrs": "year", "yr": "year", "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree",
}  # fmt: skip
PER = {"h": "hour", "hr": "hour", "s": "second", "sec": "second", "min": "minute", "d": "day", "day": "day",
       "month": "month", "mo": "month", "year": "year", "yr": "year", "week": "week", "wk": "week", "m": "meter",
       "l": "liter", "L": "liter", "kg": "kilogram", "g": "gram", "person": "person", "hour": "hour", "km": "kilometer",
       "cm": "centimeter", "gal": "gallon", "lb": "pound", "dl": "deciliter", "dL": "deciliter"}  # fmt: skip
UNCHANGED = ("lux", "P S I")
POWERS = {"2": "square", "3": "cubic"}
OVER = "|".join(sorted(PER, key=len, reverse=True))
PER_PATTERN = rf"(?:/(?P<per>{OVER})\^?(?P<times>[23])?(?!\w))?"
UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
MINUS = r"(?P<minus>(?<![\w.)])[-−–])?"


def signed(found: Found, name: str, place: Place) -> str:
    """The number in a group, with the minus before it if there is one."""
    said = decimal(found[name], place.british)
    return f"minus {said}" if found["minus"] else said


def money(found: Found, place: Place) -> list[Part] | None:
    """An amount of money: groups number, second, big, short and per, and mark or code, perhaps country."""
    named = found.groupdict()
    mark = named.get("mark") or CODES[named["code"]]
    country = COUNTRIES.get(named.get("country") or "")
    if named.get("country") and country is None:
        return None
    unit, units, cent, cents = CURRENCIES[mark]
    before = f"{country} " if country else ""
    minus = "minus " if named.get("minus") else ""
    big = found["big"] or SCALES.get((found["short"] or "").lower(), "")
    first, second = found["number"], found["second"]
    if second or big:
        said = decimal(first, place.british)
        said += f" to {decimal(second, place.british)}" if second else ""
        name = unit if _describes(place) else units
        said = f"{minus}{said}{f' {big}' if big else ''} {before}{name}"
    else:
        said = minus + _sum(first, (before + unit, before + units, cent, cents), place)
    return all_of(found, said + _per(found))


def _describes(place: Place) -> bool:
    """Whether an amount stands before a noun: a ten dollar bill."""
    return place.before.lower() in ("a", "an")


def _sum(figures: str, names: tuple[str, ...], place: Place) -> str:
    """An amount in two units, as prices are said."""
    unit, units, cent, cents = names
    units = unit if _describes(place) else units
    before, point, after = figures.partition(".")
    if point and len(after) != 2:
        return f"{decimal(figures, place.british)} {units}"
    small = int(after or 0)
    coins = f"{cardinal(small)} {cent if small == 1 else cents}" if small else ""
    if small and not int(before.replace(",", "")):
        return coins
    said = f"{decimal(before, place.british)} {unit if before == '1' else units}"
    return f"{said} and {coins}" if coins else said


def _cents(found: Found, place: Place) -> list[Part]:
    return all_of(
        found, f"{decimal(found['number'], place.british)} cent{'' if found['number'] == '1' else 's'}"
    )


def _unit(found: Found, place: Place) -> list[Part] | None:
    unit, number = found["unit"], found["number"]
    if found["power"] and unit not in LENGTHS and unit != "ft":
        return None
    name = UNITS[unit]
    if number != "1" and found["gap"] != "-" and not _describes(place):
        name = _several(name)
    power = f"{POWERS[found['power']]} " if found["power"] else ""
    return all_of(found, f"{signed(found, 'number', place)} {power}{name}{_per(found)}")


def _several(name: str) -> str:
    """A unit in the plural: degrees Celsius, miles per hour, feet."""
    if name in UNCHANGED or name.endswith("hertz"):
        return name
    head, space, rest = name.partition(" ")
    if rest.startswith(("hour", "franc")):
        return f"{name}s"
    return f"{'feet' if head == 'foot' else f'{head}s'}{space}{rest}"


def _per(found: Found) -> str:
    if not found["per"]:
        return ""
    times = {"2": " squared", "3": " cubed"}.get(found["times"] or "", "")
    return f" per {PER[found['per']]}{times}"


def _percent(found: Found, place: Place) -> list[Part]:
    return all_of(found, f"{signed(found, 'number', place)} percent")


def _inches(found: Found, place: Place) -> list[Part]:
    return all_of(
        found, f"{decimal(found['number'], place.british)} inch{'' if found['number'] == '1' else 'es'}"
    )


def _feet(found: Found, place: Place) -> list[Part]:
    feet = decimal(found["feet"], place.british)
    return all_of(found, f"{feet} foot {decimal(found['inches'], place.british)}")


MARK = "[" + "".join(mark for mark in CURRENCIES if len(mark) == 1) + "]"
CODE = "|".join(CODES)
SECOND = rf"(?:[-–](?P<second>{NUMBER})(?![\d-]))?"
AMOUNT = rf"(?P<number>{NUMBER}){SECOND}{BIG}"
END = r"(?:\.(?= [a-z\d]))?"
RULES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (re.compile(rf"{MINUS}(?P<country>[A-Z]{{1,2}})?(?P<mark>{MARK}) ?{AMOUNT}{PER_PATTERN}"), money),
    (re.compile(rf"{MINUS}(?P<code>{CODE}) ?{AMOUNT}{PER_PATTERN}"), money),
    (
        re.compile(rf"{MINUS}{AMOUNT} ?(?:(?P<mark>[€£₽₺₿]|\$(?!\d))|(?P<code>{CODE})(?!\w)){PER_PATTERN}"),
        money,
    ),
    (re.compile(rf"(?P<number>{NUMBER}) ?¢"), _cents),
    (re.compile(rf"{MINUS}(?P<number>{NUMBER}) ?%"), _percent),
    (re.compile(rf"(?P<number>{NUMBER}) ?in\.(?=,| [a-z])"), _inches),
    (re.compile(r"(?P<feet>\d{1,2})' ?(?P<inches>\d{1,2})\""), _feet),
    (
        re.compile(
            rf"{MINUS}(?P<number>{NUMBER})(?P<gap>[ -]?)(?P<unit>{UNIT})\^?(?P<power>[23])?(?!\w){PER_PATTERN}{END}"
        ),
        _unit,
    ),
)
