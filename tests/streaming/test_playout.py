"""Sound that waits to be heard: what comes out is what went in, at its ticks, until it is cleared."""

import numpy as np

from riverrun.media import Chunk
from riverrun.streaming.playout import FADE, Playout

RATE = 48_000


def chunk(start: int, count: int) -> Chunk:
    return Chunk(np.arange(start, start + count, dtype=np.float32)[:, None] / RATE, start, RATE)


def test_chunks_come_out_as_frames_of_any_length() -> None:
    out = Playout(RATE)
    for start in range(0, 3000, 100):
        out.put(chunk(start, 100))
    out.put(chunk(3000, 0))
    frames = [out.take(960) for _ in range(5)]
    assert [len(frame) for frame in frames] == [960, 960, 960, 120, 0]
    assert np.array_equal(np.concatenate(frames), chunk(0, 3000).data)
    assert out.waiting == 0 and out.tick == 3000


def test_what_is_cleared_fades_and_ticks_go_on() -> None:
    out = Playout(RATE)
    out.put(chunk(0, 48_000))
    heard = out.take(960)
    assert out.tick == 960
    start = out.clear()
    assert (start, out.tick, out.waiting) == (960 + FADE, 960, FADE)
    rest = out.take(960)
    assert len(rest) == FADE and abs(rest[0] - heard[-1]) < 1e-3 and abs(rest[-1]) < 1e-3
    assert out.tick == start and out.clear() == start, "nothing waits any more"
    out.put(chunk(start, 10))
    assert out.clear() == start + 10, "what is shorter than a fade is heard, fading"
