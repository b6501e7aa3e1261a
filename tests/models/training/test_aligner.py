"""A tiny aligner learns from tones whose order alone is known, and then says when each of them sounds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from riverrun.cli.train import app
from riverrun.media import UnsupportedMedia
from riverrun.models.errors import InvalidRequest, ModelError
from riverrun.models.speech.aligner import Aligner, AlignerConfig, features, path
from riverrun.models.training import alignments
from riverrun.models.training.aligner import Recipe, gather, occupancy, read, train, vary
from riverrun.models.training.corpus import decode
from riverrun.models.training.readings import Pool, build, readings
from tests.models.training.conftest import save

RECIPES = Path(__file__).parents[3] / "models" / "training" / "recipes"
RATE = 24_000
TINY = AlignerConfig(near=64, width=32, layers=1, bands=40)
SMOKE = Recipe(minutes=5, steps=180, batch=1200, rate=1e-2, flat=80, vary=0.05, ema=0.9, log_steps=20)
TONES = {"æ": 300, "t": 700, "k": 1500, "ʃ": 3200, "m": 6000}  # Hz


def speak(plan: list[tuple[str, int]], seed: int) -> np.ndarray:
    """Tones with a little noise."""
    rng = np.random.default_rng(seed)
    parts = []
    for symbol, length in plan:
        t = np.arange(length * RATE // 100) / RATE
        parts.append(0.3 * np.sin(2 * np.pi * TONES[symbol] * t) if symbol in TONES else 0 * t)
    sound = np.concatenate(parts)
    return np.asarray(sound + 1e-3 * rng.standard_normal(len(sound)), np.float32)


def plan(seed: int) -> list[tuple[str, int]]:
    """Two words of three or four tones, a pause between them in half of the cases, silence at both ends."""
    rng = np.random.default_rng(seed)
    said: list[tuple[str, int]] = []
    for word in range(2):
        order = [str(tone) for tone in rng.permutation(list(TONES))]
        if said and order[0] == said[-2][0]:
            order.reverse()  # nobody hears where one of two equal tones ends
        order = order[: 3 + seed % 2]
        said += [(symbol, int(rng.integers(8, 25))) for symbol in order]
        if word or seed % 2:
            said.append(("_", int(rng.integers(12, 20))))
        said.append((" ", 0))
    return [("_", int(rng.integers(8, 20))), *said[:-1]]


def spoken(plan: list[tuple[str, int]]) -> str:
    """What is said, without how long."""
    return "ˈ" + "".join(symbol for symbol, _ in plan if symbol != "_") + "."


PLANS = [plan(seed) for seed in range(6)]
PHONEMES = [spoken(plan) for plan in PLANS]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterances to train with, the same ones held out, and one that cannot be decoded."""
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for i, (plan, phonemes) in enumerate(zip(PLANS, PHONEMES, strict=True)):
        save(folder / f"{i}.wav", speak(plan, i), RATE)
        rows += [{"file": f"{i}.wav", "split": split, "phonemes": phonemes} for split in ("train", "heldout")]
    (folder / "broken.wav").write_bytes(b"no sound")
    rows.append({"file": "broken.wav", "phonemes": "æ"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pool(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pool")
    build([corpus], out, TINY)
    return out


@pytest.fixture(scope="module")
def trained(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Aligner, Path]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, out = Aligner(TINY), tmp_path_factory.mktemp("run")
    train(model, SMOKE, Pool(pool), out)
    return model, out


def test_boundaries_of_tones_are_found(trained: tuple[Aligner, Path]) -> None:
    model, out = trained
    for seed, (plan, phonemes) in enumerate(zip(PLANS, PHONEMES, strict=True)):
        found = model.align(torch.from_numpy(speak(plan, seed)), phonemes)
        told = [(span.symbol, span.start, span.end) for span in found.spans if span.symbol in TONES]
        true = np.cumsum([0, *(length for _, length in plan)]).tolist()
        places = [(s, a, b) for (s, _), a, b in zip(plan, true, true[1:], strict=False) if s in TONES]
        assert [symbol for symbol, *_ in told] == [symbol for symbol, *_ in places]
        off = np.array([row[1:] for row in told]) - np.array([row[1:] for row in places])
        assert np.abs(off).max() <= 2 and found.confidence > 0.8
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == SMOKE.steps and rows[-1]["far"] < rows[0]["far"]


def test_another_text_is_less_likely(trained: tuple[Aligner, Path]) -> None:
    sound = torch.from_numpy(speak(PLANS[0], 0))
    right, wrong = (trained[0].align(sound, text).confidence for text in (PHONEMES[0], PHONEMES[0][::-1]))
    assert wrong < 0.5 < right


def test_a_corpus_becomes_timings_and_what_is_unsure_is_listed(
    trained: tuple[Aligner, Path], corpus: Path, tmp_path: Path
) -> None:
    assert alignments.write(trained[0], corpus, tmp_path) == (12, 1)
    timings = list(alignments.read(tmp_path))
    assert ["".join(s.symbol for s in t.spans) for t in timings[::2]] == PHONEMES
    found = trained[0].align(torch.from_numpy(decode(corpus / "0.wav", RATE)), PHONEMES[0])
    assert timings[0].spans == found.spans and timings[0].seconds == 0.01
    assert json.loads((tmp_path / "skipped.jsonl").read_text())["file"] == "broken.wav"
    assert alignments.write(trained[0], corpus, tmp_path, 1.1) == (0, 13)
    assert "expected 1.1 or more" in (tmp_path / "skipped.jsonl").read_text()
    with pytest.raises(ModelError, match="is missing"):
        next(alignments.read(tmp_path / "nowhere"))


def test_errors_count_what_is_heard_wrong(trained: tuple[Aligner, Path], pool: Path) -> None:
    assert alignments.errors(trained[0], Pool(pool, "heldout")) < 0.2
    assert alignments.errors(Aligner(TINY), Pool(pool, "heldout")) > 0.5


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_distance_is_that_of_single_changes(a: str, b: str) -> None:
    def slow(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(slow(i - 1, j) + 1, slow(i, j - 1) + 1, slow(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    assert alignments.distance(a, b) == slow(len(a), len(b))


def test_occupancy_counts_every_way_and_a_row_does_not_depend_on_the_others() -> None:
    ways, lengths = [path("æ t"), path("k, mæ")], [7, 10]
    mels = [torch.zeros(length, 1) for length in lengths]
    both = gather(mels, ways)
    emission = torch.randn(2, 10, both.columns.shape[1])
    held = occupancy(emission, both)
    for row, length in enumerate(lengths):
        states = len(ways[row].columns)
        alone = gather([mels[row]], [ways[row]])
        padded = emission[row : row + 1, :length, : states + 1]
        assert torch.allclose(held[row, :length, :states], occupancy(padded, alone)[0, :, :states], atol=1e-5)
        assert torch.allclose(held[row, :length, :states].sum(1), torch.ones(length), atol=1e-5)

    def weigh(t: int, state: int, rows: tuple[int, ...]) -> dict[tuple[int, ...], float]:
        """Every way on from a state, and its likelihood."""
        rows, gain = (*rows, state), float(emission[0, t, state].exp())
        last = len(ways[0].columns) - 1
        if t == lengths[0] - 1:
            return {rows: gain} if state >= last - 1 else {}
        onward = [state, state + 1] + (
            [state + 2] if state < last - 1 and both.optional[0, state + 1] else []
        )
        found: dict[tuple[int, ...], float] = {}
        for next_state in (s for s in onward if s <= last):
            found |= {way: gain * rest for way, rest in weigh(t + 1, next_state, rows).items()}
        return found

    every = weigh(0, 0, ()) | weigh(0, 1, ())
    share = sum(value for way, value in every.items() if way[2] == 2) / sum(every.values())
    assert held[0, 2, 2].item() == pytest.approx(share, abs=1e-5)


def test_varied_speech_keeps_its_order_and_its_draw() -> None:
    mel = torch.randn(3, 50, 40)
    frames = torch.tensor([50, 30, 40])
    one, lengths = vary(mel, frames, 0.2, torch.Generator().manual_seed(1))
    again, _ = vary(mel, frames, 0.2, torch.Generator().manual_seed(1))
    assert torch.equal(one, again) and one.shape == (3, int(lengths.max()), 40)
    assert ((lengths / frames).log().abs() < 0.25).all() and torch.isfinite(one).all()


def test_a_second_run_goes_on_where_the_first_stopped(pool: Path, tmp_path: Path) -> None:
    for folder, halves in (("whole", (4,)), ("halves", (2, 4))):
        for steps in halves:
            torch.manual_seed(0)
            model = Aligner(TINY)
            train(model, replace(SMOKE, steps=steps, log_steps=1), Pool(pool), tmp_path / folder)
    rows = [(tmp_path / f / "log.jsonl").read_text().splitlines() for f in ("whole", "halves")]
    assert [json.loads(line)["step"] for line in rows[1]] == [1, 2, 3, 4]
    # The rate of the first half fell faster, so the numbers differ, but only a little.
    assert json.loads(rows[0][-1])["far"] == pytest.approx(json.loads(rows[1][-1])["far"], rel=0.2)


def test_every_utterance_is_once_in_an_epoch_and_no_batch_is_too_large(pool: Path) -> None:
    speech = Pool(pool)
    assert sorted(sum(speech.batches(60, 0, 0), [])) == list(range(6))
    assert len(speech.batches(60, 0, 0)) == 6 and len(speech.batches(10_000, 0, 0)) == 1
    assert features(torch.from_numpy(speak(PLANS[0], 0))[None], TINY).shape[1] == speech.frames[0]


def test_what_is_written_is_pronounced_and_what_is_no_english_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("hibari")
    for i in range(51):
        (tmp_path / f"{i:02}.flac").touch()
        (tmp_path / f"{i:02}.txt").write_text("It costs $5, Dr. Smith!")
    (tmp_path / "alone.flac").touch()
    (tmp_path / "alone.txt.orig").touch()
    (tmp_path / "00.txt").write_text("\u65e5\u672c\u8a9e")
    found = list(readings(tmp_path))
    assert [reading.file.name for reading in found] == [f"{i:02}.flac" for i in range(1, 51)]
    assert [reading.file.name for reading in found if reading.split == "heldout"] == ["49.flac"]
    assert {reading.phonemes for reading in found} == {"ˌɪt kˈɔsts fˈIv dˈɑləɹz, dˈɑktəɹ smˈɪθ!"}
    assert "left out: 00.flac" in caplog.text
    rows = [{"file": "1.flac", "text": "A hat"}, {"file": "2.flac", "text": "A hat", "phonemes": "h"}]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [reading.phonemes for reading in readings(tmp_path)] == ["ɐ hˈæt", "h"]


def test_a_folder_of_no_speech_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="no manifest.jsonl .* no sound with a .txt"):
        build([tmp_path], tmp_path, TINY)
    (tmp_path / "manifest.jsonl").write_text('{"file": "0.wav", "words": "hat"}\n')
    with pytest.raises(InvalidRequest, match="line 1 has no phonemes or text"):
        list(readings(tmp_path))
    (tmp_path / "manifest.jsonl").write_text('{"file": "0.wav", "phonemes": "h7t"}\n')
    with pytest.raises(InvalidRequest, match="is '7', expected one of"):
        build([tmp_path], tmp_path, TINY)
    with pytest.raises(UnsupportedMedia, match="build the pool first"):
        Pool(tmp_path)


def test_the_command_trains_and_writes_timings(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = tmp_path / "config.toml"
    config.write_text(
        f'speech = ["{corpus}"]\nout = "made"\n[model]\nnear = 16\nwidth = 16\nlayers = 1\n[recipe]\nsteps = 2\n'
    )
    told = CliRunner().invoke(app, ["aligner", str(config), "--minutes", "1"])
    weights = tmp_path / "made" / "aligner.safetensors"
    assert told.exit_code == 0 and told.output.strip().endswith(str(weights))
    assert "phoneme error rate, held out: " in caplog.text
    out = tmp_path / "timings"
    told = CliRunner().invoke(
        app, ["alignments", str(corpus), str(out), "--weights", str(weights), "--least", "0"]
    )
    assert told.exit_code == 0 and told.output.startswith("12 files aligned, 1 listed in")


def test_the_recipe_in_the_package_is_read_and_others_are_refused(tmp_path: Path) -> None:
    assert read(RECIPES / "aligner.toml").model == AlignerConfig()
    (tmp_path / "wrong.toml").write_text("[model]\nchannel = 3\n")
    for name in ("wrong.toml", "missing.toml"):
        with pytest.raises(ModelError, match=name):
            read(tmp_path / name)
