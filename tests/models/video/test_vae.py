"""The video autoencoder: sizes, groups that share nothing, draws, patches, and the names of published weights."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from riverrun.models.checkpoint import on_meta
from riverrun.models.video.temporal import TemporalConfig, TemporalVae
from riverrun.models.video.vae import BY_NINE, PUBLISHED, Config, SpatialConfig, VideoVae
from tests.models.video.small import drawn, stirred

SMALL = Config(
    SpatialConfig(channels=(4, 8), depth=1, groups=2, patch=2, attention=False),
    TemporalConfig(width=4, depth=1, groups=2),
    group=9,
    batch=5,
)


@pytest.fixture(scope="module")
def vae() -> VideoVae:
    made = stirred(VideoVae(SMALL))
    assert isinstance(made, VideoVae)
    return made


def test_the_published_layout_is_ours() -> None:
    model = on_meta(lambda: VideoVae(PUBLISHED))
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert len(ours) == 517 and sum(name.startswith("spatial_vae.module.") for name in ours) == 248
    sizes = [
        sum(math.prod(v) for k, v in ours.items() if k.startswith(part)) for part in ("spatial", "temporal")
    ]
    assert sizes == [83_653_863, 309_687_144]
    listed = {
        "temporal_vae.encoder.conv_in.conv.weight": (128, 4, 3, 3, 3),
        "temporal_vae.encoder.block_res_blocks.3.0.conv3.conv.weight": (512, 256, 1, 1, 1),
        "temporal_vae.encoder.conv_blocks.2.conv.bias": (256,),
        "temporal_vae.decoder.block_res_blocks.0.0.conv3.conv.weight": (128, 256, 1, 1, 1),
        "temporal_vae.decoder.conv_blocks.1.conv.weight": (512, 256, 3, 3, 3),
        "temporal_vae.decoder.conv_blocks.2.conv.weight": (1024, 512, 3, 3, 3),
        "temporal_vae.decoder.conv1.conv.weight": (512, 4, 3, 3, 3),
        "temporal_vae.decoder.conv_out.conv.bias": (4,),
        "temporal_vae.quant_conv.conv.weight": (8, 8, 1, 1, 1),
        "temporal_vae.post_quant_conv.conv.weight": (4, 4, 1, 1, 1),
        "scale": (1, 4, 1, 1, 1),
        "shift": (1, 4, 1, 1, 1),
    }
    assert {name: ours[name] for name in listed} == listed


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (17, 5), (34, 10), (51, 15), (102, 30), (816, 240)])
def test_sizes_are_as_published(frames: int, latents: int) -> None:
    assert PUBLISHED.size(frames, 240, 426) == (latents, 30, 53)


def test_other_groups_wait_less() -> None:
    assert (BY_NINE.latents, BY_NINE.size(27, 64, 64)[0], BY_NINE.frames(9)) == (3, 9, 27)
    assert BY_NINE.groups(20) == [9, 9, 2] and PUBLISHED.frames(5) == 17


def test_a_clip_keeps_its_size_and_groups_share_nothing(vae: VideoVae) -> None:
    clip = drawn(2, 3, 20, 9, 13)
    z = vae.encode(clip)
    assert z.shape == (2, 4, *SMALL.size(20, 9, 13)) == (2, 4, 7, 2, 3)
    made = vae.decode(z, 20)
    assert made.shape == (2, 3, 20, 8, 12)
    parts = list(vae.stream(z, 20))
    assert [part.shape[2] for part in parts] == [9, 9, 2]
    torch.testing.assert_close(vae.group(z[:, :, 3:6], 9), parts[1])
    torch.testing.assert_close(torch.cat(parts, dim=2), made)
    torch.testing.assert_close(vae.encode(clip[:, :, 9:18]), z[:, :, 3:6])


def test_how_many_pictures_at_a_time_changes_nothing(vae: VideoVae) -> None:
    other = VideoVae(replace(SMALL, batch=2))
    other.load_state_dict(vae.state_dict())
    z = vae.encode(clip := drawn(2, 3, 9, 8, 8))
    torch.testing.assert_close(other.eval().encode(clip), z, atol=1e-5, rtol=0)
    torch.testing.assert_close(other.decode(z, 9), vae.decode(z, 9), atol=1e-5, rtol=0)


def test_latents_are_drawn_from_what_they_may_be(vae: VideoVae) -> None:
    clip, asked = drawn(1, 3, 9, 8, 8), []

    def draw(shape: Sequence[int]) -> Tensor:
        asked.append(tuple(shape))
        return drawn(*shape, seed=len(asked))

    first = vae.encode(clip, draw)
    assert asked == [(5, 4, 2, 2), (4, 4, 2, 2), (1, 4, 3, 2, 2)]
    assert (first - vae.encode(clip)).abs().max() > 1e-3
    nothing = vae.encode(clip, lambda shape: torch.zeros(*shape))
    torch.testing.assert_close(nothing, vae.encode(clip))


def test_latents_are_normed_by_channel() -> None:
    """The same networks with other norms: what comes out of one is what the other makes of latents so normed."""
    plain, normed = (
        VideoVae(replace(SMALL, shift=shift, scale=scale)).eval().requires_grad_(False)
        for shift, scale in (((0.0,) * 4, (1.0,) * 4), ((1.0, 2, 3, 4), (2.0, 4, 6, 8)))
    )
    kept = {k: v for k, v in plain.state_dict().items() if k not in ("shift", "scale")}
    assert normed.load_state_dict(kept, strict=False).missing_keys == ["scale", "shift"]
    clip = drawn(1, 3, 9, 8, 8)
    z, bare = normed.encode(clip), plain.encode(clip)
    at = torch.arange(1.0, 5)[None, :, None, None, None]
    torch.testing.assert_close(z, (bare - at) / (2 * at))
    torch.testing.assert_close(normed.decode(z, 9), plain.decode(bare, 9), atol=1e-5, rtol=0)


def test_what_does_not_fit_is_refused(vae: VideoVae) -> None:
    with pytest.raises(ValueError, match="3 latent frames for 10 frames, expected 4"):
        vae.decode(torch.zeros(1, 4, 3, 2, 2), 10)
    with pytest.raises(ValueError, match="1 latent frames for 9 frames, expected 3"):
        vae.group(torch.zeros(1, 4, 1, 2, 2), 9)
    with pytest.raises(ValueError, match="do not divide into 32 groups"):
        TemporalConfig(width=100)
    with pytest.raises(ValueError, match="halved has 1 levels, expected 3"):
        TemporalConfig(halved=(True,))
    with pytest.raises(ValueError, match="channels, the 2D one 16"):
        replace(PUBLISHED, spatial=SpatialConfig(latent=16))


def test_other_factors_in_time() -> None:
    twice = TemporalVae(TemporalConfig(width=4, depth=1, groups=2, multipliers=(1, 2), halved=(True,)))
    mean, spread = twice.encode(drawn(1, 4, 5, 2, 2))
    assert mean.shape == spread.shape == (1, 4, 3, 2, 2)
    assert twice.decode(mean, 5).shape == (1, 4, 5, 2, 2)
