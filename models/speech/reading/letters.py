"""Written text as the characters that can be read: ASCII and a few signs, each knowing where it came from."""

import re
import unicodedata
from dataclasses import dataclass

from riverrun.models.errors import InvalidRequest

NAMED = {
    **dict(zip("αβγδεζηθικλμνξοπρστυφχψω",
               "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau "
               "upsilon phi chi psi omega".split(), strict=True)),
    "ς": "sigma", "Γ": "gamma", "Δ": "delta", "Θ": "theta", "Λ": "lambda", "Ξ": "xi", "Π": "pi", "Σ": "sigma",
    "Φ": "phi", "Ψ": "psi", "Ω": "omega",
}  # fmt: skip
"""Letters of Greek, as they are called where they stand alone in English."""
SIGNS = frozenset("°£€¥₹₩₽₺₪₿¢–—×÷±−≈≤≥≠√∞→©§‰")
"""What stays as it is besides ASCII and single letters of Greek."""
SHOWN = 8  # characters that a refusal names at most
SIMPLE = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛‹›ʼʻ′´", "'"),
        **dict.fromkeys("“”„‟«»″", '"'),
        **dict.fromkeys("‐‑‒", "-"),
        **dict.fromkeys("―⸺", "—"),
        **dict.fromkeys("•‣▪●◦·", ","),
        **dict.fromkeys("\u2028\u2029\x85", "\n"),
        **dict.fromkeys("¿¡™®ªˈˌ", ""),
        **{"…": "...", "⁄": "/", "№": "#", "º": "°", "˚": "°", "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE"},
        **{"œ": "oe", "Œ": "OE", "þ": "th", "Þ": "Th", "ð": "d", "Ð": "D", "ŋ": "ng", "ı": "i", "µ": "μ"},
        **{"⋅": "×", "∙": "×", "∗": "×", "➔": "→", "⇒": "→", "∼": "~", "≃": "≈", "\t": " ", "\r": " "},
    }
)
LATIN = re.compile(r"LATIN (SMALL|CAPITAL) LETTER ([A-Z])(?: WITH .*)?")


@dataclass(frozen=True)
class Plain:
    """Characters that can be read, and the span of the source behind each."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where in the source the characters from start to end, at least one, came from."""
        return self.starts[start], self.ends[end - 1]


def plain(source: str) -> Plain:
    """Fold a text: accents off, curly marks straight, emoji and control characters away.

    Raises InvalidRequest for letters that cannot be read: those of other scripts than Latin, but single Greek ones.
    """
    if source.isascii() and source.isprintable():
        return Plain(source, tuple(range(len(source))), tuple(range(1, len(source) + 1)))
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    known: dict[str, str | None] = {}
    for at, character in enumerate(source):
        if character not in known:
            known[character] = _folded(character)
        made = known[character]
        if made is None and _alone(source, at):
            made = character if character in NAMED else character.lower()
        if made is None:
            raise _unreadable(source, at)
        if made == "" and ends and unicodedata.combining(character):
            ends[-1] = at + 1
        folded.append(made)
        starts += [at] * len(made)
        ends += [at + 1] * len(made)
    return Plain("".join(folded), tuple(starts), tuple(ends))


def _folded(character: str) -> str | None:
    """A character's plain form, "" for nothing, None for a letter that cannot be read by itself."""
    simple = character.translate(SIMPLE)
    if simple != character:
        return simple
    if character.isascii():
        return character if character.isprintable() or character == "\n" else " "
    if character in SIGNS:
        return character
    kind = unicodedata.category(character)
    if kind in ("Mn", "Me", "Cf", "Sk"):
        return ""
    if (digit := unicodedata.decimal(character, None)) is not None and kind == "Nd":
        return str(digit)
    if (made := _decomposed(character)) is not None:
        return made
    if kind[0] in "LMN":
        found = LATIN.fullmatch(unicodedata.name(character, ""))
        return None if found is None else found[2].lower() if found[1] == "SMALL" else found[2]
    return " "


def _decomposed(character: str) -> str | None:
    """What a compatible or accented character consists of, if that is plain."""
    parts = unicodedata.normalize("NFKD", character)
    if parts == character:
        return None
    made = "".join("/" if c == "⁄" else c for c in parts if not unicodedata.combining(c))
    if not all(c.isascii() or c in SIGNS for c in made):
        return None
    if "/" in made and made[0].isdigit():
        return f" {made}"
    raised = unicodedata.decomposition(character).startswith("<super>") and made.isdigit()
    return f"^{made}" if raised else made


def _alone(source: str, at: int) -> bool:
    """Whether this is a letter of Greek that is no part of a word in Greek."""
    if source[at] not in NAMED and source[at].lower() not in NAMED:
        return False
    around = source[max(0, at - 1) : at] + source[at + 1 : at + 2]
    return not any("GREEK" in unicodedata.name(c, "") for c in around)


def _unreadable(source: str, at: int) -> InvalidRequest:
    found: dict[str, None] = {}
    for place in range(at, len(source)):
        if _folded(source[place]) is None:
            found[source[place]] = None
        if len(found) == SHOWN:
            break
    script = unicodedata.name(source[at], "unnamed").split()[0]
    script = script if script == "CJK" else script.capitalize()
    return InvalidRequest(
        f"the text has {''.join(found)!r} from character {at} on, which is {script}; only English can be read: "
        "write it in Latin letters, or leave it out"
    )
