"""Snake: what it adds is never negative, and its size and frequency are those it is given."""

import math

import torch

from riverrun.models.layers.snake import snake


def test_it_adds_a_wave_of_the_frequency_and_the_size_it_is_given() -> None:
    x = torch.linspace(-3, 3, 241)[None, None]
    a, b = torch.tensor([[2.0]]), torch.tensor([[4.0]])
    added = snake(x, a, b) - x
    assert added.min() >= -1e-6 and math.isclose(float(added.max()), 1 / 4, rel_tol=1e-2)
    later = snake(x + math.pi / 2, a, b) - (x + math.pi / 2)
    torch.testing.assert_close(added, later, atol=1e-5, rtol=0)
