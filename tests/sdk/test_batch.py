"""Batches as a user meets them: made here or at a server, killed and started again, and what is said of each."""

import errno
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from riverrun.media import read
from riverrun.streaming.jobs import whole
from tests.models.speech.small import stored
from tests.sdk.mutants import tone, write
from tests.sdk.test_cli import COMMAND, call

RATE = 16_000


@pytest.fixture
def line(tiny: str, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Makes a line whose input is there."""

    def line(name: str, seconds: float = 0.2, **values: Any) -> dict[str, Any]:
        write(tmp_path / f"{name}.wav", tone(RATE, 1, seconds), RATE, "pcm_s16le")
        return {"id": name, "task": "restore", "input": f"{name}.wav", "model": tiny, **values}

    return line


def lines(folder: Path, *told: dict[str, Any]) -> Path:
    file = folder / "jobs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in told))
    return file


def batch(folder: Path, *options: str | Path) -> int:
    return call("batch", folder / "jobs.jsonl", "--out", folder / "out", *options)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    told = (folder / "out" / "manifest.jsonl").read_text().splitlines()
    return {record["id"]: record for record in map(json.loads, told)}


def results(folder: Path) -> dict[str, int]:
    """What appeared, and when it was written."""
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*.wav") if not p.name.startswith(".")}


def half_made(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".part" in path.name]


def test_every_line_is_made_once_and_the_manifest_tells_how(
    tmp_path: Path, tiny: str, line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path, line("a", output="deep/a.flac", seed=3), line("b", strength=0))
    assert batch(tmp_path) == 0
    assert "lines: 2 new" in (said := capsys.readouterr().err) and "a: a.wav -> deep/a.flac" in said
    made = tmp_path / "out" / "deep" / "a.flac"
    assert len(read(made)[0]) == RATE // 5
    told = records(tmp_path)["a"]
    assert told["output"] == {
        "path": "deep/a.flac",
        "sha256": hashlib.sha256(made.read_bytes()).hexdigest(),
        "bytes": made.stat().st_size,
    }
    assert told["input"]["sha256"] == hashlib.sha256((tmp_path / "a.wav").read_bytes()).hexdigest()
    assert told["weights_sha256"] == hashlib.sha256(Path(tiny).read_bytes()).hexdigest()
    assert (told["seed"], told["status"], told["error"]) == (3, "done", None)
    before = results(tmp_path / "out")
    assert batch(tmp_path) == 0
    assert "lines: 2 as before" in capsys.readouterr().err and results(tmp_path / "out") == before


def test_a_result_is_what_restore_gives(tmp_path: Path, tiny: str, line: Any) -> None:
    lines(tmp_path, line("a", seconds=1))
    assert batch(tmp_path) == 0
    assert call("restore", tmp_path / "a.wav", "-o", tmp_path / "b.wav", "--model", tiny) == 0
    assert (read(tmp_path / "out" / "a.wav")[0] == read(tmp_path / "b.wav")[0]).all()


def test_a_change_is_noticed(tmp_path: Path, line: Any, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c, d = (line(name) for name in "abcd")
    lines(tmp_path, a, b, c)
    assert batch(tmp_path) == 0
    before = results(tmp_path / "out")
    write(tmp_path / "b.wav", tone(RATE, 1, 0.4), RATE, "pcm_s16le")
    (tmp_path / "out" / "c.wav").unlink()
    lines(tmp_path, d, {**c, "seed": 0}, b, {**a, "output": "a.wav"})
    capsys.readouterr()
    assert batch(tmp_path) == 0
    assert "lines: 1 new, 2 changed, 1 as before" in capsys.readouterr().err
    assert len(read(tmp_path / "out" / "b.wav")[0]) == RATE * 4 // 10
    lines(tmp_path, d)
    assert batch(tmp_path) == 0
    assert "1 as before, 3 no longer there" in capsys.readouterr().err
    assert set(records(tmp_path)) == {"d"} and set(results(tmp_path / "out")) == {*before, "d.wav"}


def test_what_fails_is_listed_and_the_rest_is_made(
    tmp_path: Path, line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    text, gone, pipe, good = line("text"), line("gone"), line("pipe"), line("good")
    (tmp_path / "text.wav").write_text("no sound\n" * 99)
    (tmp_path / "gone.wav").unlink()
    (tmp_path / "pipe.wav").unlink()
    os.mkfifo(tmp_path / "pipe.wav")
    lines(tmp_path, text, gone, pipe, good)
    assert batch(tmp_path) == 1
    said = capsys.readouterr().err
    assert "3 of 4 failed:\n  line 1, text: the input cannot be opened" in said
    assert (
        "line 2, gone: gone.wav: No such file or directory" in said
        and "line 3, pipe: pipe.wav is no ordinary" in said
    )
    assert set(results(tmp_path / "out")) == {"good.wav"} and not half_made(tmp_path)
    line("gone")  # is there now
    assert batch(tmp_path) == 1
    assert "1 changed, 3 as before" in capsys.readouterr().err
    assert set(results(tmp_path / "out")) == {"good.wav", "gone.wav"}
    assert batch(tmp_path, "--retry-failed") == 1
    assert "lines: 2 tried again, 2 as before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"voice": "x"}, "line 2: 'voice' is no key"),
        ({"output": "../b.wav"}, "line 2: output is '../b.wav'"),
        ({"output": "link/b.wav"}, "line 2: output link/b.wav leaves"),
        ({"output": "there.wav"}, "line 2: output is 'there.wav', which is there already"),
        ({"output": "dir.wav"}, "line 2: output is 'dir.wav', which is there already"),
        ({"model": "none"}, "line 2: model is 'none', expected one of restore-lite"),
        ({"model": "gone.safetensors"}, "line 2: "),
        ({"id": "a"}, "line 2: id is 'a', which line 1 has, too"),
    ],
)
def test_a_wrong_line_is_refused_before_anything_runs(
    tmp_path: Path, line: Any, values: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "dir.wav").mkdir(parents=True)
    (tmp_path / "out" / "there.wav").write_text("mine")
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    lines(tmp_path, line("a"), {**line("b"), **values})
    assert batch(tmp_path) == 1
    assert f"riverrun: {words}" in capsys.readouterr().err
    assert (tmp_path / "out" / "there.wav").read_text() == "mine"
    assert set(results(tmp_path)) == {"a.wav", "b.wav", "there.wav", "dir.wav"}
    assert not list((tmp_path / "out").glob("a*"))


def test_what_is_there_is_replaced_when_forced_and_inputs_never(
    tmp_path: Path, line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path, line("a", output="there.wav"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "there.wav").write_text("mine")
    assert batch(tmp_path, "--force") == 0
    assert len(read(tmp_path / "out" / "there.wav")[0]) == RATE // 5
    lines(tmp_path, line("a", output="a.wav"))
    before = (tmp_path / "a.wav").read_bytes()
    assert call("batch", tmp_path / "jobs.jsonl", "--out", tmp_path, "--force") == 1
    assert "output is 'a.wav', which is an input" in capsys.readouterr().err
    assert (tmp_path / "a.wav").read_bytes() == before


def test_a_link_that_is_put_in_the_way_is_not_followed(tmp_path: Path, line: Any) -> None:
    (tmp_path / "mine.wav").write_text("mine")
    (tmp_path / "out").mkdir()
    for name in ("a.wav", ".a.wav.part"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "mine.wav")
    lines(tmp_path, line("a"))
    assert batch(tmp_path, "--force") == 0
    assert (tmp_path / "mine.wav").read_text() == "mine" and not half_made(tmp_path)
    assert len(read(tmp_path / "out" / "a.wav")[0]) == RATE // 5


def texts(folder: Path, *names: str, **values: Any) -> Path:
    made = ({"id": name, "task": "speak", "text": f"Hello {name}.", **values} for name in names)
    return lines(folder, *made)


def test_texts_are_said_with_a_model_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts(tmp_path, "a", "b", voice="ben", seed=4)
    assert batch(tmp_path) == 1
    assert "line 1: voice is 'ben', expected one of af_alloy" in capsys.readouterr().err, (
        "the package's own model speaks"
    )
    weights = stored(tmp_path)
    assert batch(tmp_path, "--model", weights) == 0
    assert set(before := results(tmp_path / "out")) == {"a.wav", "b.wav"}
    assert all(len(read(tmp_path / "out" / name)[0]) > 1000 for name in before)
    told = records(tmp_path)["a"]
    assert told["input"] == {"sha256": hashlib.sha256(b"Hello a.").hexdigest(), "bytes": 8}
    assert (told["seed"], told["request"]["voice"]) == (4, "ben")
    assert told["weights_sha256"] == hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert batch(tmp_path, "--model", weights) == 0
    assert "lines: 2 as before" in capsys.readouterr().err and results(tmp_path / "out") == before
    texts(tmp_path, "a", model="small.safetensors", voice="carl")
    assert batch(tmp_path) == 1
    assert "line 1: voice is 'carl', expected one of anna, ben" in capsys.readouterr().err


class Full(io.FileIO):
    """A file on a disk that is full after some bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 3000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data) or 0


def test_a_full_disk_fails_what_it_meets_and_the_next_run_makes_it(
    tmp_path: Path, line: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path | int, mode: str) -> Any:
        hit = isinstance(path, Path) and "b.wav" in path.name
        return io.BufferedRandom(Full(path, mode)) if hit else open(path, mode)

    lines(tmp_path, *(line(name) for name in "abc"))
    monkeypatch.setattr(whole, "open", full, raising=False)
    assert batch(tmp_path) == 1
    assert "line 2, b: the output cannot be written: No space left on device" in capsys.readouterr().err
    assert set(results(tmp_path / "out")) == {"a.wav", "c.wav"} and not half_made(tmp_path)
    monkeypatch.undo()
    assert batch(tmp_path) == 0
    assert "lines: 1 tried again, 2 as before" in capsys.readouterr().err
    assert set(results(tmp_path / "out")) == {"a.wav", "b.wav", "c.wav"}


def started(folder: Path, *options: str) -> subprocess.Popen[str]:
    arguments = ["batch", str(folder / "jobs.jsonl"), "--out", str(folder / "out"), *options]
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # jobs in the background inherit a deaf ear
    )


def once(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What a condition gives when it holds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)
    return found


def test_a_batch_that_is_killed_again_and_again_is_made_once(tmp_path: Path, line: Any) -> None:
    names = "abcdefg"
    lines(tmp_path, *(line(name, seconds=4) for name in names))
    out = tmp_path / "out"
    seen: dict[str, int] = {}
    for count in (1, 2, 4):
        with started(tmp_path, "--jobs", "1") as running:
            once(lambda count=count: len(results(out)) >= count and half_made(out))  # type: ignore[misc]
            running.send_signal(signal.SIGKILL)
        found = results(out)
        assert len(found) < len(names) and seen.items() <= found.items()
        assert all(len(read(out / name)[0]) == 4 * RATE for name in found)
        seen = found
    assert batch(tmp_path) == 0
    assert seen.items() <= results(out).items() and not half_made(tmp_path)
    told = records(tmp_path)
    assert [told[name]["status"] for name in names] == ["done"] * len(names)
    assert {told[name.removesuffix(".wav")]["attempts"] for name in seen} <= {1, 2, 3}
    assert sum(record["attempts"] for record in told.values()) <= len(names) + 3


def test_an_interrupt_says_how_to_go_on(tmp_path: Path, line: Any) -> None:
    lines(tmp_path, line("a"), line("b", seconds=60))
    for stop, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with started(tmp_path, "--jobs", "1") as running:
            once(lambda: results(tmp_path / "out") and half_made(tmp_path))
            running.send_signal(stop)
            _, said = running.communicate()
        assert running.returncode == status, said
        assert "stopped, 1 of 2 done: run the same command to go on" in said and "Traceback" not in said
        assert not half_made(tmp_path)
        told = records(tmp_path)
        assert (told["a"]["status"], told["b"]["status"], told["b"]["attempts"]) == ("done", "queued", 0)


def test_two_runs_do_not_share_a_folder(
    tmp_path: Path, line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path, line("a", seconds=60))
    with started(tmp_path) as running:
        once(lambda: half_made(tmp_path))
        assert batch(tmp_path) == 1
        assert "another riverrun is at work on" in capsys.readouterr().err
        running.kill()


def free() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def serving(folder: Path, model: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, ready."""
    environment = {
        **os.environ,
        "RIVERRUN_MODELS": json.dumps([model]),
        "RIVERRUN_JOBS__FOLDER": str(folder / "state"),
        "RIVERRUN_JOBS__AT_ONCE": "1",
        "RIVERRUN_ACCESS__REQUESTS": "1000",
    }
    command = [sys.executable, "-m", "riverrun.cli", "serve", "--port", str(port)]
    with open(folder / "server.log", "ab") as log:
        with subprocess.Popen(command, env=environment, stderr=log, stdout=log) as running:
            try:
                once(lambda: ready(port))
                yield running
            finally:
                running.kill()


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_a_server_makes_a_batch_as_it_is_made_here(
    tmp_path: Path, tiny: str, line: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = line("bad")
    (tmp_path / "bad.wav").write_text("no sound\n" * 99)
    lines(tmp_path, line("a", output="deep/a.flac"), bad, line("c", seed=5))
    port = free()
    with serving(tmp_path, tiny, port):
        assert batch(tmp_path, "--server", f"http://127.0.0.1:{port}") == 1
        assert "1 of 3 failed:\n  line 2, bad: the input cannot be opened" in capsys.readouterr().err
        assert httpx.get(f"http://127.0.0.1:{port}/v1/jobs").json()["data"] == []
    there = records(tmp_path)
    assert call("batch", tmp_path / "jobs.jsonl", "--out", tmp_path / "here") == 1
    (tmp_path / "out").rename(tmp_path / "there")
    (tmp_path / "here").rename(tmp_path / "out")
    here = records(tmp_path)
    for name in ("a", "bad", "c"):
        one, two = ({k: v for k, v in of[name].items() if k != "timings"} for of in (here, there))
        assert one == two


def test_a_server_says_texts_as_they_are_said_here(tmp_path: Path) -> None:
    model, port = stored(tmp_path), free()
    texts(tmp_path, "a", "b", voice="ben")
    with serving(tmp_path, model, port):
        assert batch(tmp_path, "--server", f"http://127.0.0.1:{port}") == 0
    there = records(tmp_path)
    assert call("batch", tmp_path / "jobs.jsonl", "--out", tmp_path / "here", "--model", model) == 0
    (tmp_path / "out").rename(tmp_path / "there")
    (tmp_path / "here").rename(tmp_path / "out")
    here = records(tmp_path)
    for name in ("a", "b"):
        one, two = (
            {k: v for k, v in of[name].items() if k not in ("timings", "request")} for of in (here, there)
        )
        assert one == two


def test_texts_that_are_cut_short_by_a_kill_are_said_once(tmp_path: Path) -> None:
    long = "This is one of many sentences that are all alike. " * 8
    lines(tmp_path, *({"id": n, "task": "speak", "text": long} for n in "abcd"))
    model, out = stored(tmp_path), tmp_path / "out"
    with started(tmp_path, "--jobs", "1", "--model", model) as running:
        once(lambda: results(out) and half_made(out))
        running.send_signal(signal.SIGKILL)
    seen = results(out)
    assert batch(tmp_path, "--model", model) == 0
    assert seen.items() <= results(out).items() and len(results(out)) == 4 and not half_made(tmp_path)


def test_a_server_that_cannot_be_used_stops_the_batch_and_fails_nothing(
    tmp_path: Path, line: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("riverrun.remote.TRIES", 1)
    lines(tmp_path, line("a"))
    assert batch(tmp_path, "--server", f"http://127.0.0.1:{free()}") == 1
    said = capsys.readouterr().err
    assert "does not answer as it should" in said and "run the same command again later" in said
    assert records(tmp_path)["a"]["status"] == "queued"
    assert batch(tmp_path) == 0


def test_a_server_that_is_killed_goes_on_where_it_was(tmp_path: Path, tiny: str, line: Any) -> None:
    names = "abcde"
    told = "\n".join(json.dumps(line(name, seconds=4)) for name in names)
    port, state = free(), tmp_path / "state"

    def post() -> httpx.Response:
        inputs = [(f"{name}.wav", (tmp_path / f"{name}.wav").read_bytes()) for name in names]
        files: list[Any] = [("jobs", told), *(("files", pair) for pair in inputs)]
        return httpx.post(f"http://127.0.0.1:{port}/v1/jobs", files=files, headers={"idempotency-key": "k"})

    seen: dict[str, int] = {}
    ids = set()
    for count in (2,):
        with serving(tmp_path, tiny, port) as running:
            ids.add(post().json()["id"])
            once(lambda count=count: len(results(state)) >= count and half_made(state))  # type: ignore[misc]
            running.send_signal(signal.SIGKILL)
        assert len(results(state)) < len(names) and seen.items() <= results(state).items()
        seen = results(state)
    (job,) = ids
    with (
        serving(tmp_path, tiny, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        at = f"/v1/jobs/{job}"
        done = once(
            lambda: (found := client.get(at, params={"wait": 1}).json())["status"] == "done" and found
        )
        assert done["done"] == len(names)
        assert seen.items() <= results(state).items() and not half_made(state)
        for name in names:
            assert len(read(client.get(f"{at}/outputs/{name}").content)[0]) == 4 * RATE
