"""The published pickle becomes safetensors that load strictly; what would run code, or does not fit, is refused."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from riverrun.models import CheckpointError
from riverrun.models.voice.importing import bring
from riverrun.models.voice.xvc import XVc, load, parse
from tests.models.voice.conftest import XVC

CONFIG = parse(XVC / "config.json")


@pytest.fixture
def published(tmp_path: Path, weights: dict[str, Tensor]) -> Path:
    """A file of the published form: last weights, their average, and what they learned against."""
    averaged = {f"ema_model.{name}": value + 0 for name, value in weights.items()}
    averaged["ema_model.acoustic_converter.proj_out.bias"] += 1
    sections = {
        "generator": weights,
        "ema_generator": {**averaged, "initted": torch.tensor(True), "step": torch.tensor(10)},
        "discriminator": {"discriminators": {"0": {"weight": torch.zeros(3)}}},
        "step": 10,
    }
    torch.save(sections, tmp_path / "xvc.pt")
    return tmp_path / "xvc.pt"


def test_what_is_imported_loads_strictly_and_is_the_same(published: Path, net: XVc) -> None:
    target = published.with_suffix(".safetensors")
    done = bring(published, target, CONFIG)
    made, ours = load(target).state_dict(), net.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in made.items()) and len(made) == len(ours)
    with safe_open(target, "pt") as file:
        assert "Built with glm-4" in file.metadata()["licence"]
        assert done.tensors == len(file.keys())
    assert done.left["discriminator"] == 1 and done.left["semantic_decoder"] > 50
    assert done.left["speaker_predictor"] == 4 and done.left["num_batches_tracked"] > 20
    assert done.left["acoustic_quantizer"] == 1 and done.left["semantic_encoder"] == 2


def test_the_average_may_be_taken_instead(published: Path, net: XVc, weights: dict[str, Tensor]) -> None:
    target = published.with_suffix(".safetensors")
    done = bring(published, target, CONFIG, averaged=True)
    bias = load(target).acoustic_converter.proj_out.bias
    torch.testing.assert_close(bias, net.acoustic_converter.proj_out.bias + 1)
    assert "discriminator" in done.left and done.left["generator"] == len(weights)


def test_a_flat_file_is_taken_too(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({f"generator.{name}": value for name, value in weights.items()}, tmp_path / "xvc.pt")
    assert bring(tmp_path / "xvc.pt", tmp_path / "xvc.safetensors", CONFIG).left.keys() >= {
        "speaker_predictor"
    }


class Trap:
    """What a pickle can hide."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path, target = tmp_path / "xvc.pt", tmp_path / "xvc.safetensors"
    torch.save({"generator": weights, "trap": Trap()}, path)
    with pytest.raises(CheckpointError, match=r"refused and nothing of it run: weights need no .*exec"):
        bring(path, target, CONFIG)
    assert [file.name for file in tmp_path.iterdir()] == ["xvc.pt"]


def test_what_is_no_published_file_is_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path, target = tmp_path / "xvc.pt", tmp_path / "xvc.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        bring(path, target)
    path.write_bytes(pickle.dumps({"generator": 1}))
    with pytest.raises(CheckpointError, match=r"not what torch\.save writes"):
        bring(path, target)
    torch.save({"discriminator": {"a": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match=r"has no generator\.\*, only discriminator"):
        bring(path, target)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=r"not what torch\.save writes"):
        bring(path, target)


def test_weights_of_another_shape_are_refused_and_nothing_is_written(published: Path) -> None:
    target = published.with_suffix(".safetensors")
    with pytest.raises(CheckpointError, match="does not fit: "):
        bring(published, target)
    assert not target.exists()
