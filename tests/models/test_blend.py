"""A filter beside its own input, which is as late: from one to the other and back without a click."""

import numpy as np
import pytest

from riverrun.models.blend import Blend, Request
from riverrun.models.checking import check_stream
from riverrun.models.errors import InvalidRequest
from tests.models.toys import Loudness, Smooth, Teller, stream

HOP = 32
SOUND = np.sin(np.arange(30 * HOP) * 0.05).astype(np.float32)


@pytest.mark.parametrize("evaluations", [1, 3])
def test_it_keeps_the_promises_of_a_filter(evaluations: int) -> None:
    model = Blend(Smooth(latency=50, evaluations=evaluations))
    report = check_stream(model, [Request(Loudness(2), share) for share in (0.0, 0.4, 1.0)])
    assert report.max_difference < 1e-5 and report.batch == 3
    assert model.spec == model.model.spec


def test_at_nothing_it_is_the_input_and_at_one_the_filter() -> None:
    model = Blend(Smooth(latency=50))
    assert np.array_equal(stream(model, SOUND, Request(Loudness(2), 0.0)), SOUND)
    assert np.array_equal(stream(model, SOUND, Request(Loudness(2))), stream(model.model, SOUND, Loudness(2)))
    half = (SOUND + stream(model.model, SOUND, Loudness(2))) / 2
    assert np.abs(stream(model, SOUND, Request(Loudness(2), 0.5)) - half).max() < 1e-6


def test_a_change_fades_over_a_hop_and_the_filter_has_gone_on() -> None:
    model = Blend(Smooth(latency=64))
    on, off = Request(Loudness(2)), Request(Loudness(2), 0.0)
    made, wet = stream(model, SOUND, on, {10: off, 20: on}), stream(model.model, SOUND, Loudness(2))
    at, back = 10 * HOP - 64, 20 * HOP - 64
    assert np.array_equal(made[:at], wet[:at]) and np.array_equal(made[back + HOP :], wet[back + HOP :])
    assert np.array_equal(made[at + HOP : back], SOUND[at + HOP : back])
    assert np.abs(np.diff(made)).max() < 1.2 * np.abs(np.diff(wet)).max()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"share is 1\.5, expected 0 to 1"):
        Request(Loudness(), 1.5)
    with pytest.raises(ValueError, match="expected one channel of sound"):
        Blend(Teller())
