"""Guidance by text and known frames: what counts is worked out, and nothing else changes."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from riverrun.models.video.guiding import Strengths, combined, needed, oscillating, ramped, rescaled, weights
from riverrun.models.video.mmdit import MMDiT, conditioned, pack, spots
from riverrun.models.video.mmflow import (
    Features,
    grid,
    guided,
    losses,
    mixed,
    restored,
    sample,
    shift,
)
from tests.models.video.small import drawn, stirred
from tests.models.video.test_mmdit import SMALL


@pytest.mark.parametrize(("text", "image"), [(7.5, 3.0), (1.0, 3.0), (7.5, 1.0), (1.0, 1.0), (3.0, 3.0)])
def test_the_weighted_sum_is_the_published_one(text: float, image: float) -> None:
    both, known, none = (drawn(2, 3, 4, seed=i) for i in range(3))
    asked: list[int] = []

    def branches(which: Sequence[int]) -> list[Tensor]:
        asked.extend(which)
        return [(both, known, none)[i] for i in which]

    made = combined(branches, weights(text, image, known=True))
    torch.testing.assert_close(made, none + image * (known - none) + text * (both - known), atol=1e-5, rtol=0)
    saved = {
        (7.5, 3.0): [0, 1, 2],
        (1.0, 3.0): [0, 1, 2],
        (7.5, 1.0): [0, 1],
        (1.0, 1.0): [0],
        (3.0, 3.0): [0, 2],
    }
    assert asked == saved[text, image]
    unknown = combined(branches, weights(text, image, known=False))
    torch.testing.assert_close(unknown, known + text * (both - known), atol=1e-5, rtol=0)


def test_strengths_oscillate_after_ten_steps() -> None:
    assert [oscillating(7.0, step) for step in (0, 9, 10, 11, 12, 13)] == [7, 7, 7, 1, 7, 1]
    strengths = Strengths()
    for known, count in ((True, 110), (False, 80)):  # of 150 in 50 steps
        pairs = [strengths.at(step, 50, 33) for step in range(50)]
        assert sum(len(needed(weights(*pair, known))) for pair in pairs) == count


def test_strengths_fade_over_steps_and_rise_along_time() -> None:
    assert ramped(3.0, 0, 50, 5).tolist() == [1, 1.5, 2, 2.5, 3]
    assert ramped(3.0, 49, 50, 5).tolist() == [1] * 5
    assert needed(weights(1.0, ramped(3.0, 49, 50, 5), True)) == [0]


def test_rescaled_guidance_spreads_as_what_has_all_conditions() -> None:
    velocity, conditioned_ = 5 * drawn(2, 3, 4), drawn(2, 3, 4, seed=2)
    made = rescaled(velocity, conditioned_, 1.0)
    torch.testing.assert_close(made.std((1, 2)), conditioned_.std((1, 2)))
    assert torch.equal(rescaled(velocity, conditioned_, 0.0), velocity)


def test_times_of_20_are_as_published() -> None:
    assert [shift(252, 33), shift(2304, 33)] == pytest.approx([5.73, 11.87], abs=5e-3)
    times = grid(50, 5.73)
    assert len(times) == 51 and times[::25] == pytest.approx([1, 5.73 / 6.73, 0])
    with pytest.raises(ValueError, match="steps is 0"):
        grid(0)


def test_a_guided_velocity_is_that_of_three_forwards() -> None:
    model = stirred(MMDiT(SMALL))
    assert isinstance(model, MMDiT)
    latents, places = drawn(2, 4, 3, 4, 6), spots(3, 2, 3)
    x, known = pack(latents), conditioned(drawn(2, 4, 3, 4, 6, seed=4), (0,))
    prompt, negative = (Features(drawn(2, 5, 12, seed=i), drawn(2, 6, seed=i)) for i in (5, 6))
    time = torch.full((2,), 0.8)
    both, some, none = (
        model(x, time, *told, places, given)
        for told, given in ((prompt, known), (negative, known), (negative, 0 * known))
    )
    made = guided(model, prompt, negative, places, 50, known)(x, 0.8, 3)
    torch.testing.assert_close(made, none + 3 * (some - none) + 7.5 * (both - some), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(guided(model, prompt, negative, places, 50, known)(x, 0.8, 13), both)
    fading = guided(model, prompt, negative, places, 50, known, Strengths(fading=True))(x, 0.8, 0)
    image = torch.tensor([1.0, 2.0, 3.0]).repeat_interleave(6)[:, None]
    torch.testing.assert_close(
        fading, none + image * (some - none) + 7.5 * (both - some), atol=1e-4, rtol=1e-5
    )
    text = guided(model, prompt, negative, places, 50)(x, 0.8, 0)
    led, unled = (model(x, time, *told, places) for told in (prompt, negative))
    torch.testing.assert_close(text, unled + 7.5 * (led - unled), atol=1e-4, rtol=1e-5)


def test_a_straight_path_is_walked_and_known_frames_are_put_back() -> None:
    data, noise = drawn(1, 2, 3, 2, 2), drawn(1, 2, 3, 2, 2, seed=2)
    made = sample(lambda x, time, step: noise - data, noise, grid(4, 3.0))
    torch.testing.assert_close(made, data)
    known = restored(made, noise, (0, 2))
    assert torch.equal(known[:, :, ::2], noise[:, :, ::2]) and torch.equal(known[:, :, 1], made[:, :, 1])


def test_losses_are_zero_on_the_path() -> None:
    data, noise = drawn(2, 3, 4), drawn(2, 3, 4, seed=2)
    early, late = (mixed(data, noise, torch.full((2,), t)) for t in (0.25, 0.75))
    torch.testing.assert_close(losses(2 * (late - early), data, noise), torch.zeros(2), atol=1e-9, rtol=0)
