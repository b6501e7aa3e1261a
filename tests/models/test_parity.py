"""One tensor beside its recording: what counts as the same."""

import pytest
import torch
from torch import Tensor

from riverrun.models.parity import Pair, measure

ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("ours", "theirs", "ok"),
    [
        (ONES, ONES, True),
        (ONES + 1e-4, ONES, True),
        (ONES + 3e-4, ONES, False),
        (100 * ONES + 1e-2, 100 * ONES, True),
        (0 * ONES + 3e-4, 0 * ONES, False),
        (ONES[:1], ONES, False),
        (ONES * float("nan"), ONES, False),
        (ONES, ONES * float("nan"), False),
        (ONES.long(), ONES.long(), True),
        (1_000_001 * ONES.long(), 1_000_000 * ONES.long(), False),
        (torch.zeros(0), torch.zeros(0), True),
    ],
)
def test_a_tensor_is_close_or_not(ours: Tensor, theirs: Tensor, ok: bool) -> None:
    line = measure(Pair("it", ours, theirs), 2e-4)
    assert line.ok is ok
    assert str(line).startswith("it ") and str(line).endswith(" ok" if ok else " FAIL")


def test_a_loose_pair_is_measured_by_its_own_limit_and_is_not_in_the_worst() -> None:
    line = measure(Pair("it", ONES + 0.01, ONES, relative=0.05), 2e-4)
    assert line.ok and not line.counted
    assert not measure(Pair("it", ONES + 0.1, ONES, relative=0.05), 2e-4).ok
