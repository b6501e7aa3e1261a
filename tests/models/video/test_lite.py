"""What shows pictures of a prompt keeps the promises of a stream, follows prompts, and ends where it is told to."""

from pathlib import Path

import numpy as np
import pytest
import torch

from riverrun.media import Chunk, join
from riverrun.models.checking import check_stream
from riverrun.models.errors import CheckpointError, InvalidRequest
from riverrun.models.picture import pictured
from riverrun.models.shown import Shown
from riverrun.models.video import causal, lite
from riverrun.models.video.lite import FEWER, ShowLite
from tests.models.video.shows import net, show

HOP, RATE = 9, 12


@pytest.fixture(scope="module")
def model() -> ShowLite:
    return ShowLite(net())


@pytest.mark.parametrize(("guidance", "alike"), [(1.0, 0.0), (3.0, 0.5)])
def test_it_keeps_the_promises(guidance: float, alike: float) -> None:
    requests = [
        Shown("a red ball rolls left", 2.2),
        Shown("the cat falls", 1.0, seed=1),
        Shown("a green cat", 1.4, seed=2, picture=pictured(np.full((16, 24, 3), 90, np.uint8))),
    ]
    report = check_stream(ShowLite(net(guidance=guidance, alike=alike)), requests)
    assert report.max_difference < 1.01 / 255 and report.resumed == 0 and report.batch > 1


@pytest.mark.parametrize(("seconds", "frames"), [(0.75, 9), (0.5, 6), (2.0, 24), (1 / 12, 1)])
def test_a_clip_has_as_many_frames_as_asked_for(model: ShowLite, seconds: float, frames: int) -> None:
    made, told = show(model, Shown("a red ball", seconds))
    assert made.shape == (frames, 16, 24, 3)
    assert [float(c.data[0, 0]) for c in told if len(c)] == [0] and told[-1].last


def test_a_prompt_counts_from_the_next_chunk_on_and_changes_nothing_before(model: ShowLite) -> None:
    plain, _ = show(model, Shown("a red ball", 3.0))
    changed, told = show(model, Shown("a red ball", 3.0), (HOP, Shown("the blue cat falls")))
    differs = np.flatnonzero((plain != changed).any(axis=(1, 2, 3)))
    begins = [(chunk.pts + i, int(row[0])) for chunk in told for i, row in enumerate(chunk.data)]
    assert begins == [(0, 0), (1, HOP)] and differs[0] == HOP


def test_of_prompts_that_wait_the_last_one_counts(model: ShowLite) -> None:
    last, _ = show(model, Shown("a red ball", 3.0), (HOP, Shown("the blue cat falls")))
    floods = [(HOP, Shown("a green ball")), (HOP, Shown("the blue cat falls"))]
    state = model.open(Shown("a red ball", 3.0))
    made, told = list[Chunk](), list[Chunk]()
    with torch.inference_mode():
        while not made or not made[-1].last:
            ((picture, times),), state = model.step([None], state)
            made += [picture] if picture is not None else []
            told += [times] if times is not None else []
            if picture is not None and picture.end == HOP:
                for _, request in floods:
                    state = model.update(state, request)
    np.testing.assert_array_equal(join(made).data, last)
    assert [row for chunk in told for row in chunk.data[:, 0]] == [0, HOP, HOP]


def test_a_slow_machine_makes_chunks_in_few_steps_until_it_is_quick_again(model: ShowLite) -> None:
    state, counts = model.open(Shown("a red ball", 3.75, steps=6)), [0]
    rungs = {3: 1, 10: 2, 22: 0}  # while a chunk is made, whose steps stay
    with torch.inference_mode():
        for turn in range(100):
            if turn in rungs:
                state = model.lighten(state, rungs[turn])
            counts[-1] += 0 < state["phase"][0] <= state["steps"][0]
            ((picture, _),), state = model.step([None], state)
            if picture is not None and picture.last:
                break
            counts += [0] if picture is not None else []
    assert counts == [6, *FEWER, FEWER[-1], 6]


def test_without_seconds_it_goes_on_until_it_is_told_to_end(model: ShowLite) -> None:
    made, _ = show(model, Shown("a red ball"), (5 * HOP, Shown(end=True)))
    assert len(made) == 6 * HOP


def test_seeds_and_words_count(model: ShowLite) -> None:
    ball, _ = show(model, Shown("a red ball", 0.75))
    again, _ = show(model, Shown("A red ball!", 0.75))
    other, _ = show(model, Shown("a red ball", 0.75, seed=1))
    cat, _ = show(model, Shown("a red cat", 0.75))
    np.testing.assert_array_equal(ball, again)
    assert (ball != other).any() and (ball != cat).any()


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_frames_begin_alike_as_far_as_is_said(alike: float) -> None:
    model = ShowLite(net(alike=alike))
    state, begun = model.open(Shown("a red ball", 6.0, seed=3)), list[torch.Tensor]()
    with torch.inference_mode():
        while len(begun) < 6:
            if state["phase"][0] == 0:
                _, state = model.step([None], state)
                begun += [state["x"][0].clone()]
            else:
                _, state = model.step([None], state)
    frames = torch.cat(begun, 1).transpose(0, 1).flatten(1)
    likeness = torch.corrcoef(frames)
    others = likeness[~torch.eye(len(frames), dtype=torch.bool)]
    assert float(others.mean()) == pytest.approx(alike, abs=0.1) and 0.8 < float(frames.std()) < 1.2


def test_the_first_latent_of_a_picture_stays_what_it_is(model: ShowLite) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    with torch.inference_mode():
        frame = torch.from_numpy(picture).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
        latent = model.net.vae.encode(frame)[:, :, 0]
        for steps in (1, 3):
            state = model.open(Shown("a red ball", steps=steps, picture=pictured(picture)))
            for _ in range(1 + steps):
                _, state = model.step([None], state)
            assert torch.equal(state["x"][:, :, 0], latent)
            for _ in range(3 + steps):
                _, state = model.step([None], state)
            assert not torch.equal(state["x"][:, :, 0], latent)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Shown(""), "prompt is empty"),
        (Shown("  \n"), "prompt is empty"),
        (Shown("x" * 10_000), "10000 characters, expected up to 1000: shorten it"),
        (Shown("quantum entanglement"), "no word of it is known: expected some such as a, ball"),
        (Shown("a red ball", -1), "seconds is -1"),
        (Shown("a red ball", float("nan")), "seconds is nan"),
        (Shown("a red ball", 1e9), "seconds is 1000000000.0, expected 0"),
        (Shown("a red ball", 1, steps=-2), "steps is -2, expected 1 to 100"),
        (Shown("a red ball", 1, mode="loop"), "mode is 'loop', expected one of causal"),
        (
            Shown("a red ball", 1, picture=pictured(np.zeros((5, 5, 3), np.uint8))),
            "5 x 5 pixels, expected 16 x 24",
        ),
        (Shown("a red ball", 1, picture="nonsense"), "begins with 'nonsense'"),
    ],
)
def test_what_cannot_be_shown_is_refused(model: ShowLite, request_: Shown, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        model.open(request_)


@pytest.mark.parametrize(
    ("update", "why"),
    [
        (Shown("quantum entanglement"), "no word of it is known"),
        (Shown("a ball", picture=pictured(np.zeros((16, 24, 3), np.uint8))), "after the first request"),
        (Shown("x" * 10_000), "10000 characters"),
    ],
)
def test_a_bad_update_leaves_the_stream_as_it_was(model: ShowLite, update: Shown, why: str) -> None:
    state = model.open(Shown("a red ball", 1))
    before = dict(state)
    with pytest.raises(InvalidRequest, match=why):
        model.update(state, update)
    assert state == before


def test_words_are_known_in_other_forms(model: ShowLite) -> None:
    encode = model.vocabulary.encode
    assert encode("Balls rolling, falling", 9) == encode("ball rolls falls", 9)
    assert encode("a greeen ball", 9) == encode("a green ball", 9)
    assert encode("a purple elephant ball", 9) == encode("a ball", 9)


@pytest.mark.parametrize(("recent", "sink"), [(6, 3), (9, 0), (3, 0), (0, 3)])
def test_what_is_remembered_stays_within_the_window(recent: int, sink: int) -> None:
    made = net(window=causal.Window(recent, sink))
    past = causal.start(made.dit, 1, made.places)
    words = made.read(torch.tensor([[1, 2]]))
    kept = []
    for k in range(6):
        x = torch.full((1, *made.latent), float(k))
        _, fresh = made.velocity(x, torch.zeros(1, 3), words, past, remember=True)
        assert fresh is not None
        past = causal.commit(past, fresh, made.config.window)
        kept.append(past["keys"].shape[4])
        if k == 0:
            first = past["keys"].clone()
    assert kept[-1] == recent + sink
    if sink:
        assert torch.equal(past["keys"][..., :sink, :], first[..., :sink, :])


def test_a_stream_shows_the_same_however_long_ago_it_began(model: ShowLite) -> None:
    """Positions are of the window, so that hour-long streams are no other than short ones."""
    state = model.open(Shown("a red ball"))
    shapes = set()
    with torch.inference_mode():
        for _ in range(12 * 5):
            _, state = model.step([None], state)
            shapes.add(state["past"]["keys"].shape[4])
    assert max(shapes) == 9


def test_weights_come_back_as_they_were(tmp_path: Path, model: ShowLite) -> None:
    lite.save(tmp_path / "show.safetensors", model.net)
    again = lite.load(tmp_path / "show.safetensors")
    assert again.config == model.config
    made, _ = show(again, Shown("a red ball", 0.75))
    plain, _ = show(model, Shown("a red ball", 0.75))
    assert np.abs(made.astype(int) - plain).max() <= 8  # float16


def test_weights_of_something_else_are_refused(tmp_path: Path, model: ShowLite) -> None:
    from riverrun.models import checkpoint

    checkpoint.save(tmp_path / "x.safetensors", model.net.vae, "autoencoder", model.config.vae)
    with pytest.raises(CheckpointError, match="expected a checkpoint of kind 'video'"):
        lite.load(tmp_path / "x.safetensors")
