"""A small part of SSML as a flat list of parts, each with its characters of the source.

Safe by what it does not take: no DTD, no entities but the five of XML, few tags, little depth.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from xml.parsers import expat

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading.kinds import KINDS, Kind

LONGEST = 100_000  # characters of the source
DEPTH = 10  # tags within tags
PARTS = 10_000
BREAK = 10.0  # seconds at most
RATES = (0.5, 2.0)
STRENGTHS = {
    "none": 0.0,
    "x-weak": 0.1,
    "weak": 0.25,
    "medium": 0.5,
    "strong": 0.75,
    "x-strong": 1.5,
}  # seconds
NAMED_RATES = {"x-slow": 0.5, "slow": 0.75, "medium": 1.0, "default": 1.0, "fast": 1.25, "x-fast": 1.5}
TAGS: dict[str, frozenset[str]] = {
    "speak": frozenset(["version", "xmlns", "xml:lang", "xmlns:xsi", "xsi:schemaLocation"]),
    "break": frozenset(["time", "strength"]),
    "prosody": frozenset(["rate"]),
    "say-as": frozenset(["interpret-as", "format", "detail"]),
    "sub": frozenset(["alias"]),
    "p": frozenset(["xml:lang"]),
    "s": frozenset(["xml:lang"]),
}
"""The tags that are known, and what they may have; what is not of the part below changes nothing."""
ENDINGS = {"s": STRENGTHS["weak"], "p": STRENGTHS["strong"]}
TIME = re.compile(r"\+?(\d{1,6}(?:\.\d{1,6})?|\.\d{1,6})(ms|s)")
RATE = re.compile(r"([+-]?)(\d{1,4}(?:\.\d{1,4})?)(%?)")
ENTITY = re.compile(r"&#?\w{1,8};")
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Part:
    """A stretch of text that is said alike, or a break, which has none, of `pause` seconds.

    The source's characters behind each of the text's are between `starts` and `ends`. `kind` is that of `say_as`.
    """

    text: str
    start: int
    end: int
    pause: float = 0.0
    rate: float = 1.0
    kind: Kind | None = None
    starts: tuple[int, ...] = field(default=(), repr=False)
    ends: tuple[int, ...] = field(default=(), repr=False)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where in the source the text's characters from start to end, at least one, are."""
        return self.starts[start], self.ends[end - 1]


class _Way(NamedTuple):
    """What holds within a tag."""

    tag: str
    rate: float = 1.0
    kind: Kind | None = None
    alias: str | None = None


def parse(source: str) -> list[Part]:
    """The parts of an SSML document, which is one `<speak>`.

    Raises InvalidRequest for what is no XML, for tags, attributes and values that are not known, and for too much.
    """
    if len(source) > LONGEST:
        raise InvalidRequest(
            f"the SSML has {len(source)} characters, at most {LONGEST} are taken: send it in parts"
        )
    reader = _Reader(source)
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = False
    parser.StartElementHandler = reader.opened
    parser.EndElementHandler = reader.closed
    parser.CharacterDataHandler = reader.said
    parser.StartDoctypeDeclHandler = _no_doctype
    parser.EntityDeclHandler = _no_doctype
    reader.place = lambda: parser.CurrentByteIndex
    try:
        parser.Parse(SURROGATE.sub("\ufffd", source).encode(), True)
    except expat.ExpatError as error:
        raise _malformed(source, error) from error
    return reader.parts


def _no_doctype(*_: Any) -> None:
    raise InvalidRequest(
        "the SSML has a DOCTYPE or entities of its own, which are not taken: write the text itself"
    )


class _Reader:
    """Collects parts as the parser comes upon tags and text."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.parts: list[Part] = []
        self.place: Callable[[], int] = int
        self._ways: list[_Way] = []
        self._text: list[str] = []
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._bytes = None if source.isascii() else _byte_places(source)

    def opened(self, tag: str, values: dict[str, str]) -> None:
        """A tag begins: what it says holds until it ends."""
        self._check(tag, values)
        self._finish()
        way = self._ways[-1]._replace(tag=tag) if self._ways else _Way(tag)
        if tag == "break":
            self._pause(_break(values))
        elif tag == "prosody":
            way = way._replace(rate=_rate(values, way.rate))
        elif tag == "say-as":
            way = way._replace(kind=_kind(values))
        elif tag == "sub":
            way = way._replace(alias=_needed("sub", "alias", values))
        self._ways.append(way)

    def closed(self, tag: str) -> None:
        """A tag ends: its text is a part, with a pause after a sentence or paragraph."""
        self._finish()
        self._ways.pop()
        if tag in ENDINGS:
            self._pause(ENDINGS[tag])

    def said(self, data: str) -> None:
        """Some characters, which stand in the source as they are, or one that is an entity there."""
        way = self._ways[-1]
        if way.tag == "break":
            if data.strip():
                raise InvalidRequest("<break> has text in it: write <break/> and the text after it")
            return
        at = self._character(self.place())
        found = ENTITY.match(self.source, at) if len(data) == 1 else None
        ends = [found.end()] if found else range(at + 1, at + 1 + len(data))
        self._text.append(data)
        self._starts += range(at, at + len(data))
        self._ends += ends

    def _character(self, place: int) -> int:
        """A place of the parser, in bytes, as one of the source."""
        return place if self._bytes is None else bisect_left(self._bytes, place)

    def _check(self, tag: str, values: dict[str, str]) -> None:
        known = ", ".join(f"<{name}>" for name in TAGS)
        if tag not in TAGS:
            raise InvalidRequest(f"the SSML has <{_short(tag)}>, known are {known}: leave it out")
        if (tag == "speak") != (not self._ways):
            raise InvalidRequest(f"<{tag}> is not where it can be: the whole SSML is one <speak>")
        if len(self._ways) == DEPTH:
            raise InvalidRequest(f"the SSML has more than {DEPTH} tags within one another: make it flatter")
        for name in values:
            if name not in TAGS[tag]:
                taken = ", ".join(sorted(TAGS[tag]))
                raise InvalidRequest(f"<{tag}> has {_short(name)!r}, which is not taken; known are {taken}")
        if self._ways and self._ways[-1].alias is not None:
            raise InvalidRequest(f"<sub> has <{tag}> in it, only text can be replaced")

    def _finish(self) -> None:
        """Make a part of the text since the last tag."""
        text = "".join(self._text)
        if text.strip():
            way = self._ways[-1]
            start, end = self._starts[0], self._ends[-1]
            starts, ends = tuple(self._starts), tuple(self._ends)
            if way.alias is not None:
                text = way.alias
                starts, ends = (start,) * len(text), (end,) * len(text)
            self._add(Part(text, start, end, 0.0, way.rate, way.kind, starts, ends))
        self._text, self._starts, self._ends = [], [], []

    def _pause(self, seconds: float) -> None:
        """A break; beside another one the longer holds."""
        if self.parts and not self.parts[-1].text:
            seconds = max(seconds, self.parts.pop().pause)
        at = self._character(self.place())
        if seconds:
            self._add(Part("", at, at, seconds))

    def _add(self, part: Part) -> None:
        if len(self.parts) == PARTS:
            raise InvalidRequest(f"the SSML has more than {PARTS} parts: send it in several requests")
        self.parts.append(part)


def _byte_places(source: str) -> list[int]:
    places, at = [], 0
    for character in source:
        places.append(at)
        at += 1 if character < "\x80" else 2 if character < "\u0800" else 3 if character < "\U00010000" else 4
    return places


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."


def _needed(tag: str, name: str, values: dict[str, str]) -> str:
    if not values.get(name, "").strip():
        raise InvalidRequest(f'<{tag}> has no {name}: write <{tag} {name}="...">')
    return values[name]


def _break(values: dict[str, str]) -> float:
    """Seconds of a break."""
    if "time" not in values:
        strength = values.get("strength", "medium")
        if strength not in STRENGTHS:
            known = ", ".join(STRENGTHS)
            raise InvalidRequest(f"<break> has strength {_short(strength)!r}, known are {known}")
        return STRENGTHS[strength]
    found = TIME.fullmatch(values["time"].strip())
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else -1.0
    if not 0 <= seconds <= BREAK:
        told = _short(values["time"])
        raise InvalidRequest(f"<break> has time {told!r}, expected 0s to {BREAK:g}s, such as 500ms or 1.5s")
    return seconds


def _rate(values: dict[str, str], before: float) -> float:
    """A rate of speech within another."""
    told = _needed("prosody", "rate", values).strip()
    if told in NAMED_RATES:
        rate = NAMED_RATES[told]
    elif found := RATE.fullmatch(told):
        rate = float(found[2]) / (100 if found[3] else 1)
        if found[1]:
            rate = 1 + rate if found[1] == "+" else 1 - rate
    else:
        known = ", ".join(NAMED_RATES)
        raise InvalidRequest(
            f"<prosody> has rate {_short(told)!r}, expected such as 120%, 1.2, or one of {known}"
        )
    slowest, fastest = RATES
    if not slowest <= rate * before <= fastest:
        raise InvalidRequest(
            f"<prosody> has rate {_short(told)!r}, which makes {rate * before:g}, expected {slowest:g} to {fastest:g}"
        )
    return rate * before


def _kind(values: dict[str, str]) -> Kind:
    told = _needed("say-as", "interpret-as", values).strip()
    for kind in KINDS:
        if told == kind:
            return kind
    raise InvalidRequest(f"<say-as> has interpret-as {_short(told)!r}, known are {', '.join(KINDS)}")


def _malformed(source: str, error: expat.ExpatError) -> InvalidRequest:
    why = expat.ErrorString(error.code)
    hint = "; only &amp; &lt; &gt; &quot; &apos; and numbers are known" if "entity" in why else ""
    hint = hint or "; write & as &amp; and < as &lt;"
    return InvalidRequest(f"the SSML is no XML at line {error.lineno}, column {error.offset}: {why}{hint}")
