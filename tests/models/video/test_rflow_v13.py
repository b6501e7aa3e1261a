"""Guidance of Open-Sora 1.3 by captions and by latents that are given."""

import pytest
import torch
from torch import Tensor

from riverrun.models.video.guiding import Strengths, rescaled
from riverrun.models.video.rflow import grid
from riverrun.models.video.rflow_v13 import guided, sample, shift_frames
from riverrun.models.video.stdit3_v13 import Known, STDiT3V13
from tests.models.video.small import drawn, stirred
from tests.models.video.test_stdit3 import V13

FPS, SIZE = torch.tensor([24.0]), (32.0, 48.0)


@pytest.fixture(scope="module")
def model() -> STDiT3V13:
    made = stirred(STDiT3V13(V13))
    assert isinstance(made, STDiT3V13)
    return made


def test_three_velocities_are_one(model: STDiT3V13) -> None:
    x, latents = drawn(1, 4, 3, 4, 6), drawn(1, 4, 3, 4, 6, seed=3)
    caption, without = (model.read(drawn(1, 6, 12, seed=seed)) for seed in (4, 5))
    known, nothing = Known((0,), latents, without), Known((), 0 * latents, without)

    def run(told: dict[str, Tensor], given: Known | None) -> Tensor:
        y: Tensor = model(x, torch.tensor([700.0]), told, FPS, SIZE, given)
        return y[:, :4]

    both, some, none = run(caption, known), run(without, known), run(without, nothing)
    led = none + 5 * (some - none) + 7.5 * (both - some)
    velocity = guided(model, caption, without, FPS, SIZE, 30, known)
    torch.testing.assert_close(velocity(x, 700.0, 0), led, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(velocity(x, 700.0, 11), both)
    near = guided(model, caption, without, FPS, SIZE, 30, known, rescale=True)
    torch.testing.assert_close(near(x, 700.0, 0), rescaled(led, both), atol=1e-3, rtol=1e-5)
    plain = guided(model, caption, without, FPS, SIZE, 30)(x, 700.0, 0)
    led, unled = run(caption, None), run(without, None)
    torch.testing.assert_close(plain, unled + 7.5 * (led - unled), atol=1e-3, rtol=1e-5)
    fading = guided(model, caption, without, FPS, SIZE, 30, known, Strengths(7.5, 5.0, fading=True))
    image = torch.tensor([1.0, 3.0, 5.0])[:, None, None]
    wanted = none + image * (some - none) + 7.5 * (both - some)
    torch.testing.assert_close(fading(x, 700.0, 0), wanted, atol=1e-3, rtol=1e-5)


def test_a_straight_path_is_walked() -> None:
    data, noise = drawn(1, 2, 3, 2, 2), drawn(1, 2, 3, 2, 2, seed=2)
    torch.testing.assert_close(sample(lambda x, time, step: data - noise, noise, grid(4, 3.0)), data)
    assert [shift_frames(n) for n in (1, 49, 113)] == [1, 12, 28]
