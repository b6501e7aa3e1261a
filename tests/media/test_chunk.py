"""Cut, join and fade, for sound and pictures."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.media import Chunk, crossfade, cut, join, ramp


def sound(ticks: int, pts: int = 0) -> Chunk:
    return Chunk(
        np.random.default_rng(ticks).normal(size=(ticks, 2)).astype(np.float32), pts, 16_000, last=True
    )


@given(st.integers(0, 50), st.integers(-20, 20), st.data())
def test_what_is_cut_joins_again(ticks: int, pts: int, data: st.DataObject) -> None:
    whole = sound(ticks, pts)
    head, tail = cut(whole, data.draw(st.integers(pts, whole.end)))
    assert (head.last, tail.last, head.end, tail.end) == (False, True, tail.pts, whole.end)
    again = join([head, tail])
    assert np.array_equal(again.data, whole.data) and (again.pts, again.last) == (pts, True)


@pytest.mark.parametrize("tick", [-1, 11])
def test_a_cut_outside_is_refused(tick: int) -> None:
    with pytest.raises(ValueError, match=f"tick is {tick}"):
        cut(sound(10), tick)


def test_only_what_follows_on_joins() -> None:
    for second in (sound(5, 11), Chunk(sound(5).data, 10, 8_000)):
        with pytest.raises(ValueError, match="does not follow 10"):
            join([sound(10), second])
    with pytest.raises(ValueError, match="no chunk"):
        join([])


def test_a_fade_starts_with_the_old_and_ends_with_the_new() -> None:
    old, new = Chunk(np.ones((100, 1), np.float32), 0, 8_000), Chunk(-np.ones((100, 1), np.float32), 0, 8_000)
    mixed = crossfade(old, new).data[:, 0]
    assert mixed[0] > 0.99 and mixed[-1] < -0.99 and (np.diff(mixed) < 0).all()
    assert np.allclose(ramp(100) + ramp(100)[::-1], 1)


def test_pictures_fade_and_stay_bytes() -> None:
    dark, light = (Chunk(np.full((4, 2, 3, 3), v, np.uint8), 7, Fraction(30_000, 1001)) for v in (0, 200))
    mixed = crossfade(dark, light)
    assert mixed.data.dtype == np.uint8 and mixed.data[0].max() < 20 and mixed.data[-1].min() > 180
    assert mixed.seconds == pytest.approx(4 * 1001 / 30_000)


def test_chunks_of_other_ticks_do_not_fade() -> None:
    with pytest.raises(ValueError, match="cannot fade"):
        crossfade(sound(5), sound(5, 1))
