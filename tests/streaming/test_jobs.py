"""Jobs at a server: handed in once, made in the background, given out whole, cancelled, taken up after a crash."""

import asyncio
import errno
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import riverrun
from riverrun.media import read
from riverrun.streaming.access import digest
from riverrun.streaming.hub import Hub
from riverrun.streaming.jobs import whole
from riverrun.streaming.scheduler import Fence
from riverrun.streaming.wire import Open
from tests.models.speech.small import small
from tests.models.voice.small import small as converter
from tests.streaming.serving import RATE, noise, server
from tests.streaming.test_http import Volume, recording

pytestmark = pytest.mark.anyio
SHORT = recording(noise(RATE // 2))


@asynccontextmanager
async def jobs(
    folder: Path, key: str | None = None, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Hub]]:
    """A client of a server whose jobs are in a folder."""
    given = {"folder": folder, **settings.pop("jobs", {})}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with server({"restore-lite": Volume()}, jobs=given, **settings) as (at, hub):
        async with httpx.AsyncClient(base_url=f"http://{at}", timeout=30, headers=headers) as client:
            yield client, hub


def line(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "task": "restore", "input": "in.wav", **values}


async def post(
    client: httpx.AsyncClient, *lines: dict[str, Any], key: str | None = None, **files: Any
) -> httpx.Response:
    """Hand in lines; the file `in.wav` is there unless others are named, with `_` for the dot."""
    named = {name.replace("_", "."): data for name, data in files.items()} or {"in.wav": SHORT}
    told = "\n".join(map(json.dumps, lines))
    parts: list[Any] = [("jobs", ("jobs.jsonl", told)), *(("files", pair) for pair in named.items())]
    headers = {"idempotency-key": key} if key else {}
    return await client.post("/v1/jobs", files=parts, headers=headers)


async def over(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    """A job when it is over."""
    while True:
        told: dict[str, Any] = (await client.get(f"/v1/jobs/{job}", params={"wait": 10})).json()
        if told["status"] not in ("queued", "running"):
            return told


async def until(client: httpx.AsyncClient, job: str, state: str) -> None:
    while not (await client.get(f"/v1/jobs/{job}")).json()[state]:
        await asyncio.sleep(0.02)


async def records(client: httpx.AsyncClient, job: str) -> list[dict[str, Any]]:
    return [json.loads(told) for told in (await client.get(f"/v1/jobs/{job}/manifest")).text.splitlines()]


def parts(folder: Path) -> list[Path]:
    """What is half made."""
    return [path for path in folder.rglob("*") if ".part" in path.name]


async def test_lines_are_made_and_the_manifest_tells_how(tmp_path: Path) -> None:
    async with jobs(tmp_path / "jobs") as (client, _):
        posted = await post(client, line("one", output="a/b.flac", seed=7), line("two", strength=0))
        assert posted.status_code == 201 and not list(tmp_path.glob("*.sqlite"))
        told = posted.json()
        assert posted.headers["location"] == f"/v1/jobs/{told['id']}"
        assert told["object"] == "job" and told["total"] == 2 and told["position"] == 0
        done = await over(client, told["id"])
        assert (done["status"], done["done"]) == ("done", 2) and done["finished_at"] >= done["created_at"]
        one, two = [await client.get(f"/v1/jobs/{told['id']}/outputs/{name}") for name in ("one", "two")]
        assert one.headers["content-type"] == "audio/flac"
        assert one.headers["content-disposition"] == 'attachment; filename="b.flac"'
        assert len(read(one.content)[0]) == RATE // 2 and read(one.content)[0].any()
        assert not read(two.content)[0].any()  # its strength reached the model
        first, _ = await records(client, told["id"])
        assert first["output"] == {
            "path": "a/b.flac",
            "sha256": digest_of(one.content),
            "bytes": len(one.content),
        }
        assert first["input"] == {"path": "in.wav", "sha256": digest_of(SHORT), "bytes": len(SHORT)}
        assert (first["seed"], first["model"], first["attempts"]) == (7, "restore-lite", 1)
        assert set(first["versions"]) == {"riverrun", "torch"}
        assert (
            first["timings"]["media"] == 0.5
            and first["timings"]["finished_at"] >= first["timings"]["queued_at"]
        )


def digest_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


async def test_a_range_of_an_output_can_be_had(tmp_path: Path) -> None:
    async with jobs(tmp_path) as (client, _):
        job = (await post(client, line("one"))).json()["id"]
        await over(client, job)
        path = f"/v1/jobs/{job}/outputs/one"
        whole = (await client.get(path)).content
        some = await client.get(path, headers={"range": "bytes=10-19"})
        assert some.status_code == 206 and some.content == whole[10:20]


async def test_a_key_stands_for_one_job(tmp_path: Path) -> None:
    async with jobs(tmp_path) as (client, _):
        first = await post(client, line("one"), key="k")
        again = await post(client, line("one"), key="k")
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["id"] == again.json()["id"]
        for other in (
            await post(client, line("two"), key="k"),
            await post(client, line("one"), key="k", in_wav=b"x"),
        ):
            assert other.status_code == 422 and other.headers["x-should-retry"] == "false"
            assert other.json()["error"]["code"] == "idempotency_key_reused"
        both = await asyncio.gather(*(post(client, line("one"), key="new") for _ in range(4)))
        assert len({reply.json()["id"] for reply in both}) == 1
        assert len((await client.get("/v1/jobs")).json()["data"]) == 2
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize(
    ("lines", "files", "status", "words"),
    [
        ([line("one", voice="x")], {}, 400, "line 1: 'voice' is no key"),
        ([line("one", model="none")], {}, 400, "line 1: model is 'none', expected one of restore-lite"),
        (
            [line("one", input="gone.wav")],
            {},
            400,
            "line 1: input is 'gone.wav', and no file of that name was sent",
        ),
        (
            [line("one")],
            {"in_wav": SHORT, "b_wav": SHORT},
            400,
            "file 'b.wav' was sent, and is no line's input",
        ),
        ([line("one", output="../../one.wav")], {}, 400, "line 1: output"),
        ([line(f"l{i}") for i in range(5)], {}, 400, "line 5 is one too many"),
        ([], {}, 400, "there are no lines"),
        ([line("one")], {"in_wav": bytes(1 << 17)}, 413, "the limit is 65536"),
        ([line("one")], {"in_wav": bytes(1 << 20)}, 413, "which is the limit"),
    ],
)
async def test_a_wrong_job_is_refused_and_leaves_nothing(
    tmp_path: Path, lines: list[Any], files: dict[str, Any], status: int, words: str
) -> None:
    limits = {"lines": 4, "bytes": 1 << 18}
    async with jobs(tmp_path / "jobs", jobs=limits, files={"bytes": 1 << 16}) as (client, _):
        reply = await post(client, *lines, **files)
        assert reply.status_code == status and words in reply.json()["error"]["message"], reply.text
        assert (await client.get("/v1/jobs")).json()["data"] == []
        assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path.name != "jobs"]


async def test_a_form_that_is_none_is_refused(tmp_path: Path) -> None:
    async with jobs(tmp_path) as (client, _):
        forms: list[Any] = [{}, {"data": {"jobs": "{}", "more": "x"}}, {"json": [line("one")]}]
        for form in forms:
            assert (await client.post("/v1/jobs", **form)).status_code == 400
        twice: list[Any] = [("jobs", json.dumps(line("a"))), *[("files", ("in.wav", SHORT))] * 2]
        reply = await client.post("/v1/jobs", files=twice)
        assert "two files are called 'in.wav'" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "name", ["../../../x.wav", "/etc/passwd", "..\\x.wav", "a/b/c.wav", "ä ö.wav", "x" * 3000]
)
async def test_an_upload_may_be_called_anything(tmp_path: Path, name: str) -> None:
    async with jobs(tmp_path / "a" / "b") as (client, _):
        told = json.dumps(line("one", input=name, output="one.wav"))
        parts: list[Any] = [("jobs", ("j", told)), ("files", (name, SHORT))]
        job = (await client.post("/v1/jobs", files=parts)).json()["id"]
        assert (await over(client, job))["status"] == "done"
        assert {path.name for path in tmp_path.iterdir()} == {"a"} and len(
            list((tmp_path / "a").iterdir())
        ) == 1


async def test_a_line_that_cannot_be_made_fails_alone(tmp_path: Path) -> None:
    async with jobs(tmp_path) as (client, _):
        lines = [line("good"), line("bad", input="bad.wav"), line("cut", input="cut.wav"), line("last")]
        posted = await post(client, *lines, in_wav=SHORT, bad_wav=b"no sound" * 99, cut_wav=SHORT[:3000])
        job = posted.json()["id"]
        told = await over(client, job)
        assert (told["status"], told["done"], told["failed"]) == ("failed", 2, 2)
        failed = (await client.get(f"/v1/jobs/{job}/lines", params={"status": "failed"})).json()["data"]
        assert [(r["id"], r["line"]) for r in failed] == [("bad", 2), ("cut", 3)]
        assert (
            "Invalid data" in failed[0]["error"]["message"] and "truncated" in failed[1]["error"]["message"]
        )
        assert (await client.get(f"/v1/jobs/{job}/outputs/bad")).status_code == 404
        assert not parts(tmp_path) and len(list((tmp_path / job / "outputs").iterdir())) == 2


class Full(io.FileIO):
    """A file on a disk that is full after some bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 8000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data) or 0


async def test_a_full_disk_fails_what_it_meets_and_a_retry_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path | int, mode: str) -> Any:
        two = isinstance(path, Path) and "two" in path.name
        return io.BufferedRandom(Full(path, mode)) if two else open(path, mode)

    async with jobs(tmp_path) as (client, hub):
        monkeypatch.setattr(whole, "open", full, raising=False)
        job = (await post(client, line("one"), line("two"), line("three"))).json()["id"]
        told = await over(client, job)
        assert (told["done"], told["failed"]) == (2, 1) and not hub.streams
        (_, failed, _) = await records(client, job)
        assert "No space left on device" in failed["error"]["message"] and failed["id"] == "two"
        assert not parts(tmp_path) and not (tmp_path / job / "outputs" / "two.wav").exists()
        monkeypatch.undo()
        assert (await client.post(f"/v1/jobs/{job}/retry")).json()["failed"] == 0
        assert (await over(client, job))["done"] == 3
        assert [r["attempts"] for r in await records(client, job)] == [1, 1, 1]


async def test_cancel_frees_what_is_being_made_at_once(tmp_path: Path) -> None:
    long = recording(noise(600 * RATE))
    async with jobs(tmp_path, jobs={"at_once": 1}) as (client, hub):
        job = (await post(client, line("long"), line("next"), in_wav=long)).json()["id"]
        await until(client, job, "running")
        while not hub.streams:
            await asyncio.sleep(0.01)
        told = (await client.post(f"/v1/jobs/{job}/cancel")).json()
        assert (told["status"], told["cancelled"]) == ("cancelled", 2)
        assert not hub.streams and not parts(tmp_path)
        assert (await client.post(f"/v1/jobs/{job}/cancel")).json() == told
        assert (await client.get(f"/v1/jobs/{job}/outputs/long")).status_code == 404
        after = (await post(client, line("one"))).json()["id"]
        assert (await over(client, after))["status"] == "done"
        assert (await client.delete(f"/v1/jobs/{job}")).status_code == 204
        assert (await client.get(f"/v1/jobs/{job}")).status_code == 404
        assert not (tmp_path / job).exists()


async def test_jobs_wait_in_line_and_are_listed(tmp_path: Path) -> None:
    long = recording(noise(120 * RATE))
    async with jobs(tmp_path, jobs={"at_once": 1, "waiting": 3}) as (client, _):
        ids = [(await post(client, line("a"), in_wav=long)).json()["id"] for _ in range(3)]
        places = [(await client.get(f"/v1/jobs/{job}")).json()["position"] for job in ids]
        assert places == [0, 1, 2]
        page = (await client.get("/v1/jobs", params={"limit": 2})).json()
        assert [job["id"] for job in page["data"]] == [ids[2], ids[1]] and page["has_more"]
        page = (await client.get("/v1/jobs", params={"after": ids[1]})).json()
        assert [job["id"] for job in page["data"]] == [ids[0]] and not page["has_more"]
        refused = await post(client, line("a"), line("b"))
        assert refused.status_code == 503 and "retry-after" in refused.headers


async def test_a_job_is_its_owners(tmp_path: Path) -> None:
    access = {"keys": [digest("anna"), digest("bert")]}
    async with jobs(tmp_path, "anna", access=access) as (client, _):
        job = (await post(client, line("one"), key="k")).json()["id"]
        await over(client, job)
        bert = {"authorization": "Bearer bert"}
        assert (await client.get("/v1/jobs", headers=bert)).json()["data"] == []
        for path in ("", "/lines", "/manifest", "/outputs/one"):
            assert (await client.get(f"/v1/jobs/{job}{path}")).status_code == 200
            stranger = await client.get(f"/v1/jobs/{job}{path}", headers=bert)
            unknown = await client.get(f"/v1/jobs/{'0' * 32}{path}", headers=bert)
            assert stranger.status_code == unknown.status_code == 404
            assert stranger.text.replace(job, "") == unknown.text.replace("0" * 32, "")
        for path in ("/cancel", "/retry"):
            assert (await client.post(f"/v1/jobs/{job}{path}", headers=bert)).status_code == 404
        assert (await client.delete(f"/v1/jobs/{job}", headers=bert)).status_code == 404
        assert (await client.get(f"/v1/jobs/{job}", headers={"authorization": ""})).status_code == 401
        client.headers.update(bert)
        assert (await post(client, line("one"), key="k")).json()["id"] != job


@pytest.mark.parametrize("name", ["..%2f..%2fjobs.sqlite", "one%00", "%2fetc%2fpasswd", "two"])
async def test_no_other_file_can_be_had(tmp_path: Path, name: str) -> None:
    async with jobs(tmp_path) as (client, _):
        job = (await post(client, line("one"))).json()["id"]
        await over(client, job)
        for path in (
            f"/v1/jobs/{job}/outputs/{name}",
            f"/v1/jobs/{name}/outputs/one",
            f"/v1/jobs/{name}/manifest",
        ):
            assert (await client.get(path)).status_code in (404, 405)


async def test_a_server_that_stops_in_order_takes_its_jobs_up_again(tmp_path: Path) -> None:
    sound = noise(12 * RATE)
    async with jobs(tmp_path, jobs={"at_once": 1}) as (client, _):
        lines = [line("short"), line("long", input="long.wav"), line("last")]
        job = (await post(client, *lines, in_wav=SHORT, long_wav=recording(sound))).json()["id"]
        await until(client, job, "done")
    assert not parts(tmp_path)
    async with jobs(tmp_path) as (client, _):
        assert (await over(client, job))["done"] == 3
        assert [record["attempts"] for record in await records(client, job)] == [1, 1, 1]
        got = read((await client.get(f"/v1/jobs/{job}/outputs/long")).content)[0]
        assert len(got) == len(sound) and np.isfinite(got).all()


async def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    async with jobs(tmp_path) as (one, _), jobs(tmp_path) as (two, _):
        assert (await post(one, line("one"))).status_code == 201
        refused = await post(two, line("one"))
        assert refused.status_code == 503 and "set jobs.folder" in refused.json()["error"]["message"]


async def test_what_is_old_is_forgotten_and_uploads_without_a_job_are_removed(tmp_path: Path) -> None:
    async with jobs(tmp_path) as (client, _):
        job = (await post(client, line("one"))).json()["id"]
        await over(client, job)
    (tmp_path / "0123" / "inputs").mkdir(parents=True)
    async with jobs(tmp_path, jobs={"keep": 1e-9}) as (client, _):
        while (tmp_path / job).exists():
            await asyncio.sleep(0.02)
        assert (await client.get("/v1/jobs")).json()["data"] == [] and not (tmp_path / "0123").exists()


# Speech


def text(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "task": "speak", "text": "Hello there.", **values}


@asynccontextmanager
async def speaking(folder: Path, **settings: Any) -> AsyncIterator[tuple[str, httpx.AsyncClient, Hub]]:
    """The address of a server that speaks, a client of it, and its hub."""
    kept = {"jobs": {"folder": folder / "jobs"}, "voices": {"folder": folder / "voices"}, **settings}
    async with server({"restore-lite": Volume(), "small": small()}, **kept) as (at, hub):
        async with httpx.AsyncClient(base_url=f"http://{at}", timeout=30) as client:
            yield at, client, hub


async def spoken(client: httpx.AsyncClient, *lines: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A job of lines that need no files, when it is over."""
    told = "\n".join(map(json.dumps, lines))
    posted = await client.post("/v1/jobs", files=[("jobs", ("jobs.jsonl", told))])
    assert posted.status_code == 201, posted.text
    job = posted.json()["id"]
    return job, await over(client, job)


async def test_texts_are_said_by_the_model_that_speaks_and_the_manifest_tells_how(tmp_path: Path) -> None:
    marked = '<speak>Hello there.<break time="1s"/></speak>'
    lines = (
        text("one", voice="ben", seed=5, output="a/b.flac"),
        text("two", text=marked, speed=2, model="small"),
        text("again", voice="ben", seed=5),
        {**text("empty"), "text": "\u263a"},
    )
    async with speaking(tmp_path) as (_, client, _):
        job, done = await spoken(client, *lines)
        assert (done["done"], done["failed"]) == (3, 1)
        sounds = [
            read((await client.get(f"/v1/jobs/{job}/outputs/{name}")).content)[0]
            for name in ("one", "two", "again")
        ]
        told = {record["id"]: record for record in await records(client, job)}
        asked = {"input": "Hello there.", "voice": "ben", "seed": 5, "response_format": "wav"}
        said = await client.post("/v1/audio/speech", json=asked)
        empty = (await client.get(f"/v1/jobs/{job}/lines", params={"status": "failed"})).json()["data"]
    assert len(sounds[0]) > 1000 and np.allclose(sounds[0], sounds[2], atol=1e-4)
    assert np.allclose(sounds[0], read(said.content)[0], atol=1e-4)
    assert len(sounds[1]) > 24_000, "the pause of its markup"
    one = told["one"]
    assert one["input"] == {"sha256": digest_of(b"Hello there."), "bytes": 12}
    assert (one["seed"], one["model"], one["task"]) == (5, "small", "speak")
    assert one["request"] == {"voice": "ben", "speed": 1.0, "steps": 8}
    assert set(one["versions"]) == {"riverrun", "torch"} and one["timings"]["media"] > 0
    assert "nothing that can be said" in empty[0]["error"]["message"]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"strength": 1}, "line 1: 'strength' is no key of task speak, which takes id, task, text, model"),
        ({"text": ""}, "line 1: text is '', expected text"),
        ({"speed": 9}, "line 1: speed is 9, expected a number from 0.25 to 4"),
        ({"steps": 0}, "line 1: steps is 0, expected a whole number from 1 to 64"),
        ({"voice": "carl"}, "line 1: voice is 'carl', expected one of anna, ben, or a voice of yours"),
        ({"model": "restore-lite"}, "line 1: model is 'restore-lite', which takes sound, no text"),
        ({"output": "a.txt"}, "line 1: output is 'a.txt', expected a name that ends in .wav"),
    ],
    ids=str,
)
async def test_a_line_that_cannot_be_said_is_refused(
    tmp_path: Path, values: dict[str, Any], why: str
) -> None:
    async with speaking(tmp_path) as (_, client, hub):
        told = json.dumps(text("one", **values))
        refused = await client.post("/v1/jobs", files=[("jobs", ("jobs.jsonl", told))])
        assert refused.status_code == 400 and why in refused.json()["error"]["message"]
        assert not hub.streams


async def test_a_server_that_does_not_speak_says_so(tmp_path: Path) -> None:
    async with jobs(tmp_path) as (client, _):
        told = json.dumps(text("one"))
        refused = await client.post("/v1/jobs", files=[("jobs", ("jobs.jsonl", told))])
        assert refused.status_code == 400
        assert "line 1: no model here speaks" in refused.json()["error"]["message"]


async def test_a_line_is_said_in_a_voice_of_its_owner(tmp_path: Path) -> None:
    own = 0.1 * np.random.default_rng(0).standard_normal((3 * 24_000, 1)).astype(np.float32)
    sample = recording(own, rate=24_000)
    async with speaking(tmp_path) as (at, client, _):
        for name in ("me.wav", "agreed.wav"):
            (tmp_path / name).write_bytes(sample)
        async with riverrun.AsyncClient(f"http://{at}") as user:
            voice = await user.add_voice("mine", tmp_path / "me.wav", consent=tmp_path / "agreed.wav")
        job, done = await spoken(client, text("a", voice=voice["id"]), text("b", voice="mine"), text("c"))
        assert done["done"] == 3
        a, b, c = [
            read((await client.get(f"/v1/jobs/{job}/outputs/{name}")).content)[0] for name in ("a", "b", "c")
        ]
        assert np.allclose(a, b, atol=1e-4) and not np.array_equal(a, c)
        assert "recording" not in json.dumps(await records(client, job))


async def test_nobody_waits_for_a_batch(tmp_path: Path) -> None:
    async with speaking(tmp_path) as (_, _, hub):
        wanted = Open("small", {"voice": "anna"}, 24_000)
        for batch, fence in ((True, Fence.BATCH), (False, Fence.INTERACTIVE)):
            stream = await hub.open(wanted, "job", batch=batch)
            assert hub.engine._seat(stream.name).session.fence is fence  # type: ignore[attr-defined]
            await stream.close()


# Lines that are converted


@asynccontextmanager
async def converting(folder: Path) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A server with one model that converts, and one that does not."""
    kept: Any = {"jobs": {"folder": folder / "jobs"}, "voices": {"folder": folder / "voices"}}
    async with server({"restore-lite": Volume(), "small": converter()}, **kept) as (at, _):
        async with httpx.AsyncClient(base_url=f"http://{at}", timeout=60) as client:
            yield at, client


def sound_of(name: str, **values: Any) -> dict[str, Any]:
    return line(name, task="convert", **values)


async def test_sound_is_converted_into_voices_of_the_model_and_of_the_owner(tmp_path: Path) -> None:
    own = recording(noise(3 * 24_000, 7), rate=24_000)
    async with converting(tmp_path) as (at, client):
        for name in ("me.wav", "agreed.wav"):
            (tmp_path / name).write_bytes(own)
        async with riverrun.AsyncClient(f"http://{at}") as user:
            await user.add_voice("mine", tmp_path / "me.wav", consent=tmp_path / "agreed.wav")
        asked = {"voice": "ben", "pitch": 3, "seed": 5}
        lines = (
            sound_of("a", **asked),
            sound_of("b", voice="mine", output="b.flac"),
            sound_of("c", model="small"),
        )
        job = (await post(client, *lines)).json()["id"]
        assert (await over(client, job))["done"] == 3
        a, b, c = [
            read((await client.get(f"/v1/jobs/{job}/outputs/{name}")).content)[0] for name in ("a", "b", "c")
        ]
        told = {record["id"]: record for record in await records(client, job)}
        form = {**asked, "response_format": "wav"}
        posted = await client.post("/v1/audio/conversions", data=form, files={"file": ("in.wav", SHORT)})
    assert np.allclose(a, read(posted.content)[0], atol=1e-4) and a.shape == (RATE // 2, 1)
    assert not np.allclose(b, c, atol=1e-3)
    assert (told["a"]["seed"], told["a"]["model"], told["a"]["task"]) == (5, "small", "convert")
    assert told["a"]["request"] == {"voice": "ben", "pitch": 3}
    assert told["b"]["request"] == {"voice": "mine", "pitch": 0.0}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (
            {"strength": 1},
            "line 1: 'strength' is no key of task convert, which takes id, task, input, model, voice",
        ),
        ({"pitch": 13}, "line 1: pitch is 13, expected a number from -12 to 12"),
        ({"voice": "../ben"}, "line 1: voice is '../ben', expected one of anna, ben, or a voice of yours"),
        ({"model": "restore-lite"}, "line 1: model is 'restore-lite', which gives sound no other voice"),
    ],
    ids=str,
)
async def test_a_line_that_cannot_be_converted_is_refused(
    tmp_path: Path, values: dict[str, Any], why: str
) -> None:
    async with converting(tmp_path) as (_, client):
        refused = await post(client, sound_of("one", **values))
        assert refused.status_code == 400 and why in refused.json()["error"]["message"]
