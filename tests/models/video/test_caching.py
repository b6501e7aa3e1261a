"""Feature caching: exact where it does nothing, counted where it does, and streams keep their promises with it."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from riverrun.models.checking import check_stream
from riverrun.models.picture import pictured
from riverrun.models.shown import Shown
from riverrun.models.state import State
from riverrun.models.video import caching, rflow
from riverrun.models.video.blocks import Block
from riverrun.models.video.caching import BRANCHES, PAB246, PIECES, Caching, Reuse, relative, teacache
from riverrun.models.video.lite import ShowLite
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.timeline import Timeline
from tests.models.video.shows import net, show
from tests.models.video.small import drawn, small

SIZE, FPS, STEPS = (40.0, 56.0), torch.tensor([24.0]), 9
ALWAYS = (0.0, 1000.0)
IDLE = {
    "nothing": Caching(),
    "a delta of nothing": replace(PAB246, spatial=1, temporal=1, cross=1, delta=0.0),
    "a change that is always more": Caching(1e-30),
    "a window that is never met": replace(PAB246, window=(2000.0, 2001.0)),
}


@pytest.fixture(scope="module")
def model() -> STDiT3:
    torch.manual_seed(0)
    return small()


def clip(
    model: STDiT3, setting: Caching | None, strength: float = 2.0, mask: Tensor | None = None
) -> tuple[Tensor, dict[str, int]]:
    """A whole clip, and the counts; without a setting, by the sampler that knows of none."""
    x, captions = drawn(1, 4, 3, 4, 6), drawn(1, 6, 12)
    led, unled = (model.read(captions, dropped=torch.tensor([dropped])) for dropped in (False, True))
    velocity, times = rflow.guided(model, led, unled, FPS, SIZE, strength), rflow.grid(STEPS, 1.5)
    if setting is None:
        return rflow.sample(velocity, x, times, lambda step: drawn(1, 4, 3, 4, 6, seed=step), mask), {}
    branches = BRANCHES if strength else BRANCHES[:1]
    made, cache = caching.sample(
        setting,
        model,
        velocity,
        x,
        times,
        lambda step: drawn(1, 4, 3, 4, 6, seed=step),
        FPS,
        SIZE,
        branches,
        mask,
    )
    return made, cache["counts"][0]


@pytest.mark.parametrize("strength", [0.0, 2.0])
@pytest.mark.parametrize("name", IDLE)
def test_where_nothing_is_taken_over_all_is_as_without(model: STDiT3, name: str, strength: float) -> None:
    made, counts = clip(model, IDLE[name], strength)
    assert torch.equal(made, clip(model, None, strength)[0])
    assert counts == {"evaluations": STEPS, "blocks": 0, "spatial": 0, "temporal": 0, "cross": 0}


def calls(model: STDiT3, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often parts of the first pair of blocks are computed from now on."""
    first, second = model.spatial_blocks[0], model.temporal_blocks[0]
    assert isinstance(first, Block) and isinstance(second, Block)
    parts: dict[str, Any] = {"spatial": first.attn.proj, "temporal": second.attn.proj}
    parts |= {"cross": first.cross_attn.proj, "blocks": first.mlp}
    found = dict.fromkeys(parts, 0)
    for name, part in parts.items():

        def forward(x: Tensor, name: str = name, run: Any = part.forward) -> Tensor:
            found[name] += 1
            made: Tensor = run(x)
            return made

        monkeypatch.setattr(part, "forward", forward)
    return found


def test_attention_is_taken_over_as_often_as_told(model: STDiT3, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = calls(model, monkeypatch)
    made, counts = clip(model, replace(PAB246, window=ALWAYS))
    taken = {
        "spatial": [1, 3, 5, 7],
        "temporal": [1, 2, 3, 5, 6, 7],
        "cross": [1, 2, 3, 4, 5, 7],
    }  # of 0 to 8
    assert counts == {"evaluations": 9, "blocks": 0} | {kind: len(at) for kind, at in taken.items()}
    assert computed == {"blocks": 9} | {kind: 9 - len(at) for kind, at in taken.items()}
    plain, _ = clip(model, None)
    assert 0 < (made - plain).norm() < 0.5 * plain.norm()


def test_outside_of_its_window_attention_is_computed(model: STDiT3) -> None:
    times = rflow.grid(STEPS, 1.5)[:-1]
    _, counts = clip(model, Caching(temporal=STEPS, window=(times[5], times[2])))
    assert counts["temporal"] == 4 and counts["spatial"] == counts["cross"] == 0


def test_blocks_are_left_out_while_their_input_hardly_changes(
    model: STDiT3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accumulated change is what the definition says, of the inputs that were met."""
    inputs: list[Tensor] = []
    look = model.look

    def seen(*args: Any) -> Tensor:
        inputs.append(look(*args))
        return inputs[-1]

    monkeypatch.setattr(model, "look", seen)
    computed = calls(model, monkeypatch)
    setting = Caching(2.0, (2.0, 0.1))
    _, counts = clip(model, setting)
    assert len(inputs) == STEPS - 1  # the last one is computed in any case
    total, skipped = 0.0, 0
    for before, now in pairwise(inputs):
        total += 2 * float((now - before).abs().sum() / before.abs().sum()) + 0.1
        skipped += total < 2
        total = total if total < 2 else 0.0
    assert counts["blocks"] == skipped and 1 < skipped < STEPS - 2
    assert computed["blocks"] == STEPS - skipped


def test_the_first_and_the_last_evaluation_are_computed(model: STDiT3) -> None:
    _, counts = clip(model, Caching(1e9))
    assert counts["blocks"] == STEPS - 2
    _, both = clip(model, replace(PAB246, delta=1e9, window=ALWAYS))
    assert both["blocks"] == STEPS - 2 and both["cross"] == 0


def test_the_published_settings_are_there() -> None:
    assert PAB246.reach == (2, 4, 6) and teacache(0.1).kept == {"blocks"} and teacache(0.1).reach == (1, 1, 1)


def test_frames_that_are_known_do_not_count() -> None:
    before = drawn(2, 3, 4, 8)
    now = before.clone()
    now[:, 0] += 100
    now[:, 1:] *= 1.5
    noisy = torch.tensor([[False, True, True], [True, False, False]])
    found = relative(now, before, noisy)
    assert found[0] == pytest.approx(0.5, abs=1e-5) and found[1] > 10
    assert relative(now, before, torch.zeros(2, 3, dtype=torch.bool)) == [0.0, 0.0]


def test_known_frames_stay_and_others_are_made_with_less(model: STDiT3) -> None:
    mask = torch.tensor([[0.0, 1.0, 1.0]])
    made, counts = clip(model, Caching(1.0), mask=mask)
    plain, _ = clip(model, None, mask=mask)
    assert torch.equal(made[:, :, 0], plain[:, :, 0]) and 0 < counts["blocks"] < STEPS - 2
    assert not torch.equal(made, plain)
    assert torch.equal(clip(model, Caching(1e-30), mask=mask)[0], plain)


@pytest.mark.parametrize("setting", [Caching(1e9), Caching(cross=STEPS, window=ALWAYS)])
def test_nothing_is_taken_over_where_frames_begin_to_be_changed(model: STDiT3, setting: Caching) -> None:
    """What was made of them before was made of what is not noise yet."""
    _, counts = clip(model, setting)
    _, fewer = clip(model, setting, mask=torch.tensor([[1.0, 0.7, 0.4]]))
    (piece,) = setting.kept
    assert (counts[piece], fewer[piece]) == (STEPS - 2, STEPS - 4)


def test_branches_of_guidance_are_kept_apart(model: STDiT3) -> None:
    """What two branches do in one call is what each does by itself."""
    setting = replace(PAB246, delta=1.0, window=ALWAYS)
    captions = model.read(drawn(2, 6, 12))
    x = drawn(1, 4, 3, 4, 6)

    def run(rows: slice, branches: tuple[str, ...], plans: list[list[str]]) -> tuple[Tensor, State]:
        cache = caching.start(x, branches)
        words = {name: value[rows] for name, value in captions.items()}
        for n, plan in enumerate(plans):
            many = (x * (1 - n / 10)).repeat(len(branches), 1, 1, 1, 1)
            time, fps = torch.full((len(many),), 900.0 - 100 * n), FPS.repeat(len(many))
            made, cache = caching.evaluate(
                setting,
                {**cache, "plan": [plan]},
                lambda reuse, y=many, t=time, r=fps: model(y, t, words, r, SIZE, reuse=reuse)[0],  # type: ignore[misc]
                branches,
            )
        return made, cache

    plans = [[], ["spatial", "temporal"], ["blocks"]]
    made, cache = run(slice(None), BRANCHES, plans)
    for i, name in enumerate(BRANCHES):
        alone, own = run(slice(i, i + 1), (name,), plans)
        torch.testing.assert_close(made[i], alone[0], atol=1e-5, rtol=0)
        for piece, value in own[name].items():
            torch.testing.assert_close(cache[name][piece], value, atol=1e-5, rtol=0)
    assert not torch.equal(cache["led"]["blocks"], cache["unled"]["blocks"])


def test_frames_to_be_remembered_are_computed(model: STDiT3) -> None:
    when = Timeline(torch.arange(3), remember=True)
    x, words = drawn(1, 4, 3, 4, 6), model.read(drawn(1, 6, 12))
    reuse = Reuse(frozenset({"blocks"}), ["blocks"], {"blocks": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"to be remembered and \['blocks'\] taken over"):
        model(x, torch.zeros(1), words, FPS, SIZE, timeline=when, reuse=reuse)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"delta": -1.0}, "delta is -1"),
        ({"delta": float("nan")}, "delta is nan"),
        ({"polynomial": ()}, "expected a number of at least 0"),
        ({"cross": 0}, r"serves for \(1, 1, 0\) evaluations"),
        ({"window": (900.0, 100.0)}, r"window is \(900.0, 100.0\)"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Caching(**values)


# In a stream

STREAMED = {
    "pyramid": replace(PAB246, window=ALWAYS),
    "residuals": Caching(0.5),
    "both": replace(PAB246, delta=0.3, window=ALWAYS),
}


@pytest.mark.parametrize("name", IDLE)
def test_a_stream_is_as_without(name: str) -> None:
    tiny = net(steps=5)
    plain, _ = show(ShowLite(tiny), Shown("a red ball", 1.5))
    made, _ = show(ShowLite(tiny, caching=IDLE[name]), Shown("a red ball", 1.5))
    np.testing.assert_array_equal(made, plain)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_keeps_the_promises(name: str, guidance: float) -> None:
    requests = [
        Shown("a red ball rolls left", 1.5),
        Shown("the cat falls", 0.75, seed=1),
        Shown("a green cat", 1.4, seed=2, picture=pictured(np.full((16, 24, 3), 90, np.uint8))),
    ]
    report = check_stream(ShowLite(net(steps=6, guidance=guidance, caching=STREAMED[name])), requests)
    assert report.max_difference < 1.01 / 255 and report.resumed == 0 and report.batch > 1


@pytest.mark.parametrize("name", STREAMED)
def test_a_chunk_takes_nothing_over_from_the_one_before(name: str) -> None:
    """Its first evaluation is computed, what is remembered is forgotten after the last, and counts go on."""
    model = ShowLite(net(steps=6, guidance=3.0), caching=STREAMED[name])
    state, plans, counts = model.open(Shown("a red ball")), list[list[str]](), list[dict[str, int]]()
    with torch.inference_mode():
        for _ in range(3 * (6 + 3)):
            plans += [state["cache"]["plan"][0]] if 1 <= state["phase"][0] <= 6 else []
            ((made, _),), state = model.step([None], state)
            if made is not None:
                counts.append(state["cache"]["counts"][0])
                cache = state["cache"]
                held = [cache["seen"], *(value for branch in BRANCHES for value in cache[branch].values())]
                assert not any(value.numel() for value in held) and cache["age"] == [[0, 0, 0]]
    assert all(plans[6 * k] == plans[6 * k + 5] == [] for k in range(3))
    told = [name for plan in plans for name in plan]
    assert told and counts[-1] == {"evaluations": 18} | {piece: told.count(piece) for piece in PIECES}


def test_sessions_share_a_step_only_if_they_compute_the_same() -> None:
    model = ShowLite(net(steps=4), caching=Caching(0.5))
    state = model.open(Shown("a red ball"))
    with torch.inference_mode():
        for _ in range(2):
            _, state = model.step([None], state)
    planned = {**state, "cache": {**state["cache"], "plan": [["blocks"]]}}
    other = {**state, "cache": {**state["cache"], "plan": [[]]}}
    assert model.key(planned) != model.key(other) and model.key(state) in (
        model.key(planned),
        model.key(other),
    )


def test_a_file_of_weights_holds_the_setting(tmp_path: Any) -> None:
    from riverrun.models.video import lite

    lite.save(tmp_path / "show.safetensors", net(caching=STREAMED["both"]))
    assert lite.load(tmp_path / "show.safetensors").caching == STREAMED["both"]
