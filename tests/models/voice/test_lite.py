"""Speech comes out in another voice, hop by hop, the same whoever is beside; its voice, pitch and bypass may change."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media import Chunk
from riverrun.models import CheckpointError, load
from riverrun.models.checking import check_stream
from riverrun.models.errors import InvalidRequest
from riverrun.models.recording import recorded
from riverrun.models.state import State
from riverrun.models.voice import lite
from riverrun.models.voice.lite import ConvertLite, Request, convert
from riverrun.models.voice.live import LiveConverter
from tests.models.voice.small import small, stored

Audio = NDArray[np.float32]
RATE, HOP, LATE = 24_000, 480, 2_400


def noise(ticks: int, seed: int = 0) -> Audio:
    return (0.1 * np.random.default_rng(seed).standard_normal(ticks)).astype(np.float32)


SOUND = noise(20 * HOP)
ME, YOU = (recorded(noise(RATE * seconds, seed)) for seconds, seed in ((2, 1), (6, 2)))


@pytest.fixture(scope="module")
def model() -> ConvertLite:
    return small()


def stream(model: ConvertLite, request: Request, changes: dict[int, Request] | None = None) -> Audio:
    """What comes of SOUND when requests change before some hops, from its first tick on, without the mark."""
    state, made = model.open(replace(request, mark=False)), list[Audio]()
    for i, at in enumerate(range(0, len(SOUND), HOP)):
        if changes and i in changes:
            state = model.update(state, changes[i])
        state = step(model, state, SOUND[at : at + HOP], made)
    return np.concatenate(made)[LATE:]


def step(model: ConvertLite, state: State, sound: Audio, made: list[Audio]) -> State:
    outputs, state = model.step([Chunk(sound[:, None], 0, RATE)], state)
    made += [chunk.data[:, 0] for (chunk,) in outputs if chunk is not None]
    return state


def test_it_is_a_stream_as_every_model_is(model: ConvertLite) -> None:
    report = check_stream(model, [Request("anna"), Request("ben", pitch=2.0), Request(recording=ME)])
    assert report.batch > 1
    assert (model.spec.latency, model.hop, model.spec.voices) == (LATE, HOP, ("anna", "ben"))


def test_equal_seeds_give_equal_sound_and_voices_pitches_and_seeds_differ(model: ConvertLite) -> None:
    anna = convert(model, SOUND, Request("anna", seed=3))
    assert anna.shape == SOUND.shape and np.abs(anna).max() > 1e-3
    assert np.array_equal(anna, convert(model, SOUND, Request("anna", seed=3)))
    assert np.array_equal(anna, convert(model, SOUND, Request(seed=3))), "the first is whose voice it is"
    others = [Request("ben", seed=3), Request("anna", pitch=5.0, seed=3), Request("anna", seed=4),
              Request(recording=ME, seed=3), Request("anna", seed=3, mark=False)]  # fmt: skip
    for other in others:
        assert not np.allclose(anna, convert(model, SOUND, other), atol=1e-4), other


@pytest.mark.parametrize(
    "changed", [Request("ben"), Request("anna", pitch=5.0), Request("anna", bypass=True)], ids=str
)
def test_a_change_is_heard_from_then_on_and_not_before(model: ConvertLite, changed: Request) -> None:
    whole, middle = stream(model, Request("anna")), 10
    other = stream(model, Request("anna"), {middle: changed})
    at = middle * HOP - LATE
    assert np.array_equal(other[:at], whole[:at])
    assert not np.allclose(other[at:], whole[at:], atol=1e-4)


def test_bypass_is_the_input_and_back_again(model: ConvertLite) -> None:
    assert np.array_equal(stream(model, Request("anna", bypass=True)), SOUND[:-LATE])
    whole = stream(model, Request("anna"))
    there_and_back = stream(model, Request("anna"), {8: Request("anna", bypass=True), 12: Request("anna")})
    through = slice(9 * HOP - LATE, 12 * HOP - LATE)  # after a hop in which it fades
    assert np.array_equal(there_and_back[through], SOUND[through])
    assert np.array_equal(there_and_back[13 * HOP - LATE :], whole[13 * HOP - LATE :])


def test_an_update_without_a_voice_leaves_it(model: ConvertLite) -> None:
    for begun in (Request("ben"), Request(recording=ME)):
        assert np.array_equal(stream(model, begun), stream(model, begun, {2: Request(), 10: Request()}))


def test_a_recording_is_heard_while_the_voice_before_goes_on(model: ConvertLite) -> None:
    whole, other = stream(model, Request("anna")), stream(model, Request("anna"), {8: Request(recording=ME)})
    heard = 8 * HOP - LATE
    assert np.array_equal(other[:heard], whole[:heard])
    assert not np.allclose(other[heard + 4 * HOP :], whole[heard + 4 * HOP :], atol=1e-4)


def test_the_last_of_several_voices_is_the_one_that_stays() -> None:
    model = small()
    back = {8: Request(recording=YOU), 9: Request(recording=ME)}  # before all of the other was heard
    assert np.array_equal(stream(model, Request(recording=ME)), stream(small(), Request(recording=ME), back))


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (lambda: Request("carl"), "voice is 'carl', expected one of anna, ben"),
        (lambda: Request("../anna"), "voice is '../anna', expected one of anna, ben"),
        (lambda: Request("anna", recording=ME), "expected one of both"),
        (lambda: Request(recording=recorded(noise(RATE * 3 // 10))), "recording has 0.30 s, expected 0.5 s"),
        (lambda: Request(recording=recorded(np.zeros(RATE, np.float32))), "recording is silent for 1.0 s"),
        (lambda: Request(recording="?"), "no base64"),
        (lambda: Request("anna", pitch=13.0), "pitch is 13.0, expected -12 to 12 semitones"),
        (lambda: Request("anna", seed=2**63), "64-bit"),
    ],
    ids=["unknown", "path", "both", "short", "silent", "garbled", "pitch", "seed"],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    model: ConvertLite, request_: object, why: str
) -> None:
    assert callable(request_)
    with pytest.raises(InvalidRequest, match=why.replace(".", r"\.")):
        model.open(request_())
    state = model.open(Request("anna"))
    with pytest.raises(InvalidRequest, match=why.replace(".", r"\.")):
        model.update(state, request_())
    assert state["voice"] == ["anna"]


def test_a_running_session_keeps_its_seed(model: ConvertLite) -> None:
    with pytest.raises(InvalidRequest, match="seed is 2; a running session keeps 0"):
        model.update(model.open(Request("anna")), Request("anna", seed=2))


@pytest.mark.parametrize("voice", ["music", "clipped", "long"])
def test_any_sound_will_do_as_a_voice(model: ConvertLite, voice: str) -> None:
    t = np.arange(2 * RATE) / RATE
    chord = np.sin(2 * np.pi * t[:, None] * (220.0, 277.2, 329.6)).mean(1)
    sounds = {"music": chord, "clipped": np.sign(noise(2 * RATE)), "long": noise(60 * RATE)}
    made = convert(model, SOUND, Request(recording=recorded(sounds[voice].astype(np.float32))))
    assert np.isfinite(made).all() and np.abs(made).max() < 2


@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0, 100.0])
def test_silence_and_what_is_far_too_loud_break_nothing(model: ConvertLite, level: float) -> None:
    sound = np.full(10 * HOP, level, np.float32)
    sound[1::2] *= -1
    made = convert(model, sound, Request(recording=ME))
    assert made.shape == sound.shape and np.isfinite(made).all()


def test_a_file_holds_all_of_it(model: ConvertLite, tmp_path: Path) -> None:
    path = stored(tmp_path)
    first = lite.load(Path(path))  # whose weights have become 16 bits
    lite.save(tmp_path / "again.safetensors", first.net, first.voices)
    again = lite.load(tmp_path / "again.safetensors")
    assert first.spec == again.spec == model.spec and isinstance(load(path), LiveConverter)
    for request in (Request("ben"), Request(recording=ME)):
        assert np.array_equal(convert(again, SOUND, request), convert(first, SOUND, request))
    (tmp_path / "cut.safetensors").write_bytes(Path(path).read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        load(str(tmp_path / "cut.safetensors"))


def test_a_model_that_knows_no_voice_by_name_wants_a_recording() -> None:
    nobody = small(voices=())
    assert np.isfinite(convert(nobody, SOUND, Request(recording=ME))).all()
    with pytest.raises(InvalidRequest, match="voice is 'anna', expected one of none: send a recording"):
        nobody.open(Request("anna"))
