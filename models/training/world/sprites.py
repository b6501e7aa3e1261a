"""The world's sprites: pictures of named things from icon sets with free licences, small, in one file."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from riverrun.models.errors import ModelError
from riverrun.models.training.world.colors import name_of
from riverrun.models.training.world.names import LEFT, OTHER, ROUND

SIDE = 64  # pixels, of a sprite; two of them stay clear at the rim, for smooth edges
LICENCES = ("MIT", "Apache-2.0")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Bank:
    """Named sprites.  # pixels [n, y, x, 4] RGBA, straight alpha, each fills its square's longer side"""

    pixels: Pixels
    names: tuple[str, ...]
    colors: tuple[str, ...]  # the colour that most of each is; "" where none is
    left: tuple[bool, ...]  # looks to the left
    round: tuple[bool, ...]  # can roll

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int:
        """The number of a name. Raises ModelError for a name that is not here."""
        if name not in self.names:
            raise ModelError(f"no sprite is called {name!r}; there are {len(self)}, such as {self.names[:3]}")
        return self.names.index(name)

    def save(self, path: Path) -> None:
        flags = np.array([self.left, self.round])
        words = np.array([self.names, self.colors])
        np.savez_compressed(path, pixels=self.pixels, words=words, flags=flags)


def load(path: Path) -> Bank:
    """A bank as `Bank.save` wrote it. Raises ModelError if there is none."""
    if not Path(path).is_file():
        raise ModelError(f"no sprites at {path}: draw them once with `riverrun train sprites`")
    with np.load(path, allow_pickle=False) as file:
        names, colors = (tuple(str(word) for word in row) for row in file["words"])
        left, round_ = (tuple(bool(flag) for flag in row) for row in file["flags"])
        return Bank(file["pixels"], names, colors, left, round_)


def build(folders: Sequence[Path]) -> Bank:
    """Draw the sprites from unpacked icon sets; where two sets have an icon, the first one's is taken.

    Raises ModelError for a set whose licence is not free enough, or if a named icon is in none.
    """
    icons: dict[str, str] = {}
    for folder in folders:
        for name, svg in _icons(folder):
            icons.setdefault(name, svg)
    rows = []
    for names, left, rolls in ((LEFT, True, False), (ROUND, False, True), (OTHER, False, False)):
        for word in names.split():
            icon, _, noun = word.partition("=")
            if icon not in icons:
                raise ModelError(f"no icon is called {icon!r} in {[str(f) for f in folders]}")
            rows.append((draw(icons[icon]), (noun or icon).replace("-", " "), left, rolls))
    pixels, nouns, lefts, rounds = zip(*rows, strict=True)
    return Bank(np.stack(pixels), nouns, tuple(main_color(p) for p in pixels), lefts, rounds)


def draw(svg: str) -> Pixels:
    """A sprite from an SVG picture.  # [y, x, 4]. Raises ModelError if the rasteriser is not installed."""
    try:
        import resvg_py
    except ImportError as exc:
        raise ModelError("drawing sprites needs resvg-py: pip install 'riverrun[train]'") from exc
    png = resvg_py.svg_to_bytes(svg_string=svg, width=4 * SIDE, height=4 * SIDE)
    picture = Image.open(io.BytesIO(png)).convert("RGBA").convert("RGBa")
    picture = picture.crop(picture.getchannel("a").point(lambda a: 255 * (a > 16)).getbbox())
    scale = (SIDE - 2) / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    out = Image.new("RGBa", (SIDE, SIDE))
    out.paste(small, ((SIDE - width) // 2, (SIDE - height) // 2))
    return np.asarray(out.convert("RGBA"))


def main_color(pixels: Pixels, share: float = 0.6) -> str:
    """The name of the colour that at least this share of a sprite has, or none: "".  # [y, x, 4]"""
    names, counts = np.unique(name_of(pixels[pixels[..., 3] > 128][:, :3]), return_counts=True)
    return str(names[counts.argmax()]) if counts.max() >= share * counts.sum() else ""


def _icons(folder: Path) -> Iterator[tuple[str, str]]:
    """The names and SVG texts of an unpacked icon set, once its licence is known to be free."""
    info = _json(folder / "info.json")["license"]["spdx"]
    package = _json(folder / "package.json")["license"]
    if info != package or info not in LICENCES:
        raise ModelError(f"{folder} has the licence {info!r} ({package!r}), expected one of {LICENCES}")
    found = _json(folder / "icons.json")
    for name, icon in found["icons"].items():
        box = [icon.get(key, found.get(key, default)) for key, default in _BOX.items()]
        yield name, '<svg xmlns="{}" viewBox="{} {} {} {}">{}</svg>'.format(_SVG, *box, icon["body"])


_SVG = "http://www.w3.org/2000/svg"
_BOX = {"left": 0, "top": 0, "width": 16, "height": 16}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path} cannot be read: {exc}; is its folder an unpacked icon set?") from exc


__all__ = ["LICENCES", "SIDE", "Bank", "build", "draw", "load", "main_color"]
