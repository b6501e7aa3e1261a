"""Pairs of damaged and clean speech, each a pure function of (seed, number)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from riverrun.models.training.corpus import Speech, index_name
from riverrun.models.training.degradations import RECIPES, Recipe, degrade, recipe
from riverrun.models.training.rooms import Rooms

SAMPLES = 32_512  # 127 hops of 256, 2.03 s
Audio = NDArray[np.float32]


@dataclass
class Mixtures:
    """Endless training examples from a pool; safe to pickle into loader workers.

    The pool holds speech.npy with index.json (corpus.build), and, where they are there, textures.npy with
    textures.json and rooms.npy (rooms.bank); without rooms.npy each room is simulated anew.
    """

    pool: Path
    recipe: Recipe | str = "restore"
    seed: int = 0
    samples: int = SAMPLES
    length: int = 1_000_000_000  # items, for loaders that ask
    _speech: Speech = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.pool = Path(self.pool)
        self._recipe = recipe(self.recipe) if isinstance(self.recipe, str) else self.recipe
        self._speech = Speech(self.pool)
        textures = (self.pool / index_name("textures")).is_file()
        self._textures = Speech(self.pool, "textures") if textures else None
        bank = self.pool / "rooms.npy"
        self._rooms = Rooms(bank) if bank.is_file() else None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> tuple[Audio, Audio]:
        return self.item(i)

    def item(self, i: int) -> tuple[Audio, Audio]:
        """Example i: damaged and clean, aligned, within ±0.99.  # [samples], [samples] float32"""
        rng = np.random.default_rng([self.seed, i])
        clean = self._speech.crop(rng, self.samples, self._recipe.vary)
        return degrade(rng, clean, self._recipe, self._speech, self._textures, self._rooms)

    def batches(self, start: int, batch: int) -> Iterator[tuple[Audio, Audio]]:
        """Batches from item `start` on, without end.  # [b, samples], [b, samples]"""
        while True:
            pairs = [self.item(i) for i in range(start, start + batch)]
            yield np.stack([noisy for noisy, _ in pairs]), np.stack([clean for _, clean in pairs])
            start += batch


__all__ = ["RECIPES", "SAMPLES", "Mixtures"]
