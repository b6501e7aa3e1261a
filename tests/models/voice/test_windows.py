"""Conversion by windows: what is saved changes nothing, sessions and cuts change nothing, and lengths are kept."""

import copy
from math import gcd

import numpy as np
import pytest
import torch
from torch import Tensor

from riverrun.media import Chunk
from riverrun.models import InvalidRequest, blend
from riverrun.models.blend import Blend
from riverrun.models.chain import Chain
from riverrun.models.checking import check_stream
from riverrun.models.recording import recorded as written
from riverrun.models.state import stack
from riverrun.models.voice import gain
from riverrun.models.voice import windows as module
from riverrun.models.voice.codec import CodecConfig
from riverrun.models.voice.gain import Gain
from riverrun.models.voice.windows import (
    PRESETS,
    WHOLE,
    Conversion,
    Request,
    Windows,
    by_windows,
    convert,
    faded,
    fades,
    recoded,
)
from riverrun.models.voice.xvc import XVc

SHORT = Windows(480, hop=60, future=40, smooth=20)  # its codes are worth keeping


def voice(seed: int, seconds: float, plain: bool = False) -> Request:
    """A recording of something like a voice; `plain` marks nothing."""
    rng, t = np.random.default_rng(seed), np.arange(int(16_000 * seconds)) / 16_000
    tones = sum(np.sin(2 * np.pi * f * t) for f in rng.uniform(100, 900, 4))
    return Request(
        written((0.1 * tones + 0.02 * rng.standard_normal(len(t))).astype(np.float32)),
        mark=not plain,
    )


def run(model: Conversion, sound: np.ndarray, state: dict) -> np.ndarray:  # type: ignore[type-arg]
    """A whole stream, trimmed to its input."""
    hop, latency = model.spec.gives[0].hop, model.spec.latency
    padded = np.pad(sound, (0, -len(sound) % hop + latency + -latency % hop))
    parts = []
    for at in range(0, len(padded), hop):
        chunk: Chunk | None = Chunk(padded[at : at + hop, None], at, 16_000)
        while True:
            ((out,),), state = model.step([chunk], state)
            if out is not None:
                break
            chunk = None
        parts.append(out.data[:, 0])
    return np.concatenate(parts)[latency:][: len(sound)]


@pytest.mark.parametrize(
    "windows",
    [SHORT, Windows(400, hop=100, future=0, smooth=0), Windows(320, hop=70, future=30, smooth=10)],
    ids=str,
)
def test_a_stream_is_its_windows_in_full_whatever_it_is_cut_and_shared_with(
    net: XVc, windows: Windows
) -> None:
    model = Conversion(net, windows)
    hops = 2 * windows.latency // (model.spec.gives[0].hop // 16) + 4
    report = check_stream(model, [voice(seed, 0.5 + seed / 10) for seed in range(3)], hops=hops)
    assert report.batch > 1 and report.whole is not None and report.whole < 1e-6


def test_the_published_streams_come_out_of_the_model_that_streams(
    net: XVc, recorded: dict[str, Tensor]
) -> None:
    source = recorded["stream_2400_120_100_20.in.source"][0, 0].numpy()
    told = net.hear(recorded["offline_chain.in.reference"][:, 0])
    for window, hop, future, smooth in ((2400, 120, 100, 20), (640, 160, 100, 20), (800, 200, 0, 0)):
        model = Conversion(net, Windows(window, hop, future, smooth))
        state = model.open(voice(0, 1.0, plain=True))
        here = torch.ones(1, told["c"].shape[1], dtype=torch.bool)
        state |= {"unheard": [""], "told": told, "here": here}
        made = run(model, source, state)
        name = f"stream_{window}_{hop}_{future}_{smooth}.out.wav"
        assert np.abs(made - recorded[name][0, 0].numpy()).max() < 1e-5


def test_latency_is_the_hop_and_what_lies_ahead(net: XVc) -> None:
    for windows in PRESETS.values():
        spec = Conversion(net, windows).spec
        assert spec.gives[0].hop + spec.latency == 16 * (windows.hop + windows.smooth + windows.future)
        assert spec.gives[0].hop == 16 * gcd(windows.hop, windows.smooth + windows.future)
    assert [w.latency for w in PRESETS.values()] == [240, 360, 180, 360]


def test_codes_that_are_kept_are_those_encoded_anew(net: XVc, recorded: dict[str, Tensor]) -> None:
    sound = recorded["acoustic_encoder.in.wav"][:, 0]
    sound = torch.cat([sound, sound.flip(1)], dim=1)
    for moved in (3, 6, 12):
        before, after = sound[:, :38_400], sound[:, moved * 320 :][:, :38_400]
        assert torch.equal(recoded(net, after, net.codes(before), moved), net.codes(after))


def test_frames_beyond_the_reach_of_encoder_and_decoder_do_not_count_and_those_within_do(net: XVc) -> None:
    heard, seen = CodecConfig().heard, CodecConfig().seen
    assert (heard, seen) == (8, 10)
    assert (net.config.codec.heard, net.config.codec.seen) == (heard, seen)
    sound = torch.randn(1, 1, 60 * 320, dtype=torch.float64)
    latents = torch.randn(1, 48, 60, dtype=torch.float64)
    encoder, decoder = (
        copy.deepcopy(net.acoustic_encoder).double(),
        copy.deepcopy(net.acoustic_decoder).double(),
    )
    for reach, same in ((heard, True), (heard - 1, False)):
        part = encoder(sound[..., (30 - reach) * 320 : (31 + reach) * 320])[..., reach]
        assert torch.allclose(part, encoder(sound)[..., 30], atol=1e-12, rtol=1e-12) is same
    for reach, same in ((seen, True), (seen - 1, False)):
        part = decoder(latents[..., 30 - reach : 31 + reach])[..., reach * 320 : (reach + 1) * 320]
        assert torch.allclose(part, decoder(latents)[..., 30 * 320 : 31 * 320], atol=1e-14, rtol=0) is same


def test_voices_of_unequal_length_share_a_step_and_stay_themselves(net: XVc) -> None:
    model = Conversion(net, SHORT)
    requests = [voice(0, 0.5), voice(1, 1.9), voice(2, 3.3)]
    states = [model.open(request) for request in requests]
    assert len({model.key(state) for state in states}) == 1
    sound = 0.1 * np.random.default_rng(0).standard_normal(9_600).astype(np.float32)
    alone = [run(model, sound, model.open(request)) for request in requests]
    state, hop, together = stack(states), model.spec.gives[0].hop, []
    padded = np.pad(sound, (0, model.spec.latency))
    for at in range(0, len(padded), hop):
        chunk = Chunk(padded[at : at + hop, None], at, 16_000)
        outputs, state = model.step([chunk] * 3, state)
        if outputs[0][0] is None:
            outputs, state = model.step([None] * 3, state)
        together.append([out.data[:, 0] for (out,) in outputs if out is not None])
    for i, one in enumerate(alone):
        shared = np.concatenate([parts[i] for parts in together])[model.spec.latency :]
        assert np.abs(shared - one).max() < 1e-6
    assert np.abs(alone[0] - alone[1]).max() > 1e-4


def test_it_goes_behind_a_gain_and_beside_its_own_input(net: XVc) -> None:
    """Bypass is the input as late, bit for bit; the first hop waits while the recording is heard."""
    conversion, request = Conversion(net, SHORT), voice(0, 0.5)
    model = Blend(Chain([Gain(conversion.spec.gives[0]), conversion]))
    hop, late, inner = conversion.hop, model.spec.latency, (gain.Request(), request)
    state = model.open(blend.Request(inner))
    sound = 0.1 * np.random.default_rng(0).standard_normal(20 * hop).astype(np.float32)
    parts = []
    for i in range(20):
        if i == 8:
            state = model.update(state, blend.Request(inner, 0.0))
        chunk = Chunk(sound[i * hop : (i + 1) * hop, None], i * hop, 16_000)
        outputs, state = model.step([chunk], state)
        if outputs[0][0] is None:
            outputs, state = model.step([None], state)
        assert outputs[0][0] is not None
        parts.append(outputs[0][0].data[:, 0])
    made, through = np.concatenate(parts), slice(9 * hop, 20 * hop)
    assert np.array_equal(made[through], sound[through.start - late : through.stop - late])
    assert np.abs(made[4 * hop : 8 * hop] - sound[4 * hop - late : 8 * hop - late]).max() > 1e-3


def test_an_update_that_names_the_same_recording_does_not_hear_it_again(net: XVc) -> None:
    model, request = Conversion(net, SHORT), voice(0, 0.5)
    chunk = Chunk(np.zeros((model.spec.gives[0].hop, 1), np.float32), 0, 16_000)
    _, state = model.step([chunk], model.open(request))
    assert (
        model.key(model.update(state, request))
        == model.key(model.update(state, Request()))
        == model.key(state)
    )
    assert model.key(model.update(state, voice(1, 0.5)))[0] == "listen"  # type: ignore[index]


def test_another_voice_fades_in_at_the_next_window(net: XVc) -> None:
    model = Conversion(net, SHORT)
    sound = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    one, other = (run(model, sound, model.open(voice(seed, 1.0, plain=True))) for seed in (0, 1))
    state, hop, parts = model.open(voice(0, 1.0, plain=True)), model.spec.gives[0].hop, []
    for at in range(0, len(sound), hop):
        if at == 10 * hop:
            state = model.update(state, voice(1, 1.0, plain=True))
        chunk: Chunk | None = Chunk(np.resize(sound[at : at + hop], (hop, 1)), at, 16_000)
        outputs, state = model.step([chunk], state)
        if outputs[0][0] is None:
            outputs, state = model.step([None], state)
        assert outputs[0][0] is not None
        parts.append(outputs[0][0].data[:, 0])
    made = np.concatenate(parts)[model.spec.latency :]
    change = 10 * hop - model.spec.latency
    assert np.abs(made[:change] - one[:change]).max() < 1e-6
    later = slice(change + 16 * SHORT.smooth, len(made) - hop)
    assert np.abs(made[later] - other[later]).max() < 1e-6


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "recording has 0.4 s, expected 0.5 to 30"), (30.5, "30.5 s"), (0, "0 s")]
)
def test_a_recording_too_short_or_too_long_is_refused(net: XVc, seconds: float, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        Conversion(net).open(voice(0, seconds))


def test_recordings_of_half_a_second_and_of_thirty_are_heard(net: XVc) -> None:
    """Past 20 s all frames share a position."""
    model = Conversion(net, SHORT)
    for seconds in (0.5, 30.0):
        assert np.isfinite(run(model, np.zeros(2_000, np.float32), model.open(voice(0, seconds)))).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"window": 1000}, "window is 1000 ms, expected a multiple of 80 up to 30000"),
        ({"window": 30_080}, "30080"),
        ({"window": 0}, "window is 0 ms"),
        ({"window": 160}, "window is 160 ms, expected 240 or more: hop 120, smooth 20 and future 100"),
        ({"hop": 0}, "hop, future and smooth are 0, 100 and 20 ms"),
        ({"future": -1}, "-1"),
        ({"smooth": 121}, "121"),
    ],
)
def test_windows_that_cannot_be_are_refused_early(values: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Windows(**values)


def test_fades_end_at_0_and_at_1() -> None:
    weight = fades(320, torch.device("cpu"))
    assert len(weight) == 320 and weight[0] == 0 and weight[-1] == 1
    torch.testing.assert_close(weight + weight.flip(0), torch.ones(320))
    ones, first = torch.ones(1, 960), torch.tensor([False])
    given, tail = faded(ones, 2 * ones[:, :320], first, 640)
    assert given[0, 0] == 2 and given[0, 319] == 1 and (given[0, 320:] == 1).all() and tail.shape == (1, 320)


@pytest.mark.parametrize("samples", [1, 1_279, 1_280, 20_001])
def test_a_recording_keeps_its_length(net: XVc, recorded: dict[str, Tensor], samples: int) -> None:
    told = net.hear(recorded["offline_chain.in.reference"][:, 0])
    sound = 0.1 * torch.randn(samples)
    assert convert(net, sound, told).shape == by_windows(net, sound, told, SHORT).shape == (samples,)
    assert convert(net, sound[:0], told).shape == (0,)


def test_a_recording_longer_than_the_networks_take_is_cut_into_windows(
    net: XVc, recorded: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a tenth of the length; the windows overlap by more than anything local depends on."""
    told = net.hear(recorded["offline_chain.in.reference"][:, 0])
    sound = recorded["semantic_long.in.wav"][0, 0]
    at_once = convert(net, sound, told)
    monkeypatch.setattr(module, "LONGEST", 48_000)
    monkeypatch.setattr(module, "WHOLE", Windows(2_400, hop=2_000, future=200))
    made = convert(net, sound, told)
    assert made.shape == at_once.shape and (made - at_once).abs().max() > 0
    assert (made - at_once).norm() < 0.5 * at_once.norm()
    assert WHOLE.window * 16 <= 480_000
