"""What the reference implementation computed, these modules compute: on its recording, and at other sizes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from riverrun.models import CheckpointError
from riverrun.models.guidance import Guidance
from riverrun.models.parity import compare
from riverrun.models.speech.longcat import LongCat, parse
from riverrun.models.speech.sampling import begin, conditioned, sample
from tests.models.speech.conftest import LONGCAT


@pytest.fixture(scope="module")
def recorded() -> set[str]:
    return set(load_file(LONGCAT / "outputs.safetensors"))


def test_every_recorded_tensor_is_computed_and_close(recorded: set[str]) -> None:
    lines = list(compare(LONGCAT))
    assert {line.name for line in lines} == recorded and len(lines) == len(recorded) == 75
    assert not [str(line) for line in lines if not line.ok]


def test_the_second_skip_counts(recorded: set[str]) -> None:
    held = load_file(LONGCAT / "outputs.safetensors")
    gap = held["dit.velocity"] - held["dit.velocity_without_midskip"]
    assert gap.norm() > 0.05 * held["dit.velocity"].norm()


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A recording of another size, without a skip inside, made by these modules."""
    told = json.loads((LONGCAT / "config.json").read_text())
    told |= {"dit_dim": 48, "dit_depth": 2, "dit_heads": 3, "dit_ff_mult": 2, "dit_text_dim": 16}
    told |= {"repa_dit_layer": None, "latent_hop": 64, "latent_dim": 4}
    told["vae_config"] |= {"c_mults": [1, 2, 4], "strides": [2, 4, 8], "latent_dim": 4}
    told["text_encoder_config"] |= {"d_model": 16, "num_layers": 3, "vocab_size": 31}
    (tmp_path / "config.json").write_text(json.dumps(told))
    model = LongCat(parse(tmp_path / "config.json"))
    for value in model.transformer.parameters():
        torch.nn.init.normal_(value, std=0.1)
    save_file(dict(model.state_dict()), tmp_path / "weights.safetensors")
    case = {"steps": 4, "cfg_strength": 2.0, "guidance_method": "apg", "prompt": "sample.wav", "batch": 2}
    (tmp_path / "meta.json").write_text(json.dumps({"sampling_cases": {"it": case}}))
    given = {
        "text.input_ids": torch.tensor([[3, 30, 7, 1], [5, 1, 0, 0]]),
        "text.attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "sample.wav": torch.randn(2, 1, 150),
        "sample.it.prompt_eps": torch.randn(2, 4, 6),
        "sample.it.y0": torch.randn(2, 8, 4),
    }
    save_file(given, tmp_path / "inputs.safetensors")
    with torch.no_grad():
        ids, here = given["text.input_ids"], given["text.attention_mask"].bool()
        text = model.eval().text_encoder(ids, here)
        known = model.listen(given["sample.wav"][:, 0], given["sample.it.prompt_eps"].mT)
        clip, guidance = begin(given["sample.it.y0"], known), Guidance("apg", 2.0)
        velocity = conditioned(model.transformer, clip, text, here, guidance, leak=True)
        latents = sample(velocity, clip, guidance, 4)[:, 3:]
        held = {
            "text.embedding": text,
            "sample.it.latent": latents.mT,
            "sample.it.waveform": model.speak(latents),
        }
    save_file({name: value.contiguous() for name, value in held.items()}, tmp_path / "outputs.safetensors")
    return tmp_path


def test_a_recording_of_any_size_is_taken(other: Path) -> None:
    lines = list(compare(other))
    assert len(lines) == 3 and all(line.ok for line in lines)


def test_what_a_recording_lacks_is_named(other: Path) -> None:
    held = load_file(other / "inputs.safetensors")
    noise = held.pop("sample.it.y0")
    save_file(held, other / "inputs.safetensors")
    with pytest.raises(CheckpointError, match=r"sample\.it\.y0"):
        list(compare(other))
    save_file(held | {"sample.it.y0": noise}, other / "inputs.safetensors")
    extra = load_file(other / "outputs.safetensors") | {"dit.mystery": torch.zeros(1)}
    save_file(extra, other / "outputs.safetensors")
    (other / "meta.json").unlink()
    with pytest.raises(CheckpointError, match=r"meta\.json"):
        list(compare(other))
