"""The bench of conversion on made-up systems: who is converted into whom, what is counted, what a table holds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riverrun.media import write
from riverrun.models.errors import ModelError
from riverrun.models.evaluation import converting, pairs
from riverrun.models.evaluation.converters import Recorded, Streamed, World, follows
from riverrun.models.evaluation.converting import bench, spoken
from riverrun.models.evaluation.likeness import unit
from riverrun.models.evaluation.lines import TAUGHT, Row
from riverrun.models.evaluation.pairs import Pair, in_turn
from riverrun.models.evaluation.recordings import Packages
from riverrun.models.evaluation.speaking import Judges
from riverrun.models.training.corpus import decode
from riverrun.models.voice.lite import ConvertLite
from riverrun.models.voice.network import Converter
from tests.models.evaluation.test_speaking import corpus
from tests.models.training.test_converting import CONFIG

pytest.importorskip("pyworld")

Sound = NDArray[np.float32]
RATE = 24_000


def test_each_voice_is_the_source_and_the_target_of_all_others() -> None:
    rows = {name: [Row(Path(f"{name}{i}.wav"), "") for i in range(2)] for name in "abcd"}
    made = in_turn("all", rows, 24)
    assert [pair.source for pair in made[:5]] == list("abcda")
    assert len({(pair.source, pair.target) for pair in made[:12]}) == 12, "all that there can be"
    assert all(pair.source != pair.target and pair.row.path.name[0] == pair.source for pair in made)
    assert len({(pair.row, pair.target) for pair in made}) == 24, "none twice"
    few = in_turn("few", {"a": rows["a"], "b": rows["b"][:1]}, 9)
    assert [(pair.number, pair.row.path.name) for pair in few] == [
        (0, "a0.wav"),
        (1, "b0.wav"),
        (2, "a1.wav"),
    ]
    with pytest.raises(ModelError, match="all: a alone is no pair"):
        in_turn("all", {"a": rows["a"]}, 1)


def test_no_recording_is_both_heard_and_said_or_known(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "all", {"af_a": TAUGHT + 9, "bm_b": TAUGHT + 9}, seconds=1.0)
    found = pairs.corpus(folder, 30)
    said = {pair.row for pair in found.pairs}
    heard = {name: set(rows) for name, rows in found.heard.items()}
    known = {row for voice in found.voices.values() for row in voice.known}
    assert set(heard) == {"af_a", "bm_b"} and not said & known
    for rows in heard.values():
        assert not rows & said and not rows & known
        assert 8 <= sum(len(decode(row.path)) for row in rows) / 16_000 < 13
    assert len(spoken(found.heard["af_a"], RATE)) == 8 * RATE


def test_people_are_those_of_packages(tmp_path: Path) -> None:
    for person in pairs.PEOPLE:
        (tmp_path / person.package).mkdir()
        for stem in {*person.said, *person.heard, *person.known}:
            (tmp_path / person.package / f"{stem}.wav").touch()
    found = pairs.people(Packages(tmp_path), 4)
    assert [(pair.source, pair.target) for pair in found.pairs[:2]] == [
        ("allison", "librivox"),
        ("librivox", "allison"),
    ]
    assert all(pair.row.text and pair.part == "people" for pair in found.pairs)
    assert found.voices["librivox"].gender == "m" and found.voices["allison"].held_out
    for person in pairs.PEOPLE:
        groups = [set(person.said), set(person.heard), set(person.known)]
        assert sum(map(len, groups)) == len(set.union(*groups)), "no recording serves twice"
    (tmp_path / "allison" / "tt-allbusy.wav").unlink()
    with pytest.raises(ModelError, match="has no recording tt-allbusy"):
        pairs.people(Packages(tmp_path), 4)


def hum(hertz: float, seconds: float = 1.5, glide: float = 0.0) -> Sound:
    """Harmonics under one formant at 1 kHz; `glide` in octaves a second."""
    t = np.arange(round(seconds * RATE)) / RATE
    cycles = np.cumsum(hertz * 2 ** (glide * t)) / RATE
    orders = np.arange(1, int(6_000 / hertz))
    sound = sum(
        (0.01 + np.exp(-(((k * hertz - 1_000) / 250) ** 2))) * np.cos(2 * np.pi * k * cycles) for k in orders
    )
    return np.asarray(0.05 * np.asarray(sound), np.float32)


def peak(sound: Sound) -> float:
    """Where the envelope of a spectrum is highest, in Hz."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    width = round(250 * len(sound) / RATE)
    return float(np.convolve(power, np.hanning(width), "same").argmax() * RATE / len(sound))


def test_a_vocoder_moves_pitch_to_the_target_and_formants_along() -> None:
    from riverrun.models.training.pitch import contour

    source = hum(110, glide=0.2)
    made = World().convert(source, hum(220))
    hertz = contour(made.astype(np.float64), RATE, 60.0, 5.0)
    assert len(made) == len(source) and made.dtype == np.float32
    assert np.exp(np.log(hertz[hertz > 0]).mean()) == pytest.approx(220, rel=0.03)
    assert peak(made) / peak(source) == pytest.approx(2**0.3, rel=0.08)
    silent = np.zeros(RATE, np.float32)
    assert np.isfinite(World().convert(silent, hum(220))).all()


def test_a_pitch_that_follows_correlates() -> None:
    up, down = hum(120, glide=0.3), hum(160, glide=-0.3)
    same, against = follows(hum(200, glide=0.3), up, RATE), follows(down, up, RATE)
    assert same is not None and against is not None and same > 0.95 and against < -0.95
    assert follows(np.zeros_like(up), up, RATE) is None


def ours() -> ConvertLite:
    torch.manual_seed(0)
    return ConvertLite(Converter(CONFIG), {})


def test_ours_hears_the_target_and_keeps_the_time() -> None:
    system, own = Streamed("tiny", ours()), Streamed("tiny", ours(), own=True)
    assert (
        (system.name, own.name) == ("tiny, streamed", "tiny, in the own voice") and own.own and not system.own
    )
    assert system.latency == pytest.approx(120.0), "a hop of 20 ms, and 100 ms that are waited for"
    made = system.convert(hum(120)[:12_345], hum(200))
    assert made.shape == (12_345,) and np.isfinite(made).all()


class Copies:
    """Says whatever is to be heard of the target, as long as the source is."""

    name, rate, latency, made, own = "copies", RATE, 30.0, True, False

    def convert(self, sound: Sound, recording: Sound) -> Sound:
        return np.resize(recording, len(sound))


def levelled(folder: Path, voices: dict[str, float]) -> Path:
    """Nine recordings each of voices that differ in their level, and a manifest; those of more than 0.15 train."""
    folder.mkdir()
    rows = list[dict[str, object]]()
    for name, level in voices.items():
        for i in range(9):
            sound = level * np.sign(hum(100, 5.2 if i == 2 else 0.6))
            write(folder / f"{name}_{i}.wav", sound[:, None].astype(np.float32), RATE)
            rows.append({"file": f"{name}_{i}.wav", "text": f"This is number {i}.", "voices": {name: 1.0},
                         "gender": "f", "split": "heldout" if level < 0.15 else "train"})  # fmt: skip
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def embed(sound: Sound) -> Sound:
    """A print by the level of a sound."""
    angle = 10 * float(np.abs(sound).mean())
    return unit([np.array([np.cos(angle), np.sin(angle)], np.float32)])


def test_a_table_holds_every_system_and_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "dnsmos", lambda *_: 3.0)
    monkeypatch.setattr(converting, "distill_mos", lambda *_: 4.0)
    levels = {"low": 0.01, "high": 0.1, **{f"t{i}": 0.02 * i for i in (8, 9, 10)}}
    first = pairs.corpus(levelled(tmp_path / "all", levels), 2)
    again = [Pair(pair.number, "people", pair.source, pair.target, pair.row) for pair in first.pairs[:1]]
    material = first + pairs.Material(tuple(again), {}, {})
    kept, told = list[tuple[str, str, int, int]](), list[str]()

    def hear(sound: Sound) -> str:
        return "this is number too" if np.abs(sound).mean() > 0.05 else "this is some number"

    def keep(name: str, pair: Pair, sound: Sound, rate: int) -> None:
        kept.append((name, pair.part, pair.number, rate))

    done = bench([Recorded(), Copies()], material, Judges("parrot", hear, embed), keep, told.append)
    parts = [("held-out voices", 0), ("held-out voices", 1), ("people", 0)]
    assert kept == [(name, *part, RATE) for name in ("source", "copies") for part in parts]
    assert told == ["judging source", "judging copies"]
    rows = [line.split(" | ") for line in done.table().splitlines() if line.startswith("| ")]
    assert len(rows) == 6 and all(len(row) == len(rows[0]) for row in rows)
    assert [row[0] for row in rows[1:3]] == [row[0] for row in rows[4:]] == ["| source", "| copies"]
    head = [cell.strip("| ") for cell in rows[0]]
    source, copies = (dict(zip(head, row, strict=True)) for row in rows[1:3])
    assert source["nearer to target %"].startswith("0 ") and copies["nearer to target %"].startswith("100 ")
    assert source["nearest %"].startswith("0 ") and copies["nearest %"].startswith("100 ")
    assert copies["DNSMOS"] == "3.00 (3.00-3.00)" and copies["latency ms"] == "30 |"
    assert source["latency ms"] == " |" and not source["RTF"].strip() and float(copies["RTF"].split()[0]) >= 0
    assert float(copies["cosine, target"].split()[0]) > 0.99 > float(copies["cosine, source"].split()[0])
    assert "nearest of 4 voices" in done.table() and "Whisper parrot" in done.table()
    document = json.loads(json.dumps(done.document()))
    assert document["latency"] == {"source": None, "copies": 30.0} and document["among"] == {
        "low": 4,
        "high": 4,
    }
    one, two = document["scores"]["copies"][:2]
    assert {one["source"], one["target"]} == {"low", "high"} and one["words"] == 4
    assert (one["own_wrong"], one["wrong_words"]) == (two["wrong_words"], two["own_wrong"]), (
        "they changed places"
    )
    assert {one["own_wrong"], one["wrong_words"]} == {1, 2}


def test_without_an_encoder_voices_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "dnsmos", lambda *_: 3.0)
    monkeypatch.setattr(converting, "distill_mos", lambda *_: 4.0)
    material = pairs.corpus(levelled(tmp_path / "all", {"low": 0.01, "high": 0.1}), 1)
    done = bench([Copies()], material, Judges("parrot", lambda _: "number"), tell=lambda _: None)
    assert "Voices are not compared" in done.table() and done.scores["copies"][0].to_target is None


def test_the_nearest_of_too_few_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "dnsmos", lambda *_: 3.0)
    monkeypatch.setattr(converting, "distill_mos", lambda *_: 4.0)
    material = pairs.corpus(levelled(tmp_path / "all", {"low": 0.01, "high": 0.1}), 1)
    done = bench([Copies()], material, Judges("parrot", lambda _: "number", embed), tell=lambda _: None)
    (score,) = done.scores["copies"]
    assert score.nearest is None and score.to_target and score.to_target > 0.99
