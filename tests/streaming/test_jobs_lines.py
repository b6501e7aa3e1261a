"""Lines of a job: every wrong one is refused with its number and its key, before anything is done."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.models.errors import InvalidRequest
from riverrun.streaming.jobs.lines import alike, parse
from riverrun.streaming.jobs.tasks import GRAMMARS

GOOD = {"id": "one", "task": "restore", "input": "in.wav"}


def told(*lines: dict[str, Any] | str) -> bytes:
    return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()


def test_a_line_says_what_to_make_from_what() -> None:
    (line,) = parse(told({**GOOD, "output": "a/b.flac", "seed": -3, "strength": 0.5, "band": "8k"}), GRAMMARS)
    assert (line.number, line.id, line.task, line.input, line.output) == (
        1,
        "one",
        "restore",
        "in.wav",
        "a/b.flac",
    )
    assert line.values == {"input": "in.wav", "seed": -3, "strength": 0.5, "band": "8k"}


@pytest.mark.parametrize(
    ("source", "output"),
    [("a/in.flac", "one.flac"), ("in.MP3", "one.mp3"), ("in.mkv", "one.wav"), ("in", "one.wav")],
)
def test_an_output_that_is_not_named_is_called_by_its_id(source: str, output: str) -> None:
    assert parse(told({**GOOD, "input": source}), GRAMMARS)[0].output == output


def test_empty_lines_and_breaks_inside_text_are_no_lines() -> None:
    data = b"\xef\xbb\xbf" + told(
        GOOD, "", "  \r", json.dumps({**GOOD, "id": "two", "input": "a\u2028b.wav"})
    )
    assert [(line.number, line.id) for line in parse(data, GRAMMARS)] == [(1, "one"), (4, "two")]
    raw = '{"id": "two", "task": "restore", "input": "a\u2028b.wav"}'
    assert [line.input for line in parse(raw, GRAMMARS)] == ["a\u2028b.wav"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is no JSON"),
        ("[" * 60_000, "is no JSON"),
        ("[1]", "expected an object"),
        ('{"id": "a", "id": "b"}', "'id' stands there twice"),
        ('{"id": NaN}', "holds NaN"),
        ('{"id": "a\\ud800"}', "is no JSON"),
        ("x" * 70_000, "has 70000 characters, the limit is 65536"),
        ({"task": "restore", "input": "a"}, "id is None"),
        ({**GOOD, "id": "../x"}, "id is '../x'"),
        ({**GOOD, "id": ".hidden"}, "id is '.hidden'"),
        ({**GOOD, "id": "x" * 129}, "id is 'xxx"),
        ({**GOOD, "id": 7}, "id is 7"),
        ({**GOOD, "task": "sing"}, "task is 'sing', expected one of restore, convert, speak, show"),
        ({"id": "two", "task": "speak"}, "text is missing: say what to speak"),
        ({**GOOD, "task": "speak"}, "'input' is no key of task speak, which takes id, task, text, model"),
        ({**GOOD, "task": []}, "task is []"),
        ({"id": "two", "task": "restore"}, "input is missing"),
        ({**GOOD, "input": ""}, "input is ''"),
        ({**GOOD, "input": 3}, "input is 3"),
        ({**GOOD, "voice": "anna"}, "'voice' is no key of task restore, which takes id, task, input, "),
        ({**GOOD, "seed": 1.5}, "seed is 1.5, expected a whole number"),
        ({**GOOD, "seed": True}, "seed is True"),
        ({**GOOD, "seed": 2**63}, "seed is 9223372036854775808"),
        ({**GOOD, "strength": 1.1}, "strength is 1.1, expected a number from 0 to 1"),
        ({**GOOD, "strength": "1"}, "strength is '1'"),
        ({**GOOD, "strength": 10**400}, "strength is 1000"),
        ({**GOOD, "band": ["8k"]}, "band is ['8k'], expected one of full, 8k"),
        ({**GOOD, "output": 1}, "output is 1"),
        ({**GOOD, "output": "a.exe"}, "output is 'a.exe', expected a name that ends in .wav"),
        ({**GOOD, "output": "a"}, "output is 'a', expected a name that ends in .wav"),
        ({**GOOD, "output": "../a.wav"}, "output is '../a.wav', expected a path below"),
        ({**GOOD, "output": "a/../../a.wav"}, "output is"),
        ({**GOOD, "output": "/etc/a.wav"}, "output is"),
        ({**GOOD, "output": "a//b.wav"}, "output is"),
        ({**GOOD, "output": "./a.wav"}, "output is"),
        ({**GOOD, "output": ".a.wav"}, "output is"),
        ({**GOOD, "output": "a\\b.wav"}, "output is"),
        ({**GOOD, "output": "a\x00b.wav"}, "output is"),
        ({**GOOD, "output": "a\nb.wav"}, "output is"),
        ({**GOOD, "output": "ä" * 150 + ".wav"}, "output is"),
    ],
)
def test_a_wrong_line_is_named(line: dict[str, Any] | str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(told({**GOOD, "id": "fine", "output": "fine.wav"}, "", line), GRAMMARS)
    assert str(refused.value).startswith("line 3") and words in str(refused.value)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"id": "one", "output": "b.wav"}, "line 2: id is 'one', which line 1 has, too"),
        ({"id": "two", "output": "a.wav"}, "line 2: output is 'a.wav', which the one of line 1"),
        ({"id": "two", "output": "A.WAV"}, "line 2: output is 'A.WAV', which the one of line 1"),
        ({"id": "two", "output": "a.wav/b.wav"}, "line 2: output is 'a.wav/b.wav', which the one of line 1"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_two_lines_that_collide_are_both_named(second: dict[str, str], words: str, swapped: bool) -> None:
    lines = [{**GOOD, "output": "a.wav"}, {**GOOD, **second}]
    with pytest.raises(InvalidRequest) as refused:
        parse(told(*(reversed(lines) if swapped else lines)), GRAMMARS)
    assert "line 2: " in str(refused.value) and "line 1" in str(refused.value)
    assert swapped or words in str(refused.value)


def test_what_is_no_text_is_refused_with_its_line() -> None:
    with pytest.raises(InvalidRequest, match="line 2 is not UTF-8"):
        parse(told(GOOD) + b"\n\xff", GRAMMARS)


def test_nothing_and_too_much_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="there are no lines"):
        parse(b"\n \n", GRAMMARS)
    lines = [{**GOOD, "id": f"l{i}"} for i in range(4)]
    with pytest.raises(InvalidRequest, match="line 4 is one too many, the limit is 3"):
        parse(told(*lines), GRAMMARS, 3)


@given(st.binary() | st.text())
def test_anything_is_lines_or_a_refusal(data: bytes | str) -> None:
    with pytest.raises(InvalidRequest):
        parse(data, GRAMMARS)


@given(st.text(min_size=1, max_size=30))
def test_an_output_that_is_taken_stays_in_its_folder(output: str) -> None:
    try:
        (line,) = parse(json.dumps({**GOOD, "output": output + ".wav"}), GRAMMARS)
    except InvalidRequest:
        return
    parts = line.output.split("/")
    assert all(part and not part.startswith(".") and "\x00" not in part for part in parts)


def test_a_digest_tells_a_change_of_meaning_and_not_of_place() -> None:
    first = parse(told(GOOD), GRAMMARS)[0]
    moved = parse(told("", json.dumps(dict(reversed(GOOD.items())))), GRAMMARS)[0]
    other = parse(told({**GOOD, "seed": 1}), GRAMMARS)[0]
    assert first.digest() == moved.digest() != other.digest()
    assert first.digest("size 1") != first.digest("size 2")


def test_paths_that_a_file_system_may_confuse_are_alike() -> None:
    assert alike("Caf\u00e9.wav") == alike("cafe\u0301.WAV")
