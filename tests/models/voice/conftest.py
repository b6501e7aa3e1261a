"""The recording of X-VC's reference implementation, and its tiny networks of random weights."""

import lzma
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from riverrun.models.voice.xvc import XVc, assemble, parse

XVC = Path(__file__).parent / "xvc"


def unpack(folder: Path) -> Path:
    """The recording as `check parity` takes it."""
    shutil.copy(XVC / "config.json", folder)
    for name in ("io", "weights"):
        packed = (XVC / f"{name}.safetensors.xz").read_bytes()
        (folder / f"{name}.safetensors").write_bytes(lzma.decompress(packed))
    return folder


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("xvc"))


@pytest.fixture(scope="session")
def recorded(recording: Path) -> dict[str, Tensor]:
    """Inputs and outputs by name."""
    return load_file(recording / "io.safetensors")


@pytest.fixture(scope="session")
def weights(recording: Path) -> dict[str, Tensor]:
    """What a published generator holds: everything but the variant that was never published."""
    held = load_file(recording / "weights.safetensors")
    return {name: value for name, value in held.items() if not name.startswith("cond_backbone")}


@pytest.fixture(scope="session")
def net(recording: Path, weights: dict[str, Tensor]) -> XVc:
    return assemble(parse(recording / "config.json"), weights, recording / "weights.safetensors")
