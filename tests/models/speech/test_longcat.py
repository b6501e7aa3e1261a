"""Published checkpoints load as they are: names, shapes, one file or several; anything else is named."""

import gzip
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from riverrun.models import CheckpointError
from riverrun.models.checkpoint import on_meta
from riverrun.models.speech.longcat import LongCat, Precision, load, parse, published
from riverrun.models.speech.presets import PRESETS
from tests.models.speech.conftest import LONGCAT

WORDS, ALIAS = "text_encoder.encoder.embed_tokens.weight", "text_encoder.shared.weight"
RELEASED = {  # what a released config.json says beyond the defaults
    "longcat-audiodit-1b": {},
    "longcat-audiodit-3.5b": {
        "dit_dim": 2560, "dit_depth": 32, "dit_heads": 32, "dit_ff_mult": 3.6, "max_wav_duration": 60,
        "architectures": ["AudioDiTModel"], "sampling_rate": 24000, "latent_hop": 2048,
        "vae_config": {"channels": 128, "c_mults": [1, 2, 4, 8, 16], "latent_dim": 64, "dtype": "float32"},
        "text_encoder_config": {"d_model": 768, "num_layers": 12, "is_gated_act": True},
    },
}  # fmt: skip
FILES = {"longcat-audiodit-1b": "keys_1b", "longcat-audiodit-3.5b": "keys_3p5b"}
TENSORS = {"longcat-audiodit-1b": 1151, "longcat-audiodit-3.5b": 1351}
TRANSFORMERS = {"longcat-audiodit-1b": 981_955_648, "longcat-audiodit-3.5b": 3_396_017_216}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint as a publisher lays it out."""
    shutil.copy(LONGCAT / "config.json", tmp_path)
    shutil.copy(LONGCAT / "weights.safetensors", tmp_path / "model.safetensors")
    return tmp_path


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def split(folder: Path) -> dict[str, str]:
    """Put the weights into two files and an index, as large releases do."""
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards: dict[str, dict[str, Tensor]] = {"a.safetensors": {}, "b.safetensors": {}}
    for i, (name, value) in enumerate(held.items()):
        shards[sorted(shards)[i % 2]][name] = value
    for name, part in shards.items():
        save_file(part, folder / name)
    index = {name: file for file, part in shards.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return index


def same(a: LongCat, b: LongCat) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_layout_fits_without_changing_a_name(name: str, tmp_path: Path) -> None:
    listed = json.loads(gzip.decompress((LONGCAT / f"{FILES[name]}.json.gz").read_bytes()))
    model = on_meta(lambda: LongCat(PRESETS[name].config))
    given = published({key: torch.empty(shape, device="meta") for key, shape in listed.items()})
    ours = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert ours == {key: tuple(value.shape) for key, value in given.items()} and len(ours) == TENSORS[name]
    assert sum(math.prod(shape) for shape in ours.values()) == PRESETS[name].parameters
    transformer = [shape for key, shape in ours.items() if key.startswith("transformer.")]
    assert sum(map(math.prod, transformer)) == TRANSFORMERS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_config_is_the_preset(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(RELEASED[name]))
    assert parse(tmp_path / "config.json") == PRESETS[name].config


def test_a_folder_a_file_and_an_index_are_the_same(folder: Path, longcat: LongCat) -> None:
    assert same(load(folder), longcat) and same(load(folder / "model.safetensors"), longcat)
    split(folder)
    assert same(load(folder), longcat) and same(load(folder / "model.safetensors.index.json"), longcat)


@pytest.mark.parametrize("both", [False, True])
def test_the_embedding_may_have_its_other_name(folder: Path, longcat: LongCat, both: bool) -> None:
    held = load_file(folder / "model.safetensors")
    words = held[WORDS].clone() if both else held.pop(WORDS)
    save_file(held | {ALIAS: words}, folder / "model.safetensors")
    assert same(load(folder), longcat)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("transformer.proj_out.bias", None, "missing transformer.proj_out.bias"),
        (WORDS, None, f"missing {WORDS}"),
        ("vae.decoder.layers.7.weight_v", None, "missing vae.decoder.layers.7.weight_v"),
        ("transformer.extra", torch.zeros(3), "unexpected transformer.extra"),
        (
            "transformer.proj_out.bias",
            torch.zeros(9),
            r"transformer.proj_out.bias has shape \(9,\), expected \(8,\)",
        ),
    ],
)
def test_a_key_that_does_not_fit_is_named(folder: Path, name: str, value: Tensor | None, words: str) -> None:
    held = load_file(folder / "model.safetensors")
    held.pop(name, None)
    save_file(held if value is None else held | {name: value}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=words):
        load(folder)


def test_an_index_that_does_not_fit_is_named(folder: Path) -> None:
    index, path = split(folder), folder / "model.safetensors.index.json"
    for wrong, words in (
        ({**index, "transformer.gone": "a.safetensors"}, "a.safetensors: missing transformer.gone"),
        ({**index, "transformer.gone": "c.safetensors"}, "c.safetensors: no such file"),
        ({**index, "transformer.gone": "../c.safetensors"}, "expected a file beside it"),
        ([], "not an index"),
    ):
        path.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(CheckpointError, match=words):
            load(folder)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dit_adaln_type": "local"}, "dit_adaln_type is 'local', expected 'global'"),
        ({"dit_cross_attn_norm": True}, "dit_cross_attn_norm"),
        ({"vae_config": {"use_snake": False}}, "use_snake"),
        ({"dit_heads": 7}, "divide"),
        ({"dit_dim": "64"}, "config.json"),
        ({"latent_hop": 1024}, "latent_hop is 1024"),
        ({"latent_dim": 9}, "transformer takes"),
        ({"max_wav_duration": 0}, "limit"),
        ({"vae_config": 3}, "config.json"),
    ],
)
def test_a_config_of_another_model_is_refused(folder: Path, values: dict[str, Any], words: str) -> None:
    change(folder, **values)
    with pytest.raises(CheckpointError, match=words):
        load(folder)


def test_a_folder_without_a_model_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        load(tmp_path / "gone")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such file"):
        load(folder)
    with pytest.raises(CheckpointError, match=r"other\.safetensors: no such file"):
        load(folder / "other.safetensors")


def test_a_stray_buffer_of_rotary_positions_is_let_pass(folder: Path, longcat: LongCat) -> None:
    held = load_file(folder / "model.safetensors")
    save_file(held | {"transformer.rotary_embed.inv_freq": torch.zeros(8)}, folder / "model.safetensors")
    assert same(load(folder), longcat)


def test_each_part_computes_in_its_own_precision(folder: Path, longcat: LongCat) -> None:
    half = load(folder, precision=Precision("bfloat16", "bfloat16", "float16"))
    latents = torch.randn(1, 6, 8)
    sound, wanted = half.speak(latents), longcat.speak(latents)
    assert sound.dtype == torch.float32 and (sound - wanted).norm() < 0.02 * wanted.norm()
    heard = [m.listen(torch.zeros(1, 5000), torch.zeros(1, 6, 8)) for m in (half, longcat)]
    assert heard[0].dtype == torch.float32 and (heard[0] - heard[1]).norm() < 0.02 * heard[1].norm()
    ids = torch.tensor([[5, 9, 1]])
    features = [m.text_encoder(ids, ids > 0) for m in (half, longcat)]
    assert (
        features[0].dtype == torch.float32 and (features[0] - features[1]).norm() < 0.05 * features[1].norm()
    )


@pytest.mark.parametrize("wrong", [{"dit": "float16"}, {"text": "float16"}, {"vae": "bfloat16"}])
def test_a_precision_that_overflows_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected 'float32'"):
        Precision(**wrong)  # type: ignore[arg-type]
