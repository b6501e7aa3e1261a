"""What the reference implementation computed, these modules compute: on its recording, and at other sizes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from riverrun.models import CheckpointError
from riverrun.models.parity import compare
from tests.models.voice.conftest import unpack


def test_every_recorded_tensor_is_computed_and_close(recording: Path, recorded: dict[str, Tensor]) -> None:
    lines = list(compare(recording))
    outputs = {name for name in recorded if ".in." not in name}
    assert {line.name for line in lines} == outputs and len(lines) == len(outputs) == 47
    assert not [str(line) for line in lines if not line.ok]


def test_the_recording_holds_what_is_easily_missed(recorded: dict[str, Tensor]) -> None:
    """Attention by blocks, positions that all later frames share, a batch, tokens that differ."""
    assert recorded["semantic_long.mid.last_layer"].shape[1] > 200
    assert recorded["converter_rand.in.frame"].shape[::2] == (2, 1100)
    assert recorded["semantic.out.tokens"].unique().numel() > 10


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A recording of less, with inputs that are no whole tokens and a batch of two."""
    folder = unpack(tmp_path)
    held = load_file(folder / "io.safetensors")
    kept = {
        k: v
        for k, v in held.items()
        if k.split(".")[0] in ("mel", "prenet") or k.startswith("offline_chain.in")
    }
    prenet = {f"prenet.{k}": torch.cat([held[f"prenet.{k}"]] * 2)[..., :80] for k in ("in.x", "out.y")}
    save_file({k: v.contiguous() for k, v in (kept | prenet).items()}, folder / "io.safetensors")
    return folder


def test_a_recording_of_less_is_taken(other: Path) -> None:
    lines = list(compare(other))
    assert [line.name for line in lines] == ["mel.out.mel", "mel.out.mel_zero_tail", "prenet.out.y"]
    assert all(line.ok for line in lines)


def test_a_wrong_tensor_fails(other: Path) -> None:
    held = load_file(other / "io.safetensors")
    held["prenet.out.y"][0, 0, 0] += 1e-3
    save_file(held, other / "io.safetensors")
    assert [line.ok for line in compare(other)] == [True, True, False]


def test_what_a_recording_lacks_is_named(other: Path) -> None:
    held = load_file(other / "io.safetensors")
    save_file({k: v for k, v in held.items() if k != "mel.in.wav"}, other / "io.safetensors")
    with pytest.raises(CheckpointError, match="recording of mel lacks 'wav'"):
        list(compare(other))
    save_file(held | {"mystery.out.y": torch.zeros(1)}, other / "io.safetensors")
    with pytest.raises(CheckpointError, match=r"no code here computes mystery\.out\.y"):
        list(compare(other))


def test_a_config_without_streams_is_named(other: Path) -> None:
    told = json.loads((other / "config.json").read_text())
    del told["streams"]
    (other / "config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="streams"):
        list(compare(other))
