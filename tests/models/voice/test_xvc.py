"""Published weights load by their names, strictly; what only training needs is left out, and nothing else."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from riverrun.models import CheckpointError
from riverrun.models.checkpoint import on_meta
from riverrun.models.voice.speaker import SpeakerPredictor
from riverrun.models.voice.vocos import Vocos, VocosConfig
from riverrun.models.voice.xvc import Config, XVc, load, parse, published, unused
from tests.models.voice.conftest import XVC, unpack

PARAMETERS = {  # of the released model, counted by itself
    "semantic_encoder": 343_599_360,
    "semantic_adapter": 29_264_640,
    "acoustic_encoder": 21_521_536,
    "acoustic_quantizer": 149_520,
    "prenet": 65_270_784,
    "acoustic_converter": 42_357_760,
    "acoustic_decoder": 52_629_602,
    "speaker_encoder": 6_610_688,
}


RELEASED = {  # what the released config says, in the form of a recording's
    "semantic_encoder": {"d_model": 1280, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
                         "quantize_position": 16, "pooling_position": 16, "quantize_vocab_size": 16_384},
    "semantic_adapter": {"input_channels": 1280, "out_channels": 1024, "vocos_dim": 384, "sample_ratios": [2, 2]},
    "acoustic_encoder": {"encoder_dim": 64, "encoder_rates": [2, 4, 5, 8], "latent_dim": 1024, "no_grad": True},
    "acoustic_quantizer": {"input_dim": 1024, "codebook_size": 16_384, "codebook_dim": 8, "use_l2_normlize": True},
    "prenet": {"input_channels": 2048, "out_channels": 1024, "vocos_dim": 768, "sample_ratios": [1, 1]},
    "acoustic_converter": {"in_channels_x": 1024, "in_channels_c": 128, "condition_dim": 192, "dim": 512, "depth": 6,
                           "heads": 8, "ff_mult": 4, "position_agnostic": False},
    "acoustic_decoder": {"input_channel": 1024, "channels": 1536, "rates": [8, 5, 4, 2],
                         "kernel_sizes": [16, 11, 8, 4]},
    "speaker_encoder": {"feat_dim": 80, "embedding_size": 192, "m_channels": 32, "num_blocks": [3, 4, 6, 3]},
    "mel_extractor": {"n_fft": 1024, "win_length": 640, "hop_length": 320, "num_mels": 128},
}  # fmt: skip


@pytest.fixture(scope="module")
def listed() -> dict[str, list[int]]:
    """Names and shapes of the released generator."""
    held: dict[str, list[int]] = json.loads(gzip.decompress((XVC / "keys.json.gz").read_bytes()))
    return held


@pytest.fixture
def folder(tmp_path: Path, weights: dict[str, Tensor]) -> Path:
    unpack(tmp_path)
    save_file(weights, tmp_path / "weights.safetensors")
    return tmp_path


def test_the_released_model_fits_without_a_name_or_a_shape_left(listed: dict[str, list[int]]) -> None:
    model = on_meta(lambda: XVc(Config()))
    given = published({name: torch.empty(shape, device="meta") for name, shape in listed.items()})
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert len(listed) == 1725
    assert ours == {name: tuple(value.shape) for name, value in given.items()}


def test_the_released_config_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(RELEASED))
    assert parse(tmp_path / "config.json") == Config()


def test_the_heads_of_training_fit_too(listed: dict[str, list[int]]) -> None:
    heads = {
        "semantic_decoder.": on_meta(lambda: Vocos(VocosConfig(1024, 1280, blocks=6))),
        "speaker_predictor.": on_meta(lambda: SpeakerPredictor(1024, 192)),
    }
    for prefix, head in heads.items():
        ours = {prefix + name: list(value.shape) for name, value in head.state_dict().items()}
        assert ours == {name: shape for name, shape in listed.items() if name.startswith(prefix)}


def test_each_part_has_as_many_values_as_released(listed: dict[str, list[int]]) -> None:
    """Weight norm has a length a row more than there are values."""
    model = on_meta(lambda: XVc(Config()))
    lengths = [name for name in listed if name.endswith("original0")]
    for part, count in PARAMETERS.items():
        extra = sum(math.prod(listed[name]) for name in lengths if name.startswith(f"{part}."))
        assert sum(p.numel() for p in model.get_submodule(part).parameters()) + extra == count


def test_only_what_training_needs_is_left_out(listed: dict[str, list[int]]) -> None:
    left = {name for name in listed if unused(name)}
    tracked = {name for name in left if name.endswith(".num_batches_tracked")}
    heads = {name for name in left if name.startswith(("speaker_predictor.", "semantic_decoder."))}
    assert left - tracked - heads == {
        "acoustic_quantizer.cluster_size",
        "semantic_encoder.encoder.ema_count",
        "semantic_encoder.encoder.ema_weight",
    }
    assert len(heads) == 116 and tracked


def test_weight_norm_is_worked_out(weights: dict[str, Tensor]) -> None:
    """Rows of a transposed convolution are those of its input."""
    for name, layer in (
        ("acoustic_decoder.model.1.block.1", torch.nn.ConvTranspose1d(64, 32, 16, 8)),
        ("acoustic_encoder.block.6", torch.nn.Conv1d(64, 48, 3)),
    ):
        normed = torch.nn.utils.parametrizations.weight_norm(layer)
        normed.load_state_dict(
            {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
        )
        made = published(weights)[f"{name}.weight"]
        torch.testing.assert_close(made, normed.weight, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("acoustic_converter.proj_out.bias", None, "missing acoustic_converter.proj_out.bias"),
        ("acoustic_encoder.block.0.parametrizations.weight.original0", None, "original0 is missing"),
        ("acoustic_encoder.block.0.parametrizations.weight.original1", None, "missing acoustic_encoder.block.0.weight"),
        ("acoustic_encoder.block.0.parametrizations.weight.original0", torch.ones(1, 1, 1), "not one length a row"),
        ("speaker_encoder.model.bn1.running_var", None, r"missing speaker_encoder\.bn1\.running_var"),
        ("acoustic_encoder.block.0.weight", torch.zeros(4, 1, 7), "block.0.weight is there twice"),
        ("acoustic_converter.extra", torch.zeros(3), "unexpected acoustic_converter.extra"),
        ("acoustic_quantizer.codebook.weight", torch.zeros(64, 9), r"codebook.weight has shape \(64, 9\)"),
    ],
)  # fmt: skip
def test_a_key_that_does_not_fit_is_named(folder: Path, name: str, value: Tensor | None, words: str) -> None:
    path = folder / "weights.safetensors"
    held = load_file(path)
    held.pop(name, None)
    save_file(held if value is None else held | {name: value}, path)
    with pytest.raises(CheckpointError, match=words):
        load(path)


@pytest.mark.parametrize(
    ("part", "key", "value", "words"),
    [
        ("acoustic_converter", "position_agnostic", True, "position_agnostic is True, expected False"),
        ("semantic_encoder", "pooling_position", 1, "pooling_position is 1, expected 2"),
        ("semantic_encoder", "quantize_causal_encoder", True, "only the published variant"),
        ("prenet", "input_channels", 95, "prenet has channels"),
        ("acoustic_decoder", "rates", [8, 5, 4, 4], "do not fit each other"),
        ("acoustic_converter", "heads", 3, "must divide"),
        ("semantic_encoder", "d_model", "wide", "not int"),
        ("mel_extractor", "n_fft", None, "config.json"),
    ],
)
def test_a_config_of_another_model_is_refused(
    folder: Path, part: str, key: str, value: Any, words: str
) -> None:
    told = json.loads((folder / "config.json").read_text())
    told[part][key] = value
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=words):
        parse(folder / "config.json")


def test_a_folder_without_a_config_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        load(folder / "weights.safetensors")


def test_parts_of_tokens_are_refused_before_anything_runs(net: XVc) -> None:
    with pytest.raises(ValueError, match="16000 samples, expected a multiple of 1280"):
        net(torch.zeros(1, 16_000), {})
