"""Conversion as a user meets it: in Python, on the command line, in batches and through a server."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import riverrun
from riverrun.media import read
from riverrun.models import registry
from riverrun.models.voice.live import Request
from riverrun.streaming.problems import NotFound
from tests.models.speech.small import stored as speaker
from tests.models.toys import stream
from tests.models.voice.small import imported, small, stored
from tests.sdk.mutants import tone, write
from tests.sdk.test_cli import call
from tests.streaming.serving import noise, server
from tests.streaming.test_http import Volume, recording

ASSETS = registry.MODELS["convert-lite"].path.parent
RATE = 24_000
WAV = recording(noise(RATE // 2), rate=RATE)
SOUND = read(io.BytesIO(WAV))[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return stored(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def xvc(tmp_path_factory: pytest.TempPathFactory) -> str:
    return imported(tmp_path_factory.mktemp("xvc"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in.wav").write_bytes(WAV)
    return tmp_path / "in.wav"


def voice(folder: Path, sound: np.ndarray, rate: int = RATE) -> str:
    return str(write(folder / "me.wav", sound.astype(np.float32), rate, "pcm_s16le"))


def heard(path: Path) -> np.ndarray:
    sound, _ = read(path)
    assert np.abs(sound).max() > 1e-4
    return np.asarray(sound)


# In this process


def test_a_preset_is_named_or_found_and_told(
    source: Path, xvc: str, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = voice(source.parent, tone(RATE, 1, 2.0))
    options = ("--voice", mine, "--model", xvc, "-f")
    for preset, latency in (("auto", ""), ("cpu", "latency 365 ms"), ("quick", "latency 185 ms")):
        assert call("convert", source, *options, "--preset", preset) == 0
        told = capsys.readouterr().err
        assert "preset " in told and "(p95 of " in told
        assert (
            "too slow" in told or f"preset {'' if preset == 'auto' else preset}" in told and latency in told
        )
    assert call("convert", source, *options, "--preset", "best") == 1
    assert "expected auto or one of default, light, quick, cpu" in capsys.readouterr().err
    assert call("convert", source, "--model", weights, "-f", "--preset", "auto") == 0
    assert "of 20 ms a window" in capsys.readouterr().err
    assert call("convert", source, "--model", weights, "-f", "--preset", "cpu") == 1
    assert "the model has none" in capsys.readouterr().err


def test_every_preset_is_checked_in_turn(xvc: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "stream", xvc, "--hops", "8", "--preset", "auto") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(xvc)]
    assert [line.split(":")[0] for line in lines] == [
        f"{xvc}, preset {name}" for name in ("default", "light", "quick", "cpu")
    ]


def test_a_file_becomes_one_in_another_voice_beside_it(source: Path, weights: str) -> None:
    made = riverrun.convert(source, voice="ben", pitch=2.0, seed=3, model=weights)
    assert made.path == str(source.with_name("in.converted.wav"))
    assert (made.seconds, made.latency) == (0.5, 0.125)
    from riverrun.models import load

    wanted = stream(load(weights), SOUND[:, 0], Request("ben", pitch=2.0, seed=3))
    assert np.allclose(heard(Path(made.path))[:, 0], wanted.clip(-1, 1), atol=1e-3)


@pytest.mark.parametrize(
    ("rate", "shape", "dtype"),
    [(8_000, (4000,), "int16"), (48_000, (9600, 2), "float64"), (RATE, (4800, 1), "float32")],
)
def test_an_array_keeps_its_shape_and_dtype(
    weights: str, rate: int, shape: tuple[int, ...], dtype: str
) -> None:
    sound = noise(shape[0] * (shape[1] if shape[1:] else 1)).reshape(shape)
    data = (sound * 32767 if dtype == "int16" else sound).astype(dtype)
    made = riverrun.convert(data, rate, voice="anna", model=weights)
    assert (made.shape, made.dtype) == (shape, np.dtype(dtype)) and made.any()


def test_what_is_behind_a_gate_and_a_gain_converts_alike(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from riverrun.models.voice import live

    monkeypatch.setitem(registry.KINDS, "voice", live.__name__)
    made = riverrun.convert(SOUND, RATE, voice="ben", pitch=1.0, model=weights)
    assert made.shape == SOUND.shape and made.any()


def test_one_converter_is_for_many_recordings(source: Path, weights: str, tmp_path: Path) -> None:
    mine = voice(tmp_path, np.repeat(noise(3 * 8_000, 7), 2, 1), 8_000)
    converter = riverrun.Converter(mine, model=weights)
    one, again = converter.array(SOUND, RATE), converter.array(SOUND, RATE)
    assert np.array_equal(one, again)
    assert not np.allclose(one, riverrun.Converter("anna", model=weights).array(SOUND, RATE), atol=1e-3)
    plain = riverrun.Converter(mine, model=weights, mark=False).array(SOUND, RATE)
    assert not np.allclose(one, plain, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"voice": "carl"}, "voice is 'carl', expected one of anna, ben, or a recording"),
        ({"voice": "../anna"}, "voice is '../anna', expected one of anna, ben, or a recording"),
        ({"voice": "anna", "pitch": 20.0}, "pitch is 20.0, expected -12 to 12 semitones"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], why: str, weights: str) -> None:
    with pytest.raises(riverrun.InvalidRequest, match=why.replace(".", r"\.")):
        riverrun.convert(SOUND, RATE, model=weights, **settings)


def test_a_model_for_something_else_is_refused_either_way(weights: str, tiny: str, tmp_path: Path) -> None:
    for model in (tiny, speaker(tmp_path)):
        with pytest.raises(riverrun.InvalidRequest, match="for another task"):
            riverrun.convert(SOUND, RATE, model=model)
    with pytest.raises(riverrun.InvalidRequest, match="for another task"):
        riverrun.restore(SOUND, RATE, model=weights)
    with pytest.raises(ValueError, match="an array and its `rate`"):
        riverrun.convert(SOUND, model=weights)  # type: ignore[call-overload]


# On the command line


def test_files_and_folders_are_converted_and_results_are_no_sources(
    source: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "talk.mp4", tone(44_100, 2, 0.3), 44_100, "aac", picture=True)
    options = ("--voice", "ben", "--pitch", "-3", "--model", weights)
    assert call("convert", tmp_path, *options) == 0
    told = capsys.readouterr().err
    assert "in.converted.wav" in told and "real-time factor" in told and "latency 125 ms" in told
    assert heard(tmp_path / "in.converted.wav").shape == SOUND.shape
    assert (tmp_path / "talk.converted.mp4").exists()
    assert call("convert", tmp_path, *options) == 1
    assert "2 of 2 failed" in (told := capsys.readouterr().err) and "--force" in told
    assert call("convert", source, *options, "-o", tmp_path / "out" / "a.flac") == 0
    same = heard(tmp_path / "out" / "a.flac"), heard(tmp_path / "in.converted.wav")
    assert np.allclose(*same, atol=1e-4)


@pytest.mark.skipif(
    not registry.MODELS["convert-lite"].path.exists(), reason="no weights of convert-lite here"
)
def test_a_recording_of_two_people_is_doubted_and_one_of_one_is_not(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two, one = ASSETS / "sample-clean.flac", Path(__file__).parents[1] / "webui" / "am_onyx.opus"
    for mine, doubted in ((two, True), (one, False)):
        assert call("convert", source, "--voice", mine, "-f") == 0
        assert (f"{mine} seems to be of more than one person" in capsys.readouterr().err) is doubted


def test_a_recording_is_a_voice_and_the_mark_can_be_left_out(
    source: Path, weights: str, tmp_path: Path
) -> None:
    mine = voice(tmp_path, noise(2 * 48_000, 7), 48_000)
    for name, options in {"a": (), "b": (), "c": ("--no-mark",), "d": ("--seed", "1")}.items():
        out = ("-o", tmp_path / f"{name}.wav", "--model", weights)
        assert call("convert", source, "--voice", mine, *out, *options) == 0
    a, b, c, d = [heard(tmp_path / f"{name}.wav") for name in "abcd"]
    assert np.array_equal(a, b) and not np.array_equal(a, c) and not np.array_equal(a, d)


@pytest.mark.parametrize(
    ("sound", "why"),
    [
        (np.zeros((2 * RATE, 1)), "recording is silent for 2.0 s: let it begin with speech"),
        (noise(RATE * 3 // 10), "recording has 0.30 s, expected 0.5 s or more of speech"),
        (None, "nowhere.wav', expected one of anna, ben, or a recording"),
        (tone(RATE, 1, 2.0), ""),
        (np.sign(noise(2 * RATE)), ""),
    ],
    ids=["silence", "0.3 s", "not there", "a tone", "clipped"],
)
def test_a_recording_that_is_no_voice_is_told_in_a_line(
    source: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], sound: Any, why: str
) -> None:
    out, mine = (
        tmp_path / "out.wav",
        str(tmp_path / "nowhere.wav") if sound is None else voice(tmp_path, sound),
    )
    status = call("convert", source, "--voice", mine, "--model", weights, "-o", out)
    told = capsys.readouterr().err
    assert status == bool(why) and why in told and out.exists() != bool(why) and "Traceback" not in told
    if not why:
        assert np.isfinite(heard(out)).all()


def test_wrong_usage_is_told(source: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("convert", source, "--pitch", "13", "--model", weights) == 2
    assert call("convert", source.parent / "none*", "--model", weights) == 2
    assert call("convert", source, "--model", "none") == 1
    assert "model is 'none'" in capsys.readouterr().err


def test_lines_are_converted_with_a_model_that_is_named(
    source: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"id": "a", "task": "convert", "input": "in.wav", "voice": "ben", "pitch": 2, "output": "a.flac"}
    jobs = ("batch", tmp_path / "jobs.jsonl", "--out", tmp_path / "out", "--model", weights)
    (tmp_path / "jobs.jsonl").write_text(json.dumps(line))
    assert call(*jobs) == 0
    made = riverrun.convert(source, voice="ben", pitch=2.0, model=weights)
    assert np.allclose(heard(tmp_path / "out" / "a.flac"), heard(Path(made.path)), atol=1e-4)
    (tmp_path / "jobs.jsonl").write_text(json.dumps({**line, "voice": "carl"}))
    assert call(*jobs) == 1
    assert "line 1: voice is 'carl', expected one of anna, ben" in capsys.readouterr().err


def test_a_model_is_checked_and_told_by_its_weights(
    weights: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("check", "stream", weights, "--hops", "14") == 0
    assert "all the same" in capsys.readouterr().out
    entry = registry.Entry("convert-test", registry.VOICE, ("convert",), "")
    monkeypatch.setitem(registry.MODELS, entry.name, entry)
    assert call("models") == 0 and "convert-test" in (told := capsys.readouterr().out) and "missing" in told
    monkeypatch.setattr(registry.Entry, "paths", property(lambda self: [Path(weights)]))
    from riverrun.cli.models import converter

    row = converter(entry.name)
    assert (row.task, row.rate, row.latency, row.weights) == ("convert", "24 kHz", "125 ms", "here")


# What was imported


def test_an_imported_model_converts_into_the_voice_of_a_recording(
    source: Path, xvc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = voice(tmp_path, tone(RATE, 1, 2.0))
    assert call("convert", source, "--voice", mine, "--model", xvc) == 0
    assert "latency 245 ms" in capsys.readouterr().err
    made = heard(tmp_path / "in.converted.wav")
    array = riverrun.convert(SOUND, RATE, voice=mine, model=xvc)
    assert array.shape == SOUND.shape and np.allclose(array, made, atol=1e-4)
    other = riverrun.convert(SOUND, RATE, voice=voice(tmp_path, noise(RATE, 7)), model=xvc)
    assert np.abs(other - array).max() > 5e-4
    t = np.arange(RATE // 2) / RATE
    whistle = riverrun.convert(0.5 * np.sin(2 * np.pi * 10_000 * t), RATE, voice=mine, model=xvc)
    assert np.abs(np.fft.rfft(whistle))[4_500:5_500].max() < 1e-3 * len(t) / 4, "above what the model hears"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"voice": None}, "the model knows no voice by name: give a recording of one as the voice"),
        ({"voice": "anna"}, "voice is 'anna', expected one of none by name, or a recording"),
        ({"pitch": 2.0}, "pitch is 2, and X-VC cannot move it: leave it out"),
        ({"seed": 3}, "seed is 3, and X-VC draws nothing at random: leave it out"),
    ],
    ids=["no voice", "a name", "pitch", "seed"],
)
def test_what_an_imported_model_cannot_do_is_told(
    settings: dict[str, Any], why: str, xvc: str, tmp_path: Path
) -> None:
    asked = {"voice": voice(tmp_path, noise(RATE, 7)), **settings}
    with pytest.raises(riverrun.InvalidRequest, match=why):
        riverrun.convert(SOUND, RATE, model=xvc, **asked)


def test_an_imported_model_is_listed_and_checked(xvc: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "stream", xvc, "--hops", "5") == 0
    assert "all the same" in capsys.readouterr().out
    from riverrun.cli.models import rows

    (row,) = [row for row in rows() if row.name == "x-vc"]
    assert (row.task, row.size, row.rate, row.latency) == ("convert", "561.4 M", "16 kHz", "240 ms")
    assert row.weights == "not here: riverrun weights import x-vc" and "GLM-4-Voice" in row.licence


# At a server


@pytest.mark.anyio
async def test_a_client_converts_files_arrays_and_what_is_live(source: Path, tmp_path: Path) -> None:
    async with server(
        {"restore-lite": Volume(), "small": small()}, voices={"folder": tmp_path / "voices"}
    ) as (at, _):

        def work() -> None:
            with riverrun.Client(f"http://{at}") as client:
                made = client.convert(source, voice="ben", pitch=1.0, seed=2)
                assert made == source.with_name("in.converted.wav")
                array = client.convert(SOUND[:, 0], rate=RATE, voice="ben", pitch=1.0, seed=2)
                assert array.shape == (len(SOUND),) and np.allclose(array, heard(made)[:, 0], atol=1e-3)
                with client.stream("small", rate=RATE, voice="ben", pitch=1.0, seed=2) as stream:
                    live = np.concatenate([chunk.data for chunk in stream.through([SOUND])])
                assert np.allclose(live[:, 0], array, atol=1e-5)

        await asyncio.to_thread(work)
        async with riverrun.AsyncClient(f"http://{at}") as client:
            mine = Path(voice(tmp_path, noise(3 * RATE, 7)))
            own = await client.add_voice("mine", mine, consent=mine)
            by_id = heard(await client.convert(source, tmp_path / "a.flac", voice=own["id"]))
            by_name = await client.convert(SOUND, rate=RATE, voice="mine", model="small")
            assert np.allclose(by_id, by_name, atol=1e-3)
            with pytest.raises(NotFound, match="'carl', expected one of anna, ben, or a voice of yours"):
                await client.convert(source, tmp_path / "b.wav", voice="carl")
            async with client.stream("small", rate=RATE, voice="anna") as stream:
                with pytest.raises(riverrun.InvalidRequest, match="pitch"):
                    await stream.update(pitch=40.0)
                with pytest.raises(NotFound, match="or a voice of yours"):
                    await stream.update(voice="carl")
                await stream.update(voice="mine", pitch=-1.0)
                await stream.feed(SOUND)
                await stream.finish()
                assert sum([len(chunk) async for chunk in stream]) == len(SOUND)
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.anyio
async def test_a_server_that_does_not_convert_says_so(source: Path) -> None:
    async with server({"restore-lite": Volume()}) as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        with pytest.raises(riverrun.InvalidRequest, match="no model here converts"):
            await client.convert(source)
        with pytest.raises(riverrun.InvalidRequest, match="has no model that converts"):
            await client.convert(SOUND, rate=RATE)
