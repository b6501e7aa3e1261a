"""Best of several: each line is said some times in one batch, and the one that is understood best is kept.

Source: arXiv 2409.15254 (Archon), its generate-and-verify layers; the verifier here is our aligner.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from riverrun.media import Chunk, join
from riverrun.models.errors import InvalidRequest
from riverrun.models.speech import aligner
from riverrun.models.speech.lite import Said, SpeakLite
from riverrun.models.state import State, clone, stack, unstack

APART = 0x9E3779B9  # between the seeds of candidates


class Judge(Protocol):
    """How well a line is said: more is better."""

    def __call__(self, sound: NDArray[np.float32], symbols: str) -> float:
        """Shapes: sound `[n]` at the model's rate."""
        ...


class Aligned:
    """A judge that hears whether the symbols are those that are said: the confidence of their alignment."""

    def __init__(self) -> None:
        self.model = aligner.load(aligner.packaged())

    def __call__(self, sound: NDArray[np.float32], symbols: str) -> float:
        """As Judge; 0 where there is nothing to be heard, or too little sound for it."""
        known = "".join(c for c in symbols if c in aligner.SYMBOLS).strip()
        try:
            return float(self.model.align(torch.from_numpy(sound), known).confidence)
        except InvalidRequest:
            return 0.0


@torch.inference_mode()
def best(model: SpeakLite, begun: Said, lines: Iterable[Said], count: int, judge: Judge) -> Iterator[Chunk]:
    """Say lines, each the best of `count`; every one ends with its chunk. Raises InvalidRequest."""
    state = model.open(replace(begun, end=False))
    for line in lines:
        rows = []
        for i in range(count):
            row = clone(state)
            row["seed"] = [state["seed"][0] + i * APART]
            rows.append(model.update(row, replace(line, end=False, flush=True)))
        rows, said = _through(model, rows)
        marks = [judge(join(chunks).data[:, 0], line.symbols) if chunks else 0.0 for chunks in said]
        chosen = max(range(count), key=lambda i: marks[i]) if line.symbols else 0
        yield from said[chosen]
        state = {**rows[chosen], "seed": state["seed"]}
    _, (rest,) = _through(model, [model.update(state, replace(begun, symbols="", end=True))])
    yield from rest


def _through(model: SpeakLite, rows: list[State]) -> tuple[list[State], list[list[Chunk]]]:
    """Step sessions until they have nothing to do, those of equal keys together; give what each said."""
    said: list[list[Chunk]] = [[] for _ in rows]
    while True:
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for i, row in enumerate(rows):
            key = model.key(row)
            if key is not None and not (said[i] and said[i][-1].last):
                groups[key].append(i)
        if not groups:
            return rows, said
        together = next(iter(groups.values()))
        outputs, state = model.step([None] * len(together), stack([rows[i] for i in together]))
        for i, (made, _), row in zip(together, outputs, unstack(state), strict=True):
            rows[i] = row
            said[i] += [made] if made is not None else []
