"""What a clip is said to take is what tensors really hold, or somewhat more."""

from dataclasses import replace

import pytest
import torch

from riverrun.models.video import caching, rflow
from riverrun.models.video.caching import BRANCHES, PAB246, Caching
from riverrun.models.video.plan import decoding, remembered, sampling, weights
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.temporal import TemporalConfig
from riverrun.models.video.vae import Config, SpatialConfig, VideoVae
from tests.models.memory import peak
from tests.models.video.small import SMALL, drawn

WIDE = replace(SMALL, width=64, heads=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("ratio", "latents"), [(4.0, (5, 16, 18)), (16.0, (3, 9, 16))])
def test_an_evaluation_holds_what_is_planned(
    ratio: float, latents: tuple[int, int, int], dtype: torch.dtype
) -> None:
    config = replace(WIDE, ratio=ratio)
    net = STDiT3(config).eval().requires_grad_(False).to(dtype)
    time, fps = torch.full((2,), 500.0), torch.full((2,), 24.0)

    def run() -> None:
        net(drawn(2, 4, *latents), time, net.read(drawn(2, 6, 12)), fps, (128, 144))

    planned, held = sampling(config, latents, 2, 2, dtype.itemsize), peak(run)
    assert held < planned < 1.4 * held


@pytest.mark.parametrize("setting", [replace(PAB246, window=(0.0, 1000.0)), Caching(1e-30)])
@pytest.mark.parametrize("split", [False, True])
def test_evaluations_that_take_over_from_others_hold_what_is_planned(setting: Caching, split: bool) -> None:
    config, latents, size = replace(WIDE, ratio=4.0), (3, 16, 18), (128.0, 144.0)
    net, fps, item = STDiT3(config).eval().requires_grad_(False), torch.full((1,), 24.0), 4

    def run() -> None:
        told = net.read(drawn(1, 6, 12)), net.read(drawn(1, 6, 12, seed=2))
        velocity = rflow.guided(rflow.ByRow(net) if split else net, *told, fps, size)
        x, times = drawn(1, 4, *latents), rflow.grid(14)
        caching.sample(setting, net, velocity, x, times, lambda _: x, fps, size, BRANCHES)

    planned = sampling(config, latents, 1 if split else 2, 2, item)
    planned += remembered(config, latents, 1, setting.kept, 2, item)
    held = peak(run)
    assert held < planned < 1.5 * held


@pytest.mark.parametrize("channels", [(8, 16, 32), (16, 16, 32), (8, 32, 32)])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_group_of_pictures_holds_what_is_planned(channels: tuple[int, ...], batch: int) -> None:
    config = Config(
        SpatialConfig(channels, 1, 4, 4, attention=False),
        TemporalConfig(width=4, depth=1, groups=2),
        batch=batch,
    )
    vae = VideoVae(config).eval().requires_grad_(False)
    for frames, size in ((34, (96, 64)), (1, (64, 64))):
        z = drawn(1, 4, *config.size(frames, *size))
        planned, held = decoding(config, frames, size, 4), peak(lambda z=z, n=frames: list(vae.stream(z, n)))  # type: ignore[misc]
        assert held - 3 * frames * size[0] * size[1] * 4 < planned < 1.6 * held


def test_weights_are_counted_in_bytes() -> None:
    net = STDiT3(WIDE)
    assert weights(net.to(torch.bfloat16)) * 2 == weights(net.float())
