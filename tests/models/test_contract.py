"""The contract, proved on two toys: what check_stream measures, and that it notices each broken promise."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from riverrun.media import Chunk
from riverrun.models import ModelError, checking
from riverrun.models.chain import Chain
from riverrun.models.checking import HOPS, check_stream
from riverrun.models.contract import Outputs
from riverrun.models.shown import Shown
from riverrun.models.state import State, load
from tests.models.toys import Loudness, Painter, Smooth, Teller, Text

LOUD = [Loudness(), Loudness(0.5), Loudness(2)]
SCRIPTS = [
    [Text("one two three four five")],
    [Text("one tw", end=False), Text("o thr", end=False), Text("ee four five")],
    [Text("", end=False), *(Text(c, end=False) for c in "one two three four five"), Text("")],
]


@pytest.mark.parametrize(("hop", "latency", "evaluations"), [(32, 20, 1), (32, 100, 1), (7, 0, 3)])
def test_a_filter_keeps_the_promises(hop: int, latency: int, evaluations: int) -> None:
    report = check_stream(Smooth(hop=hop, latency=latency, evaluations=evaluations), LOUD)
    assert report.max_difference < 1e-5 and report.whole is not None
    assert report.batch == 3 and report.ticks == 24 * hop and report.resumed == 0


def test_a_generator_keeps_the_promises() -> None:
    requests = [Text("the first"), Text("a second one", seed=1), Text("three words here", seed=2)]
    report = check_stream(Teller(), requests, SCRIPTS)
    assert report.max_difference < 1e-5 and report.pieces is not None and report.batch > 1


def test_a_generator_of_pictures_keeps_the_promises() -> None:
    requests = [Shown("a red ball", 1.0), Shown("a blue one", 0.5), Shown("green", 0.4)]
    report = check_stream(Painter(), requests)
    assert report.max_difference == 0 and report.batch > 1


def test_a_chain_keeps_the_promises() -> None:
    report = check_stream(Chain([Smooth(latency=20), Smooth(latency=40)]), [[a, a] for a in LOUD])
    assert report.max_difference < 1e-5


class Forgetful(Smooth):
    """Loses its past when saved: it stands outside the state."""

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        kept = getattr(self, "kept", None)
        if kept is not None and kept.shape == state["past"].shape:
            state["past"] = kept
        outputs, state = super().step(inputs, state)
        self.kept = state["past"]
        return outputs, state


class Mixing(Smooth):
    """Lets sessions hear each other."""

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        outputs, state = super().step(inputs, state)
        data = [c.data for (c,) in outputs if c is not None]
        mean = np.mean(data, axis=0)
        return [(replace(c, data=c.data * 0.9 + mean * 0.1),) for (c,) in outputs if c is not None], state


class Wide(Smooth):
    """Gives double precision."""

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        outputs, state = super().step(inputs, state)
        return [(replace(c, data=c.data.astype(float)),) for (c,) in outputs if c is not None], state


class Late(Smooth):
    """Is one tick later than it says."""

    def whole(self, data: np.ndarray, request: Loudness) -> np.ndarray:
        return np.roll(super().whole(data, request), 1, axis=0)


class Hasty(Teller):
    """Does not wait for a word to be complete."""

    def key(self, state: State) -> int | None:
        return state["phase"][0] if state["text"][0].strip() or state["end"][0] else None


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Forgetful(), "forked|repeated|batched|resumed"),
        (Mixing(), "batched"),
        (Wide(), "float64"),
        (Late(), "whole"),
    ],
)
def test_a_broken_promise_is_named(model: Smooth, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        check_stream(model, LOUD)


def lost(data: bytes, device: str = "cpu") -> State:
    """A saved state of which a tensor comes back as zeros."""
    state = load(data, device)
    state["past"].zero_()
    return state


@pytest.mark.parametrize(
    ("name", "broken", "why"), [("load", lost, "resumed"), ("clone", lambda state: state, "forked")]
)
def test_the_fewest_hops_are_enough_to_notice(
    name: str, broken: Callable[..., State], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_stream(Smooth(), LOUD, hops=HOPS).batch > 1
    check_stream(Teller(), [Text("two words")])
    monkeypatch.setattr(checking, name, broken)
    with pytest.raises(ModelError, match=why):
        check_stream(Smooth(), LOUD, hops=HOPS)
    if name == "clone":
        with pytest.raises(ModelError, match=why):
            check_stream(Teller(), [Text("two words")])


@pytest.mark.parametrize(("hops", "latency", "least"), [(3, 20, 4), (4, 64, 6), (0, 0, 4)])
def test_too_few_hops_to_prove_anything_are_refused(hops: int, latency: int, least: int) -> None:
    with pytest.raises(ValueError, match=f"hops is {hops}, expected at least {least}"):
        check_stream(Smooth(latency=latency), LOUD, hops=hops)
    check_stream(Smooth(latency=latency), LOUD, hops=least)


def test_a_boundary_that_depends_on_arrival_is_noticed() -> None:
    with pytest.raises(ModelError, match="pieces"):
        check_stream(Hasty(), [Text("one two")], SCRIPTS)


def test_without_a_request_nothing_can_be_checked() -> None:
    with pytest.raises(ValueError, match="no request"):
        check_stream(Smooth(), [])
