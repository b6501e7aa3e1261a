"""SSML becomes a flat list of parts, or is refused with what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading.markup import DEPTH, LONGEST, PARTS, Part, parse


def told(part: Part) -> tuple[str, float, float, str | None]:
    return part.text, part.pause, part.rate, part.kind


def test_parts_in_a_row() -> None:
    parts = parse(
        '<speak>Hello <break time="500ms"/><prosody rate="slow">slow <prosody rate="80%">er</prosody></prosody>'
        '<say-as interpret-as="digits">42</say-as><sub alias="World Wide Web">WWW</sub></speak>'
    )
    assert [told(part) for part in parts] == [
        ("Hello ", 0.0, 1.0, None),
        ("", 0.5, 1.0, None),
        ("slow ", 0.0, 0.75, None),
        ("er", 0.0, pytest.approx(0.6), None),
        ("42", 0.0, 1.0, "digits"),
        ("World Wide Web", 0.0, 1.0, None),
    ]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [('time="1.5s"', 1.5), ('time="20ms"', 0.02), ('time="10s"', 10), ('strength="strong"', 0.75), ("", 0.5)],
)
def test_breaks(values: str, seconds: float) -> None:
    assert [part.pause for part in parse(f"<speak>a<break {values}/>b</speak>")] == [0, seconds, 0]


@pytest.mark.parametrize(
    ("told", "rate"),
    [("1.2", 1.2), ("120%", 1.2), ("+20%", 1.2), ("-25%", 0.75), ("fast", 1.25), ("x-slow", 0.5)],
)
def test_rates(told: str, rate: float) -> None:
    (part,) = parse(f'<speak><prosody rate="{told}">a</prosody></speak>')
    assert part.rate == pytest.approx(rate)


def test_sentences_and_paragraphs_end_in_a_pause_and_the_longest_holds() -> None:
    parts = parse("<speak><p><s>One</s><s>Two</s></p><p>Three</p></speak>")
    assert [(part.text, part.pause) for part in parts] == [
        ("One", 0), ("", 0.25), ("Two", 0), ("", 0.75), ("Three", 0), ("", 0.75),
    ]  # fmt: skip


def test_parts_know_their_characters_of_the_source() -> None:
    source = "<speak>Zoë &amp; <!-- no --><s>😀 &#x41;b</s><![CDATA[&amp;]]><sub alias='two words'>2w</sub></speak>"
    parts = [part for part in parse(source) if part.text]
    assert [part.text for part in parts] == ["Zoë & ", "😀 Ab", "&amp;", "two words"]
    assert [source[part.start : part.end] for part in parts] == [
        "Zoë &amp; ", "😀 &#x41;b", "&amp;", "2w",
    ]  # fmt: skip
    first, second, _, alias = parts
    assert source[slice(*first.span(0, 3))] == "Zoë" and source[slice(*first.span(4, 5))] == "&amp;"
    assert source[slice(*second.span(2, 4))] == "&#x41;b"
    assert source[slice(*alias.span(4, 9))] == "2w"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "no XML"),
        ("hello", "no XML at line 1"),
        ("<speak>a & b</speak>", "write & as &amp;"),
        ("<speak>&nbsp;</speak>", "undefined entity; only &amp;"),
        ("<speak>a</speak>b", "no XML"),
        ("<speak>\x00</speak>", "no XML"),
        ("<p>a</p>", "<p> is not where it can be: the whole SSML is one <speak>"),
        ("<speak><speak>a</speak></speak>", "the whole SSML is one <speak>"),
        ("<speak><voice name='x'>a</voice></speak>", "<voice>, known are <speak>, <break>"),
        ("<speak><prosody pitch='high'>a</prosody></speak>", "'pitch', which is not taken; known are rate"),
        ("<speak><prosody>a</prosody></speak>", "<prosody> has no rate"),
        ("<speak><prosody rate='9'>a</prosody></speak>", "expected 0.5 to 2"),
        ("<speak><prosody rate='nan'>a</prosody></speak>", "'nan', expected such as 120%"),
        ("<speak><break time='11s'/></speak>", "'11s', expected 0s to 10s"),
        ("<speak><break time='-1s'/></speak>", "expected 0s to 10s"),
        ("<speak><break time='1'/></speak>", "such as 500ms"),
        ("<speak><break strength='big'/></speak>", "'big', known are none"),
        ("<speak><break>a</break></speak>", "<break> has text in it"),
        ("<speak><say-as interpret-as='song'>a</say-as></speak>", "'song', known are characters"),
        ("<speak><sub>a</sub></speak>", "<sub> has no alias"),
        ("<speak><sub alias='b'><s>a</s></sub></speak>", "only text can be replaced"),
        ("<!DOCTYPE speak><speak>a</speak>", "DOCTYPE"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><speak>&x;</speak>', "DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><speak/>', "DOCTYPE"),
        ("<speak>" + "<s>" * DEPTH + "</s>" * DEPTH + "</speak>", f"more than {DEPTH} tags within"),
        ("<speak>" + "a" * LONGEST + "</speak>", f"at most {LONGEST} are taken"),
        ("<speak>" + "a<s/>" * (PARTS // 2 + 1) + "</speak>", f"more than {PARTS} parts"),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_refused(source: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(source)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 300


def test_nothing_to_say_is_no_parts() -> None:
    assert parse("<speak/>") == [] == parse("<speak> <s> </s></speak>")[:0]


@given(st.text(alphabet="<>/&;speakbrt='\" 1é😀\ud800!-[]?", max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for source in (text, f"<speak>{text}</speak>"):
        try:
            parts = parse(source)
        except InvalidRequest:
            continue
        for part in parts:
            assert 0 <= part.start <= part.end <= len(source)
            assert len(part.starts) == len(part.ends) == len(part.text)
