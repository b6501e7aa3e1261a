"""What a connection sends of a journal: all of it in turn, or what is newest, without a click where it skips."""

from typing import Any

import numpy as np
import pytest

from riverrun.streaming import wire
from riverrun.streaming.journal import Journal
from riverrun.streaming.outgoing import Outgoing

RATE = 16_000


def journal(sound: Any, size: int, seconds: float = 10.0) -> Journal:
    kept = Journal(RATE, seconds, 1 << 20)
    for start in range(0, len(sound), size):
        data = sound[start : start + size]
        kept.add(start, len(data), wire.payload(data, "f32"), 0, False, 2)
    return kept


def rest(out: Outgoing, kept: Journal) -> tuple[Any, list[int]]:
    """All that is sent, and what was left out before each frame."""
    parts, gaps = [], []
    while due := out.next(kept):
        parts.append(wire.samples(out.passed(*due).payload, "f32", 1))
        gaps.append(due[1])
    return np.concatenate(parts), gaps


def tone(seconds: float) -> Any:
    return np.sin(2 * np.pi * 300 / RATE * np.arange(round(seconds * RATE)))[:, None].astype(np.float32) / 2


@pytest.mark.parametrize("live", [None, 0.1])
def test_in_time_every_frame_is_sent_as_it_is(live: float | None) -> None:
    sound = tone(0.9)
    sent, gaps = rest(Outgoing(wire.Open(rate=RATE, format="f32", live=live)), journal(sound, 320))
    assert np.array_equal(sent, sound) and not any(gaps)


@pytest.mark.parametrize("size", [32, 320, 4000])
@pytest.mark.parametrize("trimmed", [False, True])
def test_a_live_listener_too_far_behind_gets_the_newest_and_no_click(size: int, trimmed: bool) -> None:
    sound = tone(3)
    kept, out = journal(sound[:4000], size), Outgoing(wire.Open(rate=RATE, format="f32", live=0.1))
    first, _ = rest(out, kept)
    for start in range(4000, len(sound), size):
        data = sound[start : start + size]
        kept.add(start, len(data), wire.payload(data, "f32"), 0, False, 2)
    if trimmed:
        kept.acknowledge(kept.next - 1 - (RATE // 2) // size)
    then, gaps = rest(out, kept)
    assert sum(gaps) == gaps[0] == len(sound) - len(first) - len(then) > RATE
    assert np.array_equal(then[160:], sound[len(sound) - len(then) + 160 :]), "the fade is over after 10 ms"
    steps = np.abs(np.diff(np.concatenate([first, then])[:, 0]))
    assert steps.max() < 1.1 * np.abs(np.diff(sound[:, 0])).max()


def test_what_was_missed_is_sent_whole_after_a_lost_connection() -> None:
    sound = tone(3)
    kept = journal(sound, 320)
    sent, gaps = rest(Outgoing(wire.Open(rate=RATE, format="f32", live=0.1), 9, kept.next), kept)
    assert np.array_equal(sent, sound[3200:]) and not any(gaps)
