"""Solvers against closed forms, and that they stop and go on anywhere."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from riverrun.models.flow import (
    COMPOSITE5,
    JointPath,
    Tableau,
    arrive,
    compose,
    euler,
    point,
    second_order,
    solve,
    solver,
)

ORDERS = {
    "euler": 1,
    "midpoint": 2,
    "ralston2": 2,
    "heun3": 3,
    "ralston3": 3,
    "ssprk3": 3,
    "rk4": 4,
    "rk38": 4,
}


def decay(x: Tensor, time: float) -> Tensor:
    """dx/dt = -x^2 e^t, whose solution from 1 is e^-t."""
    return -x * x * math.exp(time)


def error(name: str, times: int) -> float:
    x = solve(decay, torch.ones(1, dtype=torch.float64), solver(f"{times}x{name}"))
    return abs(float(x) - math.exp(-1))


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_halving_the_step_shrinks_the_error_as_the_order_says(name: str, order: int) -> None:
    assert math.log2(error(name, 16) / error(name, 32)) == pytest.approx(order, abs=0.2)


def test_the_composite_is_the_published_one() -> None:
    assert COMPOSITE5.c == pytest.approx((0, 0.275, 0.4125, 0.55, 0.85))
    assert COMPOSITE5.b == pytest.approx((0.1222, 0.1833, 0.2444, 0.1125, 0.3375), abs=1e-4)


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_euler_as_a_tableau_is_the_loop_everyone_writes(steps: int) -> None:
    x = torch.ones(3, dtype=torch.float64)
    for i in range(steps):
        x = x + decay(x, i / steps) / steps
    assert torch.allclose(solve(decay, torch.ones(3, dtype=torch.float64), euler(steps)), x, atol=1e-12)


def test_a_solver_can_stop_between_any_two_evaluations() -> None:
    x, slopes = torch.ones(1), list[Tensor]()
    while len(slopes) < COMPOSITE5.stages:
        here, time = point(COMPOSITE5, x, slopes)
        slopes = [s.clone() for s in slopes] + [decay(here, time)]  # as if saved and loaded
    assert torch.equal(arrive(COMPOSITE5, x, slopes), solve(decay, x, COMPOSITE5))


@given(st.floats(0.3, 1.0))
def test_any_second_order_method_is_a_tableau(alpha: float) -> None:
    assert second_order(alpha).c == (0, alpha)


@pytest.mark.parametrize("name", ["rk5", "0xeuler", "fourxeuler", "", "xeuler"])
def test_an_unknown_solver_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="rk38"):
        solver(name)


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [
        (((), (0.5,)), (0.5, 0.6), (0, 0.5)),
        (((), (0.4,)), (0.5, 0.5), (0, 0.5)),
        (((),), (0.5, 0.5), (0, 0.5)),
        (((), (0.5,)), (math.nan, 0.5), (0, 0.5)),
        (((), (math.nan,)), (0.5, 0.5), (0, math.nan)),
        (((), (1.5,)), (0.5, 0.5), (0, 1.5)),
    ],
)
def test_what_is_no_tableau_is_refused(
    a: tuple[tuple[float, ...], ...], b: tuple[float, ...], c: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="tableau"):
        Tableau(a, b, c)


def test_ends_that_do_not_rise_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match="rising"):
        compose([euler(1), euler(1)], [0.5, 0.9])


def test_both_ends_of_a_path_share_their_noise() -> None:
    start, clean, z = torch.zeros(2, 4, 3), torch.ones(2, 4, 3), torch.randn(2, 4, 3)
    path = JointPath((0.1, 0.2, 0.3, 0.4), 0.001)
    assert torch.allclose(path.begin(start, z)[:, 2], 0.3 * z[:, 2])
    assert torch.allclose(path.end(clean, z) - clean, 0.001 * z, atol=1e-6)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, (), (0.1, math.nan)])
def test_a_sigma_that_is_none_is_refused(bad: float | tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigma"):
        JointPath(bad)


def test_a_sigma_is_made_into_a_tensor_once() -> None:
    path, x = JointPath((0.1, 0.2)), torch.zeros(2, 3)
    assert path.scale("sigma", x) is path.scale("sigma", x)
