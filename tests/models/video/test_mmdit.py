"""The transformer of Open-Sora 2.0: packing, what is known, and what is heard."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from riverrun.models.video.mmdit import Config, MMDiT, conditioned, pack, spots, unpack
from tests.models.video.small import drawn, stirred

SMALL = Config(width=32, heads=2, double=1, single=1, latent=16, text=12, pooled=6, axes=(4, 6, 6))


@pytest.fixture(scope="module")
def model() -> MMDiT:
    made = stirred(MMDiT(SMALL))
    assert isinstance(made, MMDiT)
    return made


def run(model: MMDiT, latents: Tensor, known: Tensor | None = None) -> Tensor:
    f, y, w = latents.shape[2:]
    places = spots(f, y // 2, w // 2)
    time = torch.tensor([0.3, 0.9])
    y_: Tensor = model(pack(latents), time, drawn(2, 5, 12), drawn(2, 6), places, known)
    return unpack(y_, f, y // 2)


def test_packing_can_be_undone() -> None:
    latents = drawn(2, 4, 3, 4, 6)
    tokens = pack(latents)
    assert tokens.shape == (2, 18, 16)
    assert torch.equal(unpack(tokens, 3, 2), latents)
    assert spots(3, 2, 3)[7].tolist() == [1, 0, 1]
    assert torch.equal(tokens[:, 7], latents[:, :, 1, :2, 2:4].flatten(1))


def test_order_in_time_and_space_is_heard(model: MMDiT) -> None:
    latents = drawn(2, 4, 3, 4, 6)
    assert run(model, latents).shape == latents.shape
    assert (run(model, latents.flip(2)).flip(2) - run(model, latents)).abs().max() > 1e-3
    assert (run(model, latents.roll(2, 4)).roll(-2, 4) - run(model, latents)).abs().max() > 1e-3


def test_what_is_known_is_told_beside_the_noise(model: MMDiT) -> None:
    latents, references = drawn(2, 4, 3, 4, 6), drawn(2, 4, 3, 4, 6, seed=4)
    known = conditioned(references, (0,))
    assert known.shape == (2, 18, 20)
    assert known[:, :6, :4].eq(1).all() and known[:, 6:].eq(0).all()
    torch.testing.assert_close(known[:, :6, 4:], pack(references)[:, :6])
    assert (run(model, latents, known) - run(model, latents)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"axes": (4, 6, 8)}, "do not make up one of 2 heads of width 32"),
        ({"axes": (8, 8)}, "expected three even numbers"),
        ({"single": 0}, "at least 1"),
    ],
)
def test_shapes_that_cannot_be_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **values)
