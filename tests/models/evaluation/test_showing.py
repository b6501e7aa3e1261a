"""The bench of what shows: clips are those that are served, figures those of the work, and tables hold both."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from riverrun.models.errors import InvalidRequest
from riverrun.models.evaluation import clips, showing, untrained
from riverrun.models.evaluation.clips import STAGES
from riverrun.models.evaluation.showing import Plan, bench, of_world
from riverrun.models.shown import Shown
from riverrun.models.training.world.captions import vocabulary
from riverrun.models.video.caching import PAB246, Caching, teacache
from riverrun.models.video.config import V12
from riverrun.models.video.lite import ShowLite, ShowLiteNet
from tests.models.pictures import bank
from tests.models.video.shows import net, show

PROMPT = "a red ball rolls left"
ALL = replace(PAB246, delta=1e9, window=(0.0, 1000.0))


def tiny(**changes: Any) -> ShowLiteNet:
    """Of the world: its words, square pictures."""
    return net(words=vocabulary(), size=(24, 24), steps=3, **changes)


def test_a_streamed_clip_is_the_one_that_is_served() -> None:
    model = net()
    made = clips.streamed(model, Caching(), PROMPT, 20, 3, seed=5)
    served, _ = show(ShowLite(model), Shown(PROMPT, 20 / 12, seed=5, steps=3))
    np.testing.assert_array_equal(made.frames, served)
    assert made.latents.shape == (4, 9, 4, 6) and made.counts["evaluations"] == 9
    assert list(made.stages) == [*STAGES] and all(made.stages.values())
    assert 0 < made.first < made.elapsed and made.peak > 1e6


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_whole_and_streamed_are_the_same_where_there_is_one_chunk(guidance: float) -> None:
    """Of the same noise, by another sampler: guidance and times mean the same."""
    model = net(guidance=guidance, shift=2.0)
    one, other = (make(model, Caching(), PROMPT, 9, 4, 1) for make in (clips.streamed, clips.whole))
    torch.testing.assert_close(one.latents, other.latents, atol=1e-4, rtol=0)
    assert abs(one.frames.astype(int) - other.frames).max() <= 1
    cached = [make(model, ALL, PROMPT, 9, 4, 1) for make in (clips.streamed, clips.whole)]
    assert cached[0].counts == cached[1].counts and cached[0].counts["blocks"] == 2
    torch.testing.assert_close(cached[0].latents, cached[1].latents, atol=1e-4, rtol=0)


def test_a_whole_clip_need_not_fill_its_last_group() -> None:
    made = clips.whole(net(), Caching(), PROMPT, 20, 1)
    assert made.frames.shape == (20, 16, 24, 3) and made.latents.shape[1] == 7 and not made.stages["keep"]


@pytest.mark.parametrize("make", [clips.streamed, clips.whole])
def test_half_precision_is_near(make: Any) -> None:
    full, half = net(guidance=3.0), net(guidance=3.0)
    for part in (half.dit, half.vae):
        part.to(torch.bfloat16)
    one, other = (make(model, replace(ALL, delta=0.3), PROMPT, 9, 4) for model in (full, half))
    assert other.latents.dtype == torch.float32 and other.frames.dtype == np.uint8
    assert (one.latents - other.latents).norm() < 0.1 * one.latents.norm()


def test_all_is_in_the_table() -> None:
    heard = list[str]()
    plan = Plan("a red star moves", 18, (1, 4), (1e9,), 2, 10.0)
    done = bench("tiny", tiny(), plan, bank(), heard.append)
    speeds = [(s.form, s.setting, s.steps) for s in done.speeds]
    each = [
        ("all computed", 1),
        ("all computed", 4),
        ("pyramid attention broadcast", 4),
        ("TeaCache 1e+09", 4),
    ]
    assert speeds == [(form, *one) for form in ("streamed", "whole") for one in each]
    by_name = {(s.form, s.setting): s for s in done.speeds if s.steps == 4}
    assert by_name["streamed", "TeaCache 1e+09"].counts["blocks"] == 4  # two a chunk
    assert by_name["whole", "TeaCache 1e+09"].counts["blocks"] == 2
    assert by_name["whole", "TeaCache 1e+09"].against.keys() == {"PSNR", "SSIM"}
    systems = [f"{steps} steps{whose}" for steps in (1, 4) for whose in ("", ", another caption's")]
    assert list(done.followed) == ["drawn", *systems]
    assert len(done.drifts) == len(done.colors) == 1
    text = done.table()
    for row in ("| streamed | 4 |", "| whole, TeaCache 1e+09 |", "| drawn |", "| 4 steps, another", "| 10 |"):
        assert row in text
    assert "2 of 4" in text and "None" not in text and "nan" not in text
    assert json.loads(json.dumps(done.document()))["followed"]["drawn"][0]["caption"]
    assert any("4 steps, TeaCache" in line for line in heard)


def test_what_was_not_measured_is_not_in_the_table() -> None:
    text = bench("tiny", tiny(), Plan("a red star", 9, (1,), (), 0, 0.0), None, lambda _: None).table()
    assert "streamed" in text and "PSNR" not in text and "drawn" not in text and "of latents" not in text


def test_only_models_of_the_world_are_told_its_captions() -> None:
    assert of_world(tiny().config)
    assert not of_world(net().config) and not of_world(net(words=vocabulary()).config)


def test_the_published_polynomial_is_of_the_published_network() -> None:
    large = untrained.config("stdit3-xl", None, 51)
    assert showing.settings(large, [0.2]) == {
        "pyramid attention broadcast": PAB246,
        "TeaCache 0.2": teacache(0.2),
    }
    assert showing.settings(net().config, [0.2])["TeaCache 0.2"] == Caching(0.2)


def test_presets_are_of_known_shapes() -> None:
    large = untrained.config("stdit3-xl", None, 51)
    assert large.dit == V12 and large.size == (480, 848) and large.guidance == 7 and large.steps == 30
    assert large.vae.size(51, *large.size) == (15, 60, 106) and large.shift == pytest.approx(4.84, abs=0.01)
    small = untrained.config("show-lite", (50, 30), 9)
    assert small.size == (48, 24) and small.words == vocabulary()
    with pytest.raises(InvalidRequest, match="preset is 'x', expected one of stdit3-xl, show-lite"):
        untrained.config("x", None, 9)
    with pytest.raises(InvalidRequest, match="size is 5 x 480, expected at least 8 x 8"):
        untrained.config("stdit3-xl", (5, 480), 9)


def test_random_weights_show() -> None:
    made = clips.streamed(untrained.build("show-lite", (16, 16), 9, "cpu"), Caching(), "a red star", 9, 1)
    assert made.frames.shape == (9, 16, 16, 3)
