"""Attention sees distances, not places, and nothing that is masked."""

import pytest
import torch

from riverrun.models.layers.attention import Attention, rope, turn

CPU = torch.device("cpu")


def test_turned_queries_and_keys_know_their_distance_only() -> None:
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    cos, sin = rope(50, 8, CPU)

    def score(i: int, j: int) -> float:
        at_i, at_j = (cos[i : i + 1], sin[i : i + 1]), (cos[j : j + 1], sin[j : j + 1])
        return float((turn(q, at_i) * turn(k, at_j)).sum())

    assert score(3, 7) == pytest.approx(score(40, 44), abs=1e-4)
    assert score(3, 7) != pytest.approx(score(7, 3), abs=1e-4)


def test_what_is_masked_is_not_seen() -> None:
    layer, x, seen = Attention(16, 2, 1e-6), torch.randn(2, 5, 16), torch.randn(2, 6, 16)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    other = torch.where(mask[..., None], seen, torch.randn_like(seen))
    a, b = (
        layer(x, layer.memory(v, rope(6, 16 // 2, CPU)), rope(5, 16 // 2, CPU), mask) for v in (seen, other)
    )
    assert torch.allclose(a, b, atol=1e-6)


def test_a_half_precision_layer_stays_in_it() -> None:
    layer, x = Attention(16, 2, 1e-6).bfloat16(), torch.randn(1, 5, 16, dtype=torch.bfloat16)
    at = rope(5, 8, CPU)
    y = layer(x, layer.memory(x, at), at, None)
    assert y.dtype == torch.bfloat16 and y.isfinite().all()
