"""A chunk after chunks that are clean: the same from what was remembered as from the whole clip."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from riverrun.models.speech.chunks import ChunkConfig, ChunkDit
from riverrun.models.state import State, stack

TINY = ChunkConfig(12, 6, 16, 3, 2, 2.0, chunk=4, past=8, reads=2, hears=1, pool=2)
FRAMES = 18


@pytest.fixture(scope="module")
def dit() -> ChunkDit:
    torch.manual_seed(0)
    made = ChunkDit(TINY).requires_grad_(False).eval()
    for value in made.parameters():
        value.add_(0.2 * torch.randn_like(value))  # what begins at zero, too
    return made


def clip(batch: int = 1, seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    latents, said = (batch, FRAMES, TINY.latent), (batch, FRAMES, TINY.width)
    made = {"x": torch.randn(latents), "clean": torch.randn(latents), "said": torch.randn(said)}
    return {
        **{name: value for name, value in made.items()},
        "time": torch.rand(batch, 2, FRAMES),
    }


def voice(dit: ChunkDit, seed: int = 2, frames: int = 7) -> State:
    torch.manual_seed(seed)
    return dit.hear(torch.randn(1, 8, TINY.latent), torch.arange(8)[None] < frames)


@given(phase=st.integers(0, TINY.chunk - 1))
@settings(max_examples=4)
def test_what_is_remembered_says_as_much_as_the_clip(dit: ChunkDit, phase: int) -> None:
    made, told = clip(), voice(dit)
    whole = dit.whole(**made, voice=told, frames=torch.ones(1, FRAMES, dtype=torch.bool), phase=phase)
    past, parts = dit.start(1), []
    edges = sorted({0, *range(phase, FRAMES, TINY.chunk), FRAMES})
    for start, stop in zip(edges, edges[1:], strict=False):
        cut = {name: value[:, start:stop] for name, value in made.items() if name != "time"}
        before, now = made["time"][:, 0, start:stop], made["time"][:, 1, start:stop]
        parts.append(dit(cut["x"], now, cut["said"], told, past))
        past = dit.after(cut["clean"], before, cut["said"], told, past)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)
    assert past["filled"] == [TINY.past]


def test_a_row_is_as_if_alone_whatever_is_beside_it(dit: ChunkDit) -> None:
    """One has just begun and hears a short voice, the other has a past."""
    one, two = clip(seed=3), clip(seed=4)
    voices, pasts = [voice(dit, 5, 2), voice(dit, 6)], [dit.start(1), dit.start(1)]
    pasts[1] = dit.after(one["clean"], one["time"][:, 0], one["said"], voices[1], pasts[1])
    alone = [
        (dit(*(args := (made["x"], made["time"][:, 1], made["said"], told, past))), dit.after(*args))
        for made, told, past in zip((one, two), voices, pasts, strict=True)
    ]
    made = {name: torch.cat([one[name], two[name]]) for name in one}
    args = made["x"], made["time"][:, 1], made["said"], stack(voices), stack(pasts)
    velocity, past = dit(*args), dit.after(*args)
    for i, (wanted, remembered) in enumerate(alone):
        assert torch.allclose(velocity[i], wanted[0], atol=1e-5)
        assert torch.allclose(past["keys"][i], remembered["keys"][0], atol=1e-5)
        assert past["filled"][i] == remembered["filled"][0]


def test_no_chunk_sees_what_comes_after_it(dit: ChunkDit) -> None:
    made, told = clip(), voice(dit)
    frames = torch.ones(1, FRAMES, dtype=torch.bool)
    before = dit.whole(**made, voice=told, frames=frames, phase=0)
    for name in ("x", "clean", "said"):
        made[name][:, 8:] += 1
    after = dit.whole(**made, voice=told, frames=frames, phase=0)
    assert torch.equal(before[:, :8], after[:, :8]) and not torch.allclose(before[:, 8:], after[:, 8:])


def test_a_voice_changes_what_is_said_and_padding_of_it_does_not(dit: ChunkDit) -> None:
    made = clip()
    heard = torch.randn(1, 6, TINY.latent)
    longer = torch.nn.functional.pad(heard, (0, 0, 0, 4), value=9.0)
    told = dit.hear(heard, torch.ones(1, 6, dtype=torch.bool))
    padded = dit.hear(longer, torch.arange(10)[None] < 6)
    nobody = dit.hear(heard, torch.zeros(1, 6, dtype=torch.bool))
    one, same, other = (
        dit(made["x"], made["time"][:, 0], made["said"], v, dit.start(1)) for v in (told, padded, nobody)
    )
    assert torch.allclose(one, same, atol=1e-5) and not torch.allclose(one, other, atol=1e-3)
    assert torch.isfinite(other).all()


def test_a_symbol_is_seen_so_far_and_padding_is_nothing(dit: ChunkDit) -> None:
    symbols = torch.randint(1, TINY.symbols, (1, 30))
    features = dit.reader(symbols)
    changed = symbols.clone()
    changed[0, 15] = changed[0, 15] % (TINY.symbols - 1) + 1
    differs = (dit.reader(changed) - features).abs().amax(2)[0].nonzero().flatten()
    assert (int(differs.min()), int(differs.max())) == (15 - TINY.reach, 15 + TINY.reach)
    longer = torch.nn.functional.pad(symbols, (0, 9))
    assert torch.allclose(dit.reader(longer)[:, :30], features, atol=1e-5)
    mean = torch.zeros(1, TINY.width)
    times = dit.reader.durations(longer, dit.reader(longer), mean)[:, :30]
    assert torch.allclose(times, dit.reader.durations(symbols, features, mean), atol=1e-5)


def test_frames_have_the_features_of_their_symbol_and_know_where_in_it_they_are(dit: ChunkDit) -> None:
    features = dit.reader(torch.tensor([[3, 4]]))
    owner = torch.tensor([[0, 0, 1, -1]])
    share, length = (
        torch.tensor([[0.25, 0.75, 0.5, 0.0]]),
        torch.tensor([[2.0, 2.0, 1.0, 0.0]]),
    )
    said = dit.reader.spread(features, owner, share, length)
    assert not torch.allclose(said[0, 0], said[0, 1]) and not said[0, 3].any()
    step = dit.reader.place.weight @ torch.tensor([-0.5, 0.5, 0.0])
    assert torch.allclose(said[0, 0] - said[0, 1], step, atol=1e-6)


def test_shapes_that_cannot_be_are_refused() -> None:
    for change, why in (
        ({"heads": 3}, "does not divide"),
        ({"chunk": 0}, "not positive"),
        ({"past": -1}, "not positive"),
    ):
        with pytest.raises(ValueError, match=why):
            replace(TINY, **change)
