"""Plain shapes, as sprites are: small squares of pixels."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from riverrun.models.training.world.colors import COLORS
from riverrun.models.training.world.sprites import SIDE, Bank, Pixels

Grid = NDArray[np.float64]
FINE = 4  # samples a pixel, along either side


def _polygon(*corners: tuple[float, float]) -> Callable[[Grid, Grid], NDArray[np.bool_]]:
    """Inside a polygon, by counting the edges to one side (even-odd)."""

    def inside(x: Grid, y: Grid) -> NDArray[np.bool_]:
        odd = np.zeros(x.shape, bool)
        for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
            if y0 != y1:
                odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return odd

    return inside


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    turns = np.arange(2 * points) * np.pi / points
    radii = np.where(np.arange(2 * points) % 2, inner, 1.05)
    return [(float(r * np.sin(a)), float(0.06 - r * np.cos(a))) for a, r in zip(turns, radii, strict=True)]


_T = 0.36  # half the width of the cross's arms
SHAPES: dict[str, Callable[[Grid, Grid], NDArray[np.bool_]]] = {  # in a square from -1 to 1, y down
    "circle": lambda x, y: np.hypot(x, y) < 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.86,
    "triangle": _polygon((0, -0.9), (1, 0.84), (-1, 0.84)),
    "star": _polygon(*_star(5, 0.44)),
    "heart": lambda x, y: (1.25 * x) ** 2 + (1.1 * (0.2 - y) - 0.75 * np.sqrt(abs(x))) ** 2 < 1,
    "ring": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.56),
    "diamond": lambda x, y: abs(x) / 0.72 + abs(y) < 1,
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < _T) & (np.maximum(abs(x), abs(y)) < 1),
}


def paint(name: str, color: str) -> Pixels:
    """A shape in a named colour.  # [y, x, 4] RGBA, straight alpha"""
    n = SIDE * FINE
    axis = ((np.arange(n) + 0.5) * 2 / n - 1) * SIDE / (SIDE - 2)
    inside = SHAPES[name](*np.meshgrid(axis, axis)).reshape(SIDE, FINE, SIDE, FINE)
    out = np.empty((SIDE, SIDE, 4), np.uint8)
    out[..., :3] = COLORS[color]
    out[..., 3] = np.rint(255 * inside.mean((1, 3)))
    return out


def drawn(bank: Bank, name: str, color: str, right: bool = False) -> Pixels:
    """A shape in its colour or, without one, a sprite, which looks to the `right` if it looks to a side.  # [y, x, 4]

    Raises ModelError for a name that the bank does not have.
    """
    if color:
        return paint(name, color)
    number = bank.find(name)
    sprite: Pixels = bank.pixels[number]
    return sprite[:, ::-1] if right and bank.left[number] else sprite


__all__ = ["SHAPES", "drawn", "paint"]
