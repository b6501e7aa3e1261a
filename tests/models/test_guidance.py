"""Guidance goes further the condition's way, and can stop between any two evaluations."""

import pytest
import torch
from torch import Tensor

from riverrun.models.guidance import Guidance, apg, cfg, guided
from riverrun.models.state import load, save

FREE = torch.tensor([[False, True, True, True], [False, False, True, True]])


def pair(x: Tensor, time: float) -> tuple[Tensor, Tensor]:
    return (1 - time) * x.sin() + 1, x.cos() - time


def test_no_strength_is_no_guidance() -> None:
    x = torch.randn(2, 4, 3)
    velocity, _ = guided(pair, Guidance("cfg", 0.0))(x, 0.3, {})
    assert torch.equal(velocity, pair(x, 0.3)[0])


def test_projected_guidance_without_its_two_ideas_is_the_classifier_free_one() -> None:
    x, plain = torch.randn(2, 4, 3), Guidance("apg", 4.0, parallel=1.0, momentum=0.0)
    velocity, _ = guided(pair, plain)(x, 0.3, plain.start(x))
    assert torch.allclose(velocity, cfg(*pair(x, 0.3), 4.0), atol=1e-5)


def test_what_lies_across_the_estimate_counts_in_full_and_what_lies_along_it_in_part() -> None:
    clean = torch.tensor([[[2.0, 0.0]]])
    difference = torch.tensor([[[1.0, 3.0]]])
    made, kept = apg(clean, clean - difference, torch.zeros(()), Guidance("apg", 4.0, 0.5, -0.3))
    assert torch.allclose(made, torch.tensor([[[2 + 4 * 0.5 * 1, 4 * 3.0]]]))
    again, _ = apg(clean, clean - difference, kept, Guidance("apg", 4.0, 0.5, -0.3))
    assert torch.allclose(again, torch.tensor([[[2 + 4 * 0.5 * 0.7, 4 * 3.0 * 0.7]]]))


def test_frames_that_are_not_free_stand_still_and_sway_nothing() -> None:
    x, guidance = torch.randn(2, 4, 3), Guidance("apg")
    velocity, _ = guided(pair, guidance, FREE)(x, 0.3, guidance.start(x))
    other = torch.where(FREE[..., None], x, torch.randn_like(x))
    swayed, _ = guided(pair, guidance, FREE)(other, 0.3, guidance.start(x))
    assert torch.equal(velocity, swayed)
    assert velocity[~FREE].abs().max() == 0 < velocity[FREE].abs().min()


@pytest.mark.parametrize("method", ["cfg", "apg"])
def test_a_session_in_a_batch_is_guided_as_alone(method: str) -> None:
    x, guidance = torch.randn(2, 4, 3), Guidance(method)  # type: ignore[arg-type]
    both, _ = guided(pair, guidance, FREE)(x, 0.3, guidance.start(x))
    for i in range(2):
        row = x[i : i + 1]
        alone, _ = guided(pair, guidance, FREE[i : i + 1])(row, 0.3, guidance.start(row))
        assert torch.allclose(alone[0], both[i], atol=1e-6)


def test_what_guidance_remembers_can_be_saved_between_evaluations() -> None:
    x, guidance = torch.randn(2, 4, 3), Guidance("apg")
    velocity = guided(pair, guidance)
    _, state = velocity(x, 0.0, guidance.start(x))
    wanted, _ = velocity(x, 0.5, state)
    assert torch.equal(velocity(x, 0.5, load(save(state)))[0], wanted)
    assert not torch.equal(velocity(x, 0.5, guidance.start(x))[0], wanted), "the first evaluation counts"


@pytest.mark.parametrize("wrong", [{"method": "pag"}, {"strength": -1.0}, {"strength": float("nan")}])
def test_a_guidance_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Guidance(**wrong)  # type: ignore[arg-type]
