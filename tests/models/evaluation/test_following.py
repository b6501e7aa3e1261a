"""How captions are followed and streams drift: right on what was drawn, and told where something is off."""

from itertools import chain

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riverrun.models.evaluation.finding import Finder
from riverrun.models.evaluation.following import AT, Drift, drift, follow, told
from tests.models.pictures import bank

BANK = bank()


def share(rows: list[object]) -> float:
    return float(np.mean([mark.right for mark in chain(*(row.marks for row in rows))]))  # type: ignore[attr-defined]


def test_a_model_that_draws_is_the_ceiling_and_another_caption_the_floor() -> None:
    scenes = told(BANK, 2, 18, 96, 9)
    assert [one.caption for one in scenes] == [one.caption for one in told(BANK, 2, 9, 96, 9)]
    clips, asked = {one.caption: one.drawn for one in scenes}, list[tuple[str, int, int]]()

    def show(caption: str, frames: int, seed: int) -> NDArray[np.uint8]:
        asked.append((caption, frames, seed))
        return clips[caption]

    finder = Finder(BANK)
    found = follow(scenes, show, finder, 9.0, 4)
    assert asked == [(one.caption, 18, i) for i, one in enumerate(scenes)]
    drawn = follow(scenes, None, finder, 9.0, 4)
    assert found["own"] == drawn["own"] and list(drawn) == ["own"]
    assert share([*found["own"]]) > 0.85 > share([*found["shuffled"]]) + 0.15
    assert all(row.change > 0 and row.alike < 60 and row.seam and 0.3 < row.seam < 3 for row in found["own"])


def test_a_stream_that_stays_does_not_drift_and_one_that_changes_does() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 180, 4, 4, generator=generator)
    frames = np.random.default_rng(0).integers(0, 256, (720, 8, 8, 3), dtype=np.uint8)
    still = [*drift(frames, latents, 12)]
    assert [one.seconds for one in still] == [*AT]
    assert all(one.mean < 0.2 and one.spread < 0.2 and one.colors < 0.25 for one in still)
    frames[360:], latents[:, 90:] = 0, 3 * latents[:, 90:] + 2
    _, middle, late = drift(frames, latents, 12)
    assert middle == still[1] and late.mean == pytest.approx(2, abs=0.2)
    assert late.spread == pytest.approx(2, abs=0.2) and late.colors > 0.9


def test_a_short_stream_is_compared_as_far_as_it_goes() -> None:
    frames, latents = np.zeros((120, 2, 2, 3), np.uint8), torch.randn(1, 40, 2, 2)
    assert [one.seconds for one in drift(frames, latents, 12)] == [10.0]
    assert list(drift(frames[:60], latents[:, :20], 12)) == []
    assert isinstance(next(drift(frames, latents, 12, 1.0, (2.0,))), Drift)
