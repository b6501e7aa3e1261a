"""Numbers in English words: cardinals, ordinals, decimals, years, digits, Roman numerals.

Words are separated by single spaces, and nothing is hyphenated: each is a word to be spoken.
"""

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
SCALES = (
    "_ thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion decillion"
).split()
ORDINALS = {
    **{
        "one": "first",
        "two": "second",
        "three": "third",
        "five": "fifth",
        "eight": "eighth",
        "nine": "ninth",
    },
    "twelve": "twelfth",
}
LONGEST = 3 * len(SCALES)  # digits; with more a number is read digit by digit
ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def cardinal(number: int, british: bool = False) -> str:
    """A whole number: 105 is "one hundred five", "one hundred and five" where British; negative ones begin "minus".

    Raises ValueError with more than LONGEST digits.
    """
    if abs(number) >= 10**LONGEST:
        raise ValueError(f"number has more than {LONGEST} digits")
    if number < 0:
        return f"minus {cardinal(-number, british)}"
    if number == 0:
        return ONES[0]
    words: list[str] = []
    for scale in reversed(range(len(SCALES))):
        group = number // 1000**scale % 1000
        if not group:
            continue
        if british and not scale and group < 100 and words:
            words.append("and")
        words += _below_thousand(group, british)
        if scale:
            words.append(SCALES[scale])
    return " ".join(words)


def _below_thousand(number: int, british: bool) -> list[str]:
    words = [ONES[number // 100], "hundred"] if number >= 100 else []
    rest = number % 100
    if words and rest and british:
        words.append("and")
    if rest >= 20:
        words.append(TENS[rest // 10])
        rest %= 10
    return [*words, ONES[rest]] if rest else words


def ordinal(number: int, british: bool = False) -> str:
    """The place of a number in a row: 21 is "twenty first". Raises ValueError as `cardinal`."""
    words = cardinal(number, british).split()
    last = words[-1]
    words[-1] = ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return " ".join(words)


def digits(figures: str) -> str:
    """Each digit by itself; what is no digit is left out."""
    return " ".join(ONES[int(c)] for c in figures if c.isdigit())


def whole(figures: str, british: bool = False) -> str:
    """A whole number as it is written: commas are left out, a leading zero or too many digits make it `digits`."""
    plain = figures.replace(",", "")
    if len(plain) > LONGEST or len(plain) > 1 and plain[0] == "0":
        return digits(plain)
    return cardinal(int(plain), british)


def decimal(figures: str, british: bool = False) -> str:
    """A number as it is written, with or without a point: "3.14" is "three point one four"."""
    before, point, after = figures.partition(".")
    if not point:
        return whole(before, british)
    return f"{whole(before, british) if before else ''} point {digits(after)}".strip()


def year(number: int, british: bool = False) -> str:
    """A year, in pairs where it is usual: 1905 is "nineteen oh five", 2004 "two thousand four"."""
    century, rest = divmod(number, 100)
    if number < 1000 or number % 1000 < 10:
        return cardinal(number, british)
    if not rest:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def plural(words: str) -> str:
    """The words with the last one in the plural: "nineteen nineties"."""
    if words.endswith("y"):
        return f"{words[:-1]}ies"
    return f"{words}es" if words.endswith("x") else f"{words}s"


def roman(numeral: str) -> int | None:
    """What a Roman numeral in capitals is worth, up to 3,999; None if it is not written as one."""
    total = 0
    for mark, after in zip(numeral, f"{numeral[1:]} ", strict=False):
        worth = ROMAN.get(mark)
        if worth is None:
            return None
        total += -worth if ROMAN.get(after, 0) > worth else worth
    return total if 0 < total < 4000 and numeral == to_roman(total) else None


def to_roman(number: int) -> str:
    """A number from 1 to 3,999 as a Roman numeral."""
    steps = [*ROMAN.items(), ("IV", 4), ("IX", 9), ("XL", 40), ("XC", 90), ("CD", 400), ("CM", 900)]
    made = ""
    for mark, worth in sorted(steps, key=lambda step: -step[1]):
        made += mark * (number // worth)
        number %= worth
    return made
