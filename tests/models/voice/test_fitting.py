"""Which preset keeps pace: on a clock that only the models move."""

from collections.abc import Sequence

import pytest

from riverrun.media import Chunk
from riverrun.models.contract import Outputs
from riverrun.models.errors import InvalidRequest
from riverrun.models.state import State
from riverrun.models.voice.fitting import Fit, fitting, ways
from riverrun.models.voice.windows import PRESETS, Conversion
from riverrun.models.voice.xvc import XVc
from tests.models.toys import Smooth
from tests.models.voice.small import small

HOP = 160  # samples, 10 ms


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Paced(Smooth):
    """Its steps take so many seconds, in turn."""

    def __init__(self, clock: Clock, costs: Sequence[float], latency: int = 0, hops: int = 1) -> None:
        super().__init__(latency=latency, hop=HOP)
        self.clock, self.costs, self.period, self.steps = clock, costs, hops * HOP, 0

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        self.clock.now += self.costs[self.steps % len(self.costs)]
        self.steps += 1
        return super().step(inputs, state)


def test_the_preset_of_least_latency_that_keeps_pace_is_taken() -> None:
    clock = Clock()
    models = {
        "slow": Paced(clock, [0.002], latency=3 * HOP),
        "fits": Paced(clock, [0.009], latency=2 * HOP),
        "quick": Paced(clock, [0.011], latency=HOP),
    }
    fit = fitting(models, clock)
    assert (fit.preset, fit.fits, fit.sessions, fit.windows) == ("fits", True, 1, 50)
    assert (fit.hop, fit.latency, round(fit.p95, 6)) == (0.01, 0.03, 0.009)
    assert str(fit) == "preset fits, latency 30 ms; it takes 9 of 10 ms a window (p95 of 50)"
    assert not models["slow"].steps, "what waits longer need not be timed"


def test_where_none_keeps_pace_the_nearest_is_named_and_found_soon() -> None:
    clock = Clock()
    models = {"a": Paced(clock, [0.05], latency=HOP), "b": Paced(clock, [0.03], latency=2 * HOP)}
    fit = fitting(models, clock)
    assert (fit.preset, fit.fits, fit.sessions, fit.windows) == ("b", False, 0, 3)
    assert "too slow to convert live: preset b comes nearest and takes 30 of 10 ms" in str(fit)
    assert models["a"].steps + models["b"].steps < 12


def test_two_of_fifty_windows_may_be_late_and_three_may_not() -> None:
    for late, fits in ((2, True), (3, False)):
        clock = Clock()
        model = Paced(clock, [0.001] + late * [0.02] + (50 - late) * [0.001])
        assert fitting({"": model}, clock).fits is fits


def test_a_window_of_several_hops_is_timed_whole_and_the_first_is_left_out() -> None:
    clock = Clock()
    model = Paced(clock, [1.0, 1.0, *(10 * [0.018, 0.0])], hops=2)
    fit = fitting({"": model}, clock, 10)
    assert (fit.hop, round(fit.p95, 6), fit.fits) == (0.02, 0.018, True)


def test_x_vc_has_the_presets_of_its_windows_out_of_one_network(net: XVc) -> None:
    model = Conversion(net)
    found = ways(model)
    assert list(found) == list(PRESETS)
    for name, made in found.items():
        assert isinstance(made, Conversion) and made.net is net and made.windows == PRESETS[name]
        assert 1000 * (made.spec.latency + made.hop) == 16_000 * PRESETS[name].latency
    assert list(ways(model, "cpu")) == ["cpu"]
    fit = fitting(found, Clock(), 2)
    assert (fit.preset, fit.hop, fit.latency) == ("quick", 0.06, 0.18), "on a machine that takes no time"


def test_what_there_is_not_is_refused(net: XVc) -> None:
    with pytest.raises(InvalidRequest, match="'best', expected auto or one of default, light, quick, cpu"):
        ways(Conversion(net), "best")
    with pytest.raises(InvalidRequest, match="'cpu', and the model has none"):
        ways(small(), "cpu")
    model = small()
    assert ways(model) == {"": model}
    assert fitting({"": model}, Clock(), 3) == Fit("", 0.02, 0.12, 0.0, 0.0, 3)
