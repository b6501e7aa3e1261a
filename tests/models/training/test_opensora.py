"""A published folder and a folder of clips become a folder that shows, and a run that was stopped goes on."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from riverrun.media import video
from riverrun.media.pictures import save
from riverrun.models.errors import CheckpointError, ModelError
from riverrun.models.training import footage, latents, opensora
from riverrun.models.training.buckets import Bucket
from riverrun.models.training.loop import Alone
from riverrun.models.training.opensora import Plan, run
from riverrun.models.training.velocities import Masks, Recipe
from riverrun.models.video.masking import EARLY
from tests.models.training.test_footage import film
from tests.models.video import folders
from tests.sdk.test_cli import call

CPU = Alone(torch.device("cpu"))
RECIPE = Path(str(files("riverrun.models.training"))) / "recipes" / "open-sora.toml"
PLAN = Plan(
    model="opensora",
    clips=("clips",),
    out="out",
    buckets=(Bucket("144p", 9, 2), Bucket("144p", 1, 4)),
    transformer=Recipe(
        minutes=1e9, steps=4, rate=1e-2, save_minutes=1e9, ema=0.5, masks=Masks(image_head=0.5)
    ),
    samples=("a calm sea",),
)
CONFIG = """
model = "opensora"
clips = ["clips"]
out = "made"
buckets = [{ resolution = "144p", frames = 9, batch = 2 }]
[transformer]
steps = 1
minutes = 5
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, and clips beside it: two films, a picture, and files that are left out."""
    base = tmp_path_factory.mktemp("base")
    (base / "opensora").mkdir()
    folders.write(base / "opensora")
    folder = base / "clips"
    folder.mkdir()
    for name, frames in (("a", 12), ("b", 20), ("short", 5)):
        film(folder / f"{name}.mp4", frames, (136, 240))
    save(folder / "c.png", np.full((170, 180, 3), 200, np.uint8))
    (folder / "broken.mp4").write_bytes(b"this is no video")
    for clip in [*folder.glob("*.mp4"), *folder.glob("*.png")]:
        clip.with_suffix(".txt").write_text(f"a calm sea {clip.stem}")
    return base


@pytest.fixture
def base(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("opensora", "clips"):
        (tmp_path / name).symlink_to(published / name)
    folders.readable(monkeypatch, opensora)
    yield tmp_path


def test_clips_become_a_folder_that_shows(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert run(PLAN, base, CPU) == base / "out"
    told = caplog.text
    assert "3 clips to learn from; 1 cannot be decoded, 1 stay in no bucket, 0 are held out" in told
    assert "left out: " in told and "broken.mp4" in told
    assert "144p, 9 frames of 144 x 256: 2 clips in batches of 2\n" in told
    assert "1 clips in batches of 1, fewer than the 4 that are asked for" in told
    made, given = (
        load_file(base / name / "transformer" / "model.safetensors") for name in ("out", "opensora")
    )
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in given.items()}
    assert sum(not torch.equal(made[k], given[k]) for k in given) > 50
    assert all(torch.equal(made[k], given[k]) for k in given if k.startswith("y_embedder"))
    assert sum(len(chunk) for chunk in video(base / "out" / "samples" / "0.mp4")) == 9
    rows = [json.loads(line) for line in (base / "out" / "training" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4 and rows[-1]["loss"] > 0
    asked = ("--size", "16x24", "--frames", "9", "--steps", "1")
    assert call("video", "a calm sea", "--model", base / "out", "-o", base / "clip.mp4", *asked) == 0


def test_what_is_worked_out_is_kept_by_content(
    published: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(PLAN, samples=(), transformer=replace(PLAN.transformer, steps=1))
    run(plan, base, CPU)
    shelf = sorted((base / "out" / "features").iterdir())
    assert len(shelf) == 1 + 4 + 3 + 3, (
        "contents of clips; measures, latents and captions of what can be used"
    )

    def refuse(*_: object) -> None:
        raise AssertionError("it is there")

    monkeypatch.setattr(opensora, "load_t5", refuse)
    monkeypatch.setattr(opensora, "load_vae", refuse)
    (base / "clips").unlink()
    (base / "clips").mkdir()
    for path in published.glob("clips/*"):
        (base / "clips" / f"renamed-{path.name}").write_bytes(path.read_bytes())
    run(replace(plan, transformer=replace(plan.transformer, steps=2)), base, CPU)
    assert sorted((base / "out" / "features").iterdir()) == shelf


def test_clips_are_read_again_only_when_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, read, content = [tmp_path / name for name in ("a", "b", "lost")], list[Path](), latents.content
    for path in paths[:2]:
        path.write_text(path.name)

    def noted(path: Path) -> str:
        read.append(path)
        return content(path)

    monkeypatch.setattr(latents, "content", noted)
    shelf = latents.Shelf(tmp_path / "shelf")
    first = latents.contents([*paths, paths[0]], shelf, CPU)
    assert read.count(paths[1]) == 1 and first[0] == first[3] and len(set(first)) == 3
    read.clear()
    paths[1].write_text("other")
    second = latents.contents(paths, shelf, CPU)
    assert read == [paths[1]] and second[0] == first[0] and second[1] != first[1]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(PLAN, samples=(), transformer=replace(PLAN.transformer, save_minutes=0))
    whole = load_file(run(plan, base, CPU) / "transformer" / "model.safetensors")
    calls, lay = [], opensora.lay

    def stop(*told: object) -> None:
        calls.append(told)
        if len(calls) == 2:
            raise KeyboardInterrupt
        lay(*told)  # type: ignore[arg-type]

    other = replace(plan, out="other")
    with monkeypatch.context() as patched:
        patched.setattr(opensora, "lay", stop)
        with pytest.raises(KeyboardInterrupt):
            run(other, base, CPU)
    made = load_file(run(other, base, CPU) / "transformer" / "model.safetensors")
    assert all(torch.equal(made[name], value) for name, value in whole.items())
    rows = (base / "other" / "training" / "log.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3, 4]


def test_random_weights_and_clips_that_are_held_out(base: Path) -> None:
    used = [int(latents.content(base / "clips" / name)[:16], 16) for name in ("a.mp4", "b.mp4", "c.png")]
    some = next(n for n in range(2, 99) if 0 < sum(number % n == 0 for number in used) < 3)
    recipe = replace(PLAN.transformer, half=True, recompute=True)
    plan = replace(PLAN, scratch=True, heldout=some, samples=(), transformer=recipe)
    out = run(plan, base, CPU) / "transformer" / "model.safetensors"
    given = load_file(base / "opensora" / "transformer" / "model.safetensors")
    made = load_file(out)
    assert all(not torch.equal(made[k], given[k]) for k in given if k.startswith("y_embedder"))
    rows = (base / "out" / "training" / "log.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["heldout"] > 0


def test_processes_of_a_crew_share_what_is_not_there(tmp_path: Path) -> None:
    work = {tmp_path / str(i): i for i in range(8)}
    (tmp_path / "3").touch()
    shares = [latents.share(work, Alone(CPU.device, 3, rank)) for rank in range(3)]
    assert sorted(i for share in shares for _, i in share) == [0, 1, 2, 4, 5, 6, 7]
    assert [len(share) for share in shares] == [3, 2, 2]


def test_every_file_that_is_missing_is_told(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips = [footage.Clip(base / name, "a sea") for name in ("one.mp4", "two.mp4", "clips/c.png")]
    assert [clip for clip, _, _ in latents.measures(clips, latents.Shelf(base / "features"), CPU)] == clips[
        2:
    ]
    assert "one.mp4: no such file" in caplog.text and "two.mp4: no such file" in caplog.text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "gone"}, "holds no folder transformer"),
        ({"out": "opensora"}, "where the model is, expected another folder"),
        ({"buckets": (Bucket("1080p", 816, 1),)}, "none of 5 clips is left to learn from"),
    ],
)
def test_what_cannot_be_trained_is_told(base: Path, change: dict[str, object], why: str) -> None:
    with pytest.raises((ModelError, CheckpointError), match=why):
        run(replace(PLAN, **change), base, CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has neither, expected one of sprites and model, which says what is trained"),
        ('sprites = "s.npz"\n' + CONFIG, "it has the keys sprites and model, expected one"),
        ("[", "is not a training config"),
        (CONFIG.replace("144p", "100p"), "resolution is '100p', expected one of 144p"),
        (CONFIG.replace("batch = 2", "batch = 2.5"), "2.5 is not int"),
        (CONFIG.replace("[transformer]", "[stills]\n[transformer]"), "holds ['stills'], expected keys"),
        (CONFIG.replace('["clips"]', "[]"), "it names no clips or no buckets"),
        (CONFIG + "[transformer.masks]\nhead = 1.0", "holds ['head'], expected keys ['image_head'"),
        (CONFIG + "[transformer.masks]\nimage_head = 1.5", "1 together at most"),
        (
            CONFIG.replace("2 }]", '2 }, { resolution = "144p", frames = 9, batch = 1 }]'),
            "two buckets 144p of 9",
        ),
        (CONFIG.replace("out =", 'samples = [""]\nout ='), "prompt is empty"),
        (
            CONFIG.replace("out =", "heldout = 1\nout ="),
            "heldout is 1, expected 0, which is none, or one clip",
        ),
        (CONFIG, "holds no folder transformer"),
    ],
)
def test_a_config_that_is_wrong_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    (tmp_path / "own.toml").write_text(text)
    assert call("train", "video", tmp_path / "own.toml") == 1
    assert why in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "made").exists()


def test_the_command_trains(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base / "own.toml").write_text(CONFIG)
    assert call("train", "video", base / "own.toml", "--device", "cpu") == 0
    assert str(base / "made") in capsys.readouterr().out.replace("\n", "")
    assert (base / "made" / "vae").resolve() == (base / "opensora" / "vae").resolve()


def test_the_recipe_in_the_package_is_as_published() -> None:
    plan = opensora.read(RECIPE)
    assert plan.transformer.masks.shares == EARLY
    assert (plan.transformer.rate, plan.transformer.ema, plan.transformer.times) == (
        1e-4,
        0.99,
        "logit-normal",
    )
    assert opensora.shorten(plan, 7).transformer.minutes == 7
