"""Lay out the sources in .lint the way they are imported, by symbolic links.

Type checkers cannot follow the hook of an editable install, which maps `riverrun.media` to the folder media/.
"""

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FARM = ROOT / ".lint"


def main() -> None:
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    shutil.rmtree(FARM, ignore_errors=True)
    (FARM / "riverrun").mkdir(parents=True)
    for source in (ROOT / folders["riverrun"]).iterdir():
        if source.suffix == ".py" or source.is_dir() and source.name != "__pycache__":
            (FARM / "riverrun" / source.name).symlink_to(source)
    for package, folder in folders.items():
        link = FARM.joinpath(*package.split("."))
        if not link.exists():
            link.symlink_to(ROOT / folder)
    (FARM / "tests").symlink_to(ROOT / "tests")


if __name__ == "__main__":
    main()
