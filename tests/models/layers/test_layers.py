"""Layers stream as they run offline, and look at nothing ahead."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.models.layers.conv import CausalConv2d, DecoupledConv2d, causal_conv
from riverrun.models.layers.norm import SubBandNorm
from riverrun.models.layers.resample import down, matrix, up

FRAMES = 17


def cuts() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, FRAMES - 1), max_size=6, unique=True).map(sorted)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("rank", [0, 2])
@settings(max_examples=15, deadline=None)
@given(at=cuts())
def test_a_convolution_does_not_care_how_it_is_cut(dilation: int, rank: int, at: list[int]) -> None:
    conv = causal_conv(3, 5, dilation, rank)
    x = torch.randn(2, 3, 8, FRAMES)
    whole, _ = conv.step(x, conv.start(2, 8))
    past, parts = conv.start(2, 8), []
    for part in x.tensor_split(at, dim=3):
        y, past = conv.step(part, past)
        parts.append(y)
    assert torch.allclose(torch.cat(parts, 3), whole, atol=1e-5)


def test_a_convolution_looks_back_and_not_ahead() -> None:
    conv = CausalConv2d(1, 1, dilation=2)
    x = torch.randn(1, 1, 4, FRAMES, requires_grad=True)
    y, _ = conv.step(x, conv.start(1, 4))
    (gradient,) = torch.autograd.grad(y[..., 8].sum(), x)
    assert gradient.abs().sum((0, 1, 2)).nonzero().flatten().tolist() == [4, 6, 8]


def test_full_rank_decoupling_is_exact_and_less_is_closest_first() -> None:
    dense = CausalConv2d(4, 16).requires_grad_(False)
    errors = []
    for rank in (1, 3, 8, 9):
        small = causal_conv(4, 16, rank=rank).requires_grad_(False)
        assert isinstance(small, DecoupledConv2d)
        small.fit(dense.weight)
        errors.append(float((small.dense() - dense.weight).square().sum()))
    assert errors[0] > errors[1] > errors[2] > 1e-6 and errors[3] < 1e-11
    _, s, _ = torch.linalg.svd(dense.weight.transpose(0, 1).flatten(2))
    assert errors[0] == pytest.approx(float(s[:, 1:].square().sum()), rel=1e-3)


@pytest.mark.parametrize(
    ("d", "rank", "decoupled"), [(2, 2, True), (2, 3, False), (16, 9, True), (16, 10, False)]
)
def test_a_rank_beyond_any_need_leaves_it_dense(d: int, rank: int, decoupled: bool) -> None:
    assert isinstance(causal_conv(4, d, rank=rank), DecoupledConv2d) == decoupled


@pytest.mark.parametrize("gain", [1.0, 1e-5**0.5])
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_any_rank_starts_with_the_variance_of_a_dense_kernel(rank: int, gain: float) -> None:
    conv = causal_conv(64, 128, rank=rank)
    conv.draw(gain)
    wanted = gain * (2 / (9 * (64 + 128))) ** 0.5
    assert float(conv.dense().std().detach()) == pytest.approx(wanted, rel=0.1)
    assert not conv.bias.any()


def norm() -> SubBandNorm:
    layer = SubBandNorm(8, 16)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    return layer


def test_batch_statistics_are_shared_within_a_group_and_a_band() -> None:
    layer = norm()
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    y = layer(torch.randn(3, 8, 16, 50) * 4 + 2).detach()
    groups = y.view(3, 2, 4, 4, 4, 50)  # [b, group, channel, band, bin, t]
    assert torch.allclose(groups.mean((0, 2, 4, 5)), torch.zeros(2, 4), atol=1e-5)
    assert torch.allclose(groups.var((0, 2, 4, 5)), torch.ones(2, 4), atol=1e-2)


def test_running_statistics_move_by_a_tenth_and_variance_is_biased() -> None:
    layer = SubBandNorm(4, 16)
    x = torch.randn(1, 4, 16, 1) * 3 + 1
    layer(x)
    bands = x.view(4, 4, 4).transpose(0, 1).flatten(1)  # [s, c y]
    assert torch.allclose(layer.running_mean[0], 0.1 * bands.mean(1), atol=1e-6)
    assert torch.allclose(layer.running_var[0], 0.9 + 0.1 * bands.var(1, correction=0), atol=1e-5)


def test_eps_stands_under_the_root() -> None:
    layer = SubBandNorm(4, 16).eval()
    layer.running_var.zero_()
    x = torch.randn(1, 4, 16, 1)
    assert torch.allclose(layer(x), x / 1e-5**0.5, rtol=1e-4)


def test_the_written_out_derivative_is_the_right_one() -> None:
    layer = norm().double()
    x = torch.randn(2, 8, 16, 3, dtype=torch.float64, requires_grad=True)

    def plain(x: torch.Tensor) -> torch.Tensor:
        v = x.view(2, 2, 4, 4, 4, 3)
        mean, var = v.mean((0, 2, 4, 5), keepdim=True), v.var((0, 2, 4, 5), keepdim=True, correction=0)
        y = ((v - mean) / (var + layer.eps).sqrt()).view(2, 8, 4, 4, 3)
        y = y * layer.weight[None, :, :, None, None] + layer.bias[None, :, :, None, None]
        return y.reshape(x.shape)

    parameters = [x, layer.weight, layer.bias]
    toward = torch.randn_like(x)
    ours = torch.autograd.grad((layer(x) * toward).sum(), parameters)
    theirs = torch.autograd.grad((plain(x) * toward).sum(), parameters)
    assert torch.allclose(layer(x), plain(x))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_evaluation_depends_on_no_other_frame() -> None:
    layer = norm()
    for _ in range(3):
        layer(torch.randn(2, 8, 16, 9) * 3)
    layer.eval()
    x = torch.randn(1, 8, 16, 6)
    louder = x.clone()
    louder[..., 3:] *= 100
    assert torch.equal(layer(x)[..., :3], layer(louder)[..., :3])
    scale, shift = layer.per_bin()
    assert torch.allclose(layer(x)[0, :, :, 0].T, x[0, :, :, 0].T * scale + shift, atol=1e-5)


def test_a_norm_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="18 bins"):
        SubBandNorm(8, 18)


def test_frequency_resampling_is_the_published_filter() -> None:
    one = torch.zeros(1, 1, 8, 1)
    one[0, 0, 4] = 8
    assert down(one).flatten().tolist() == [0, 1, 3, 0]  # out[m] reads 2m - 1 .. 2m + 2
    assert up(one).flatten().tolist() == [0] * 6 + [1, 3, 3, 1] + [0] * 6
    ones = torch.ones(1, 1, 8, 1)
    assert torch.allclose(down(ones)[0, 0, 1:-1], torch.ones(2, 1))
    assert torch.allclose(up(ones)[0, 0, :-2], torch.full((14, 1), 0.5))


@pytest.mark.parametrize("kind", ["down", "up"])
def test_resampling_as_a_matrix_is_resampling(kind: str) -> None:
    x = torch.randn(1, 1, 16, 5)
    y = down(x) if kind == "down" else up(x)
    assert torch.allclose(matrix(kind, 16) @ x[0, 0], y[0, 0], atol=1e-6)
