"""The transformer keeps sessions apart, starts silent, and may compute in bfloat16."""

import pytest
import torch
from torch import Tensor

from riverrun.models.speech.dit import Dit, DitConfig
from riverrun.models.speech.longcat import LongCat
from riverrun.models.state import load, rows, save

LENGTHS, TOKENS = (9, 6), (7, 4)


def made() -> dict[str, Tensor]:
    """Two sessions of different lengths."""
    return {
        "x": torch.randn(2, 9, 8),
        "known": torch.randn(2, 9, 8),
        "text": torch.randn(2, 7, 32),
        "frames": torch.arange(9) < torch.tensor(LENGTHS)[:, None],
        "tokens": torch.arange(7) < torch.tensor(TOKENS)[:, None],
    }


def velocity(dit: Dit, given: dict[str, Tensor], leak: bool = False) -> Tensor:
    told = dit.read(given["text"], given["tokens"], leak)
    times = torch.full((len(given["x"]),), 0.4)
    y: Tensor = dit(given["x"], times, given["known"], told, given["frames"])
    return y


def test_a_padded_session_in_a_batch_equals_the_session_alone(longcat: LongCat) -> None:
    both = velocity(longcat.transformer, given := made())
    for i, (t, n) in enumerate(zip(LENGTHS, TOKENS, strict=True)):
        cut = {"x": t, "known": t, "frames": t, "text": n, "tokens": n}
        alone = velocity(longcat.transformer, {name: given[name][i : i + 1, :m] for name, m in cut.items()})
        assert torch.allclose(alone[0], both[i, :t], atol=1e-5)


def test_padding_sways_the_text_only_where_that_is_asked_for(longcat: LongCat) -> None:
    given = made()
    kept, leaky = (velocity(longcat.transformer, given, leak) for leak in (False, True))
    assert torch.equal(kept[0], leaky[0]), "a text without padding is read the same"
    assert (kept[1] - leaky[1]).abs().max() > 1e-3


def test_a_text_that_was_read_is_a_state(longcat: LongCat) -> None:
    given, dit = made(), longcat.transformer
    told = dit.read(given["text"], given["tokens"])
    assert rows(told) == 2
    inputs = given["x"], torch.full((2,), 0.4), given["known"]
    assert torch.equal(dit(*inputs, load(save(told))), dit(*inputs, told))


def test_a_new_transformer_moves_nothing() -> None:
    dit = Dit(DitConfig(width=16, depth=2, heads=2, text=32, latent=8))
    assert velocity(dit, made()).abs().max() == 0


def test_half_precision_is_near_and_leaves_time_alone(longcat: LongCat) -> None:
    dit = Dit(longcat.transformer.config)
    dit.load_state_dict(longcat.transformer.state_dict())
    dit.cast(torch.bfloat16)
    near = velocity(dit, given := made())
    whole = velocity(longcat.transformer, given)
    assert near.dtype == torch.float32 and dit.time_embed.time_mlp[0].weight.dtype == torch.float32
    assert (near - whole).norm() < 0.03 * whole.norm()


@pytest.mark.parametrize("wrong", [{"width": 30}, {"heads": 5}, {"depth": 0}, {"ratio": 0.0}, {"latent": 0}])
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected|divide"):
        DitConfig(**{"width": 32, "heads": 4, **wrong})
