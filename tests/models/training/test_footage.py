"""Clips of one's own: where captions are looked for, what lacks one, how long and large they are, and cutting."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media import Chunk, MediaError, VideoWriter
from riverrun.media.pictures import save
from riverrun.models.errors import ModelError
from riverrun.models.training.footage import Clip, cut, listed, measure


def film(path: Path, frames: int = 20, size: tuple[int, int] = (48, 64), rate: int = 12) -> Path:
    """A clip that becomes brighter, six shades a frame, and is darker on its left."""
    shades = 40 + 6 * np.arange(frames)[:, None, None, None] + np.linspace(0, 40, size[1])[:, None]
    pictures: NDArray[np.uint8] = np.broadcast_to(shades, (frames, *size, 3)).astype(np.uint8)
    with VideoWriter(path, rate, size) as writer:
        writer.put(Chunk(pictures, 0, rate))
    return path


def test_captions_lie_beside_clips(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name, text in (("b.mp4", "A Calm Sea"), ("more/a.PNG", "a storm, aesthetic score: 5.0.\n")):
        (tmp_path / name).touch()
        (tmp_path / name).with_suffix(".txt").write_text(text)
    assert listed([tmp_path], 6.5) == [
        Clip(tmp_path / "b.mp4", "a calm sea aesthetic score: 6.5."),
        Clip(tmp_path / "more" / "a.PNG", "a storm, aesthetic score: 5.0."),
    ]
    (tmp_path / "out" / "samples").mkdir(parents=True)
    (tmp_path / "out" / "samples" / "0.mp4").touch()
    assert len(listed([tmp_path], 6.5, tmp_path / "out")) == 2, "what a training wrote is none of its clips"
    with pytest.raises(ModelError, match=r"0\.mp4 has no caption"):
        listed([tmp_path], 6.5)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "list.csv",
            'path,text,aes,flow,camera_motion,fps\na.mp4,"a ""calm"" sea, at\nnight",5.25,3,pan left,24\n'
            "b.png,a storm,,,,\n",
        ),
        (
            "list.jsonl",
            '{"path": "a.mp4", "text": "a \\"calm\\" sea, at night", "aes": 5.25, "flow": "3",'
            ' "camera_motion": "pan left"}\n\n{"path": "b.png", "text": "a storm", "flow": null}\n',
        ),
    ],
)
def test_a_list_names_clips_captions_and_scores(tmp_path: Path, name: str, lines: str) -> None:
    (tmp_path / name).write_text(lines)
    assert [(clip.path, clip.text) for clip in listed([tmp_path / name], 6.0)] == [
        (
            tmp_path / "a.mp4",
            'a "calm" sea, at night aesthetic score: 5.2. motion score: 3.0. camera motion: pan left.',
        ),
        (tmp_path / "b.png", "a storm aesthetic score: 6.0."),
    ]


def test_a_score_of_nothing_is_a_score(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"path": "a.mp4", "text": "a sea", "aes": 0, "flow": 0.0}\n')
    (clip,) = listed([tmp_path / "list.jsonl"], 6.5)
    assert clip.text == "a sea aesthetic score: 0.0. motion score: 0.0."


@pytest.mark.parametrize(
    ("files", "source", "words"),
    [
        ({"a.mp4": "", "b.mp4": "", "b.txt": "a sea"}, ".", r"a\.mp4 has no caption: say what"),
        ({"a.mp4": "", "a.txt": " \n", "b.png": ""}, ".", r"a\.mp4 has no caption, and 1 others"),
        (
            {"a.mp4": "", "a.txt": "大海"},
            ".",
            r"a\.mp4 has the caption '大海', of which cleaning leaves nothing",
        ),
        ({"a.txt": "a sea"}, ".", "has no clips: expected videos"),
        ({"a.mp4": ""}, "a.mp4", "no folder and no list"),
        ({}, "gone.csv", r"gone\.csv cannot be read"),
        ({"l.csv": "path,text\na.mp4,\n"}, "l.csv", r"l\.csv, clip 1 has no caption"),
        ({"l.csv": "path,text\na.mp4\n"}, "l.csv", r"l\.csv, clip 1 has no caption"),
        ({"l.csv": "file,text\na.mp4,a sea\n"}, "l.csv", r"clip 1 holds \{'file'.*expected path and text"),
        ({"l.csv": "path,text\na.wav,a sea\n"}, "l.csv", r"clip 1 is .*a\.wav, expected videos"),
        ({"l.csv": "path,text,aes\na.mp4,a sea,good\n"}, "l.csv", r"clip 1: could not convert .*'good'"),
        ({"l.jsonl": "{"}, "l.jsonl", r"l\.jsonl cannot be read"),
        ({"l.jsonl": "[1]"}, "l.jsonl", r"clip 1 holds \[1\], expected path and text"),
        (
            {"l.jsonl": '{"path": 5, "text": "a sea"}'},
            "l.jsonl",
            r"clip 1 holds .*5.*, expected path and text",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_told(
    tmp_path: Path, files: dict[str, str], source: str, words: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=words):
        listed([tmp_path / source], 6.5)


def test_clips_are_measured_and_cut(tmp_path: Path) -> None:
    clip = Clip(film(tmp_path / "a.mp4"), "a sea")
    assert vars(measure(clip)) == {"frames": 20, "height": 48, "width": 64, "rate": 12.0}
    made = cut(clip, 14, 5, (32, 32))  # from both of the chunks that it is read in
    assert made.shape == (5, 32, 32, 3)
    wanted = 40 + 6 * np.arange(14, 19) + 20
    assert np.abs(made.mean((1, 2, 3)) - wanted).max() < 4
    save(tmp_path / "b.png", np.full((40, 60, 3), 90, np.uint8))
    still = Clip(tmp_path / "b.png", "a sea")
    assert vars(measure(still)) == {"frames": 1, "height": 40, "width": 60, "rate": 120}
    assert (cut(still, 0, 1, (24, 32)) == 90).all()
    single = Clip(film(tmp_path / "single.mp4", frames=1), "a sea")
    assert vars(measure(single)) == {"frames": 1, "height": 48, "width": 64, "rate": 120}, "it is a picture"
    (tmp_path / "c.mp4").write_bytes(b"this is no video")
    with pytest.raises(MediaError):
        measure(Clip(tmp_path / "c.mp4", "a sea"))
