"""Overlapping chunks become one stream without seams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.media import Chunk, join
from riverrun.streaming.overlap import Overlap


def windows(data: np.ndarray, lengths: list[int], extra: int) -> list[Chunk]:
    """Cut into lengths, each carrying `extra` ticks more of what follows."""
    starts = np.cumsum([0, *lengths])
    pairs = zip(starts, starts[1:], strict=False)
    return [Chunk(data[a : b + extra], int(a), 16_000, last=b == starts[-1]) for a, b in pairs]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 16))
def test_equal_overlaps_give_the_original(lengths: list[int], ticks: int) -> None:
    data = np.random.default_rng(0).normal(size=(sum(lengths) + ticks, 2)).astype(np.float32)
    overlap = Overlap(ticks)
    got = join([overlap.push(chunk) for chunk in windows(data, lengths, ticks)])
    assert got.last and np.allclose(got.data, data, atol=1e-6) and got.data.dtype == np.float32


def test_a_step_becomes_a_smooth_fade() -> None:
    overlap = Overlap(64)
    low = overlap.push(Chunk(np.zeros((164, 1), np.float32), 0, 16_000))
    high = overlap.push(Chunk(np.ones((164, 1), np.float32), 100, 16_000, last=True))
    got = join([low, high]).data[:, 0]
    assert len(low) == 100 and len(got) == 264 and got[0] == 0 and got[-1] == 1
    assert np.all(np.diff(got) >= 0) and np.diff(got).max() < 0.03


def test_pictures_fade_too() -> None:
    overlap = Overlap(3)
    overlap.push(Chunk(np.zeros((5, 2, 2, 3), np.uint8), 0, 25))
    got = overlap.push(Chunk(np.full((4, 2, 2, 3), 200, np.uint8), 2, 25, last=True))
    assert got.data.dtype == np.uint8 and got.data[:, 0, 0, 0].tolist() == [13, 100, 187, 200]


def test_a_search_finds_the_phase() -> None:
    tone = np.sin(np.arange(2_000) * 2 * np.pi / 100).astype(np.float32)[:, None]
    overlap = Overlap(80, search=60)
    out = [overlap.push(Chunk(tone[: 500 + 140], 0, 16_000))]
    out.append(overlap.push(Chunk(tone[460 : 460 + 640], 500, 16_000, last=True)))  # 40 ticks behind
    got = join(out).data[:, 0]
    assert len(got) == 500 + 640 - 60 and np.abs(got - tone[: len(got), 0]).max() < 1e-5


def test_a_search_in_silence_moves_nothing() -> None:
    overlap = Overlap(8, search=4)
    overlap.push(Chunk(np.zeros((20, 1), np.float32), 0, 16_000))
    got = overlap.push(Chunk(np.zeros((20, 1), np.float32), 8, 16_000, last=True))
    assert (got.pts, len(got)) == (8, 16)


def test_chunks_that_cannot_overlap_are_refused() -> None:
    overlap = Overlap(8)
    with pytest.raises(ValueError, match="7 ticks, expected 8"):
        overlap.push(Chunk(np.zeros((7, 1), np.float32), 0, 16_000))
    overlap.push(Chunk(np.zeros((20, 1), np.float32), 0, 16_000))
    with pytest.raises(ValueError, match="tick 20, expected 12"):
        overlap.push(Chunk(np.zeros((20, 1), np.float32), 20, 16_000))
    with pytest.raises(ValueError, match="expected >= 1"):
        Overlap(0)
