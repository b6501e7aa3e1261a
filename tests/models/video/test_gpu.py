"""On a CUDA device the networks compute what they compute on a CPU."""

import pytest
import torch

from riverrun.models.video.timeline import Timeline, causal
from riverrun.models.video.vae import VideoVae
from tests.models.video.small import drawn, small, stirred
from tests.models.video.test_vae import SMALL

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 2e-3), (torch.bfloat16, 0.5)])
def test_a_transformer_with_a_memory(dtype: torch.dtype, off: float) -> None:
    made = []
    for device in ("cpu", "cuda"):
        model = small().to(device, dtype)
        x, captions = drawn(2, 4, 6, 4, 6).to(device), drawn(2, 6, 12).to(device)
        caption = model.read(captions, torch.tensor([[1] * 6, [1] * 4 + [0] * 2], device=device))
        time, fps = torch.tensor([731.0, 88.0], device=device), torch.tensor([24.0, 8.0], device=device)
        timeline = Timeline(torch.arange(6), causal(6, 2, 2, 1), remember=True)
        y, memory = model(x, time, caption, fps, (32.0, 48.0), timeline=timeline)
        then = Timeline(torch.arange(8), None, memory)
        later, _ = model(x[:, :, :2], time, caption, fps, (32.0, 48.0), timeline=then)
        made.append(torch.cat([y, later], dim=2).cpu())
    torch.testing.assert_close(made[1], made[0], atol=off, rtol=off)


def test_an_autoencoder() -> None:
    vae = stirred(VideoVae(SMALL))
    assert isinstance(vae, VideoVae)
    clip = drawn(1, 3, 11, 16, 16)
    there = vae.decode(vae.encode(clip), 11)
    vae.to("cuda")
    torch.testing.assert_close(vae.decode(vae.encode(clip.cuda()), 11).cpu(), there, atol=1e-2, rtol=1e-2)
