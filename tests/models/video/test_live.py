"""Published weights as a stream, by tiny networks: the same as whole clips, or as a queue moved as a whole."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riverrun.media import Chunk
from riverrun.models.checking import check_stream
from riverrun.models.errors import InvalidRequest
from riverrun.models.picture import pictured
from riverrun.models.shown import Shown
from riverrun.models.state import leaves
from riverrun.models.video import clips, rflow
from riverrun.models.video.caching import BRANCHES, PAB246, PIECES, Caching, teacache
from riverrun.models.video.clips import OpenSora, Request
from riverrun.models.video.fifo import Diagonal
from riverrun.models.video.live import LiveOpenSora
from riverrun.models.video.text import Read
from riverrun.models.video.vae import VideoVae
from tests.models.video.queues import stream
from tests.models.video.shows import show
from tests.models.video.small import small, stirred
from tests.models.video.test_clips import read
from tests.models.video.test_vae import SMALL

HOP = 9
USUAL = Request("-", frames=18, size=(17, 24), steps=2, carried=3, align=3)
SEA, STORM = "a calm sea", "a storm"
CACHED = {
    "pyramid": replace(PAB246, window=(0.0, 1000.0)),
    "residuals": Caching(0.5),
    "both": replace(PAB246, delta=0.3, window=(0.0, 1000.0)),
}
IDLE = {
    "a change that is always more": Caching(1e-30),
    "a window that is never met": Caching(0.0, cross=6, window=(-2.0, -1.0)),
}
Pictures = NDArray[np.uint8]


def parts(**changes: Any) -> OpenSora:
    """The same weights each time."""
    torch.manual_seed(0)
    made = stirred(VideoVae(SMALL))
    assert isinstance(made, VideoVae)
    return replace(OpenSora(small(), made, read), **changes)


@pytest.fixture(scope="module")
def model() -> LiveOpenSora:
    return LiveOpenSora(parts(), USUAL)


def begins(told: Sequence[Chunk]) -> list[int]:
    """The tick from which each prompt counts."""
    return [int(row) for chunk in told for row in chunk.data[:, 0]]


def near(made: Pictures, wanted: Pictures) -> bool:
    """Whether pictures are the same, but for one shade where rounding goes the other way."""
    return made.shape == wanted.shape and int(np.abs(made.astype(int) - wanted).max()) <= 1


@pytest.mark.parametrize("strength", [0.0, 6.0])
def test_it_keeps_the_promises(strength: float) -> None:
    picture = pictured(np.full((16, 24, 3), 90, np.uint8))
    requests = [
        Shown(SEA, 2.0),
        Shown(STORM, 1.6, seed=1, picture=picture),
        Shown(SEA, 1.0, seed=2, mode="fifo"),
        Shown(STORM, 1.2, seed=3, mode="fifo", picture=picture),
    ]
    report = check_stream(LiveOpenSora(parts(), replace(USUAL, strength=strength)), requests)
    assert report.max_difference < 1.01 / 255 and report.resumed == 0 and report.batch > 1


@pytest.mark.parametrize(("name", "strength"), [("pyramid", 6.0), ("residuals", 0.0), ("both", 6.0)])
def test_with_caching_it_keeps_them(name: str, strength: float) -> None:
    picture = pictured(np.full((16, 24, 3), 90, np.uint8))
    requests = [Shown(SEA, 1.1), Shown(STORM, 0.8, seed=1, picture=picture), Shown(SEA, 0.7, seed=2)]
    usual = replace(USUAL, strength=strength, steps=6, caching=CACHED[name])
    report = check_stream(LiveOpenSora(parts(), usual), requests)
    assert report.max_difference < 1.01 / 255 and report.resumed == 0 and report.batch > 1


@pytest.mark.parametrize("name", IDLE)
def test_where_nothing_is_taken_over_it_is_as_without_caching(name: str) -> None:
    usual, asked = replace(USUAL, steps=5), Shown(SEA, 1.5)
    plain, _ = show(LiveOpenSora(parts(), usual), asked)
    made, _ = show(LiveOpenSora(parts(), replace(usual, caching=IDLE[name])), asked)
    np.testing.assert_array_equal(made, plain)


@pytest.mark.parametrize("split", [False, True])
def test_a_loop_with_caching_is_the_clips_with_it(split: bool) -> None:
    request = replace(USUAL, prompt=SEA, loops=2, steps=6, caching=CACHED["both"], split=split)
    whole, plain = (
        np.concatenate([clips.shown(part) for part in parts().generate(asked)])
        for asked in (request, replace(request, caching=Caching()))
    )
    made, _ = show(LiveOpenSora(parts(), replace(request, prompt="-", loops=1)), Shown(SEA, len(whole) / 24))
    assert near(made, whole) and not near(made, plain)


@pytest.mark.parametrize("name", CACHED)
def test_a_clip_takes_nothing_over_from_the_one_before(name: str) -> None:
    """Its first evaluation is computed, what is remembered is forgotten after the last, and counts go on."""
    model = LiveOpenSora(parts(), replace(USUAL, steps=6, caching=CACHED[name]))
    state, plans = model.open(Shown(SEA)), list[list[str]]()
    with torch.inference_mode():
        while state["turn"][0] < 2:
            flows = state["phase"] == ["flow"]
            plans += [state["cache"]["plan"][0]] if flows else []
            _, state = model.step([None], state)
            cache = state["cache"]
            held = [cache["seen"], *(value for branch in BRANCHES for value in cache[branch].values())]
            if state["phase"] != ["flow"]:
                assert not any(value.numel() for value in held) and cache["age"] == [[0, 0, 0]]
    assert all(plans[6 * k] == plans[6 * k + 5] == [] for k in range(2))
    told = [piece for plan in plans for piece in plan]
    assert told and cache["counts"] == [{"evaluations": 12} | {piece: told.count(piece) for piece in PIECES}]


def test_there_is_no_caching_in_fifo() -> None:
    model = LiveOpenSora(parts(), replace(USUAL, caching=Caching(0.5)))
    assert model.spec.modes == ("loop",)
    with pytest.raises(InvalidRequest, match="mode is fifo with caching, expected loop, or no caching"):
        model.open(Shown(SEA, mode="fifo"))


@pytest.mark.parametrize("seed", [4, 2**63 - 2])
def test_a_loop_is_the_clips_that_go_on_from_each_other(model: LiveOpenSora, seed: int) -> None:
    request = replace(USUAL, prompt=f"|0|{SEA}|1|{STORM}", loops=3, seed=seed)
    whole = np.concatenate([clips.shown(part) for part in parts().generate(request)])
    made, _ = show(model, Shown(request.prompt, len(whole) / 24, seed=seed))
    assert len(made) == 18 + 2 * HOP and near(made, whole)


def test_a_first_picture_is_that_of_a_clip(model: LiveOpenSora) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    reference = clips.pixels(picture[None])
    whole = np.concatenate([clips.shown(part) for part in parts().generate(USUAL, [reference])])
    made, _ = show(model, Shown("-", 0.75, picture=pictured(picture)))
    assert near(made, whole)
    assert not near(show(model, Shown("-", 0.75))[0], made)


def test_fifo_moves_a_queue_from_a_clip_on_as_a_whole(model: LiveOpenSora) -> None:
    """Two partitions of six frames: twelve steps, those of the clip and those of each frame."""
    source, cut, asked = parts(), Diagonal(6, 2), replace(USUAL, prompt=SEA, steps=12, seed=5)
    told = source.read([asked.text(0)], "")[asked.text(0)]
    velocity = source.velocity(asked, told, split=False)
    shape = source.shape(asked)
    draw = rflow.draws([5], shape)
    base = rflow.sample(velocity, draw(rflow.START), source.times(asked), draw)
    frames = stream(
        lambda _: velocity, base, cut, rflow.draws([5], (4, 1, *shape[2:])), rflow.ratio((17, 24), 6), 3
    )
    whole = [clips.shown(source.vae.group(z, HOP)[0]) for z in islice(frames, 3)]
    made, _ = show(model, Shown(SEA, 27 / 24, steps=12, seed=5, mode="fifo"))
    assert near(made, np.concatenate(whole))


@pytest.mark.parametrize(("mode", "tick"), [("loop", 2 * HOP), ("fifo", HOP)])
def test_a_prompt_counts_from_what_is_made_next_and_changes_nothing_before(
    model: LiveOpenSora, mode: str, tick: int
) -> None:
    """The two groups of the first clip of a loop are made together."""
    plain, _ = show(model, Shown(SEA, 2.0, mode=mode))
    turned, told = show(model, Shown(SEA, 2.0, mode=mode), (HOP, Shown(STORM)))
    differs = np.flatnonzero((plain != turned).any(axis=(1, 2, 3)))
    assert begins(told) == [0, tick] and tick <= differs[0] < tick + HOP


def test_of_prompts_that_wait_the_last_one_counts(model: LiveOpenSora) -> None:
    once, _ = show(model, Shown(SEA, 2.0), (HOP, Shown(STORM)))
    made, told = show(model, Shown(SEA, 2.0), (HOP, Shown("a green sea")), (HOP, Shown(STORM)))
    np.testing.assert_array_equal(made, once)
    assert begins(told) == [0, 2 * HOP, 2 * HOP]


@pytest.mark.parametrize("mode", ["loop", "fifo"])
def test_it_goes_on_until_it_is_told_to_end_and_holds_no_more(model: LiveOpenSora, mode: str) -> None:
    made, told = show(model, Shown(SEA, mode=mode), (4 * HOP, Shown(end=True)))
    assert len(made) == 5 * HOP and told[-1].last
    state, held = model.open(Shown(SEA, mode=mode)), list[int]()
    with torch.inference_mode():
        while state["turn"][0] < 6:
            ((picture, _),), state = model.step([None], state)
            if picture is not None and state["phase"] == ["begin"]:
                held.append(sum(v.numel() for _, v in leaves(state) if isinstance(v, torch.Tensor)))
    assert len(set(held)) == 1


def test_each_step_runs_the_network_once(model: LiveOpenSora) -> None:
    runs = [0]
    count = parts()
    count.net.register_forward_hook(lambda *_: runs.__setitem__(0, runs[0] + 1))
    counted = LiveOpenSora(count, USUAL)
    for mode in ("loop", "fifo"):
        state = counted.open(Shown(SEA, mode=mode))
        for _ in range(60):
            before = runs[0]
            _, state = counted.step([None], state)
            assert runs[0] - before <= 1
    assert runs[0] > 60


def test_a_prompt_is_read_once_and_what_it_says_shared() -> None:
    asked = list[str]()

    def reader(texts: Sequence[str]) -> Read:
        asked.extend(texts)
        return read(texts)

    model = LiveOpenSora(parts(reader=reader), USUAL)
    for _ in range(2):
        show(model, Shown(SEA, 2.0), (HOP, Shown(STORM)))
    assert len(asked) == 2


def test_the_text_encoder_stays_where_there_is_room() -> None:
    kept = list[str]()

    def keep(texts: Sequence[str]) -> Read:
        kept.extend(texts)
        return read(texts)

    large = parts(reading=1 << 20)
    plan = large.plan(USUAL)
    most = max(plan.sampling, plan.decoding)
    for free, used in ((most + (1 << 20), True), (most + (1 << 20) - 1, False), (None, True)):
        kept.clear()
        show(LiveOpenSora(large, USUAL, free, keep), Shown(SEA, 0.3))
        assert bool(kept) is used
    with pytest.raises(InvalidRequest, match="the text encoder takes 1.0 MiB"):
        LiveOpenSora(large, USUAL, 1 << 19, keep)


def test_as_many_sessions_step_together_as_there_is_memory_for() -> None:
    long = replace(USUAL, frames=90, size=(64, 64))
    one = parts().plan(long)
    assert [LiveOpenSora(parts(), long, n * one.more).spec.max_batch for n in (1, 2, 8)] == [1, 2, 4]
    tight = LiveOpenSora(parts(), long, one.more - 1)
    assert tight.split and tight.spec.max_batch == 1
    cached = replace(long, caching=PAB246)
    most = parts().plan(cached).more
    assert [LiveOpenSora(parts(), cached, free).spec.max_batch for free in (most, 4 * one.more)] == [1, 1]


def test_presets_are_resolutions(model: LiveOpenSora) -> None:
    assert model.spec.gives[0].size == (16, 24) and model.spec.modes == ("loop", "fifo")
    large = model.at("360p")
    assert large.spec.gives[0].size == (360, 640) and large.usual.frames == USUAL.frames
    cached = model.at("240p-teacache-slow")
    assert (
        cached.usual == replace(USUAL, size=(240, 426), caching=teacache(0.1)) and "720p-pab" in model.presets
    )
    assert LiveOpenSora(parts(), replace(USUAL, fps=29.97)).spec.gives[0].rate == pytest.approx(29.97)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Shown(""), "prompt is empty"),
        (Shown("x" * 10_000), "10000 characters, expected up to 2000: shorten it"),
        (Shown(SEA, -1), "seconds is -1"),
        (Shown(SEA, steps=-1), "steps is -1, expected 1 to 1000"),
        (Shown(SEA, mode="causal"), "mode is 'causal', expected one of loop, fifo"),
        (Shown(SEA, mode="fifo", steps=8), "steps is 8, expected a multiple of 6 in mode fifo"),
        (Shown(SEA, picture=pictured(np.zeros((5, 5, 3), np.uint8))), "5 x 5 pixels, expected 16 x 24"),
    ],
)
def test_what_cannot_be_shown_is_refused(model: LiveOpenSora, request_: Shown, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        model.open(request_)


def test_clips_of_no_whole_groups_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="frames is 20, expected whole groups: a multiple of 9"):
        LiveOpenSora(parts(), replace(USUAL, frames=20))
    short = LiveOpenSora(parts(), replace(USUAL, frames=HOP))
    with pytest.raises(InvalidRequest, match="carried is 3 of 3 latent frames, expected fewer"):
        short.open(Shown(SEA))
    assert len(show(short, Shown(SEA, 0.75, mode="fifo"))[0]) == 2 * HOP


def test_a_bad_update_leaves_the_stream_as_it_was(model: LiveOpenSora) -> None:
    state = model.open(Shown(SEA, 1))
    before = dict(state)
    for update, why in (
        (Shown(STORM, picture="1x1:AAAA"), "after the first request"),
        (Shown("x" * 10_000), "10000 characters"),
    ):
        with pytest.raises(InvalidRequest, match=why):
            model.update(state, update)
    assert state == before
