"""Recordings of Open-Sora's reference implementation, by kind, as `check parity` takes them."""

import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

OPENSORA = Path(__file__).parent / "opensora"
SHARED = {"rflow": "stdit3"}  # whose weights another recording has


def unpack(kind: str, folder: Path) -> Path:
    """A recording; the weights are packed."""
    shutil.copytree(OPENSORA / kind, folder, dirs_exist_ok=True)
    packed = OPENSORA / SHARED.get(kind, kind) / "weights.safetensors.xz"
    (folder / "weights.safetensors").write_bytes(lzma.decompress(packed.read_bytes()))
    return folder


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Of a kind, unpacked once."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = unpack(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get
