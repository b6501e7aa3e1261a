"""The autoencoders of Open-Sora 1.3 and 2.0: layouts, sizes, groups that share a frame, norms."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from riverrun.models import CheckpointError
from riverrun.models.checkpoint import on_meta
from riverrun.models.video import hunyuan
from riverrun.models.video.unified import Attention, Config, UnifiedVae, load
from tests.models.video.small import drawn, stirred

SMALL = Config(channels=(4, 4, 8, 8), depth=1, groups=2, group=9)
HUNYUAN = hunyuan.Config(channels=(4, 4, 8, 8), depth=1, groups=2)


@pytest.fixture(scope="module")
def vae() -> UnifiedVae:
    made = stirred(UnifiedVae(SMALL))
    assert isinstance(made, UnifiedVae)
    return made


def test_the_layout_of_13_is_ours() -> None:
    ours = {k: tuple(v.shape) for k, v in on_meta(lambda: UnifiedVae(Config())).state_dict().items()}
    assert sum(map(math.prod, ours.values())) == 259_163_811
    listed = {
        "encoder.conv_in.conv.weight": (128, 3, 3, 3, 3),
        "encoder.down.0.downsample.conv.weight": (128, 128, 3, 3),
        "encoder.down.2.downsample.conv.conv.weight": (512, 512, 3, 3, 3),
        "encoder.down.1.block.0.nin_shortcut.conv.weight": (256, 128, 1, 1, 1),
        "encoder.mid.attn_1.q.conv.weight": (512, 512, 1, 1, 1),
        "encoder.conv_out.conv.weight": (32, 512, 3, 3, 3),
        "decoder.mid.block_2.norm1.weight": (512,),
        "decoder.up.1.upsample.conv.weight": (256, 256, 3, 3),
        "decoder.up.3.upsample.conv3d.conv1.conv.weight": (512, 512, 3, 3, 3),
        "decoder.up.2.upsample.conv3d.norm2.weight": (512,),
        "decoder.up.0.block.2.conv2.conv.weight": (128, 128, 3, 3, 3),
        "decoder.conv_out.weight": (3, 128, 3, 3, 3),
    }
    assert {name: ours.get(name) for name in listed} == listed


def test_sizes_of_13() -> None:
    assert Config().size(113, 240, 426) == (35, 30, 54)
    assert [Config().size(n, 8, 8)[0] for n in (1, 17, 49, 97)] == [1, 5, 15, 30]
    with pytest.raises(ValueError, match="51 frames, expected 1 and a multiple of 16"):
        Config().size(51, 8, 8)


def test_groups_share_a_frame(vae: UnifiedVae) -> None:
    clip = drawn(2, 3, 17, 16, 24)
    z = vae.encode(clip)
    assert z.shape == (2, 16, *SMALL.size(17, 16, 24)) == (2, 16, 6, 2, 3)
    first, second = (vae.encode(part) for part in (clip[:, :, :9], clip[:, :, 8:]))
    torch.testing.assert_close(z, torch.cat([first, second], dim=2))
    made, parts = vae.decode(z), list(vae.stream(z))
    assert made.shape == clip.shape and [part.shape[2] for part in parts] == [8, 9]
    early, late = vae.decode(first), vae.decode(second)
    torch.testing.assert_close(made[:, :, :8], early[:, :, :8])
    torch.testing.assert_close(made[:, :, 8], (early[:, :, 8] + late[:, :, 0]) / 2)
    torch.testing.assert_close(made[:, :, 9:], late[:, :, 1:])
    picture = vae.encode(clip[:, :, :1])
    assert picture.shape[2] == 1 and vae.decode(picture).shape == (2, 3, 1, 16, 24)
    with pytest.raises(ValueError, match="5 latent frames, expected 1 or a multiple of 3"):
        vae.decode(z[:, :, :5])


def test_latents_are_normed_and_drawn(vae: UnifiedVae) -> None:
    clip = drawn(1, 3, 9, 16, 16)
    plain = UnifiedVae(replace(SMALL, mean=(0.0,) * 16, std=(1.0,) * 16)).eval()
    plain.load_state_dict(vae.state_dict())
    mean, std = (torch.tensor(v)[:, None, None, None] for v in (SMALL.mean, SMALL.std))
    torch.testing.assert_close(vae.encode(clip), (plain.encode(clip) - mean) / std)
    torch.testing.assert_close(
        vae.decode(vae.encode(clip)), plain.decode(plain.encode(clip)), atol=1e-4, rtol=0
    )

    def draw(shape: Sequence[int]) -> Tensor:
        return drawn(*shape)

    assert (vae.encode(clip, draw) - vae.encode(clip)).abs().max() > 1e-3


def test_attention_looks_back_only() -> None:
    attention = stirred(Attention(8, 8))
    x = drawn(1, 8, 2, 2, 2)
    with torch.no_grad():
        attention.norm.weight.zero_()  # type: ignore[union-attr, operator]
        attention.norm.bias.zero_()  # type: ignore[union-attr, operator]
    torch.testing.assert_close(
        attention(x) - x, (attention(x) - x)[..., :1, :1, :1].expand_as(x), atol=1e-5, rtol=0
    )


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="norms of 2 and 16 channels, expected 16"):
        replace(SMALL, mean=(0.0, 1.0))
    with pytest.raises(ValueError, match="group is 16 frames"):
        replace(SMALL, group=16)
    with pytest.raises(ValueError, match="do not divide into 3 groups"):
        replace(SMALL, groups=3)


def test_weights_of_13_load_strictly(tmp_path: Path, vae: UnifiedVae) -> None:
    save_file(vae.state_dict(), tmp_path / "model.safetensors")
    z = drawn(1, 16, 3, 2, 2)
    torch.testing.assert_close(load(tmp_path, config=SMALL).decode(z), vae.decode(z))
    with pytest.raises(CheckpointError, match=r"decoder\.up|has shape|missing"):
        load(tmp_path)


def test_the_layout_of_20_is_that_of_diffusers() -> None:
    module = on_meta(lambda: hunyuan.network(hunyuan.Config()))
    assert len(module.state_dict()) == 248
    assert sum(value.numel() for value in module.parameters()) == 246_478_803


def test_a_clip_of_20_keeps_its_size(tmp_path: Path) -> None:
    module = stirred(hunyuan.network(HUNYUAN))
    save_file(module.state_dict(), tmp_path / "hunyuan_vae.safetensors")
    model = hunyuan.load(tmp_path / "hunyuan_vae.safetensors", config=HUNYUAN)
    clip = drawn(1, 3, 9, 16, 24)
    z = model.encode(clip)
    assert z.shape == (1, 16, *HUNYUAN.size(9, 16, 24)) == (1, 16, 3, 2, 3)
    torch.testing.assert_close(z / HUNYUAN.factor, model.module.encode(clip).latent_dist.mean)
    torch.testing.assert_close(model.encode(clip, lambda shape: torch.zeros(*shape)), z)
    assert model.decode(z).shape == clip.shape
    with pytest.raises(ValueError, match="8 frames, expected 1 and a multiple of 4"):
        model.encode(clip[:, :, :8])
    with pytest.raises(CheckpointError, match="does not fit"):
        hunyuan.load(tmp_path / "hunyuan_vae.safetensors")
