"""An autoencoder along time that holds pictures tells each fourth as it is, and shows each four times."""

import pytest
import torch

from riverrun.models.errors import ModelError
from riverrun.models.training.holding import hold
from riverrun.models.video.temporal import TemporalConfig, TemporalVae


@pytest.mark.parametrize(
    "config",
    [
        TemporalConfig(16, 32, (1, 1, 2), 1, (True, True), 8),
        TemporalConfig(4, 16, (1, 2, 2, 2), 2, (False, True, True), 4),
    ],
)
@pytest.mark.parametrize(("level", "frames"), [(1.0, 9), (0.3, 9), (1.0, 1), (2.0, 17)])
def test_it_holds_pictures(config: TemporalConfig, level: float, frames: int) -> None:
    torch.manual_seed(0)
    vae = TemporalVae(config).eval()
    hold(vae, level)
    z = level * (torch.randn(2, config.latent, frames, 5, 6) + torch.randn(2, config.latent, 1, 1, 1))
    kept = z[:, :, ::4]
    with torch.inference_mode():
        told, _ = vae.encode(z)
        shown = vae.decode(told, frames)
    held = kept[:, :, [-(-t // 4) for t in range(frames)]]
    assert (told - kept).norm() < 0.2 * kept.norm()
    assert (shown - held).norm() < 0.35 * held.norm()


def test_norms_without_room_are_refused() -> None:
    config = TemporalConfig(16, 32, (1, 1, 2), 1, (True, True), 16)
    with pytest.raises(
        ModelError, match="groups of 2 channels hold 1 latents and no constants: use fewer groups"
    ):
        hold(TemporalVae(config), 1.0)
