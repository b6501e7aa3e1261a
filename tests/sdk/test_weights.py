"""riverrun weights import: licences come first, then the file, then what was left out."""

import lzma
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from tests.sdk.test_cli import call

XVC = Path(__file__).resolve().parents[1] / "models" / "voice" / "xvc"
CONFIG = XVC / "config.json"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file of the published form."""
    held = load(lzma.decompress((XVC / "weights.safetensors.xz").read_bytes()))
    plain = {name: value for name, value in held.items() if not name.startswith("cond_backbone")}
    path = tmp_path_factory.mktemp("published") / "xvc.pt"
    torch.save({"generator": plain}, path)
    return path


def test_licences_are_shown_and_have_to_be_accepted(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "voice.safetensors"
    given = ("weights", "import", "x-vc", published, "--config", CONFIG, "--out", target)
    assert call(*given) == 1 and not target.exists()
    told = capsys.readouterr().err
    assert "Built with glm-4" in told and "registration" in told and "--accept-licence" in told
    assert call(*given, "--accept-licence") == 0 and target.exists()
    told = capsys.readouterr().out
    assert str(target) in told and "4 of speaker_predictor" in told
    assert call(*given, "--accept-licence") == 2
    assert "is there already" in capsys.readouterr().err
    assert call(*given, "--accept-licence", "--force") == 0


def test_a_file_that_does_not_fit_is_one_line(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "voice.safetensors"
    assert call("weights", "import", "x-vc", published, "--out", target, "--accept-licence") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"riverrun: {published} does not fit: ")
    assert call("weights", "import", "x-vc", tmp_path / "gone.pt", "--accept-licence") == 1
    assert "gone.pt: no such file" in capsys.readouterr().err
    assert call("weights", "import", "y-vc", published) == 2
