"""The wire: what is packed comes back, and no bytes at all do more than raise ProtocolError."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.streaming import wire
from riverrun.streaming.errors import ProtocolError
from riverrun.streaming.journal import Intake, Journal

CASES = 30 * settings().max_examples  # of each kind; 100,000 in all with --hypothesis-profile=fuzz
I64 = st.integers(-(2**63), 2**63 - 1)
FRAMES = st.builds(
    wire.Frame,
    seq=st.integers(0, 2**32 - 1),
    pts=I64,
    payload=st.binary(max_size=100),
    at=I64,
    last=st.booleans(),
    kind=st.sampled_from([1, 2, 3, 4]),
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["type", "seq", "model", "request", "rate", "live", "every", "at", "token", "received"]
)
KINDS = st.sampled_from([*wire.CONTROLS, "", "opened", "x"])


@given(FRAMES)
def test_a_frame_comes_back(frame: wire.Frame) -> None:
    assert wire.unpack(frame.pack()) == frame


def test_frames_of_pictures_may_be_larger_than_those_of_sound() -> None:
    data = bytes(wire.LONGEST + 1)
    assert wire.unpack(wire.Frame(0, 0, data, kind=3).pack()).payload == data
    for frame in (wire.Frame(0, 0, data, kind=2), wire.Frame(0, 0, bytes(wire.LARGEST + 1), kind=4)):
        with pytest.raises(ProtocolError, match="send shorter frames"):
            wire.unpack(frame.pack())
    with pytest.raises(ProtocolError, match="of kind 5, expected 1, 2, 3, 4"):
        wire.unpack(wire.Frame(0, 0, kind=5).pack())


@settings(max_examples=CASES, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_frame_or_a_clear_error(data: bytes) -> None:
    try:
        frame = wire.unpack(data)
    except ProtocolError as error:
        assert str(error)
    else:
        assert frame.pack() == data


@settings(max_examples=CASES, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_clear_error(text: str) -> None:
    with pytest.raises(ProtocolError):
        wire.parse(text)


@settings(max_examples=CASES, deadline=None)
@given(KINDS, st.dictionaries(NAMES, JSON, max_size=5))
def test_any_object_is_a_control_or_a_clear_error(kind: str, values: dict[str, Any]) -> None:
    try:
        control = wire.parse(json.dumps({**values, "type": kind}))
    except ProtocolError as error:
        assert str(error)
    else:
        assert wire.parse(wire.text(control)) == control
        assert asdict(control).items() >= {k: v for k, v in values.items() if k != "type"}.items()


@pytest.mark.parametrize("form", ["pcm16", "f32"])
def test_sound_comes_back_to_half_a_step(form: str) -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, (300, 2)).astype(np.float32)
    back = wire.samples(wire.payload(sound, form), form, 2)
    assert np.abs(back - sound).max() <= (0.5 / 32768 + 1e-6 if form == "pcm16" else 0)


def test_full_scale_does_not_wrap() -> None:
    loud = np.array([[2.0], [-2.0]], np.float32)
    assert wire.samples(wire.payload(loud, "pcm16"), "pcm16", 1).tolist() == [[32767 / 32768], [-1.0]]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(-1, 30)), max_size=30))
def test_a_journal_gives_again_all_that_was_not_acknowledged(steps: list[tuple[int, int]]) -> None:
    journal, pts, safe = Journal(100, 1e9, 1 << 30), 0, -1
    for ticks, ack in steps:
        journal.add(pts, ticks, bytes(ticks), 0, False, 1)
        pts += ticks
        if ack < journal.next:
            journal.acknowledge(ack)
            safe = max(safe, ack)
    assert [f.seq for f in journal.after(safe)] == list(range(safe + 1, journal.next))
    assert journal.ticks == sum(len(f.payload) for f in journal.after(safe))
    if safe >= 0:
        with pytest.raises(ProtocolError, match="are kept"):
            journal.after(safe - 1)


def test_a_journal_that_is_full_drops_the_oldest_and_says_how_much() -> None:
    journal = Journal(100, 1.0, 1 << 30)
    for i in range(10):
        journal.add(30 * i, 30, b"", 0, False, 1)
    assert journal.full and journal.trim() == 210
    assert not journal.full and [f.seq for f in journal.after(6)] == [7, 8, 9]


@given(st.lists(st.integers(0, 6), max_size=40))
def test_an_intake_takes_every_frame_once_and_in_order(seqs: list[int]) -> None:
    intake, taken = Intake(), []
    for seq in seqs:
        try:
            if intake.take(wire.Frame(seq, 10 * seq), 10):
                taken.append(seq)
        except ProtocolError:
            assert seq > intake.next
    assert taken == list(range(len(taken)))
