"""What the reference implementation computed, these modules compute."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from riverrun.models import CheckpointError
from riverrun.models.parity import compare
from tests.models.video.conftest import unpack

RECORDED = {
    "stdit1": 1, "stdit2": 2, "stdit3": 12, "stdit3_v13": 1, "mmdit": 1, "rflow": 10, "vae_temporal": 12,
}  # fmt: skip


@pytest.mark.parametrize("kind", RECORDED)
def test_every_recorded_tensor_is_computed_and_close(recording: Callable[[str], Path], kind: str) -> None:
    lines = list(compare(recording(kind)))
    outputs = load_file(recording(kind) / "outputs.safetensors")
    assert {line.name for line in lines} == set(outputs) and len(lines) == len(outputs) == RECORDED[kind]
    assert not [str(line) for line in lines if not line.ok]


def test_only_half_precision_is_not_counted(recording: Callable[[str], Path]) -> None:
    lines = list(compare(recording("stdit3")))
    assert {line.name for line in lines if not line.counted} == {"f_bf16", "f_bf16_pos_emb_3x4"}


def test_a_wrong_tensor_fails(tmp_path: Path) -> None:
    path = unpack("stdit3", tmp_path) / "outputs.safetensors"
    held = load_file(path)
    held["b_xmask"][0, 0, 0, 0, 0] += 1e-3
    save_file(held, path)
    assert [line.name for line in compare(tmp_path) if not line.ok] == ["b_xmask"]


def test_what_a_recording_lacks_is_named(tmp_path: Path) -> None:
    folder = unpack("stdit3", tmp_path)
    inputs, outputs = (load_file(folder / f"{name}.safetensors") for name in ("inputs", "outputs"))
    save_file(outputs | {"mystery": torch.zeros(1)}, folder / "outputs.safetensors")
    with pytest.raises(CheckpointError, match="no code here computes mystery"):
        list(compare(folder))
    save_file(outputs, folder / "outputs.safetensors")
    save_file({k: v for k, v in inputs.items() if k != "b.x_mask"}, folder / "inputs.safetensors")
    with pytest.raises(CheckpointError, match="lacks 'x_mask'"):
        list(compare(folder))


def test_a_recording_of_less_is_taken(tmp_path: Path) -> None:
    folder = unpack("stdit3", tmp_path)
    for name, kept in (("inputs", "a."), ("outputs", "a_plain")):
        held = load_file(folder / f"{name}.safetensors")
        save_file({k: v for k, v in held.items() if k.startswith(kept)}, folder / f"{name}.safetensors")
    assert [(line.name, line.ok) for line in compare(folder)] == [("a_plain", True)]
