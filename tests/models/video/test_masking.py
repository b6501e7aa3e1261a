"""Frames that are known in training."""

import numpy as np
import pytest

from riverrun.models.video.masking import EARLY, LATE, Kind, draw, noisy

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("kind", EARLY)
@pytest.mark.parametrize("frames", [2, 3, 15])
def test_some_frames_are_known_and_some_are_not(kind: Kind, frames: int) -> None:
    for _ in range(20):
        mask = noisy(frames, kind, RANDOM)
        assert mask.shape == (frames,) and mask.any()
        assert frames < 4 or not mask.all() or kind == "random"


def test_where_known_frames_lie() -> None:
    assert noisy(6, "image_head", RANDOM).tolist() == [False] + [True] * 5
    assert noisy(6, "image_head_tail", RANDOM).tolist() == [False, True, True, True, True, False]
    assert noisy(6, "image_random", RANDOM).sum() == 5
    for _ in range(20):
        mask = noisy(16, "quarter_tail", RANDOM)
        known = int((~mask).sum())
        assert 1 <= known <= 4 and not mask[16 - known :].any()
        run = np.flatnonzero(~noisy(16, "quarter_random", RANDOM))
        assert len(run) <= 4 and run[-1] - run[0] + 1 == len(run)
        every = noisy(16, "interpolate", RANDOM)
        assert every.sum() == 8 and (every[:-1] != every[1:]).all()


@pytest.mark.parametrize(("shares", "known"), [(EARLY, 0.2), (LATE, 0.25)])
def test_how_often_frames_are_known(shares: dict[Kind, float], known: float) -> None:
    random = np.random.default_rng(3)
    drawn = [draw(15, shares, random).all() for _ in range(4000)]
    assert 1 - np.mean(drawn) == pytest.approx(known, abs=0.02)
    assert draw(1, shares, random).tolist() == [True]


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="known as \\['half'\\], expected random, interpolate"):
        draw(5, {"half": 0.5}, RANDOM)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="1 together at most"):
        draw(5, {"random": 0.7, "image_head": 0.4}, RANDOM)
