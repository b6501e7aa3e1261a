"""riverrun video and image: prompts become files, by either kind of model; what cannot be shown is told in a line."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import riverrun
from riverrun import models
from riverrun.cli import main
from riverrun.media import picture as seen
from riverrun.media import settings_of
from riverrun.models.shown import Shown
from riverrun.models.video.lite import save
from tests.models.video import folders
from tests.models.video.shows import net

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a calm sea"
LIVE = ("--mode", "loop", "--frames", "18")
SHORT = ("--size", "16x24", "--frames", "9", "--steps", "1")
SCRIPT = """
import json, os, sys
from functools import partial
import numpy as np
import torch
torch.set_num_threads(1)
from riverrun.cli import main
from riverrun.models.video import clips
from riverrun.models.video.published import load_vae
from tests.models.video.test_vae import SMALL
from tests.sdk.test_video import made

clips.load_vae = partial(load_vae, shape=SMALL)
model, out, commands = json.loads(sys.argv[1])
for command in commands:
    try:
        main(command)
    except SystemExit as ended:
        print("status", ended.code)
np.save(f"{out}/made-{os.environ['RANK']}.npy", made(model))
torch.distributed.barrier()
sys.stdout.flush()
os._exit(0)  # at once: gloo's threads now and then abort a process that takes its leave
"""


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights of a tiny model."""
    path = tmp_path_factory.mktemp("lite") / "show.safetensors"
    save(path, net())
    return str(path)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny Open-Sora 1.2, laid out as published."""
    return folders.write(tmp_path_factory.mktemp("opensora"))


@pytest.fixture
def opensora(published: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folders.readable(monkeypatch)
    return str(published)


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def frames(path: Path) -> tuple[int, tuple[int, int], float]:
    """How many, of which size, at which rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        count = sum(1 for _ in container.decode(stream))
        return count, (stream.height, stream.width), float(stream.average_rate or 0)


def picture(path: Path, rows: int, columns: int) -> Path:
    shades = np.random.default_rng(0).integers(0, 255, (rows, columns, 3), np.uint8)
    Image.fromarray(shades).save(path)
    return path


def test_a_small_model_shows_prompts_that_follow_each_other(lite: str, tmp_path: Path) -> None:
    out, first = tmp_path / "clip.mp4", picture(tmp_path / "first.png", 30, 20)
    told = ("--seconds", "1.5", "--then", "0.5:the cat falls", "--image", first, "--model", lite, "-o", out)
    assert call("video", "a blue ball rolls", *told) == 0
    assert frames(out) == (18, (16, 24), 12.0)
    settings = settings_of(out)
    assert settings and settings["then"] == [[0.5, "the cat falls"]] and settings["seconds"] == 1.5
    still = tmp_path / "still.png"
    assert call("image", "a blue ball", "--model", lite, "-o", still) == 0
    assert seen(still).shape == (16, 24, 3)


def test_a_published_model_makes_a_clip_and_says_what_it_takes(
    opensora: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clip.mp4"
    asked = (*SHORT, "--fps", "12", "--guidance", "3", "--negative", "a storm", "--camera", "static")
    assert call("video", PROMPT, "--model", opensora, "-o", out, *asked) == 0
    assert frames(out) == (9, (16, 24), 12.0)
    told = capsys.readouterr().err
    assert told.index("of memory: transformer") < told.index("9 frames, 0.75 s")
    settings = settings_of(out)
    assert settings and settings["guidance"] == 3 and settings["size"] == [16, 24]
    still = tmp_path / "still.png"
    assert (
        call("image", PROMPT, "--model", opensora, "-o", still, "--resolution", "144p", "--steps", "1") == 0
    )
    assert seen(still).shape == (144, 256, 3)


def test_pictures_and_videos_are_gone_on_from(opensora: str, tmp_path: Path) -> None:
    first, clip, joined = picture(tmp_path / "a.png", 40, 40), tmp_path / "clip.mp4", tmp_path / "joined.mp4"
    base = ("video", PROMPT, "--model", opensora, *SHORT)
    assert call(*base, "--reference", first, "-o", clip) == 0
    again = ("--frames", "27", "--reference", clip, "--reference", first, "--edit", "0.1")
    assert call(*base, *again, "-o", joined) == 0
    assert frames(joined)[0] == 27
    looped = tmp_path / "looped.mp4"
    named = f'{PROMPT} {{"reference_path": "{first}", "mask_strategy": "0"}}'
    assert call("video", named, "--model", opensora, *SHORT, "--frames", "27", "-o", looped, "--half") == 0


def test_a_published_model_goes_on_without_end(opensora: str, tmp_path: Path) -> None:
    told = ("--seconds", "1", "--fps", "20", "--then", "0.5:a storm", "--size", "16x24", "--steps", "6")
    first = picture(tmp_path / "first.png", 30, 20)
    for mode, more in (("loop", []), ("fifo", ["--half"])):
        out = tmp_path / f"{mode}.mp4"
        long = ("--mode", mode, "--frames", "18", "--image", first, "-o", out)
        assert call("video", PROMPT, "--model", opensora, *told, *more, *long) == 0
        assert frames(out) == (20, (16, 24), 20.0)


def test_a_published_model_is_sooner_with_caching(opensora: str, tmp_path: Path) -> None:
    told = ("--size", "16x24", "--frames", "18", "--caching", "teacache-fast", "--steps", "4")
    for name, more in (("clip", ()), ("loop", ("--mode", "loop", "--seconds", "1"))):
        out = tmp_path / f"{name}.mp4"
        assert call("video", PROMPT, "--model", opensora, *told, *more, "-o", out) == 0
        settings = settings_of(out)
        assert settings and settings["caching"] == "teacache-fast"
        assert frames(out)[0] == (24 if more else 18)


def test_a_published_folder_is_a_stream_that_reads_what_is_asked_for(opensora: str) -> None:
    model = models.load(opensora)
    assert model.spec.shows and model.spec.modes == ("loop", "fifo")
    assert (model.spec.gives[0].size, model.spec.gives[0].rate) == ((240, 424), 24)
    state = model.open(Shown(PROMPT, 1.0))
    with torch.inference_mode():
        ((picture, begun),), _ = model.step([None], state)
    assert picture is None and begun is not None and begun.data.tolist() == [[0]]


def made(model: str) -> NDArray[np.uint8]:
    """Pictures of a clip, and of one without end, by whichever processes there are."""
    projector, size = riverrun.Projector(model), (40, 56)
    clip = riverrun.Shot(size=size, frames=18, steps=2, guidance=3.0)
    endless = riverrun.Shot(size=size, frames=9, steps=3, mode="fifo", fps=20, seconds=0.5)
    endless = replace(endless, then=[riverrun.Cue(0.2, "a storm")])
    return np.concatenate([chunk.data for shot in (clip, endless) for chunk in projector.show(PROMPT, shot)])


def test_two_processes_make_together_what_one_makes(
    opensora: str, lite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = ["video", PROMPT, "--model", opensora, *SHORT[2:], "--size", "96x128"]
    still = ["image", PROMPT, "--model", opensora, *SHORT[:2], "--steps", "1"]
    assert call(*clip, "-o", tmp_path / "one.mp4") == 0
    alone = capsys.readouterr().err
    commands = [
        [*clip, "-o", str(tmp_path / "two.mp4")],
        [*still, "-o", str(tmp_path / "two.png")],
        ["video", "a ball", "--model", lite, "-o", str(tmp_path / "none.mp4")],
    ]
    (tmp_path / "it.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    asked = json.dumps([opensora, str(tmp_path), commands])
    done = subprocess.run(
        [*command, "--nproc-per-node=2", str(tmp_path / "it.py"), asked],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (done.stdout.count("status 0"), done.stdout.count("status 1")) == (4, 2), done.stderr[-4000:]
    first, second = (np.load(tmp_path / f"made-{rank}.npy").astype(int) for rank in (0, 1))
    assert len(first) == 28 and (first == second).all() and np.abs(first - made(opensora)).max() <= 1
    assert frames(tmp_path / "two.mp4") == frames(tmp_path / "one.mp4")
    assert seen(tmp_path / "two.png").shape == (16, 24, 3) and not (tmp_path / "none.mp4").exists()
    assert done.stderr.count("9 frames, ") == 1 == alone.count("9 frames, "), "one process tells"
    whole, shared = (float(re.findall(r"sampling (\S+) MiB", text)[0]) for text in (alone, done.stderr))
    assert shared < whole
    assert "2 processes are for published checkpoints" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--frames", "0"], "length is 0 frames, expected at least 1"),
        (["--frames", "10000"], "frames is 10000, expected 1 to 816: what is longer takes loops"),
        (["--frames", "5s"], "length is '5s', expected a number of frames or one of 2s"),
        (["--size", "241x426"], "size is '241x426', expected even numbers: 240x426 is near"),
        (["--size", "240"], "expected rows and columns of pixels, such as 240x426"),
        (["--size", "8x8"], "expected 16 to 4096 on a side"),
        (["--resolution", "300p"], "resolution is '300p', expected one of 144p"),
        (["--guidance", "0"], "guidance is 0, expected at least 1, which is none"),
        (["--strategy", "begin"], "mask strategy 'begin', expected up to six numbers"),
        (["--seconds", "2"], "seconds is given, and this model does not know it, but frames, fps"),
        ([*LIVE, "--seconds", "0"], "seconds is 0.0, expected above 0"),
        ([*LIVE, "--then", "1:"], "prompt is empty"),
        ([*LIVE, "--loops", "2"], "loops is given, and this model does not know it, but frames"),
        (["--mode", "causal", "--frames", "18"], "mode is 'causal', expected one of loop, fifo"),
        (["--mode", "fifo", "--frames", "18"], "steps is 1, expected a multiple of 6 in mode fifo"),
        (["--mode", "loop", "--frames", "20"], "frames is 20, expected whole groups: a multiple of 9"),
        (["--reference", "gone.png"], "gone.png: no such file"),
        (["--reference", "broken.png"], "broken.png is"),
        (["--reference", "large.png"], "large.png has 5000 x 4200 pixels, the limit is 20000000"),
        (["--reference", "a.png", "--reference", "a.png", "--reference", "a.png"], "there are 3 references"),
        (["--caching", "all"], "caching is 'all', expected one of pab, teacache-slow, teacache-fast"),
        ([*LIVE, "--mode", "fifo", "--caching", "pab"], "mode is fifo with caching, expected loop"),
        (["--aspect", "9:16", "--size", "16x24"], "leave one out"),
    ],
)
def test_what_a_published_model_cannot_show_is_told_in_a_line(
    opensora: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(picture(tmp_path / "a.png", 40, 40).read_bytes()[:200])
    if "large.png" in arguments:
        Image.new("L", (5000, 4200)).save("large.png")
    size = () if {"--size", "--resolution", "--aspect"} & set(arguments) else SHORT[:2]
    assert call("video", PROMPT, "--model", opensora, *size, "--steps", "1", *arguments) != 0
    assert words in " ".join(capsys.readouterr().err.replace("│", "").split())
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize("prompt", ["", "a" * 10_000])
def test_prompts_that_say_nothing_or_too_much_are_refused(
    opensora: str, lite: str, prompt: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for model in (opensora, lite):
        assert call("video", prompt, "--model", model, "-o", tmp_path / "clip.mp4") == 1
        assert "prompt is empty" in (told := capsys.readouterr().err) or "shorten it" in told


def test_what_a_small_model_does_not_know_is_refused(
    lite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra, words in (
        (["--guidance", "5"], "guidance is given, and this model does not know it, but seconds, then, image"),
        (["--caching", "pab"], "caching is given, and this model does not know it"),
        (["--half"], "half is for published checkpoints"),
    ):
        assert call("video", "a ball", "--model", lite, "-o", tmp_path / "clip.mp4", *extra) == 1
        assert words in capsys.readouterr().err
    assert call("video", "a ball", "--model", tmp_path, "-o", tmp_path / "clip.mp4") == 1
    told = capsys.readouterr().err
    assert "holds no folder transformer (hpcai-tech/OpenSora-STDiT-v3), vae" in told
