"""A filter of one rate and hop runs in a stream of another, a bounded piece at a time, at a fixed delay."""

import numpy as np
import pytest

from riverrun.media import Chunk
from riverrun.models.checking import check_stream
from riverrun.models.contract import Port
from riverrun.models.errors import InvalidRequest
from riverrun.models.restoration.stream import Request
from riverrun.models.within import Within
from tests.models.restoration.test_stream import make
from tests.models.toys import Loudness, Smooth, Teller, stream

PORT = Port("audio", 24_000, 480)
LOUD = [Loudness(), Loudness(0.5), Loudness(2)]


# The first is as a restorer: 192 ticks of 16 kHz until a hop is whole, 256 of its own, and 36 a resampler.
@pytest.mark.parametrize(
    ("rate", "hop", "late", "evaluations", "latency"),
    [
        (16_000, 256, 256, 1, 780),
        (16_000, 256, 101, 2, 549),
        (16_000, 512, 0, 1, 780),
        (48_000, 240, 20, 1, 82),
    ],
)
def test_it_keeps_the_promises_of_a_filter(
    rate: int, hop: int, late: int, evaluations: int, latency: int
) -> None:
    model = Within(Smooth(rate, hop, late, evaluations), PORT)
    report = check_stream(model, LOUD, hops=12)
    assert report.max_difference < 1e-5 and report.whole is not None and report.batch > 1
    assert model.spec.latency == latency and model.spec.takes == model.spec.gives[0] == PORT


def test_a_restorer_keeps_them_too() -> None:
    report = check_stream(Within(make("restore-lite"), PORT), [Request(seed=1), Request(seed=2)], hops=8)
    assert report.whole is not None and report.whole < 1e-5


def test_what_the_filter_leaves_as_it_is_comes_out_at_its_own_time() -> None:
    sound = np.sin(np.arange(20 * 480) * 0.3).astype(np.float32)
    made = stream(Within(Smooth(16_000, 256, 0), PORT), sound, Loudness())
    assert np.abs(made - sound)[200:-200].max() < 2e-3


def test_a_step_feeds_the_filter_one_hop_at_most() -> None:
    inner = Smooth(16_000, 256, 0)
    model, steps = Within(inner, PORT), []
    state = model.open(Loudness())
    for hop in range(8):
        inputs: list[Chunk | None] = [Chunk(np.zeros((480, 1), np.float32), 480 * hop, 24_000)]
        steps.append(0)
        while True:
            before = len(inner.batches)
            outputs, state = model.step(inputs, state)
            assert len(inner.batches) <= before + 1
            steps[-1], inputs = steps[-1] + 1, [None]
            if outputs[0][0] is not None:
                break
    assert steps == [1, 1, 1, 2] * 2


def test_updates_reach_the_filter() -> None:
    model = Within(Smooth(16_000, 256, 0), PORT)
    sound = np.full(20 * 480, 0.5, np.float32)
    made = stream(model, sound, Loudness(), {10: Loudness(0.5)})
    assert made[:4_000] == pytest.approx(0.5, abs=0.1) and made[-1_000:-200] == pytest.approx(0.25, abs=1e-3)
    with pytest.raises(InvalidRequest, match="gain is 9"):
        model.update(model.open(Loudness()), Loudness(9))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="hop is 481 ticks of 24000 Hz, expected a multiple of 3"):
        Within(Smooth(16_000), Port("audio", 24_000, 481))
    with pytest.raises(ValueError, match="expected one channel of sound"):
        Within(Teller(), PORT)  # type: ignore[arg-type]
