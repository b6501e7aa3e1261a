"""A small bank of made-up sprites, each a shape on a shape, under nouns that captions know."""

import numpy as np

from riverrun.models.training.world.colors import COLORS
from riverrun.models.training.world.shapes import SHAPES, paint
from riverrun.models.training.world.sprites import SIDE, Bank

NOUNS = tuple(
    "cat dog car bus pig duck horse apple coin globe wheel bell key lemon rocket robot tree hat drum goose".split()
)


def bank() -> Bank:
    """Twenty sprites; the first seven look to the left, the next four roll."""
    shapes, colors, n = tuple(SHAPES), tuple(COLORS), len(NOUNS)
    pixels = []
    for i in range(n):
        sprite = paint(shapes[i % 8], colors[i % 10]).copy()
        small = paint(shapes[(i + 3) % 8], colors[(3 * i + 4) % 10])[::2, ::2]
        inner = sprite[SIDE // 4 : -SIDE // 4, SIDE // 8 : SIDE // 8 + SIDE // 2]
        inner[:] = np.where(small[..., 3:] > 127, small, inner)
        pixels.append(sprite)
    left, rolls = (tuple(a <= i < b for i in range(n)) for a, b in ((0, 7), (7, 11)))
    return Bank(np.stack(pixels), NOUNS, tuple(colors[i % 10] for i in range(n)), left, rolls)
