"""What a picture of a story shows where: which thing, and what it does."""

from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from riverrun.models.training.world.motion import Place, story_places
from riverrun.models.training.world.names import nouns
from riverrun.models.training.world.scenes import STEPS, VERBS, Story
from riverrun.models.training.world.shapes import SHAPES, drawn
from riverrun.models.training.world.sprites import SIDE, Bank

Labels = NDArray[np.int16]
FINE = 3  # samples a cell, along either side
DIRECTIONS = ("", *STEPS, "clockwise", "counterclockwise")
ACTIONS = tuple((verb, direction) for verb in VERBS for direction in DIRECTIONS)
NAMES = (*SHAPES, *nouns())


class Labeler:
    """Labels of a story's pictures in `cells` rows and columns."""

    def __init__(self, story: Story, bank: Bank, cells: int) -> None:
        self.story, self.bank, self.cells = story, bank, cells
        axis = (np.arange(FINE * cells) + 0.5) / (FINE * cells)
        self.x, self.y = np.meshgrid(axis, axis)
        self.inside: dict[tuple[str, bool], NDArray[np.bool_]] = {}

    def at(self, t: float) -> Labels:
        """The thing that a cell shows most of, and its verb with its direction; 0 where there is none.

        Shape: [2, y, x], the numbers of NAMES and of ACTIONS, from 1 on.
        """
        places, k, _ = story_places(self.story, t)
        seen = np.zeros(self.x.shape, np.int16)  # the number of the place, the nearest
        for i, place in enumerate(places, 1):
            if place.opacity > 0.5:
                seen[self._covered(place)] = i
        table = np.array([(0, 0), *(self._label(place, k) for place in places)], np.int16)
        samples = (
            seen.reshape(self.cells, FINE, self.cells, FINE).transpose(0, 2, 1, 3).reshape(self.cells**2, -1)
        )
        counts = (samples[..., None] == np.arange(1, len(places) + 1)).sum(1)
        most = counts.argmax(1) + 1 if places else np.zeros(len(samples), int)
        best = np.where(counts.max(1, initial=0) > 0, most, 0)
        return table[best].T.reshape(2, self.cells, self.cells)

    def _covered(self, place: Place) -> NDArray[np.bool_]:
        """Which samples a sprite covers."""
        scale = (SIDE - 2) / place.size
        c, s = cos(2 * pi * place.angle) * scale, sin(2 * pi * place.angle) * scale
        dx, dy = self.x - place.x, self.y - place.y
        u, v = ((part + SIDE / 2).astype(int) for part in (c * dx + s * dy, c * dy - s * dx))
        there = (u >= 0) & (u < SIDE) & (v >= 0) & (v < SIDE)
        covered: NDArray[np.bool_] = there & self._inside(place)[v.clip(0, SIDE - 1), u.clip(0, SIDE - 1)]
        return covered

    def _inside(self, place: Place) -> NDArray[np.bool_]:
        key = place.name, place.mirrored
        if key not in self.inside:
            self.inside[key] = drawn(self.bank, place.name, place.color, place.mirrored)[..., 3] > 128
        return self.inside[key]

    def _label(self, place: Place, k: int) -> tuple[int, int]:
        """What is there, and what it does in scene k or, where that does not have it, in the one before."""
        scenes = (self.story.scenes[k], self.story.scenes[max(k - 1, 0)])
        same = (t for scene in scenes for t in scene.things if (t.name, t.color) == (place.name, place.color))
        thing = next(same)
        return NAMES.index(place.name) + 1, ACTIONS.index((thing.verb, thing.direction)) + 1


__all__ = ["ACTIONS", "NAMES", "Labeler", "Labels"]
