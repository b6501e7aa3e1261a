"""Clips go to the largest bucket that they fill, and every batch is of one of these."""

from collections import Counter
from itertools import islice, repeat

import pytest

from riverrun.models.training.buckets import Bucket, Slot, batches, slot

BUCKETS = (
    Bucket("144p", 51, 8),
    Bucket("240p", 51, 4),
    Bucket("240p", 102, 2),
    Bucket("480p", 51, 1),
    Bucket("240p", 1, 16),
)


def place(frames: int, height: int, width: int, *dice: float) -> tuple[str, int, tuple[int, int]] | None:
    found = slot(BUCKETS, frames, height, width, iter(dice or repeat(0.0)).__next__)
    return (found.bucket.resolution, found.bucket.frames, found.size) if found else None


@pytest.mark.parametrize(
    ("clip", "where"),
    [
        ((51, 240, 426), ("240p", 51, (240, 426))),
        ((101, 240, 426), ("240p", 51, (240, 426))),
        ((102, 240, 426), ("240p", 102, (240, 426))),
        ((400, 480, 854), ("480p", 51, (480, 854))),  # resolution before length
        ((60, 192, 426), ("240p", 51, (210, 490))),  # 0.8 of the pixels, and just so many
        ((60, 191, 426), ("144p", 51, (125, 291))),
        ((60, 426, 240), ("240p", 51, (426, 240))),
        ((60, 1080, 1080), ("480p", 51, (640, 640))),
        ((1, 2000, 3000), ("240p", 1, (262, 393))),
        ((1, 144, 256), None),  # a picture that is too small for its bucket
        ((50, 480, 854), None),  # too short: a video is no picture
        ((60, 100, 100), None),
    ],
)
def test_a_clip_goes_to_the_largest_bucket_that_it_fills(
    clip: tuple[int, int, int], where: tuple[str, int, tuple[int, int]] | None
) -> None:
    assert place(*clip) == where


def test_clips_that_a_bucket_does_not_keep_go_on_to_the_next() -> None:
    kept = (
        Bucket("480p", 51, 1, keep=0.2),
        Bucket("240p", 102, 1, keep=0.5),
        Bucket("144p", 51, 1, keep=0.9),
    )

    def found(*dice: float) -> str | None:
        made = slot(kept, 102, 480, 854, iter(dice).__next__)
        return made.bucket.resolution if made else None

    assert found(0.1) == "480p"
    assert found(0.3, 0.4) == "240p"
    assert found(0.3, 0.6, 0.8) == "144p"
    assert found(0.3, 0.6, 0.95) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("100p", 51, 1), "resolution is '100p'"),
        (("144p", 0, 1), "at least 1"),
        (("144p", 1, 1, 0.0), "keep"),
    ],
)
def test_buckets_out_of_bounds_are_refused(values: tuple[str, int, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Bucket(*values)


WIDE, HIGH = (Slot(BUCKETS[1], size) for size in ((240, 426), (426, 240)))
SLOTS = {WIDE: [f"w{i}" for i in range(10)], HIGH: ["h0", "h1", "h2"]}


def test_a_round_deals_all_clips_in_batches_of_one_slot() -> None:
    dealt = list(islice(batches(SLOTS, 1), 6))
    assert [number for number, _, _ in dealt] == list(range(6))
    for _, where, clips in dealt:
        assert len(clips) == {WIDE: 4, HIGH: 3}[where], "three are all there are"
        assert set(clips) <= set(SLOTS[where])
    seen = Counter(clip for _, _, clips in dealt for clip in clips)
    assert {seen[clip] for clip in SLOTS[HIGH]} == {2}, "two rounds"
    assert max(seen.values()) == 2 and sum(seen[clip] for clip in SLOTS[WIDE]) == 16
    later = Counter(clip for _, _, clips in islice(batches(SLOTS, 1), 60) for clip in clips)
    assert min(later[clip] for clip in SLOTS[WIDE]) > 10, (
        "what is left over in a round is another one each time"
    )


def test_batches_depend_on_seed_and_number_alone() -> None:
    whole = list(islice(batches(SLOTS, 1), 12))
    assert list(islice(batches(SLOTS, 1, start=5), 7)) == whole[5:]
    for process in range(2):
        assert list(islice(batches(SLOTS, 1, process, 2), 6)) == whole[process::2]
    assert list(islice(batches(SLOTS, 2), 12)) != whole
    with pytest.raises(ValueError, match="no clips"):
        next(batches({}, 1))
