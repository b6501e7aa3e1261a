"""Published checkpoints load as they are: names, shapes, configs with more in them; anything else is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from riverrun.models import CheckpointError
from riverrun.models.checkpoint import on_meta
from riverrun.models.video.config import V12_3B
from riverrun.models.video.published import VERSIONS, load, load_vae, parse
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.vae import VideoVae
from tests.models.video.conftest import unpack
from tests.models.video.test_vae import SMALL

PUBLISHED: dict[str, tuple[int, int, dict[str, tuple[int, ...]]]] = {  # tensors and values, and some of their shapes
    "stdit1": (548, 759_620_768, {"blocks.27.attn_temp.qkv.weight": (3456, 1152)}),
    "stdit2": (
        707,
        767_452_064,
        {
            "csize_embedder.mlp.2.weight": (384, 384),
            "t_block_temp.1.weight": (3456, 1152),
            "blocks.27.scale_shift_table_temporal": (3, 1152),
            "y_embedder.y_embedding": (200, 4096),
        },
    ),
    "stdit3": (
        973,
        1_207_643_936,
        {
            "rope.freqs": (36,),
            "x_embedder.proj.weight": (1152, 4, 1, 2, 2),
            "t_embedder.mlp.0.weight": (1152, 256),
            "fps_embedder.mlp.2.bias": (1152,),
            "t_block.1.weight": (6912, 1152),
            "y_embedder.y_embedding": (300, 4096),
            "y_embedder.y_proj.fc1.weight": (1152, 4096),
            "spatial_blocks.0.scale_shift_table": (6, 1152),
            "temporal_blocks.27.attn.qkv.weight": (3456, 1152),
            "temporal_blocks.27.attn.q_norm.weight": (72,),
            "spatial_blocks.27.cross_attn.kv_linear.weight": (2304, 1152),
            "spatial_blocks.0.mlp.fc1.weight": (4608, 1152),
            "final_layer.scale_shift_table": (2, 1152),
            "final_layer.linear.weight": (32, 1152),
        },
    ),
    "stdit3_v13": (
        977,
        1_207_959_680,
        {
            "rope.freqs": (12,),
            "final_layer.linear.weight": (128, 1152),
            "x_embedder_cond.proj.weight": (1152, 16, 1, 2, 2),
            "x_embedder_cond_mask.proj.bias": (1152,),
        },
    ),
    "mmdit": (
        1082,
        11_891_390_528,
        {
            "img_in.weight": (3072, 64),
            "txt_in.weight": (3072, 4096),
            "cond_in.weight": (3072, 68),
            "vector_in.in_layer.weight": (3072, 768),
            "double_blocks.18.txt_mod.lin.weight": (18432, 3072),
            "double_blocks.0.img_attn.norm.query_norm.scale": (128,),
            "double_blocks.0.img_mlp.0.weight": (12288, 3072),
            "single_blocks.37.v_mlp.weight": (15360, 3072),
            "single_blocks.0.linear2.weight": (3072, 15360),
            "single_blocks.0.modulation.lin.weight": (9216, 3072),
            "final_layer.linear.weight": (64, 3072),
            "final_layer.adaLN_modulation.1.weight": (6144, 3072),
        },
    ),
}  # fmt: skip


def shapes(make: Callable[[], Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in on_meta(make).state_dict().items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_published_layout_is_ours(version: str) -> None:
    kind, (count, values, listed) = VERSIONS[version], PUBLISHED[version]
    model = on_meta(lambda: kind.network(kind.preset))
    assert sum(value.numel() for value in model.parameters()) == values
    ours = shapes(lambda: kind.network(kind.preset))
    assert len(ours) == count and {name: ours.get(name) for name in listed} == listed


def test_of_12_both_kinds_of_blocks_have_the_same_tensors() -> None:
    names = [name.split(".") for name in shapes(lambda: STDiT3(VERSIONS["stdit3"].preset))]
    blocks = [
        {tuple(n[2:]) for n in names if n[:2] == [kind, "3"]}
        for kind in ("spatial_blocks", "temporal_blocks")
    ]
    assert blocks[0] == blocks[1] and len(blocks[0]) == 17
    wide = shapes(lambda: STDiT3(V12_3B))
    assert wide["temporal_blocks.0.attn.k_norm.weight"] == (72,) and len(wide) == 973


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny STDiT3 as a publisher lays it out, with what a hub adds to a config."""
    held = unpack("stdit3", tmp_path)
    (held / "weights.safetensors").rename(held / "model.safetensors")
    told = json.loads((held / "config.json").read_text())["config"]
    extra = {
        "model_type": "STDiT3",
        "architectures": ["STDiT3"],
        "enable_flash_attn": True,
        "torch_dtype": "float32",
    }
    (held / "config.json").write_text(json.dumps(told | extra))
    return held


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_published_folder_loads(folder: Path) -> None:
    model = load(folder)
    assert model.config == replace(VERSIONS["stdit3"].preset, width=64, depth=2, heads=4, text=32, tokens=12)
    held = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, held[name]) for name, value in model.state_dict().items())
    half = load(folder, dtype="bfloat16")
    assert half.dtype == torch.bfloat16 and not half.training


@pytest.mark.parametrize("rows", [5, 12, 20])
def test_captions_that_say_nothing_may_have_other_rows(folder: Path, rows: int) -> None:
    """Checkpoints of training: fewer rows repeat the last, more are cut; tables that are worked out are dropped."""
    held, name = load_file(folder / "model.safetensors"), "y_embedder.y_embedding"
    table = torch.arange(float(rows))[:, None].expand(-1, 32).contiguous()
    save_file(held | {name: table, "pos_embed.inv_freq": torch.zeros(4)}, folder / "model.safetensors")
    found = load(folder).y_embedder.y_embedding[:, 0]
    assert found.tolist() == [min(i, rows - 1) for i in range(12)]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"skip_y_embedder": True}, "skip_y_embedder is True, expected False"),
        ({"patch_size": [2, 2, 2]}, "patch_size is \\[2, 2, 2\\], expected 1 frame"),
        ({"hidden_size": "wide"}, "'wide'"),
        ({"num_heads": 5}, "width 64 does not divide into 5 heads"),
        ({"depth": 3}, "missing spatial_blocks.2"),
        ({"in_channels": 8}, "x_embedder.proj.weight has shape"),
    ],
)
def test_what_does_not_fit_is_named(folder: Path, values: dict[str, Any], words: str) -> None:
    change(folder, **values)
    with pytest.raises(CheckpointError, match=words):
        load(folder)


def test_other_files_and_versions_are_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="'stdit4' in 'float32', expected one of stdit1"):
        load(folder, "stdit4")
    with pytest.raises(CheckpointError, match="kernel_size is \\[8, 8, 4\\]"):
        parse({"kernel_size": [8, 8, 4]}, "stdit3_v13")
    (folder / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"holds \[\], expected an object"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load(folder)


def test_a_published_autoencoder_loads(tmp_path: Path) -> None:
    made = VideoVae(SMALL)
    save_file(made.state_dict(), tmp_path / "model.safetensors")
    told = {"micro_frame_size": 5, "micro_batch_size": 2, "shift": [0, 1, 2, 3], "vae_2d": {"split": "vae"}}
    (tmp_path / "config.json").write_text(json.dumps(told))
    model = load_vae(tmp_path, shape=SMALL)
    assert model.config == replace(SMALL, group=5, batch=2, shift=(0, 1, 2, 3)) and model.config.latents == 2
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in model.state_dict().items())
    (tmp_path / "config.json").unlink()
    assert load_vae(tmp_path / "model.safetensors", shape=SMALL).config == SMALL
    with pytest.raises(CheckpointError, match=r"missing spatial_vae\.module"):
        load_vae(tmp_path)
