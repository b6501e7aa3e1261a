"""The colours that words name, and the tints of the light."""

import numpy as np
from numpy.typing import NDArray

COLORS: dict[str, tuple[int, int, int]] = {  # what plain shapes are painted with, by day
    "red": (222, 38, 38),
    "orange": (245, 130, 20),
    "yellow": (250, 212, 20),
    "green": (30, 145, 60),
    "turquoise": (0, 178, 170),
    "blue": (40, 90, 220),
    "purple": (130, 50, 180),
    "pink": (245, 90, 165),
    "brown": (125, 75, 35),
    "black": (25, 25, 30),
}
SHADES: dict[str, list[tuple[int, int, int]]] = {  # more of each colour, and those that shapes do not have
    "red": [(165, 15, 30), (250, 50, 60)],
    "orange": [(240, 165, 95), (255, 120, 40)],
    "yellow": [(250, 230, 130), (255, 190, 40)],
    "green": [(130, 190, 80), (0, 210, 105), (70, 150, 25), (150, 230, 60)],
    "turquoise": [(60, 210, 190), (130, 225, 215)],
    "blue": [(0, 166, 237), (40, 200, 252), (130, 180, 240)],
    "purple": [(140, 100, 200), (175, 130, 215)],
    "pink": [(250, 175, 205), (255, 130, 180)],
    "brown": [(165, 105, 80), (110, 70, 50)],
    "black": [(60, 55, 60)],
    "white": [(245, 245, 245)],
    "gray": [(155, 155, 155), (105, 105, 108), (200, 195, 210)],
}
LIGHTS = {  # a gain and an offset for red, green and blue
    "day": ((1.0, 1.0, 1.0), (0, 0, 0)),
    "dusk": ((0.66, 0.44, 0.40), (62, 22, 20)),
    "night": ((0.30, 0.34, 0.46), (4, 6, 26)),
}
NEAR = 0.4  # how much of a light's tint things take on, so that their colours can be told
_NAMES = np.array([*COLORS, *(name for name, shades in SHADES.items() for _ in shades)])
_VALUES = np.array([*COLORS.values(), *(shade for shades in SHADES.values() for shade in shades)], np.float32)


def name_of(rgb: NDArray[np.uint8]) -> NDArray[np.str_]:
    """The names of the nearest colours.  # [..., 3] -> [...]

    Source: the weighted distance of Riemersma 2019, "Colour metric", a cheap match of what eyes tell apart.
    """
    x = np.asarray(rgb, np.float32)[..., None, :]
    mean = (x[..., 0] + _VALUES[:, 0]) / 2
    d = (x - _VALUES) ** 2
    distance = (2 + mean / 256) * d[..., 0] + 4 * d[..., 1] + (2 + (255 - mean) / 256) * d[..., 2]
    found: NDArray[np.str_] = _NAMES[distance.argmin(-1)]
    return found


__all__ = ["COLORS", "LIGHTS", "NEAR", "SHADES", "name_of"]
