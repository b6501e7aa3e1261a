"""The bench of speech on made-up systems: how words are counted, which voice is nearest, what a table holds."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media import UnsupportedMedia, write
from riverrun.models.errors import ModelError
from riverrun.models.evaluation import lines as told
from riverrun.models.evaluation import speaking
from riverrun.models.evaluation.hearing import distance, words
from riverrun.models.evaluation.likeness import nearest, unit, windows
from riverrun.models.evaluation.lines import HARVARD, TAUGHT, Line, Voice, harvard, people, read
from riverrun.models.evaluation.metrics import ratio
from riverrun.models.evaluation.recordings import Packages
from riverrun.models.evaluation.speaking import Judges, among, bench, said
from riverrun.models.training.corpus import decode

Sound = NDArray[np.float32]


def test_both_texts_are_written_out_alike() -> None:
    assert words("Mr. Smith didn't pay $5!") == "mister smith didnt pay five dollars".split()
    assert words("MISTER SMITH didn't pay five dollars") == words("Mr. Smith didn't pay $5!")
    assert words("你好 hello") == ["hello"] and words(" ... ") == []


@pytest.mark.parametrize(
    ("said", "heard", "wrong"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("same", "same", 0), ("ab", "ba", 2)],
)
def test_a_distance_is_the_fewest_changes(said: str, heard: str, wrong: int) -> None:
    assert distance(said, heard) == wrong
    assert distance(["the", "cat"], ["the", "fat", "cat"]) == 1


def test_a_rate_is_of_all_words_not_of_sentences() -> None:
    value, low, high = ratio([1, 0, 3], [2, 4, 4])
    assert value == 0.4 and low <= value <= high
    assert ratio([1, 2], [2, 4]) == (0.5, 0.5, 0.5)


def known(name: str, gender: str, held_out: bool) -> Voice:
    return Voice(name, gender, held_out, ())


def test_a_voice_is_told_from_held_out_ones_and_the_likest_others_of_its_gender() -> None:
    voices = {name: known(name, "f", name in "ab") for name in "abcdef"} | {"m": known("m", "m", True)}
    angles = dict(a=0.0, b=2.0, c=0.9, d=0.2, e=0.4, f=1.5, m=0.1)
    prints = {name: np.array([np.cos(x), np.sin(x)], np.float32) for name, x in angles.items()}
    assert among("a", voices, prints) == ["a", "b", "d", "e"]
    assert among("a", voices, prints, count=2) == ["a", "b"], "those held out always count"
    assert among("m", voices, prints) == ["m"]
    group = {name: prints[name] for name in "abde"}
    assert nearest(prints["f"], group) == "b" and nearest(prints["m"], group) in "ad"
    assert nearest(unit([prints["a"], prints["e"]]), {"d": prints["d"], "b": prints["b"]}) == "d"


def test_windows_cover_a_sound_but_for_a_short_end() -> None:
    assert windows(8_000) == windows(25_600) == [0]
    assert windows(48_000) == [0, 77, 154]
    assert windows(30_000) == [0], "less than three quarters of a second one"


def corpus(folder: Path, voices: dict[str, int], seconds: float = 0.5) -> Path:
    """Recordings of held-out voices, so many each; the third of each is longer. Four training voices; a mix."""
    folder.mkdir()
    rows = list[dict[str, object]]()
    for name, count in {**voices, **{f"af_t{i}": 2 for i in range(4)}, "mix": 1}.items():
        for i in range(count):
            rng = np.random.default_rng(len(rows))
            length = round(24_000 * (5.2 if i == 2 else seconds))
            write(folder / f"{name}_{i}.wav", rng.normal(0, 0.1, (length, 1)).astype(np.float32), 24_000)
            mixed = {"af_a": 0.5, "af_b": 0.5} if name == "mix" else {name: 1.0}
            rows.append({"file": f"{name}_{i}.wav", "text": f"This is number {i}.", "voices": mixed,
                         "split": "heldout" if name in (*voices, "mix") else "train"})  # fmt: skip
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_no_recording_of_a_corpus_serves_twice(tmp_path: Path) -> None:
    lines, voices = read(corpus(tmp_path / "all", {"af_a": TAUGHT + 4, "bm_b": TAUGHT + 3}), 4)
    assert [line.voice for line in lines] == ["af_a", "bm_b", "af_a", "bm_b"]
    assert [line.number for line in lines] == [0, 1, 2, 3]
    held_out = [voices["af_a"], voices["bm_b"]]
    assert [(v.gender, v.held_out) for v in held_out] == [("f", True), ("m", True)]
    assert set(voices) == {"af_a", "bm_b", *(f"af_t{i}" for i in range(4))}
    used = [line.recording for line in lines]
    used += [row.path for row in chain.from_iterable(v.known for v in held_out)]
    used += [v.prompt.path for v in held_out if v.prompt]
    assert len(used) == len(set(used)) == 4 + 2 * TAUGHT + 2
    assert [line.text for line in harvard(3)] == list(HARVARD[:3]) and len(harvard(99)) == len(HARVARD) == 20


def test_a_corpus_that_tests_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="manifest"):
        read(tmp_path, 1)
    with pytest.raises(ModelError, match="held out"):
        read(corpus(tmp_path / "none", {}), 1)
    with pytest.raises(ModelError, match="more than 6"):
        read(corpus(tmp_path / "few", {"af_a": TAUGHT}), 1)


class Tone:
    """Says every line as a tone, in two pieces after an empty one."""

    rate, made = 16_000, True

    def __init__(self, name: str, made: bool = True) -> None:
        self.name, self.made = name, made

    def voice(self, line: Line) -> str:
        return line.voice

    def say(self, line: Line) -> Iterator[Sound]:
        yield np.zeros(0, np.float32)
        for _ in range(2):
            yield np.full(8_000, 0.1 * (line.number + 1), np.float32)


class Mute(Tone):
    def say(self, line: Line) -> Iterator[Sound]:
        yield np.zeros(0, np.float32)


def embed(sound: Sound) -> Sound:
    """A print by the level of a sound."""
    return unit([np.array([1.0, 10 * float(np.abs(sound).mean())], np.float32)])


def test_a_table_holds_every_system_and_what_recordings_are_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaking, "dnsmos", lambda *_: 3.0)
    monkeypatch.setattr(speaking, "distill_mos", lambda *_: 4.0)
    lines, voices = read(corpus(tmp_path / "all", {"af_a": TAUGHT + 4}), 2)
    kept = list[tuple[str, int, int]]()
    done = bench(
        [Tone("recordings", made=False), Tone("ours")], lines, voices,
        Judges("parrot", lambda sound: "This is number too", embed),
        lambda name, line, sound, rate: kept.append((name, line.number, len(sound))), lambda _: None,
    )  # fmt: skip
    assert kept == [
        ("recordings", 0, 16_000),
        ("recordings", 1, 16_000),
        ("ours", 0, 16_000),
        ("ours", 1, 16_000),
    ]
    rows = [line.split(" | ") for line in done.table().splitlines()]
    assert rows[0][1:3] == ["WER %", "CER %"] and all(len(row) == len(rows[0]) for row in rows[2:5])
    assert [row[0] for row in rows[2:5]] == ["| recordings", "| recordings, as another voice", "| ours"]
    assert rows[2][1] == rows[4][1] == "25.0 (25.0-25.0)" and rows[4][3] == "3.00 (3.00-3.00)"
    assert " / " in rows[4][7] and not rows[2][7].strip()
    assert "nearest of 4 voices" in done.table() and "Whisper parrot" in done.table()
    document = json.loads(json.dumps(done.document()))
    assert document["scores"]["ours"][0]["words"] == 4 and document["among"] == {"af_a": 4}


def test_people_say_sentences_that_they_never_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaking, "dnsmos", lambda *_: 3.0)
    monkeypatch.setattr(speaking, "distill_mos", lambda *_: 4.0)
    clips = {name: [np.full(48_000, level, np.float32)] * 5 for name, level in (("ann", 0.1), ("ben", 0.2))}
    monkeypatch.setattr(told, "speakers", lambda _: clips.items())
    lines, voices = people(Packages(tmp_path), harvard(4))
    assert [line.voice for line in lines] == ["ann", "ben", "ann", "ben"]
    assert [line.text for line in lines] == list(HARVARD[:4])
    for line in lines:
        known = {row.path for row in voices[line.voice].known}
        assert line.prompt and line.recording and not known & {line.prompt.path, line.recording}
        assert len(decode(line.prompt.path)) >= 5 * 16_000
    done = bench(
        [Tone("recordings", made=False), Tone("ours")], lines, voices,
        Judges("parrot", lambda sound: "glue", embed), tell=lambda _: None,
    )  # fmt: skip
    rows = [line.split(" | ") for line in done.table().splitlines()]
    assert [row[0] for row in rows[2:5]] == ["| recordings", "| recordings, as another voice", "| ours"]
    assert rows[2][1] == rows[2][2] == "" and rows[4][1], "nobody knows what the recordings say"
    assert rows[2][3] == "3.00 (3.00-3.00)" and rows[2][5] and "nearest of 2 voices." in done.table()


def test_silence_is_an_error_and_first_means_sound() -> None:
    sound, first, elapsed = said(Tone("ours"), Line(0, "Hello."))
    assert len(sound) == 16_000 and 0 < first <= elapsed
    with pytest.raises(ModelError, match="mute says nothing of 'Hello.'"):
        said(Mute("mute"), Line(0, "Hello."))
