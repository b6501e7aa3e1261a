"""What is behind the things: patterns and places, painted so that they go on without a seam to either side."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from riverrun.models.training.world.scenes import Background

Rows = NDArray[np.float32]
TURN = 2  # pictures after which a background is at its start again
FINE = 2  # samples a pixel, along either side
TINTS: dict[str, tuple[int, int, int]] = {  # the pale colours of patterns
    "white": (246, 246, 244),
    "gray": (196, 198, 202),
    "pink": (250, 205, 220),
    "blue": (184, 214, 246),
    "green": (198, 234, 196),
    "yellow": (250, 240, 180),
    "purple": (218, 206, 244),
    "orange": (250, 214, 180),
}


def paint(background: Background, size: int) -> NDArray[np.uint8]:
    """A background by day, two pictures wide; its right side goes on at its left.  # [size, 2 size, 3]"""
    n = size * FINE
    y, x = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(TURN * n) + 0.5) / n, indexing="ij")
    rng = np.random.default_rng(background.seed)
    grid = (x.astype(np.float32), y.astype(np.float32))
    if background.color:
        rows = _pattern(background, rng, *grid)
    else:
        rows = PAINTERS[background.kind](rng, *grid)
    small = rows.reshape(size, FINE, TURN * size, FINE, 3).mean((1, 3))
    painted: NDArray[np.uint8] = np.rint(np.clip(small, 0, 255)).astype(np.uint8)
    return painted


def _pattern(background: Background, rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    base = np.array(TINTS[background.color], np.float32)
    ink = base * 0.84 if rng.random() < 0.5 or background.color == "white" else base + (255 - base) * 0.6
    k = int(rng.integers(3, 6))  # of its parts, in a picture
    if background.kind == "striped":
        tilt = int(rng.integers(-1, 2))
        marked = ((x + tilt * y) * k) % 1 < 0.5
    elif background.kind == "dotted":
        row = np.floor(y * k)
        marked = np.hypot((x * k + row / 2) % 1 - 0.5, (y * k) % 1 - 0.5) < 0.24
    elif background.kind == "checked":
        marked = (np.floor(x * k) + np.floor(y * k)) % 2 == 0
    else:
        marked = np.zeros(x.shape, bool)
    return np.where(marked[..., None], ink, base)


def _blend(top: tuple[int, int, int], bottom: tuple[int, int, int], share: Rows) -> Rows:
    a, b = np.array(top, np.float32), np.array(bottom, np.float32)
    return a + (b - a) * np.clip(share, 0, 1)[..., None]


def _over(rows: Rows, mask: NDArray[np.bool_], color: Sequence[float]) -> Rows:
    return np.where(mask[..., None], np.array(color, np.float32), rows)


def _wave(rng: np.random.Generator, x: Rows, height: float, most: int = 3) -> Rows:
    """A smooth line that comes round after TURN pictures."""
    line = np.zeros_like(x)
    for k in range(1, most + 1):
        line += float(rng.uniform(0.4, 1)) / k * np.sin(np.pi * k * x + float(rng.uniform(0, 2 * np.pi)))
    return height * line


def _spots(
    rng: np.random.Generator, x: Rows, y: Rows, count: int, low: float, high: float, flat: float, r: float
) -> NDArray[np.bool_]:
    """Flat round spots, strewn between two heights."""
    marked = np.zeros(x.shape, bool)
    for cx, cy in zip(rng.uniform(0, TURN, count), rng.uniform(low, high, count), strict=True):
        away = (x - cx + TURN / 2) % TURN - TURN / 2
        marked |= (away / r) ** 2 + ((y - cy) / (r * flat)) ** 2 < 1
    return marked


def _sky(rng: np.random.Generator, x: Rows, y: Rows, clouds: int = 4) -> Rows:
    rows = _blend((150, 202, 248), (222, 240, 252), y / 0.6)
    for _ in range(clouds):
        cx, cy = float(rng.uniform(0, TURN)), float(rng.uniform(0.08, 0.28))
        for k in range(3):
            away = (x - cx - 0.07 * k + TURN / 2) % TURN - TURN / 2
            rows = _over(
                rows, (away / 0.08) ** 2 + ((y - cy) / (0.035 + 0.015 * (k == 1))) ** 2 < 1, (250, 252, 255)
            )
    return rows


def _ground(rows: Rows, y: Rows, line: Rows, top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Rows:
    return np.where((y > line)[..., None], _blend(top, bottom, (y - line) / 0.4), rows)


def _meadow(rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    line = 0.62 + _wave(rng, x, 0.02)
    rows = _ground(_sky(rng, x, y), y, line, (176, 222, 130), (140, 200, 104))
    rows = _over(rows, _spots(rng, x, y, 40, 0.68, 1.0, 0.35, 0.02), (116, 180, 88))
    return _over(rows, _spots(rng, x, y, 14, 0.7, 1.0, 0.8, 0.012), (252, 246, 200))


def _beach(rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    rows = _ground(_sky(rng, x, y, 3), y, np.full_like(x, 0.45), (110, 190, 222), (150, 214, 232))
    line = 0.64 + _wave(rng, x, 0.015, 4)
    rows = _ground(rows, y, line - 0.025, (245, 250, 250), (245, 250, 250))
    rows = _ground(rows, y, line, (246, 226, 174), (234, 208, 150))
    return _over(rows, _spots(rng, x, y, 40, 0.7, 1.0, 0.5, 0.012), (216, 188, 132))


def _desert(rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    rows = _blend((196, 224, 246), (252, 236, 206), y / 0.6)
    rows = _ground(rows, y, 0.56 + _wave(rng, x, 0.05), (240, 206, 146), (226, 186, 122))
    return _ground(rows, y, 0.74 + _wave(rng, x, 0.05), (248, 218, 160), (236, 198, 134))


def _snow(rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    rows = _blend((176, 206, 236), (226, 236, 246), y / 0.6)
    rows = _trees(rng, x, rows, y, 12, 0.62, (150, 178, 176))
    rows = _ground(rows, y, 0.6 + _wave(rng, x, 0.025), (250, 252, 255), (228, 238, 250))
    return _over(rows, _spots(rng, x, y, 30, 0.68, 1.0, 0.3, 0.03), (212, 226, 244))


def _sea(rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    rows = _ground(_sky(rng, x, y), y, np.full_like(x, 0.5), (140, 204, 232), (96, 172, 216))
    for k in range(5):
        height = 0.57 + 0.095 * k
        crest = height + 0.012 * np.sin(2 * np.pi * (3 + k % 2) * x + 2.1 * k)
        rows = _over(rows, abs(y - crest) < 0.008, (206, 234, 246))
    return rows


def _city(rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    rows = _sky(rng, x, y, 3)
    for left in np.arange(0, TURN, 0.25):
        top, shade = float(rng.uniform(0.25, 0.55)), float(rng.uniform(168, 206))
        inside = (x >= left) & (x < left + 0.22) & (y > top)
        rows = _over(rows, inside, (shade, shade + 2, shade + 10))
        windows = inside & ((x - left) % 0.07 > 0.035) & ((y - top) % 0.09 > 0.05) & (x < left + 0.2)
        rows = _over(rows, windows, (244, 240, 206))
    rows = _ground(rows, y, np.full_like(x, 0.74), (206, 206, 204), (206, 206, 204))
    rows = _ground(rows, y, np.full_like(x, 0.79), (164, 166, 172), (156, 158, 166))
    return _over(rows, (abs(y - 0.9) < 0.012) & ((x * 4) % 1 < 0.55), (240, 240, 236))


def _room(rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    wall = TINTS[("yellow", "green", "blue", "pink")[int(rng.integers(4))]]
    rows = _blend(wall, wall, y)
    rows = _over(rows, (x * 6) % 1 < 0.12, [0.93 * c for c in wall])
    for left in (0.2, 1.2):
        frame = (abs(x - left - 0.15) < 0.15) & (abs(y - 0.3) < 0.17)
        rows = _over(rows, frame, (252, 252, 250))
        pane = (abs(abs(x - left - 0.15) - 0.07) < 0.055) & (abs(y - 0.3) < 0.14)
        rows = _over(rows, pane, (178, 216, 246))
    rows = _ground(rows, y, np.full_like(x, 0.73), (250, 250, 248), (250, 250, 248))
    rows = _ground(rows, y, np.full_like(x, 0.77), (224, 190, 150), (214, 176, 134))
    seam = (abs((y - 0.77) % 0.08) < 0.01) | ((x * 2 + np.floor((y - 0.77) / 0.08) * 0.5) % 1 < 0.025)
    return _over(rows, seam & (y > 0.775), (192, 154, 114))


def _trees(
    rng: np.random.Generator,
    x: Rows,
    rows: Rows,
    y: Rows,
    count: int,
    foot: float,
    color: tuple[int, int, int],
) -> Rows:
    for k in range(count):
        cx = TURN * k / count + float(rng.uniform(-0.04, 0.04))
        high, shade = float(rng.uniform(0.25, 0.4)), float(rng.uniform(0.92, 1.08))
        away = abs((x - cx + TURN / 2) % TURN - TURN / 2)
        inside = (away < 0.32 * (y - foot + high)) & (y < foot)
        rows = _over(rows, inside, [shade * c for c in color])
    return rows


def _forest(rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    rows = _trees(rng, x, _sky(rng, x, y, 2), y, 14, 0.6, (158, 206, 164))
    rows = _trees(rng, x, rows, y, 10, 0.7, (126, 186, 132))
    rows = _ground(rows, y, 0.68 + _wave(rng, x, 0.015), (168, 208, 128), (150, 194, 112))
    return _over(rows, _spots(rng, x, y, 40, 0.74, 1.0, 0.4, 0.02), (128, 174, 98))


def _hills(rng: np.random.Generator, x: Rows, y: Rows) -> Rows:
    rows = _sky(rng, x, y)
    rows = _ground(rows, y, 0.46 + _wave(rng, x, 0.07), (176, 206, 214), (176, 206, 214))
    rows = _ground(rows, y, 0.6 + _wave(rng, x, 0.06), (156, 208, 156), (156, 208, 156))
    return _ground(rows, y, 0.76 + _wave(rng, x, 0.05), (180, 224, 136), (164, 212, 120))


PAINTERS: dict[str, Callable[[np.random.Generator, Rows, Rows], Rows]] = {
    "meadow": _meadow,
    "beach": _beach,
    "desert": _desert,
    "snow": _snow,
    "sea": _sea,
    "city": _city,
    "room": _room,
    "forest": _forest,
    "hills": _hills,
}

__all__ = ["PAINTERS", "TURN", "paint"]
