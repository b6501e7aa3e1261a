"""From a folder of timed speech to weights that speak, in the parts that a stopped run goes on with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from riverrun.cli import main
from riverrun.media import UnsupportedMedia
from riverrun.models.errors import CheckpointError, ModelError
from riverrun.models.speech.chunks import ChunkConfig
from riverrun.models.speech.frames import FrameConfig
from riverrun.models.speech.lite import Said, load, speak
from riverrun.models.speech.reading.phonemes import PHONEMES
from riverrun.models.training import chunks, speaking, speech
from riverrun.models.training.loop import Alone, assemble
from riverrun.models.training.utterances import listed
from tests.sdk.mutants import write

CPU = Alone(torch.device("cpu"))
PLAN = speaking.Plan(
    ("corpus",),
    ("timings",),
    "out",
    FrameConfig(4, 60, 2, (8, 1, 1), (8, 1, 1), noise=True),
    ChunkConfig(PHONEMES.size, 4, 16, 1, 2, 2.0, chunk=8, past=16, reads=1, hears=1, pool=4),
    speech.Recipe(minutes=9, steps=3, batch=2, frames=24, alone=1.0, save_minutes=9),
    chunks.Recipe(minutes=9, steps=3, frames=500, heard=60, save_minutes=9),
)
TEXT = "hˈɛlO"
ROWS = (("one", "train", {"anna": 1.0}), ("two", "train", {"ben": 1.0}), ("three", "train", {"anna": 0.5, "ben": 0.5}),
        ("four", "heldout", {"carl": 1.0}))  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder that `lay` filled."""
    return lay(tmp_path)


def lay(folder: Path) -> Path:
    """Four utterances of a second and their timings, at 100 frames a second."""
    (folder / "corpus").mkdir()
    (folder / "timings").mkdir()
    manifest, timings = list[str](), list[str]()
    for i, (name, split, voices) in enumerate(ROWS):
        sound = 0.1 * np.random.default_rng(i).standard_normal((24_000, 1)).astype(np.float32)
        write(folder / "corpus" / f"{name}.flac", sound, 24_000, "flac")
        row = {"file": f"{name}.flac", "split": split, "voices": voices, "phonemes": TEXT}
        manifest.append(json.dumps(row))
        timing = {"file": f"{name}.flac", "phonemes": TEXT, "confidence": 0.9, "seconds": 0.01}
        timings.append(json.dumps({**timing, "first": 10, "frames": [20, 0, 20, 15, 20]}))
    (folder / "corpus" / "manifest.jsonl").write_text("\n".join(manifest))
    (folder / "timings" / "alignments.jsonl").write_text("\n".join(timings))
    return folder


def test_a_corpus_becomes_weights_that_speak_and_a_second_call_goes_on(base: Path) -> None:
    path = speaking.run(PLAN, base, CPU)
    model = load(path)
    assert sorted(model.voices) == ["anna", "ben"] and model.symbols == PHONEMES
    said = speak(model, Said(f" {TEXT} ", voice="anna"))
    assert len(said) and np.isfinite(said).all()
    assert [file.suffix for file in (base / "out" / "transformer" / "samples").iterdir()] == [".flac"]
    first, again = load_file(path), load_file(speaking.run(PLAN, base, CPU))
    assert all(torch.equal(again[name], value) for name, value in first.items()), "it was done"
    further = load_file(
        speaking.run(replace(PLAN, transformer=replace(PLAN.transformer, steps=5)), base, CPU)
    )
    assert not all(torch.equal(further[name], value) for name, value in first.items())
    rows = logged(base / "out" / "transformer")
    assert [row["step"] for row in rows] == [3, 5]
    assert all(
        row["flow"] > 0 < row["heldout_flow"] and row["timing"] > 0 < row["heldout_timing"] for row in rows
    )
    assert logged(base / "out" / "autoencoder")[-1]["step"] == 3, "the autoencoder was left as it was"


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(row) for row in (folder / "log.jsonl").read_text().splitlines()]


def test_a_transformer_goes_on_from_weights_and_leaves_the_autoencoder_alone(base: Path) -> None:
    old = load_file(speaking.run(PLAN, base, CPU))
    frozen = replace(PLAN.autoencoder, minutes=0)
    plan = replace(PLAN, out="more", autoencoder=frozen, weights="out/speak.safetensors")
    begun = speaking.begun(plan, base).state_dict()
    assert all(torch.equal(value.half(), old[f"net.{name}"].half()) for name, value in begun.items())
    new = load_file(speaking.run(plan, base, CPU))
    same = {name for name, value in old.items() if torch.equal(new[name], value)}
    assert {name for name in old if name.startswith("net.vae.")} <= same < set(old)
    assert not (base / "more" / "autoencoder").exists()
    other = replace(plan, chunks=replace(PLAN.chunks, width=32), weights="out/autoencoder/last.safetensors")
    assert load(speaking.run(replace(other, out="wide"), base, CPU)).config.width == 32


def test_weights_that_do_not_fit_are_refused(base: Path) -> None:
    speaking.run(PLAN, base, CPU)
    plan = replace(PLAN, weights="out/speak.safetensors")
    wide, fine = replace(PLAN.chunks, width=32), replace(PLAN.frames, encoder=(12, 1, 1))
    with pytest.raises(
        ModelError, match=r"not fit: dit\.nobody has shape \(1, 1, 16\), expected \(1, 1, 32\)"
    ):
        speaking.run(replace(plan, chunks=wide), base, CPU)
    with pytest.raises(ModelError, match=r"not fit: vae\.encoder\.first\.weight has shape \(8, "):
        speaking.run(replace(plan, frames=fine), base, CPU)
    with pytest.raises(ModelError, match="no such file"):
        speaking.run(replace(plan, weights="lost.safetensors"), base, CPU)
    with pytest.raises(ModelError, match="0 minutes and nothing to begin with"):
        speaking.run(speaking.shorten(PLAN, 0), base, CPU)


def test_one_process_takes_the_device_it_is_told() -> None:
    assert assemble("cpu") == CPU


def test_a_recipe_is_run_by_a_command(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base / "tiny.toml").write_text(
        'speech = ["corpus"]\ntimings = ["timings"]\nout = "made"\n'
        "[frames]\nwidth = 4\nstep = 60\nstride = 2\nencoder = [8, 1, 1]\ndecoder = [8, 1, 1]\n"
        "[chunks]\nlatent = 4\nwidth = 16\ndepth = 1\nheads = 2\nchunk = 8\npast = 16\n"
        "[autoencoder]\nsteps = 1\nbatch = 1\nframes = 24\n[transformer]\nsteps = 1\nframes = 300\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["train", "speech", str(base / "tiny.toml"), "--minutes", "9", "--device", "cpu"])
    assert not ended.value.code
    path = capsys.readouterr().out.strip()
    assert path == str(base / "made" / "speak.safetensors") and load(Path(path)).voices


def test_silence_at_both_ends_is_a_pause_and_marks_take_no_time(base: Path) -> None:
    line = next(listed(PLAN, base))
    clip = speaking.utterance(line, torch.zeros(200, 8), 200.0)
    assert PHONEMES.decode(clip.symbols.tolist()) == f" {TEXT} "
    assert clip.ends.tolist() == [20, 60, 60, 100, 130, 170, 200]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('speech = ["a"]\ntimings = []\nout = "o"', "1 folders of speech and 0 of timings"),
        (
            'speech = ["a"]\ntimings = ["b"]\nout = "o"\n[chunks]\nsymbols = 9',
            "symbols is 9, and the alphabet has",
        ),
        ('speech = ["a"]\ntimings = ["b"]\nout = "o"\nloud = 1', "holds .'loud'."),
        ("speech", "is not a training config"),
    ],
)
def test_a_config_that_is_wrong_is_told(tmp_path: Path, text: str, why: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(ModelError, match=why):
        speaking.read(config)


def test_the_recipe_in_the_package_is_read_and_shortened() -> None:
    plan = speaking.read(Path(speaking.__file__).parent / "recipes" / "speak-lite.toml")
    assert plan.frames.hop == 960 and plan.chunks.latent == plan.frames.width
    short = speaking.shorten(plan, 23)
    assert (short.autoencoder.minutes, short.transformer.minutes) == (0.8, 22.2)


def test_nothing_to_learn_from_is_told(base: Path) -> None:
    manifest = base / "corpus" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"train"', '"heldout"'))
    with pytest.raises(ModelError, match="no utterance that is timed and for training"):
        speaking.run(PLAN, base, CPU)


def test_a_folder_without_a_manifest_is_told(base: Path) -> None:
    (base / "corpus" / "manifest.jsonl").unlink()
    with pytest.raises(UnsupportedMedia, match="has no manifest.jsonl"):
        speaking.run(PLAN, base, CPU)


def test_weights_of_something_else_are_refused(base: Path) -> None:
    speaking.run(PLAN, base, CPU)
    with pytest.raises(CheckpointError, match="'autoencoder', expected a checkpoint of kind 'speech'"):
        load(base / "out" / "autoencoder" / "last.safetensors")
