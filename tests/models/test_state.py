"""States: stacking and cutting are inverses, clones share nothing, bytes bring back the same."""

import pytest
import torch

from riverrun.models.state import State, clone, load, part, row, rows, save, stack, unstack


def state(seed: int, batch: int = 1) -> State:
    torch.manual_seed(seed)
    return {
        "past": torch.randn(batch, 3, 2),
        "inner": {"text": [f"text {seed}.{i}" for i in range(batch)], "deep": {"k": torch.randn(batch, 4)}},
        "count": torch.full((batch,), seed, dtype=torch.int64),
    }


def same(a: State, b: State) -> bool:
    if list(a) != list(b):
        return False
    pairs = [(a[k], b[k]) for k in a]
    return all(
        same(x, y)
        if isinstance(x, dict)
        else x.dtype == y.dtype and torch.equal(x, y)
        if isinstance(x, torch.Tensor)
        else x == y
        for x, y in pairs
    )


def test_unstack_undoes_stack() -> None:
    states = [state(i) for i in range(3)]
    stacked = stack(states)
    assert rows(stacked) == 3 and all(map(same, unstack(stacked), states))
    assert same(stack([part(stacked, 0, 2), row(stacked, 2)]), stacked)


def test_a_single_state_is_not_copied() -> None:
    one = state(0)
    assert stack([one]) is one


def test_parts_share_storage_and_clones_do_not() -> None:
    whole = state(0, batch=3)
    copy, middle = clone(whole), row(whole, 1)
    middle["past"].zero_()
    middle["inner"]["deep"]["k"].zero_()
    assert not whole["past"][1].any() and whole["past"][0].any()
    assert copy["past"][1].any() and copy["inner"]["deep"]["k"][1].any()
    copy["inner"]["text"][0] = "other"
    assert whole["inner"]["text"][0] == "text 0.0"


def test_bytes_bring_the_same_state_back() -> None:
    whole = state(0, batch=2)
    assert same(load(save(whole)), whole)
    assert same(load(save(row(whole, 1))), row(whole, 1))


def test_leaves_of_different_rows_are_no_state() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\] rows"):
        rows({"a": torch.zeros(1), "b": torch.zeros(2)})


@pytest.mark.parametrize("cut", [0, 4, 12, -5])
def test_bytes_that_are_no_state_are_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="not a saved state"):
        load(save(state(0))[:cut])
    with pytest.raises(ValueError, match="not a saved state"):
        load(bytes(64))
