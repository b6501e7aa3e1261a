"""Frames without end: a queue cut into windows, what each sees, and that a clip is the case of equal times."""

from collections.abc import Callable
from itertools import islice, pairwise

import pytest
import torch
from torch import Tensor

from riverrun.models.video import fifo, rflow
from riverrun.models.video.fifo import Diagonal, Queue
from riverrun.models.video.rflow import Velocities
from tests.models.memory import peak
from tests.models.video.queues import advance, stream
from tests.models.video.small import drawn, small

SIZE, SHAPE = (32.0, 48.0), (4, 1, 4, 6)
NET = small()


def velocity(seed: int = 1) -> Velocities:
    """Guided by a prompt."""
    told, nothing = NET.read(drawn(1, 6, 12, seed=seed)), NET.read(drawn(1, 6, 12, seed=99))
    return rflow.guided(NET, told, nothing, torch.tensor([24.0]), SIZE, 2.0)


def base(window: int) -> Tensor:
    return drawn(1, 4, window, 4, 6, seed=2)


def draw(frame: int) -> Tensor:
    return rflow.draws([5], SHAPE)(frame)


def frames(cut: Diagonal, groups: int, told: Callable[[int], Velocities]) -> Tensor:
    made = islice(stream(told, base(cut.window), cut, draw, 0.7, 2), groups)
    return torch.cat(list(made), dim=2)


def test_one_partition_at_equal_times_is_the_sampler() -> None:
    cut, x = Diagonal(6, 1), drawn(1, 4, 6, 4, 6)
    times, guided = rflow.grid(5, 0.7), velocity()
    whole = rflow.sample(guided, x, times, draw)
    for time, until in pairwise(times):
        now, then = torch.full((6,), time), torch.full((6,), until)
        x = advance(guided, Queue(x, x[:, :, :0]), now, then, cut)
    torch.testing.assert_close(x, whole, atol=1e-5, rtol=0)


def test_each_frame_goes_through_all_times_from_noise() -> None:
    """Where the velocity is that towards a known clip, every frame that comes is of it."""
    cut = Diagonal(4, 3)
    now, until = fifo.times(cut, 0.7)
    assert now[-1] == 1000 and until[0] == 0 and torch.equal(now[:-1], until[1:])

    def towards(x: Tensor, time: float | Tensor, noisy: Tensor | None) -> Tensor:
        assert isinstance(time, Tensor) and x.shape[2] == len(time) == cut.window
        return (0.25 - x) / (time / 1000)[None, None, :, None, None]

    made = frames(cut, 10, lambda _: towards)
    torch.testing.assert_close(made, torch.full_like(made, 0.25), atol=1e-4, rtol=0)


def test_windows_share_nothing_and_looking_ahead_they_do() -> None:
    x, changed = drawn(1, 4, 12, 4, 6), drawn(1, 4, 12, 4, 6)
    changed[:, :, 3] += 1
    for ahead, seen in ((False, range(0, 4)), (True, range(2, 6))):
        cut = Diagonal(4, 3, ahead)
        now, _ = fifo.times(cut)
        past = drawn(1, 4, cut.past, 4, 6, seed=8)
        plain, other = (
            advance(velocity(), Queue(frames, past), now, now - 1, cut) for frames in (x, changed)
        )
        moved = (plain - other).abs().amax((0, 1, 3, 4)) > 1e-6
        assert moved.nonzero().flatten().tolist() == list(seen)


@pytest.mark.parametrize("ahead", [False, True])
def test_another_prompt_reaches_the_tail_at_once(ahead: bool) -> None:
    cut = Diagonal(4, 2, ahead)
    now, until = fifo.times(cut)
    queue = fifo.start(base(4), cut, now, draw)
    made = [advance(velocity(s), queue, now, until, cut) for s in (1, 2)]
    (_, one), (_, other) = (fifo.shift(queue, frames, draw(cut.slots)) for frames in made)
    differ = (one.frames - other.frames).abs().amax((0, 1, 3, 4))
    assert differ[:-1].min() > 1e-5 and differ[-1] == 0  # the last is the noise that came
    same, new = (frames(cut, 4, lambda i, s=s: velocity(s if i >= 4 + 3 else 1)) for s in (1, 2))  # type: ignore[misc]
    assert torch.equal(same[:, :, :3], new[:, :, :3]) and (same - new)[:, :, 3:].abs().max() > 1e-5


def test_a_long_queue_takes_no_more_memory_by_the_hour() -> None:
    guided = velocity()

    def run(cut: Diagonal, groups: int) -> int:
        def all_of_it() -> None:
            for _ in islice(stream(lambda _: guided, base(4), cut, draw, 1.0, 2), groups):
                pass

        return peak(all_of_it)

    short, long = run(Diagonal(4, 2), 2), run(Diagonal(4, 2), 12)
    assert long <= short
    wide = run(Diagonal(4, 6), 2) - short  # only the queue is longer: no forward is
    assert wide < 12 * 16 * (4 * 4 * 6 * 4)  # some copies of 16 more slots, of as many bytes


@pytest.mark.parametrize("values", [(0, 1), (4, 0), (5, 2, True)])
def test_what_cannot_be_cut_is_refused(values: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected a window and partitions of at least 1"):
        Diagonal(*values)
