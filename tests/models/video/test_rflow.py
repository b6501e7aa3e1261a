"""Rectified flow: shifted times, known frames, guidance, losses."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from riverrun.models.video.resolutions import shift_frames, size
from riverrun.models.video.rflow import (
    Frames,
    advance,
    grid,
    guided,
    logit_normal,
    losses,
    mixed,
    ratio,
    sample,
    shifted,
)
from tests.models.video.small import drawn, small

PUBLISHED = [  # times of 30 steps for 51 frames of 240p, cut to hundredths
    1000, 985.94, 971.32, 956.08, 940.20, 923.63, 906.32, 888.23, 869.31, 849.48, 828.69, 806.87, 783.93, 759.78,
    734.34, 707.49, 679.11, 649.07, 617.22, 583.39, 547.38, 508.98, 467.95, 424.00, 376.82, 326.03, 271.19, 211.82,
    147.31, 76.98,
]  # fmt: skip
RATIOS = {
    "144p": (0.3750, 1.4524, 2.0540, 2.9047, 4.1079), "240p": (0.6245, 2.4187, 3.4206, 4.8374, 6.8412),
    "360p": (0.9375, 3.6309, 5.1349, 7.2618, 10.2698), "480p": (1.2505, 4.8431, 6.8492, 9.6862, 13.6984),
    "720p": (1.8750, 7.2618, 10.2698, 14.5237, 20.5396),
}  # fmt: skip


@pytest.mark.parametrize("name", RATIOS)
def test_larger_videos_stay_nearer_to_noise(name: str) -> None:
    found = [ratio(size(name, "9:16"), shift_frames(n)) for n in (1, 51, 102, 204, 408)]
    assert found == pytest.approx(RATIOS[name], abs=6e-5)


def test_times_are_as_published() -> None:
    times = grid(30, ratio(size("240p", "9:16"), shift_frames(51)))
    assert times[:-1] == pytest.approx(PUBLISHED, abs=0.01) and times[-1] == 0
    assert grid(4) == [1000, 750, 500, 250, 0]
    torch.testing.assert_close(shifted(torch.tensor([0.0, 1000.0]), 7.0), torch.tensor([0.0, 1000.0]))
    with pytest.raises(ValueError, match="steps is 0"):
        grid(0)


def straight(data: Tensor, noise: Tensor) -> Tensor:
    return data - noise


def test_a_straight_path_is_walked_exactly() -> None:
    data, noise = drawn(1, 2, 3, 2, 2), drawn(1, 2, 3, 2, 2, seed=2)
    made = sample(lambda x, time, noisy: straight(data, noise), noise, grid(5, 3.0), lambda step: noise)
    torch.testing.assert_close(made, data)


def test_known_frames_stay_and_changed_ones_begin_late() -> None:
    """Of three frames the first is kept, the second changed from time 400 on, the third made."""
    z, told, asked = drawn(1, 2, 3, 2, 2), [], []

    def velocity(x: Tensor, time: float, noisy: Tensor | None) -> Tensor:
        told.append((time, noisy.tolist() if noisy is not None else None, x.clone()))
        return torch.ones_like(x)

    def draw(step: int) -> Tensor:
        asked.append(step)
        return drawn(1, 2, 3, 2, 2, seed=step)

    made = sample(velocity, z, grid(5), draw, torch.tensor([[0.0, 0.4, 1.0]]))
    assert [(time, noisy) for time, noisy, _ in told] == [
        (1000, [[False, False, True]]),
        (pytest.approx(800), [[False, False, True]]),
        (pytest.approx(600), [[False, False, True]]),
        (pytest.approx(400), [[False, True, True]]),
        (pytest.approx(200), [[False, True, True]]),
    ]
    assert asked == [3]
    torch.testing.assert_close(made[:, :, 0], z[:, :, 0], atol=0, rtol=0)
    begun = 0.6 * z + 0.4 * drawn(1, 2, 3, 2, 2, seed=3)
    torch.testing.assert_close(told[3][2][:, :, 1], begun[:, :, 1])
    torch.testing.assert_close(told[2][2][:, :, 1], z[:, :, 1], atol=0, rtol=0)
    torch.testing.assert_close(made[:, :, 1], begun[:, :, 1] + 0.4)
    torch.testing.assert_close(made[:, :, 2], z[:, :, 2] + 1)


def test_where_all_is_made_masks_cost_nothing() -> None:
    assert Frames.of(torch.ones(2, 3)) is None

    def velocity(x: Tensor, time: float, noisy: Tensor | None) -> Tensor:
        return torch.full_like(x, float(noisy is None))

    x, frames = advance(velocity, drawn(1, 1, 1, 1, 1), 500, 0, None, lambda: drawn(0))
    assert frames is None and x.item() == pytest.approx(drawn(1, 1, 1, 1, 1).item() + 0.5)


def test_guidance_goes_further_from_the_caption_that_says_nothing() -> None:
    model, x, fps = small(), drawn(2, 4, 3, 4, 4), torch.tensor([24.0, 24.0])
    captions = drawn(2, 6, 12)
    caption = model.read(captions)
    without = model.read(captions, dropped=torch.ones(2, dtype=torch.bool))
    nothing = model.read(model.y_embedder.y_embedding.expand(2, -1, -1))
    torch.testing.assert_close(without["words"], nothing["words"])
    size, time = (32.0, 32.0), torch.full((2,), 700.0)
    led, unled = (model(x, time, told, fps, size)[0][:, :4] for told in (caption, without))
    made = guided(model, caption, without, fps, size, 2.0)(x, 700.0, None)
    torch.testing.assert_close(made, led + 2 * (led - unled), atol=1e-5, rtol=0)
    torch.testing.assert_close(guided(model, caption, without, fps, size, 0)(x, 700.0, None), led)


def test_losses_count_noisy_frames_only() -> None:
    data, noise = drawn(2, 3, 4, 2, 2), drawn(2, 3, 4, 2, 2, seed=2)
    velocity = data - noise
    velocity[:, :, 1] += 2
    noisy = torch.tensor([[True, True, False, False], [True, False, True, True]])
    torch.testing.assert_close(losses(velocity, data, noise), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(losses(velocity, data, noise, noisy), torch.tensor([2.0, 0.0]))


def test_each_frame_may_have_a_time() -> None:
    data, noise = drawn(2, 3, 4, 2, 2), drawn(2, 3, 4, 2, 2, seed=2)
    time = torch.tensor([[0.0, 250.0, 500.0, 1000.0]] * 2)
    x = mixed(data, noise, time)
    for i, s in enumerate((0, 0.25, 0.5, 1)):
        torch.testing.assert_close(x[:, :, i], (1 - s) * data[:, :, i] + s * noise[:, :, i])
    torch.testing.assert_close(
        mixed(data, noise, time[:, 1])[:, :, 0], x[:, :, 1] * 0 + 0.75 * data[:, :, 0] + 0.25 * noise[:, :, 0]
    )


def test_times_of_training_lie_in_the_middle() -> None:
    times = logit_normal(torch.tensor([-1.0, 0.0, 1.0]))
    assert times.tolist() == pytest.approx([268.94, 500, 731.06], abs=0.01)
    assert all(a < b for a, b in pairwise(shifted(times, 3.0).tolist()))
