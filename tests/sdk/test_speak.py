"""riverrun speak: a text becomes sound, with either kind of model, and what cannot be said is told in a line."""

import asyncio
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from riverrun.cli import main
from riverrun.media import read
from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.chunks import ChunkConfig
from riverrun.models.speech.frames import FrameConfig
from riverrun.models.speech.lite import SpeakLiteNet, save
from riverrun.models.speech.reading.phonemes import LETTERS, PHONEMES
from riverrun.speaker import Speaker
from tests.models.speech.conftest import LONGCAT, letters
from tests.models.speech.small import small
from tests.models.toys import Smooth
from tests.sdk.mutants import write
from tests.streaming.serving import server

__all__ = ["letters"]
TEXT = "Hello there. It is 5 o'clock!"


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny model."""
    return made(tmp_path_factory.mktemp("lite") / "speak.safetensors", PHONEMES.symbols)


def made(path: Path, alphabet: str) -> Path:
    torch.manual_seed(0)
    net = SpeakLiteNet(
        ChunkConfig(PHONEMES.size, 4, 16, 1, 2, 2.0, chunk=8, past=16, reads=1, hears=1, pool=4),
        FrameConfig(4, 60, 2, (8, 1, 1), (8, 1, 1), noise=True),
    )
    torch.nn.init.constant_(net.dit.reader.time.bias, 1.5)
    save(path, net, {"anna": torch.randn(20, 4), "ben": torch.randn(20, 4)}, alphabet)
    return path


def speak(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["speak", *arguments])
    return int(ended.value.code or 0)


def test_a_text_becomes_a_file(lite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "hello.wav"
    assert speak(TEXT, "--model", str(lite), "-o", str(out), "--voice", "ben") == 0
    sound, rate = read(out)
    assert rate == 24_000 and len(sound) > 1000
    told = capsys.readouterr().err
    assert str(out) in told and "real-time factor" in told and "first sound after" in told
    half = tmp_path / "half.wav"
    assert speak(TEXT, "--model", str(lite), "-o", str(half), "--voice", "ben", "--half") == 0
    assert read(half)[0].shape == sound.shape
    capsys.readouterr()
    assert speak(TEXT, "--model", str(lite), "-o", str(out)) == 1
    assert "--force" in capsys.readouterr().err


def test_a_pipe_is_said_as_it_comes_and_as_the_whole(
    lite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(TEXT, "--model", str(lite), "-o", str(tmp_path / "whole.wav"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(TEXT.replace(". ", ".\n")))
    speak("-", "--model", str(lite), "-o", str(tmp_path / "piped.wav"))
    whole, piped = (read(tmp_path / f"{name}.wav")[0] for name in ("whole", "piped"))
    assert np.array_equal(whole, piped)


def test_text_is_asked_for_no_sooner_than_it_is_needed(lite: Path) -> None:
    asked = list[int]()

    def texts() -> Iterator[str]:
        for i in range(50):
            asked.append(i)
            yield f"This is the sentence that has the number {i}. "

    stream = Speaker(str(lite)).say(texts())
    next(stream)
    assert len(asked) < 5


def test_voices_are_listed_and_recordings_are_heard(
    lite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert speak("", "--model", str(lite), "--voices") == 0
    assert capsys.readouterr().out.split() == ["anna", "ben"]
    for i, name in enumerate(("one.wav", "two.wav")):
        noise = 0.1 * np.random.default_rng(i).standard_normal((30_000, 2)).astype(np.float32)
        write(tmp_path / name, noise, 8_000, "pcm_s16le")
    said = [
        np.concatenate([chunk.data for chunk in Speaker(str(lite), voice=str(voice)).say(TEXT)])
        for voice in (tmp_path / "one.wav", tmp_path / "two.wav", tmp_path / "one.wav")
    ]
    assert np.array_equal(said[0], said[2])


def test_a_published_checkpoint_says_a_text(letters: Path, tmp_path: Path) -> None:
    out = tmp_path / "hello.wav"
    options = [
        "--model",
        str(LONGCAT / "weights.safetensors"),
        "--tokenizer",
        str(letters),
        "--steps",
        "2",
        "-o",
        str(out),
    ]
    assert speak("Hello there. And again.", *options) == 0
    first, rate = read(out)
    assert rate == 24_000 and len(first) == 2048 * 19, "at 0.082 s a letter"
    write(tmp_path / "voice.wav", np.zeros((9000, 1), np.float32), 24_000, "pcm_s16le")
    cloned = [*options, "--force", "--half", "--voice", str(tmp_path / "voice.wav")]
    assert speak("Hello there.", *cloned, "--transcript", "Ten letter") == 0
    assert len(read(out)[0]) == 2048 * 10


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["Hello", "--voice", "carl"], "voice is 'carl', expected one of anna, ben, or a recording"),
        (["  \U0001f600 "], "nothing that can be said"),
        (["你好"], "你好"),
        (["Hello", "--steps", "99"], "steps is 99, expected 1 to 64"),
    ],
    ids=["voice", "nothing", "script", "steps"],
)
def test_what_cannot_be_said_is_told_and_nothing_is_written(
    lite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    out = tmp_path / "out.wav"
    assert speak(*arguments, "--model", str(lite), "-o", str(out)) == 1
    told = capsys.readouterr().err
    assert why in told and "Traceback" not in told and not out.exists()


def test_a_model_that_is_not_there_or_is_another_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert speak("Hello", "--model", str(tmp_path / "gone.safetensors")) == 1
    assert "expected speak-lite, or a file or folder that is there" in capsys.readouterr().err
    few = made(tmp_path / "few.safetensors", LETTERS.symbols[:9])
    with pytest.raises(InvalidRequest, match="phonemes"):
        list(Speaker(str(few)).say("Hello"))


def test_a_model_of_letters_is_given_letters(tmp_path: Path) -> None:
    path = made(tmp_path / "letters.safetensors", LETTERS.symbols)
    assert sum(len(chunk) for chunk in Speaker(str(path)).say("Hello")) > 1000


def test_markup_is_pauses_and_paces(lite: Path) -> None:
    speaker = Speaker(str(lite))
    plain = sum(len(chunk) for chunk in speaker.say("<speak>Hello</speak>"))
    paused = sum(len(chunk) for chunk in speaker.say('<speak>Hello<break time="2s"/></speak>'))
    assert abs(paused - plain - 2 * speaker.rate) < 0.05 * speaker.rate
    text = '<speak><prosody rate="200%">Hello</prosody></speak>'
    fast = sum(len(chunk) for chunk in speaker.say(text))
    assert abs(fast / plain - 0.5) < 0.1
    fastest = sum(len(chunk) for chunk in Speaker(str(lite), speed=3.0).say(text))
    assert abs(fastest / plain - 0.25) < 0.1, "as a server says it: four times as fast is the most"


def test_a_speed_that_no_model_has_is_refused(lite: Path) -> None:
    with pytest.raises(InvalidRequest, match="speed is 9"):
        list(Speaker(str(lite), speed=9.0).say("Hello"))


def test_without_a_model_the_one_in_the_package_speaks(tmp_path: Path) -> None:
    assert speak("Hello there.", "-o", str(tmp_path / "a.wav")) == 0
    sound, rate = read(tmp_path / "a.wav")
    assert rate == 24_000 and 0.4 < len(sound) / rate < 3 and np.abs(sound).max() > 0.02


def said(*arguments: str, text: str = "") -> tuple[int, bytes, str]:
    """Exit status and both outputs of `riverrun speak`."""
    command = [sys.executable, "-m", "riverrun.cli", "speak", *arguments]
    done = subprocess.run(command, input=text.encode(), capture_output=True)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.anyio
async def test_a_server_says_it_into_a_file_or_a_pipe(tmp_path: Path) -> None:
    async with server({"smooth": Smooth(), "small": small()}) as (at, _):
        at = f"http://{at}"
        quick, told = ("--server", at, "--steps", "1", "--seed", "3"), asyncio.to_thread
        out = tmp_path / "hello.flac"
        status, _, error = await told(said, "Hello there.", *quick, "--voice", "ben", "-o", str(out))
        assert status == 0 and "first sound after" in error, error
        piped = await told(said, "-", *quick, "--voice", "ben", text="Hello\nthere.")
        assert piped[0] == 0 and piped[1].startswith(b"RIFF"), piped[2]
        whole, rate = read(out)
        sound = read(io.BytesIO(piped[1]))[0]
        assert rate == 24_000 and len(whole) > 1000 and len(sound) == len(whole)
        assert np.allclose(sound, whole, atol=1e-4)
        marked = '<speak>Hi<break time="1s"/></speak>'
        assert (await told(said, marked, *quick, "-o", str(tmp_path / "marked.wav")))[0] == 0
        assert len(read(tmp_path / "marked.wav")[0]) > rate
        names = await told(said, "", "--server", at, "--voices")
        assert names[1].decode().split() == ["anna", "ben"]
        for arguments, why in (
            (["Hello", "--voice", "carl"], "voice is 'carl', expected one of anna, ben"),
            (["Hello", "--voice", str(out)], "voice is a recording"),
            (["Hello", "--model", "smooth"], "has no model 'smooth' that speaks"),
            (["\u65e5\u672c\u8a9e"], "nothing that can be said"),
            (["Hello", "--half"], "half is of a model that runs here"),
        ):
            status, _, error = await told(said, *arguments, *quick, "-o", str(tmp_path / "not.wav"))
            assert status == 1 and why in error and "Traceback" not in error
    assert {path.name for path in tmp_path.iterdir()} == {"hello.flac", "marked.wav"}
    assert (await told(said, "Hello", "--server", "nowhere"))[0] == 2
