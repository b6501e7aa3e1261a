"""Conversion as people use it: gate, gain, and restoration if asked for, then another voice, in one session."""

import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from riverrun.models import CheckpointError, load, registry
from riverrun.models.checking import check_stream
from riverrun.models.errors import InvalidRequest
from riverrun.models.recording import recorded
from riverrun.models.restoration.stream import Restoration
from riverrun.models.state import State
from riverrun.models.voice import lite, live, windows
from riverrun.models.voice.live import LiveConverter, Request, WindowsRequest
from riverrun.models.voice.windows import Conversion, Windows
from riverrun.models.voice.xvc import XVc
from riverrun.streaming.handle import build
from tests.models.toys import stream
from tests.models.voice.chained import HOP, RATE, converter, noise, words

PLAIN, CLEAN = "plain", "clean"


@pytest.fixture(scope="module")
def models() -> dict[str, LiveConverter]:
    restorer = load("restore-lite")
    assert isinstance(restorer, Restoration)
    return {PLAIN: LiveConverter(converter()), CLEAN: LiveConverter(converter(), restorer)}


def test_it_is_a_stream_as_every_model_is(models: dict[str, LiveConverter]) -> None:
    requests = [Request(), Request(bypass=True), Request(pitch=3.0, gate=-100, gain=False, clean=0.5)]
    for model in models.values():
        report = check_stream(model, requests, hops=14)
        assert report.max_difference < 1e-5 and report.batch > 1


def test_what_it_costs_in_time_is_fixed_and_told(models: dict[str, LiveConverter]) -> None:
    delays = {name: (model.spec.latency + HOP) / RATE for name, model in models.items()}
    assert delays == {PLAIN: 0.125, CLEAN: 0.1575}
    assert all(model.spec.voices == ("anna",) for model in models.values())


def test_a_client_may_send_all_of_it() -> None:
    assert set(asdict(lite.Request())) < {f.name for f in fields(Request)}
    values: dict[str, Any] = {
        "voice": "anna",
        "pitch": 2,
        "gate": -40,
        "gain": False,
        "clean": 0.5,
        "bypass": True,
    }
    assert build(Request, values) == Request("anna", pitch=2, gate=-40, gain=False, clean=0.5, bypass=True)


@pytest.mark.parametrize("name", [PLAIN, CLEAN])
def test_nothing_is_heard_of_it_in_silence(models: dict[str, LiveConverter], name: str) -> None:
    """Its converter sounds whatever it is given; of noise, a restorer leaves less than opens the gate."""
    sound = noise(40, -40.0 if name == CLEAN else -65.0)
    assert not stream(models[name], sound, Request()).any()
    assert stream(models[name], sound, Request(gate=-100))[10 * HOP :].any()
    assert stream(models[name], words(40), Request()).any()


@pytest.mark.parametrize("name", [PLAIN, CLEAN])
def test_bypass_is_the_input_as_late_as_what_is_converted(
    models: dict[str, LiveConverter], name: str
) -> None:
    sound, model = words(40), models[name]
    through, on = Request(bypass=True), Request()
    assert np.array_equal(stream(model, sound, through), sound)
    there_and_back = stream(model, sound, on, {14: through, 28: on})
    at, back = (hop * HOP - model.spec.latency for hop in (14, 28))
    converted = stream(model, sound, on)
    assert np.array_equal(there_and_back[:at], converted[:at])
    assert np.array_equal(there_and_back[at + HOP : back], sound[at + HOP : back])
    assert np.array_equal(there_and_back[back + HOP :], converted[back + HOP :])
    steps = max(np.abs(np.diff(one)).max() for one in (sound, converted))
    assert np.abs(np.diff(there_and_back)).max() <= 1.2 * steps


def test_each_stage_changes_what_is_heard(models: dict[str, LiveConverter]) -> None:
    sound, base = words(30, -35.0) + noise(30, -45.0), Request(gate=-100)
    usual = stream(models[CLEAN], sound, base)
    changes: dict[str, Any] = {"clean": 0.0, "gain": False, "gate": -30.0, "pitch": 4.0, "seed": 2}
    for name, value in changes.items():
        other = stream(models[CLEAN], sound, replace(base, **{name: value}))
        assert not np.allclose(usual, other, atol=1e-3), name


def test_clean_says_how_much_is_restored(models: dict[str, LiveConverter]) -> None:
    sound, late = words(30, -30.0) + noise(30, -40.0), models[CLEAN].spec.latency - models[PLAIN].spec.latency
    untouched = stream(models[CLEAN], sound, Request(clean=0.0))
    delayed = stream(models[PLAIN], np.pad(sound, (late, 0))[: len(sound)], Request())[late:]
    known = len(delayed) - models[PLAIN].spec.latency
    assert np.array_equal(untouched[:known], delayed[:known]), "as it came, so as without a restorer"
    restored = [stream(models[CLEAN], sound, Request(clean=share)) for share in (0.5, 1.0)]
    assert not np.allclose(restored[0], untouched, atol=1e-3)
    assert not np.allclose(restored[0], restored[1], atol=1e-3)


def test_settings_change_in_a_running_session(models: dict[str, LiveConverter]) -> None:
    sound, model = words(30, -35.0), models[CLEAN]
    whole = stream(model, sound, Request())
    other = stream(model, sound, Request(), {15: Request(pitch=4.0, clean=0.0)})
    at = 15 * HOP - model.spec.latency
    assert np.array_equal(whole[:at], other[:at]) and not np.allclose(whole[at:], other[at:], atol=1e-3)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"clean": 1.5}, r"clean is 1\.5, expected 0 \(as it came\) to 1"),
        ({"gate": 1.0}, r"gate is 1\.0 dB of full scale, expected -100"),
        ({"pitch": 13.0}, "pitch is 13"),
        ({"voice": "ben"}, "voice is 'ben', expected one of anna"),
        ({"seed": 2}, "seed is 2; a running session keeps 0"),
    ],
)
def test_what_cannot_be_is_refused(
    models: dict[str, LiveConverter], values: dict[str, Any], why: str
) -> None:
    model = models[PLAIN]
    state: State = model.open(Request())
    with pytest.raises(InvalidRequest, match=why):
        model.update(state, Request(**values))


WINDOWS = Windows(480, hop=60, future=40, smooth=20)


def heard(seed: int, **values: Any) -> WindowsRequest:
    """A request of X-VC, in the voice of half a second of something."""
    sound = 0.1 * np.random.default_rng(seed).standard_normal(8_000)
    return WindowsRequest(recording=recorded(sound.astype(np.float32)), **values)


def test_x_vc_goes_behind_the_same_and_is_a_stream_as_every_model_is(net: XVc) -> None:
    model = LiveConverter(Conversion(net, WINDOWS))
    assert model.spec.latency + model.spec.gives[0].hop == 16 * (WINDOWS.latency + 5)
    report = check_stream(
        model, [heard(0), heard(1, gate=-100.0, gain=False), heard(2, bypass=True)], hops=14
    )
    assert report.max_difference < 1e-5 and report.batch > 1
    assert model.at("cpu").spec.latency + model.at("cpu").spec.gives[0].hop == 16 * 365


def test_x_vc_hears_no_rumble_and_is_passed_by_untouched(net: XVc) -> None:
    model, hop = LiveConverter(Conversion(net, WINDOWS)), 960
    t = np.arange(20 * hop) / 16_000
    sound = (0.1 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)
    low = sound + (0.2 * np.sin(2 * np.pi * 4 * t)).astype(np.float32)
    plain = heard(0, gate=-100.0, gain=False)
    assert np.array_equal(stream(model, low, replace(plain, bypass=True)), low)
    asked = windows.Request(plain.recording)
    alone, behind = (
        [stream(one, one_sound, request) for one_sound in (sound, low)]
        for one, request in ((model.converter, asked), (model, plain))
    )
    away = [float(np.linalg.norm(one - other)) for one, other in (alone, behind)]
    assert away[1] < 0.5 * away[0], "what a window tells of it is gone"


def test_what_x_vc_cannot_do_is_refused_with_the_request() -> None:
    for values, why in (({"pitch": 1.0}, "cannot move it"), ({"voice": "anna"}, "knows none by name")):
        with pytest.raises(InvalidRequest, match=why):
            WindowsRequest(**values)


def test_it_is_loaded_by_name_from_the_weights_it_is_made_of(
    models: dict[str, LiveConverter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = registry.Entry("both", live.__name__, ("convert",), "", parts=("voices", "restore-lite"))
    shutil.copy(registry.MODELS["restore-lite"].path, tmp_path)
    monkeypatch.setattr(registry, "files", lambda _: tmp_path)
    monkeypatch.setitem(registry.MODELS, "both", entry)
    with pytest.raises(CheckpointError, match=r"weights of both are not in this installation \(voices"):
        load("both")
    made = converter()
    lite.save(entry.path, made.net, made.voices)
    assert load("both").spec == models[CLEAN].spec
    assert live.load(entry.path).spec == models[PLAIN].spec
