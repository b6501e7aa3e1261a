"""The published network to the last parameter, and the properties streaming needs."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from riverrun.models.checkpoint import on_meta, parameters
from riverrun.models.layers.conv import CausalConv2d, DecoupledConv2d
from riverrun.models.layers.norm import SubBandNorm
from riverrun.models.restoration.backbone import (
    Backbone,
    BackboneConfig,
    Residual,
    TimeEmbedding,
    decouple,
    parts,
)
from riverrun.models.restoration.frame import FrameDecoupled, FrameStep

FULL = BackboneConfig(inputs=2)
SMALL = BackboneConfig(inputs=2, width=8, bins=64)
SHAPES = {
    "published": SMALL,
    "lite": replace(SMALL, multipliers=(1, 1, 2), blocks=1, patch=4, outputs=2, bins=128),
    "predictor": replace(SMALL, timed=False, inputs=1),
    "decoupled": replace(SMALL, rank=2),
    "decoupled and wide": replace(SMALL, rank=1, width=32, multipliers=(1, 2), blocks=1, bins=32),
}
AROUND = (
    0.0017  # GMAC of norms and resampling, which the published table of costs counts and the counter does not
)
TIME = 3_276_800  # MAC of the flow-time path, which the table leaves out: its features are worked out once


def meta(config: BackboneConfig) -> Backbone:
    net = on_meta(lambda: Backbone(config))
    assert isinstance(net, Backbone)
    return net


def random(config: BackboneConfig) -> Backbone:
    """A network whose every weight and statistic matters."""
    net = Backbone(config).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    for norm in net.modules():
        if isinstance(norm, SubBandNorm):
            norm.running_mean.normal_(std=0.2)
            norm.running_var.uniform_(0.5, 2)
    return net


def clip(config: BackboneConfig, frames: int, batch: int = 2) -> tuple[Tensor, Tensor | None]:
    time = torch.rand(batch) if config.timed else None
    return torch.randn(batch, 2 * config.inputs, config.bins, frames), time


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (FULL, 27_895_944),
        (replace(FULL, inputs=3), 27_899_528),
        (replace(FULL, inputs=1, timed=False), 24_608_776),
        (replace(FULL, blocks=1), 19_280_000),
    ],
)
def test_parameter_counts_are_the_published_ones(config: BackboneConfig, count: int) -> None:
    assert parameters(meta(config)) == pytest.approx(count, abs=0 if count % 10_000 else 5_000)


def test_block_counts_are_the_published_ones() -> None:
    net = meta(FULL)

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert [count(b) for b in parts(net.descent[0])] == [362_880, 362_880]
    assert [count(b) for b in parts(net.descent[1])] == [1_052_672, 1_315_584]
    assert [count(b) for b in net.downs] == [379_392, 1_381_376, 1_381_376]
    assert [count(b) for b in net.ups] == [1_381_376] * 3
    assert count(parts(parts(net.ascent)[-1].blocks)[0]) == 544_256
    assert sum(isinstance(m, SubBandNorm) for m in net.modules()) == 54


@pytest.mark.parametrize(
    ("rank", "millions", "giga"),
    [(0, 27.90, 2.253), (1, 6.62, 0.315), (2, 9.40, 0.570), (3, 12.17, 0.823), (4, 14.95, 1.077),
     (5, 17.72, 1.331), (6, 20.49, 1.585)],
)  # fmt: skip
def test_cost_of_a_frame_is_the_published_one(rank: int, millions: float, giga: float) -> None:
    net = meta(replace(FULL, rank=rank))
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 4, 256, 1, device="meta"), torch.zeros(1, device="meta"))
    found = (counter.get_total_flops() / 2 - TIME) / 1e9 + AROUND
    assert found == pytest.approx(giga, abs=0.0005)
    assert parameters(net) / 1e6 == pytest.approx(millions, abs=0.005)


def test_the_receptive_field_is_111_frames_and_none_ahead() -> None:
    net = random(replace(SMALL, width=4, bins=32)).double()
    x = torch.randn(1, 4, 32, 140, dtype=torch.float64, requires_grad=True)
    y, _ = net(x, torch.ones(1, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(y[..., 125].sum(), x)
    reached = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    assert (int(reached[0]), int(reached[-1])) == (125 - 110, 125)


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_any_cutting_gives_the_same(config: BackboneConfig) -> None:
    net = random(config)
    x, time = clip(config, 40)
    whole, _ = net(x, time)
    state, parts = None, []
    for part in x.split([1, 3, 7, 1, 28], dim=3):
        y, state = net(part, time, state)
        parts.append(y)
    assert torch.allclose(torch.cat(parts, 3), whole, atol=1e-5)


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_folded_frames_equal_the_network(config: BackboneConfig) -> None:
    net = random(config)
    x, _ = clip(config, 20, batch=3)
    times = [0.0, 0.4] if config.timed else []
    step = FrameStep(net, times)
    for stage, time in enumerate(times or [None]):
        whole, _ = net(x, None if time is None else torch.full((3,), time))
        state = step.start(3)
        real, imag = x.chunk(2, dim=1)
        for t in range(20):
            frames = [
                step.layout(torch.complex(real[:, k, :, t], imag[:, k, :, t])) for k in range(config.inputs)
            ]
            out = step(frames, state, stage)
            got = torch.stack([step.spectrum(part) for part in out.unbind(2)], 1)
            assert torch.allclose(torch.cat([got.real, got.imag], 1), whole[..., t], atol=1e-5)


def test_wide_decoupled_convolutions_stay_decoupled_when_folded() -> None:
    wide, narrow = (
        FrameStep(random(SHAPES[name]), [0.0]).convs() for name in ("decoupled and wide", "decoupled")
    )
    kept = [isinstance(conv, FrameDecoupled) for conv in wide]
    assert sum(kept) == len(kept) - 2  # all but the heads
    assert not any(isinstance(conv, FrameDecoupled) for conv in narrow)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_any_rank_starts_near_the_identity(rank: int) -> None:
    net = Backbone(replace(SMALL, width=32, rank=rank, multipliers=(1, 2), blocks=1))
    for module in net.modules():
        if isinstance(module, CausalConv2d):
            assert not module.bias.any()
    for block in (m for m in net.modules() if isinstance(m, Residual)):
        for conv, scale in ((block.conv1, 1.0), (block.conv2, 1e-5)):
            wanted = math.sqrt(scale * 2 / (9 * (conv.in_channels + conv.out_channels)))
            assert float(conv.dense().detach().std()) == pytest.approx(wanted, rel=0.25)
    x, time = clip(net.config, 4)
    assert float(net.eval()(x, time)[0].detach().abs().max()) < 0.1


def test_a_sum_of_two_keeps_its_variance() -> None:
    block = Residual(8, 8, 16, None)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = torch.randn(1, 8, 16, 1)
    y = block(x, None, lambda conv, v: conv.step(v, conv.start(1, 16))[0])
    assert torch.allclose(y, x * math.sqrt(1 / 2))


def test_flow_time_is_told_by_random_fourier_features_of_scale_16() -> None:
    drawn = torch.cat([TimeEmbedding(128).frequencies for _ in range(16)])
    assert float(drawn.std()) == pytest.approx(16, rel=0.05) and abs(float(drawn.mean())) < 1.5
    embed = TimeEmbedding(128)
    assert [tuple(layer.weight.shape) for layer in (embed.first, embed.second)] == [(512, 256), (512, 512)]
    embed.first, embed.second = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    angle = 2 * math.pi * 0.3 * embed.frequencies
    wanted = nn.functional.silu(torch.cat([angle.sin(), angle.cos()]))
    assert torch.allclose(embed(torch.tensor([0.3]))[0], wanted, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_decoupling_keeps_mode_and_place(training: bool) -> None:
    net = Backbone(replace(SMALL, width=16, blocks=1)).double().train(training)
    small = decouple(net, 2)
    assert small.training == training and all(m.training == training for m in small.modules())
    assert {p.dtype for p in small.parameters()} == {torch.float64}
    assert any(isinstance(m, DecoupledConv2d) for m in small.modules())
    x, time = clip(net.config, 3)
    with torch.device("meta"):
        assert decouple(Backbone(net.config), 2).input.bias.device.type == "meta"
    assert small.eval()(x.double(), None if time is None else time.double())[0].shape == (2, 2, 64, 3)


def test_decoupling_comes_closer_with_rank_and_is_refused_twice() -> None:
    net = random(replace(SMALL, width=16))
    x, time = clip(net.config, 12)
    whole, _ = net(x, time)
    errors = [
        float((decouple(net, k).eval()(x, time)[0] - whole).detach().square().mean()) for k in (1, 3, 6)
    ]
    assert errors[0] > errors[1] > errors[2]
    with pytest.raises(ValueError, match="rank is 2"):
        decouple(decouple(net, 3), 2)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"bins": 250}, "250 bins"),
        ({"width": 136}, "136 channels"),
        ({"bins": 144}, "18 bins"),
        ({"rank": 7}, "rank"),
        ({"patch": 0}, "at least 1"),
        ({"multipliers": ()}, "at least 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(bad: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        BackboneConfig(**bad)  # type: ignore[arg-type]
