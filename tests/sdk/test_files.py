"""Which files a command line names, and where each result goes."""

from pathlib import Path

import pytest

from riverrun.files import Job, plan


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """calls/a.wav, calls/night/b.MP3 and clip.mp4 among notes, results and hidden files."""
    for name in ("calls/a.wav", "calls/night/b.MP3", "clip.mp4", "calls/notes.txt", "calls/a.restored.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "calls" / ".a.wav").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_goes_beside_itself(tree: Path) -> None:
    assert plan(["clip.mp4"], None) == [Job("clip.mp4", "clip.restored.mp4")]


@pytest.mark.parametrize(
    ("out", "target"), [("x.wav", "x.wav"), ("calls", "calls/clip.mp4"), ("new/", "new/clip.mp4"), ("-", "-")]
)
def test_a_file_goes_where_it_is_told(tree: Path, out: str, target: str) -> None:
    assert plan(["clip.mp4"], out) == [Job("clip.mp4", target)]


def test_a_folder_keeps_its_tree_beside_the_sources(tree: Path) -> None:
    assert plan(["calls"], None) == [
        Job("calls/a.wav", "calls/a.restored.wav"),
        Job("calls/night/b.MP3", "calls/night/b.restored.MP3"),
    ]


def test_a_folder_keeps_its_tree_in_another(tree: Path) -> None:
    assert plan(["calls"], "clean") == [
        Job("calls/a.wav", "clean/a.wav"),
        Job("calls/night/b.MP3", "clean/night/b.MP3"),
    ]


def test_results_inside_the_input_folder_are_not_sources(tree: Path) -> None:
    (tree / "calls" / "clean").mkdir()
    (tree / "calls" / "clean" / "a.wav").touch()
    assert len(plan(["calls"], "calls/clean")) == 2


def test_a_folder_of_one_file_still_goes_to_a_folder(tree: Path) -> None:
    assert plan(["calls/night"], "clean") == [Job("calls/night/b.MP3", "clean/b.MP3")]


def test_a_glob_leaves_results_out(tree: Path) -> None:
    assert plan(["calls/*.wav"], None) == [Job("calls/a.wav", "calls/a.restored.wav")]
    assert [job.source for job in plan(["**/*.MP3", "clip.mp4"], None)] == ["calls/night/b.MP3", "clip.mp4"]


def test_a_file_named_like_a_glob_is_a_file(tree: Path) -> None:
    (tree / "a[1].wav").touch()
    assert plan(["a[1].wav"], None) == [Job("a[1].wav", "a[1].restored.wav")]


def test_a_pipe_goes_to_a_pipe_or_a_file(tree: Path) -> None:
    assert plan(["-"], None) == [Job("-", "-")]
    assert plan(["-"], "x.flac") == [Job("-", "x.flac")]


def test_a_missing_file_is_left_to_whoever_opens_it(tree: Path) -> None:
    assert plan(["gone.wav"], None) == [Job("gone.wav", "gone.restored.wav")]


@pytest.mark.parametrize("name", ["*.flac", "empty"])
def test_a_name_for_nothing_is_refused(tree: Path, name: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(ValueError, match="no media file"):
        plan(["clip.mp4", name], None)


@pytest.mark.parametrize("out", ["-", "clip.mp4"])
def test_many_results_do_not_go_to_one_place(tree: Path, out: str) -> None:
    with pytest.raises(ValueError, match="2 results cannot go to"):
        plan(["calls"], out)


@pytest.mark.parametrize("out", [".", "calls"])
def test_results_may_lie_above_or_among_their_sources(tree: Path, out: str) -> None:
    assert [job.source for job in plan(["calls"], out)] == ["calls/a.wav", "calls/night/b.MP3"]


def test_results_inside_a_folder_are_no_sources_however_it_is_named(tree: Path) -> None:
    (tree / "calls" / "clean").mkdir()
    (tree / "calls" / "clean" / "a.wav").touch()
    assert [Path(job.source).name for job in plan([str(tree / "calls")], "calls/clean")] == ["a.wav", "b.MP3"]


def test_results_below_a_glob_are_no_sources_either(tree: Path) -> None:
    (tree / "calls" / "clean").mkdir()
    (tree / "calls" / "clean" / "a.wav").touch()
    assert [job.source for job in plan(["calls/**/*.wav"], "calls/clean")] == ["calls/a.wav"]
    assert [job.source for job in plan(["**/*.wav"], "calls/clean")] == ["calls/a.wav"]
