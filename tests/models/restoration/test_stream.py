"""Restoration as sessions: streamed equals offline, sessions do not touch each other, controls act when they say."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from riverrun.media import Chunk
from riverrun.models import MODELS, CheckpointError, InvalidRequest, for_task, load
from riverrun.models.checking import check_stream
from riverrun.models.checkpoint import on_meta, parameters
from riverrun.models.flow import COMPOSITE5, RK38, Tableau, _column, euler
from riverrun.models.registry import RESTORATION
from riverrun.models.restoration import phase, spectrum, stream, tasks
from riverrun.models.restoration.backbone import BackboneConfig
from riverrun.models.restoration.frame import FrameStep
from riverrun.models.restoration.network import Config, Restorer, compress
from riverrun.models.restoration.presets import PRESETS
from riverrun.models.restoration.spectrum import to_real
from riverrun.models.restoration.stream import Request, Restoration
from riverrun.models.restoration.tableau import LearnedTableau, clipped
from riverrun.models.state import State, stack, unstack
from tests.models.restoration.test_backbone import random

TINY = BackboneConfig(inputs=2, width=8, multipliers=(1, 2), blocks=1, patch=4)
PUBLISHED = BackboneConfig(inputs=2, width=8)


Audio = NDArray[np.float32]


def make(preset: str, tableau: Tableau | None = None, shape: BackboneConfig = TINY) -> Restoration:
    """A preset with random networks of a small width."""
    config = PRESETS[preset]
    small: dict[str, Any] = {
        name: replace(shape, inputs=net.inputs, outputs=net.outputs, bins=net.bins, timed=net.timed)
        for name in ("predictor", "flow")
        if (net := getattr(config, name))
    }
    config = replace(config, **small, tableau=tableau or config.tableau)
    restorer = Restorer(config)
    for name in small:
        getattr(restorer, name).load_state_dict(random(small[name]).state_dict())
    return Restoration(restorer)


def speech(hops: int, hop: int = 256, seed: int = 0) -> Audio:
    """Noise with a slow swell.  # [hops * hop, 1]"""
    n = hops * hop
    swell = 0.1 + 0.1 * np.sin(np.arange(n) / 900)
    return (np.random.default_rng(seed).normal(size=n) * swell).astype(np.float32)[:, None]


def hops(model: Restoration, data: Audio, state: State, start: int = 0) -> tuple[Audio, State]:
    size, out = model.config.spectrum.hop, []
    for pts in range(0, len(data), size):
        ((chunk,),), state = model.step([Chunk(data[pts : pts + size], start + pts, 16_000)], state)
        assert chunk is not None and chunk.pts == start + pts - model.spec.latency
        out.append(chunk.data)
    return np.concatenate(out), state


@pytest.mark.parametrize("preset", PRESETS)
def test_streamed_equals_offline(preset: str) -> None:
    model = make(preset)
    data, request = speech(30, model.config.spectrum.hop), Request(seed=7)
    got, _ = hops(model, data, model.open(request))
    latency = model.spec.latency
    wanted = model.whole(data, request)
    assert np.abs(got[latency:] - wanted[: len(got) - latency]).max() < 1e-5


@pytest.mark.parametrize("preset", PRESETS)
def test_check_stream_passes_for_every_preset(preset: str) -> None:
    requests = [Request(seed=1), Request(strength=0.4, seed=2), Request(bypass=True)]
    report = check_stream(make(preset), requests, hops=12)
    assert report.whole is not None and report.batch == 3


@pytest.mark.parametrize("name", [entry.name for entry in MODELS.values() if entry.family == RESTORATION])
def test_check_stream_passes_for_the_weights_that_ship(name: str) -> None:
    report = check_stream(load(name), [Request(seed=1), Request(seed=2)], hops=24)
    assert report.whole is not None and report.whole < 1e-5


@pytest.mark.parametrize(
    ("tableau", "net"),
    [(euler(1), TINY), (clipped(RK38), TINY), (COMPOSITE5, PUBLISHED)],
    ids=["1", "4", "5, published topology"],
)
def test_streamed_equals_offline_for_over_2000_frames(tableau: Tableau, net: BackboneConfig) -> None:
    """All frames from the first that is whole; each stage looks back 110 frames, so state decides throughout."""
    model = make("stream-fm-dereverb", tableau, net)
    data = speech(2_060)
    got, _ = hops(model, data, model.open(Request()))
    wanted = model.whole(data, Request())
    assert np.abs(got[256:] - wanted[:-256]).max() < 1e-5


def test_stages_that_share_a_state_are_wrong() -> None:
    model = make("stream-fm-dereverb")
    data, state = speech(30), model.open(Request())
    state["flow"] = dict.fromkeys(state["flow"], state["flow"]["0"])
    got, _ = hops(model, data, state)
    assert np.abs(got[256:] - model.whole(data, Request())[:-256]).max() > 1e-2


def test_a_session_in_a_batch_is_the_session_alone() -> None:
    model = make("restore-lite")
    inputs = [speech(12, seed=i) for i in range(3)]
    alone = [hops(model, x, model.open(Request(seed=i)))[0] for i, x in enumerate(inputs)]
    states = [model.open(Request(seed=i)) for i in range(3)]
    _, states[1] = hops(model, inputs[1][: 256 * 4], states[1])  # this one is four hops ahead
    state, rows = stack(states), []
    for k in range(8):
        chunks = [Chunk(x[256 * (k + a) :][:256], 0, 16_000) for x, a in zip(inputs, (0, 4, 0), strict=True)]
        outputs, state = model.step(chunks, state)
        rows.append([chunk.data for (chunk,) in outputs if chunk is not None])
    for i, ahead in enumerate((0, 4, 0)):
        together = np.concatenate([row[i] for row in rows])
        assert np.abs(together - alone[i][256 * ahead :][: len(together)]).max() < 1e-5
    assert len(unstack(state)) == 3


def test_equal_seeds_give_equal_sound_and_others_do_not() -> None:
    model = make("stream-fm-dereverb")
    data = speech(6)
    first, again, other = (hops(model, data, model.open(Request(seed=s)))[0] for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.allclose(first, other)


def test_strength_zero_and_bypass_are_the_input_delayed() -> None:
    model = make("restore-lite")
    data = speech(10)
    for request in (Request(strength=0), Request(bypass=True)):
        got, _ = hops(model, data, model.open(request))
        assert np.array_equal(got[256:], data[:-256])


def test_bypass_fades_over_one_hop_and_back() -> None:
    model = make("restore-lite")
    data = speech(12)
    wet, _ = hops(model, data, model.open(Request()))
    first, state = hops(model, data[: 256 * 4], model.open(Request()))
    state = model.update(state, Request(bypass=True))
    middle, state = hops(model, data[256 * 4 : 256 * 8], state, 256 * 4)
    state = model.update(state, Request())
    last, _ = hops(model, data[256 * 8 :], state, 256 * 8)
    assert np.array_equal(middle[256:], data[256 * 4 : 256 * 7])
    got = np.concatenate([first, middle, last])
    assert np.allclose(got[: 256 * 4], wet[: 256 * 4]) and np.allclose(
        got[256 * 9 :], wet[256 * 9 :], atol=1e-5
    )
    fade, dry = got[256 * 4 : 256 * 5], data[256 * 3 : 256 * 4]
    between = (fade >= np.minimum(dry, wet[1024:1280]) - 1e-6) & (
        fade <= np.maximum(dry, wet[1024:1280]) + 1e-6
    )
    assert between.all() and abs(fade[0] - wet[1024]).max() < 1e-3 > abs(fade[-1] - dry[-1]).max()


@pytest.mark.parametrize("bad", [{"strength": 1.2}, {"strength": float("nan")}, {"seed": 2**63}])
def test_requests_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(bad))):
        Request(**bad)  # type: ignore[arg-type]


def test_a_running_session_keeps_its_seed() -> None:
    model = make("restore-lite")
    with pytest.raises(InvalidRequest, match="seed is 5"):
        model.update(model.open(Request(seed=4)), Request(seed=5))


def test_a_checkpoint_comes_back_with_its_config(tmp_path: Path) -> None:
    model = make("stream-fm-bandwidth")
    stream.save(tmp_path / "it.safetensors", model.restorer)
    again = load(str(tmp_path / "it.safetensors"))
    assert isinstance(again, Restoration) and again.config == model.config
    data = speech(8)
    before, after = (hops(m, data, m.open(Request()))[0] for m in (model, again))
    assert np.abs(before - after).max() < 2e-2  # matrices are stored as float16


def test_a_checkpoint_that_does_not_fit_says_why(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load(str(path))
    path.write_bytes(b"PK\x03\x04 a zip, say")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(str(path))
    model = make("restore-lite")
    wider = replace(model.config, flow=replace(TINY, inputs=3, width=12))
    model.restorer.config = wider
    stream.save(path, model.restorer)
    with pytest.raises(CheckpointError, match=r"flow.*expected"):
        load(str(path))
    model.restorer.config = replace(wider, flow=None)
    stream.save(path, model.restorer)
    with pytest.raises(CheckpointError, match="unexpected flow"):
        load(str(path))


@pytest.mark.parametrize("task", ["restore", "enhance", "dereverb", "codec", "bandwidth", "mel"])
def test_a_task_names_its_weights(task: str) -> None:
    assert for_task(task).endswith("-lite")


def test_a_task_without_weights_says_how_to_train_them() -> None:
    with pytest.raises(CheckpointError, match="riverrun train restoration"):
        for_task("phase")
    assert (for_task("mel"), for_task("speak")) == ("vocode-lite", "speak-lite")
    with pytest.raises(InvalidRequest, match="dereverb"):
        for_task("denoise")


@pytest.mark.parametrize(
    ("preset", "counts"),
    [
        ("stream-fm-enhance", (24_608_776, 27_899_528)),
        ("stream-fm-enhance-24ms", (24_608_776, 27_899_528)),
        ("stream-fm-dereverb", (27_895_944,)),
        ("stream-fm-codec", (27_895_944,)),
        ("stream-fm-bandwidth", (27_895_944,)),
        ("stream-fm-phase", (27_895_944,)),
        ("stream-fm-mel", (27_895_944,)),
    ],
)
def test_published_presets_have_the_published_sizes(preset: str, counts: tuple[int, ...]) -> None:
    model = on_meta(lambda: Restorer(PRESETS[preset]))
    nets = [getattr(model, name) for name in ("predictor", "flow")]
    assert tuple(parameters(net) for net in nets if net is not None) == counts


@pytest.mark.parametrize(("base", "free"), [(RK38, 9), (COMPOSITE5, 14)])
def test_a_learned_tableau_starts_at_its_base_and_stays_valid(base: Tableau, free: int) -> None:
    learned = LearnedTableau(base)
    start, wanted = learned.tableau(), clipped(base)
    assert start.c == pytest.approx(wanted.c, abs=1e-5)
    assert start.b == pytest.approx(wanted.b, abs=2e-3)
    for got, row in zip(start.a, wanted.a, strict=True):
        assert got == pytest.approx(row, abs=1e-4)
    with torch.no_grad():
        for parameter in learned.parameters():
            parameter.add_(torch.randn_like(parameter))
    moved = learned.tableau()
    assert max(moved.c) <= 0.85 + 1e-6 and min(moved.b) >= 0.05 - 1e-6 and list(moved.c) == sorted(moved.c)
    assert freedom(LearnedTableau(base).double()) == free


def freedom(learned: LearnedTableau) -> int:
    """In how many directions its tableau can move, with nodes short of their limit."""
    with torch.no_grad():
        learned.nodes.sub_(1)
        learned.rows.add_(0.3)
    values = torch.cat([v.flatten() for v in learned()])
    gradients = [torch.autograd.grad(v, list(learned.parameters()), retain_graph=True) for v in values]
    jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in gradients])
    return int(torch.linalg.matrix_rank(jacobian, rtol=1e-5))


def test_a_restorer_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="predictor, a flow"):
        Config("enhance")


class NoNewStorage(TorchDispatchMode):
    """Fails on any operation whose result does not lie in memory that was there before."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        given = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
        there = {v.untyped_storage().data_ptr() for v in given}
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in there:
                raise AssertionError(f"{func} allocated {tuple(result.shape)}")
        return results


@dataclass
class Watched:
    """A FrameStep whose calls may allocate nothing, and what it is given."""

    net: FrameStep
    calls: list[list[Tensor]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def __call__(self, frames: Sequence[Tensor], state: State, stage: int = 0) -> Tensor:
        self.calls.append([frame.clone() for frame in frames])
        with NoNewStorage():  # type: ignore[no-untyped-call]
            return self.net(frames, state, stage)


def watch(model: Restoration) -> tuple[Watched, Watched]:
    """Watch the networks of a model that has both."""
    assert model.predictor is not None and model.flow is not None
    watched = Watched(model.predictor), Watched(model.flow)
    model.predictor, model.flow = watched  # type: ignore[assignment]
    return watched


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("preset", ["restore-lite", "stream-fm-enhance"])
def test_the_networks_allocate_nothing_per_hop(preset: str, rank: int, batch: int) -> None:
    model = make(preset, shape=replace(TINY, width=32 if rank else 8, rank=rank))
    data, state = speech(3), stack([model.open(Request(seed=i)) for i in range(batch)])
    for k, pts in enumerate(range(0, len(data), 256)):
        if k == 1:
            predictor, flow = watch(model)
        _, state = model.step([Chunk(data[pts : pts + 256], pts, 16_000)] * batch, state)
    assert len(predictor.calls) == 2 and len(flow.calls) == 2 * model.config.tableau.stages


def test_the_flow_is_told_its_position_then_the_first_estimate_then_what_is_seen() -> None:
    model = make("stream-fm-enhance")
    hops(model, speech(1), model.open(Request()))
    predictor, flow = watch(model)
    hops(model, speech(1), model.open(Request()))
    ((seen,), (_, first, told)) = predictor.calls[0], flow.calls[0]
    assert torch.equal(told, seen) and not torch.allclose(first, seen)
    restorer, shown = model.restorer, list[Tensor]()
    assert restorer.flow is not None
    restorer.flow.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    x, estimate, heard = torch.randn(3, 1, 256, 2, dtype=torch.complex64)
    restorer.velocity(x, torch.zeros(1), restorer.conditions(heard, estimate))
    assert torch.equal(shown[0], to_real(x, estimate, heard))


def test_the_noise_of_a_stream_has_total_variance_1_in_every_bin() -> None:
    z = make("stream-fm-dereverb")._noise({"seed": [5] * 2000, "tick": list(range(2000))})[:, :, 0]
    assert z.shape == (2000, 256)
    assert float(z.abs().square().mean()) == pytest.approx(1, abs=0.01)
    assert float(z.real.square().mean()) == pytest.approx(0.5, abs=0.01)
    assert (z.abs().square().mean(0) - 1).abs().max() < 0.15


def forget() -> None:
    """Clear what is computed once."""
    for made in (spectrum.windows, phase._cover, tasks.mel_filters, tasks.mel_inverse, _column):
        made.cache_clear()


@pytest.mark.parametrize("preset", ["vocode-lite", "stream-fm-bandwidth"])
def test_training_goes_on_in_a_process_that_streams(preset: str) -> None:
    forget()
    model = make(preset)
    hops(model, speech(1), model.open(Request()))
    config = model.config
    x = torch.randn(1, 1024, requires_grad=True)
    compressed, _ = spectrum.analyse(config.spectrum, x)
    seen, _ = tasks.observe(config, compressed)
    begun = config.path.begin(seen, torch.randn_like(seen).requires_grad_())
    spectrum.synthesise(config.spectrum, begun)[0].sum().backward()
    assert x.grad is not None and x.grad.any()


@pytest.mark.parametrize("rank", [1, 4])
def test_a_compressed_restorer_streams_and_comes_back(rank: int, tmp_path: Path) -> None:
    dense = make("restore-lite", shape=replace(TINY, width=32))
    small = compress(dense.restorer, rank)
    assert parameters(small) < parameters(dense.restorer) and not small.training
    assert small.config.flow is not None and small.config.flow.rank == rank
    assert dense.config.flow is not None and dense.config.flow.rank == 0
    stream.save(tmp_path / "it.safetensors", small)
    again = load(str(tmp_path / "it.safetensors"))
    assert isinstance(again, Restoration) and again.config == small.config
    check_stream(again, [Request(seed=1)], hops=6)
    with pytest.raises(ValueError, match=f"net of rank {rank}"):
        compress(small, 1)
