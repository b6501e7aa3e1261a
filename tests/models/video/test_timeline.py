"""Frames one chunk at a time, with a memory of earlier ones, are what all frames at once are."""

import pytest
import torch
from torch import Tensor

from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.timeline import Memory, Timeline, causal, forced
from tests.models.video.small import drawn, small

FRAMES, CHUNK, SIZE = 10, 2, (32.0, 48.0)


@pytest.fixture(scope="module")
def model() -> STDiT3:
    return small()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return drawn(2, 4, FRAMES, 4, 6)


TIME = torch.linspace(50, 950, 2 * FRAMES).unflatten(0, (2, FRAMES))  # each frame has its own


def told(model: STDiT3) -> tuple[dict[str, Tensor], Tensor, tuple[float, float]]:
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    return model.read(drawn(2, 6, 12), mask), torch.tensor([24.0, 12.0]), SIZE


def by_chunks(
    model: STDiT3, x: Tensor, time: Tensor, window: int | None, sink: int, shift: int = 0
) -> Tensor:
    """What a stream does: each chunk reads the chunks that are kept, then is kept itself."""
    made, memory, at = [], None, torch.zeros(0, dtype=torch.long)
    for i, start in enumerate(range(0, FRAMES, CHUNK)):
        chunk = slice(start, start + CHUNK)
        positions = torch.cat([at, torch.arange(start, start + CHUNK)])
        timeline = Timeline(positions + shift, None, memory, remember=True)
        y, new = model(x[:, :, chunk], time[:, chunk], *told(model), timeline=timeline)
        made.append(y)
        memory = memory.then(new) if memory else new
        first = 0 if window is None else i + 2 - window  # the oldest chunk the next one sees
        kept = (positions // CHUNK >= first) | (positions // CHUNK < sink)
        memory, at = memory.keep(kept.nonzero().flatten()), positions[kept]
    return torch.cat(made, dim=2)


@pytest.mark.parametrize("sink", [0, 1, 2])
@pytest.mark.parametrize("window", [None, 1, 2, 3])
def test_chunks_with_a_memory_are_the_whole_with_a_mask(
    model: STDiT3, x: Tensor, window: int | None, sink: int
) -> None:
    mask = causal(FRAMES, CHUNK, window, sink)
    whole, _ = model(x, TIME, *told(model), timeline=Timeline(torch.arange(FRAMES), mask))
    torch.testing.assert_close(by_chunks(model, x, TIME, window, sink), whole, atol=1e-5, rtol=0)


def test_what_a_mask_hides_changes_nothing(model: STDiT3, x: Tensor) -> None:
    timeline = Timeline(torch.arange(FRAMES), causal(FRAMES, CHUNK))
    before, _ = model(x, TIME, *told(model), timeline=timeline)
    changed = x.clone()
    changed[:, :, 6:] += 1
    after, _ = model(changed, TIME, *told(model), timeline=timeline)
    torch.testing.assert_close(after[:, :, :6], before[:, :, :6], atol=1e-6, rtol=0)
    assert (after[:, :, 6:] - before[:, :, 6:]).abs().max() > 0.01


@pytest.mark.parametrize("shift", [-7, 1000])
def test_only_differences_of_positions_count(model: STDiT3, x: Tensor, shift: int) -> None:
    at = torch.arange(FRAMES)
    plain, _ = model(x, TIME, *told(model))
    moved, _ = model(x, TIME, *told(model), timeline=Timeline(at + shift))
    spread, _ = model(x, TIME, *told(model), timeline=Timeline(2 * at))
    torch.testing.assert_close(moved, plain, atol=2e-5, rtol=0)
    assert (spread - plain).abs().max() > 1e-3
    chunks = by_chunks(model, x, TIME, 2, 1)
    torch.testing.assert_close(by_chunks(model, x, TIME, 2, 1, shift), chunks, atol=2e-5, rtol=0)


def test_training_on_both_at_once_is_streaming_on_a_clean_memory(model: STDiT3, x: Tensor) -> None:
    """Clean and noisy frames in one forward: a noisy chunk is what it is after clean chunks in a memory."""
    at, clean = torch.arange(FRAMES), drawn(2, 4, FRAMES, 4, 6, seed=5)
    both = Timeline(torch.cat([at, at]), forced(FRAMES, CHUNK, 3, 1))
    time = torch.cat([torch.zeros_like(TIME), TIME], dim=1)
    trained, _ = model(torch.cat([clean, x], dim=2), time, *told(model), timeline=both)
    mask = causal(FRAMES, CHUNK, 3, 1)
    remembered = Timeline(at, mask, remember=True)
    _, memory = model(clean, torch.zeros_like(TIME), *told(model), timeline=remembered)
    for start in range(0, FRAMES, CHUNK):
        chunk, seen = slice(start, start + CHUNK), mask[start, :].nonzero().flatten()
        past = seen[seen < start]
        timeline = Timeline(torch.cat([past, at[chunk]]), None, memory.keep(past))
        y, nothing = model(x[:, :, chunk], TIME[:, chunk], *told(model), timeline=timeline)
        torch.testing.assert_close(y, trained[:, :, FRAMES:][:, :, chunk], atol=1e-5, rtol=0)
        assert nothing is None


def test_sessions_may_see_different_frames(model: STDiT3, x: Tensor) -> None:
    """A mask for each session: one remembers less than the other, and is as if it had been alone."""
    _, memory = model(
        x[:, :, :4], TIME[:, :4], *told(model), timeline=Timeline(torch.arange(4), remember=True)
    )
    mask = torch.ones(2, 2, 6, dtype=torch.bool)
    mask[1, :, :2] = False
    pair = Timeline(torch.arange(6), mask, memory)
    y, _ = model(x[:, :, 4:6], TIME[:, 4:6], *told(model), timeline=pair)
    less = Timeline(torch.arange(2, 6), None, memory.keep(slice(2, None)))
    alone, _ = model(x[:, :, 4:6], TIME[:, 4:6], *told(model), timeline=less)
    torch.testing.assert_close(y[1], alone[1], atol=1e-5, rtol=0)
    assert (y[0] - alone[0]).abs().max() > 1e-3


def test_a_timeline_of_other_frames_is_refused(model: STDiT3, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"positions \(9,\), expected one for each of 10 frames"):
        model(x, TIME, *told(model), timeline=Timeline(torch.arange(9)))
    wrong = Timeline(torch.arange(10), torch.ones(10, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask \(10, 9\), expected one of \(10, 10\)"):
        model(x, TIME, *told(model), timeline=wrong)
    memory = Memory(torch.zeros(2, 2, 6, 2, 4, 16), torch.zeros(2, 2, 6, 2, 4, 16))
    with pytest.raises(ValueError, match="each of 14 frames"):
        model(x, TIME, *told(model), timeline=Timeline(torch.arange(10), None, memory))
