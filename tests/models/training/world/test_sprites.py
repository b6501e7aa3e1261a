"""Sprites from icon sets: only from free ones, drawn to fill their square, with the colour that they mostly are."""

import json
from pathlib import Path

import pytest

from riverrun.models.errors import ModelError
from riverrun.models.training.world import sprites
from riverrun.models.training.world.names import LEFT, OTHER, ROUND

DISC = '<circle cx="10" cy="6" r="4" fill="#de2626"/>'


def icons(folder: Path, licence: str, names: list[str]) -> Path:
    """An icon set, unpacked, in which every icon is a red disc in a corner."""
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"license": licence}))
    (folder / "info.json").write_text(json.dumps({"license": {"spdx": licence}}))
    found = {"width": 32, "height": 32, "icons": {name: {"body": DISC} for name in names}}
    (folder / "icons.json").write_text(json.dumps(found))
    return folder


def wanted() -> list[str]:
    words = f"{LEFT} {ROUND} {OTHER}".split()
    return [word.partition("=")[0] for word in words]


def test_a_bank_is_built_from_a_free_set(tmp_path: Path) -> None:
    bank = sprites.build([icons(tmp_path / "set", "MIT", wanted())])
    assert len(bank) == len(wanted()) >= 300 and len(set(bank.names)) == len(bank)
    k = bank.find("apple")
    assert bank.colors[k] == "red" and bank.round[k] and not bank.left[k]
    alpha = bank.pixels[k][..., 3]
    assert alpha[32, 2] > 200 and alpha[2, 32] > 200 and alpha[32, 32] == 255 and not alpha[:, 0].any()


def test_other_licences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the licence 'GPL-3.0'"):
        sprites.build([icons(tmp_path / "set", "GPL-3.0", wanted())])


def test_a_set_without_a_named_icon_says_which(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no icon is called 'beaver'"):
        sprites.build([icons(tmp_path / "set", "Apache-2.0", ["dog"])])


def test_a_folder_that_is_no_icon_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"info\.json cannot be read"):
        sprites.build([tmp_path])
