"""The published network to the last parameter, and the properties streaming needs."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from riverrun.models.checkpoint import on_meta, parameters
from riverrun.models.layers.norm import SubBandNorm
from riverrun.models.restoration.backbone import Backbone, BackboneConfig, decouple, parts
from riverrun.models.restoration.frame import FrameStep

FULL = BackboneConfig(inputs=2)
SMALL = BackboneConfig(inputs=2, width=8, bins=64)
SHAPES = {
    "published": SMALL,
    "lite": replace(SMALL, multipliers=(1, 1, 2), blocks=1, patch=4, outputs=2, bins=128),
    "predictor": replace(SMALL, timed=False, inputs=1),
    "decoupled": replace(SMALL, rank=2),
}


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
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, abs=0.002)
    assert parameters(net) / 1e6 == pytest.approx(millions, abs=0.006)


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


def test_a_shape_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="250 bins"):
        BackboneConfig(bins=250)
