"""Diffusion with learned variances: diffusers' scheduler step by step, and frames that are known."""

from typing import Any

import pytest
import torch
from torch import Tensor

from riverrun.models.video.iddpm import grid, kept, led, noised, sample, step
from tests.models.video.small import drawn


def told(x: Tensor, time: int, noisy: Tensor | None) -> Tensor:
    """A stand-in for a network: noise that depends on x and time, and variances all over their range."""
    return torch.cat([0.9 * x.flip(1), torch.tanh(2 * x + time / 500 - 1)], dim=1)


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_steps_are_those_of_diffusers(steps: int) -> None:
    from diffusers import DDPMScheduler

    theirs: Any = DDPMScheduler(  # type: ignore[no-untyped-call]
        1000,
        1e-4,
        0.02,
        "linear",
        variance_type="learned_range",
        clip_sample=False,
        timestep_spacing="linspace",
    )
    theirs.set_timesteps(steps)
    assert theirs.timesteps.tolist() == grid(steps)[:-1]
    x, generator = drawn(2, 4, 3, 2, 2), torch.Generator().manual_seed(5)
    y = x
    for time in theirs.timesteps:
        y = theirs.step(told(y, int(time), None), time, y, generator=generator).prev_sample
    generator.manual_seed(5)
    made = sample(told, x, steps, lambda time: torch.randn(x.shape, generator=generator))
    torch.testing.assert_close(made, y, atol=1e-3 * y.abs().max().item(), rtol=0)


def test_the_noise_that_is_told_is_taken_away() -> None:
    data, noise = drawn(1, 4, 2, 2, 2), drawn(1, 4, 2, 2, 2, seed=2)
    x = noised(data, noise, 400)
    torch.testing.assert_close(step(x, torch.cat([noise, noise], 1), 400, -1, noise), data, atol=1e-5, rtol=0)
    assert kept(999) < 1e-4 and kept(-1) == 1
    with pytest.raises(ValueError, match="steps is 1001, expected 1 to 1000"):
        grid(1001)


def test_known_frames_stay_and_changed_ones_begin_late() -> None:
    z, seen = drawn(1, 4, 3, 2, 2), []

    def noises(x: Tensor, time: int, noisy: Tensor | None) -> Tensor:
        seen.append((time, noisy.tolist() if noisy is not None else None, x[:, :, 1].clone()))
        return told(x, time, noisy)

    made = sample(noises, z, 4, lambda time: drawn(1, 4, 3, 2, 2, seed=time), torch.tensor([[0.0, 0.5, 1.0]]))
    assert [(time, noisy) for time, noisy, _ in seen] == [
        (999, [[False, False, True]]),
        (666, [[False, False, True]]),
        (333, [[False, True, True]]),
        (0, [[False, True, True]]),
    ]
    assert torch.equal(made[:, :, 0], z[:, :, 0]) and torch.equal(seen[1][2], z[:, :, 1])
    torch.testing.assert_close(seen[2][2], noised(z, drawn(1, 4, 3, 2, 2, seed=1333), 333)[:, :, 1])
    assert (made[:, :, 1] - z[:, :, 1]).abs().max() > 1e-3
    plain = sample(
        lambda x, time, noisy: told(x, time, noisy), z, 4, lambda time: drawn(1, 4, 3, 2, 2, seed=time)
    )
    ones = sample(told, z, 4, lambda time: drawn(1, 4, 3, 2, 2, seed=time), torch.ones(1, 3))
    assert torch.equal(ones, plain)


def test_guidance_leads_some_channels() -> None:
    a, b = drawn(1, 8, 1, 1, 1), drawn(1, 8, 1, 1, 1, seed=2)
    made = led(a, b, 6.0, 3)
    torch.testing.assert_close(made[:, :3], b[:, :3] + 7 * (a - b)[:, :3])
    assert torch.equal(made[:, 3:], a[:, 3:])
