"""The command line as a user meets it: what it writes where, what it says, and its exit status."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from riverrun.cli import COMMANDS, main
from riverrun.media import read
from tests.sdk.mutants import mutants, originals, tone, write

COMMAND = [sys.executable, "-m", "riverrun.cli"]


def call(*arguments: str | Path) -> int:
    """The exit status of a command line, run in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def packets(path: Path) -> list[bytes]:
    """The picture of a file, still encoded."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0)]


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "channels"),
    [
        ("wav", "pcm_s16le", 8_000, 1),
        ("wav", "pcm_f32le", 44_100, 2),
        ("flac", "flac", 16_000, 1),
        ("flac", "flac", 48_000, 2),
        ("mp3", "mp3", 44_100, 2),
        ("m4a", "aac", 48_000, 1),
        ("ogg", "libopus", 48_000, 2),
        ("mka", "libopus", 48_000, 1),
    ],
)
def test_a_file_comes_back_in_its_form(
    tiny: str, tmp_path: Path, suffix: str, codec: str, rate: int, channels: int
) -> None:
    source = write(tmp_path / f"in.{suffix}", tone(rate, channels, 0.3), rate, codec)
    assert call("restore", source, "--model", tiny, "--strength", "0") == 0
    made = tmp_path / f"in.restored.{suffix}"
    with av.open(str(source)) as one, av.open(str(made)) as two:
        (before,), (after,) = one.streams.audio, two.streams.audio
        assert (after.codec.name, after.rate, after.channels) == (before.codec.name, rate, channels)
        assert (two.metadata | after.metadata).get("title") == "a test tone"
    (old, _), (new, _) = read(source), read(made)
    assert abs(len(new) - len(old)) <= (0 if suffix in ("wav", "flac") else 2048)
    ticks = min(len(new), len(old))
    assert np.corrcoef(old[:ticks, 0], new[:ticks, 0])[0, 1] > 0.98
    assert set(os.listdir(tmp_path)) == {source.name, made.name}


def test_a_video_keeps_its_picture(tiny: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in.mp4", tone(44_100, 2, 0.5), 44_100, "aac", picture=True)
    assert call("restore", source, "-o", tmp_path / "out.mp4", "--model", tiny) == 0
    assert packets(tmp_path / "out.mp4") == packets(source)
    assert np.abs(read(tmp_path / "out.mp4")[0]).max() > 0.01


def test_a_folder_keeps_its_tree(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {path.name for path in originals(tmp_path / "in" / "inner", seconds=0.1)}
    assert call("restore", tmp_path / "in", "-o", tmp_path / "out", "--model", tiny) == 0
    assert {path.name for path in (tmp_path / "out" / "inner").iterdir()} == names
    told = capsys.readouterr()
    assert told.err.count("real-time factor") == len(names)
    assert told.out == ""


def test_what_fails_is_listed_and_the_rest_is_done(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.wav", tone(16_000, 1, 0.1), 16_000, "pcm_s16le")
    (tmp_path / "text.wav").write_text("this is no sound\n" * 99)
    (tmp_path / "empty.wav").touch()
    inputs = [tmp_path / "text.wav", tmp_path / "gone.wav", good, tmp_path / "empty.wav"]
    assert call("restore", *inputs, "--model", tiny) == 1
    lines = capsys.readouterr().err.splitlines()
    failed = lines[lines.index("3 of 4 failed:") + 1 :]
    assert [Path(line.split(": ")[0].strip()).name for line in failed] == [
        "text.wav",
        "gone.wav",
        "empty.wav",
    ]
    assert (tmp_path / "good.restored.wav").exists()
    assert len(list(tmp_path.iterdir())) == 4


def test_what_is_there_is_kept_unless_forced(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.wav", tone(16_000, 1, 0.1), 16_000, "pcm_s16le")
    target = tmp_path / "out.wav"
    target.write_bytes(b"precious")
    assert call("restore", source, "-o", target, "--model", tiny) == 1
    assert "--force" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert call("restore", source, "-o", target, "--model", tiny, "--force") == 0
    assert len(read(target)[0]) == 1600
    assert call("restore", source, "-o", source, "--model", tiny, "--force") == 1
    assert "source itself" in capsys.readouterr().err


def test_equal_seeds_give_equal_files(tiny: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav", tone(16_000, 1, 0.2), 16_000, "pcm_s16le")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            call("restore", source, "-o", tmp_path / f"{name}.wav", "--model", tiny, "--seed", str(seed)) == 0
        )
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c


def test_a_pipe_gives_the_same_as_a_file(tiny: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in.flac", tone(24_000, 1, 0.2), 24_000, "flac")
    assert call("restore", source, "-o", tmp_path / "out.flac", "--model", tiny) == 0
    with source.open("rb") as pipe:
        done = subprocess.run([*COMMAND, "restore", "-", "--model", tiny], stdin=pipe, capture_output=True)
    assert done.returncode == 0, done.stderr
    (through, rate), (direct, _) = read(done.stdout), read(tmp_path / "out.flac")
    assert rate == 24_000
    assert np.array_equal(through, direct)


def test_a_reader_that_leaves_is_no_error_to_tell(tiny: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in.wav", tone(48_000, 2, 4), 48_000, "pcm_s16le")
    with subprocess.Popen(
        [*COMMAND, "restore", str(source), "-o", "-", "--model", tiny],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout and child.stderr
        child.stdout.read(100)
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()
    assert child.returncode == 1


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_leaves_nothing_half_done(
    tiny: str, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    """The input is a pipe that stays open, so the command is in the middle of its work whatever the machine."""
    source = write(tmp_path / "in.wav", tone(48_000, 2, 12), 48_000, "pcm_s16le").read_bytes()
    target = tmp_path / "out"
    command = [*COMMAND, "restore", "-", "-o", str(target / "out.wav"), "--model", tiny]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),  # jobs in the background inherit a deaf ear
    ) as child:
        assert child.stdin and child.stderr
        child.stdin.write(source[:-100])  # all but the end: returns when most of it has been read
        child.stdin.flush()
        begun = os.listdir(target)
        child.send_signal(sent)
        told = child.stderr.read()
    assert begun and "out.wav" not in begun
    assert child.returncode == status, told
    assert b"Traceback" not in told
    assert os.listdir(target) == []


def test_damaged_media_give_results_or_clear_errors(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = mutants(tmp_path / "in", 200)
    assert call("restore", tmp_path / "in", "-o", tmp_path / "out", "--model", tiny) == 1
    told = capsys.readouterr().err.splitlines()
    at = next(i for i, line in enumerate(told) if line.endswith("of 200 failed:"))
    failed = {Path(line.split(": ")[0].strip()).name for line in told[at + 1 :]}
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made | failed == {path.name for path in files}
    assert not made & failed
    assert 20 < len(failed) < 180, "some damage is small, and some is not"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["restore", "--strength", "2", "x.wav"], "strength"),
        (["restore", "--band", "4k", "x.wav"], "band"),
        (["restore", "*.nothing"], "no media file"),
        (["restore"], "IN"),
        (["restore", "x" * 300], "too long"),
        (["demo", "-o", __file__], "no folder"),
        (["sing"], "sing"),
        (["check"], "stream"),
    ],
)
def test_wrong_usage_is_told_and_is_status_2(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    told = capsys.readouterr()
    assert word in told.err + told.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nobody"], "expected one of"),
        (["--task", "phase"], "train"),
        (["--task", "sing"], "expected one of"),
        (["--model", "gone.safetensors"], "no such file"),
    ],
)
def test_a_model_that_is_not_there_is_one_clear_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("restore", "x.wav", *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("riverrun: ") and words in line


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_has_help(command: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*([command] if command else []), "--help") == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["restoration", "gone.toml"], "gone.toml is not a training config"),
        (["speech", "gone.toml"], "gone.toml is not a training config"),
        (["aligner", "gone.toml"], "gone.toml is not a training config"),
        (["corpus", "gone.txt", "out"], "gone.txt is not a text file"),
        (["corpus", __file__, "out", "--teacher", "nowhere"], "name the folder of the Kokoro model"),
    ],
)
def test_training_says_what_it_misses(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("train", *arguments) == 1
    assert words in capsys.readouterr().err


def test_models_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    from riverrun.models import names

    assert call("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert set(names()) <= {line.split()[0] for line in lines}
    assert lines[0].split() == ["name", "task", "size", "rate", "latency", "weights", "licence"]


def test_models_lists_published_weights_that_are_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("models") == 0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("longcat-audiodit-1b")]
    assert "1419.9 M" in line and "not here" in line and line.endswith("MIT")


def test_models_tells_the_size_of_the_weights_that_are_here(capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file

    from riverrun.models import MODELS

    assert call("models") == 0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("restore-lite")]
    held = sum(
        v.numel() for name, v in load_file(MODELS["restore-lite"].path).items() if "running" not in name
    )
    assert f"{held / 1e6:.1f} M" in line


def test_check_stream_prints_the_difference(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "stream", tiny, "--hops", "24") == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("max |stream - offline|") and float(line.split()[-1]) < 1e-5


def test_the_demo_says_where_its_result_is_and_that_it_is_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("demo", "-o", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert str(tmp_path / "out" / "sample-restored.flac") in told
    before, after = re.search(r"signal to distortion +(\S+) -> +(\S+) dB", told).groups()  # type: ignore[union-attr]
    assert float(after) > float(before) + 3
    assert {"latency", "factor"} <= set(re.findall(r"\w+", told))


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.count(".") == 2
