"""The HTTP side: recordings restored, cut replies taken up again, who is refused, and what every error looks like."""

import asyncio
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from riverrun.media import Writer, read
from riverrun.media.chunk import Chunk
from riverrun.streaming.access import digest
from tests.models.toys import Smooth
from tests.streaming.lines import freed
from tests.streaming.serving import RATE, Audio, call, noise, server

pytestmark = pytest.mark.anyio


def recording(sound: Audio, form: str = "wav", codec: str = "pcm_s16le", rate: int = RATE) -> bytes:
    """A file as it would lie on a disk, its header complete."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"a.{form}"
        with Writer(file, rate=rate, channels=sound.shape[1], codec=codec, format=form) as writer:
            writer.put(Chunk(sound, 0, rate))
        return file.read_bytes()


async def post(at: str, data: bytes, name: str = "in.wav", **fields: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{at}", timeout=30) as client:
        return await client.post(
            "/v1/audio/restorations", files={"file": (name, data)}, data={"model": "smooth", **fields}
        )


class Volume(Smooth):
    """Takes the fields of a restoration's form."""

    def __init__(self, hop: int = 32) -> None:
        from riverrun.models.restoration.stream import Request

        super().__init__(hop=hop)
        self.request = Request  # type: ignore[assignment]

    def open(self, request: Any) -> Any:
        from tests.models.toys import Loudness

        return super().open(Loudness(request.strength))


class Slow(Volume):
    """Takes its time."""

    def __init__(self) -> None:
        super().__init__(hop=1600)

    def step(self, *given: Any) -> Any:
        time.sleep(0.05)
        return super().step(*given)


@pytest.mark.parametrize(
    ("form", "codec", "wanted", "kind"),
    [
        ("wav", "pcm_s16le", "same", "audio/wav"),
        ("flac", "flac", "same", "audio/flac"),
        ("wav", "pcm_s16le", "opus", "audio/ogg"),
        ("mp3", "libmp3lame", "wav", "audio/wav"),
    ],
)
async def test_a_recording_comes_back_in_the_form_asked_for(
    form: str, codec: str, wanted: str, kind: str
) -> None:
    sound = noise(2 * RATE)
    async with server({"smooth": Volume()}) as (at, hub):
        reply = await post(at, recording(sound, form, codec), f"in.{form}", response_format=wanted)
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"] == kind
        got, rate = read(reply.content)
        assert rate == (48_000 if wanted == "opus" else RATE), "Opus is of one rate"
        off = abs(len(got) / rate - len(sound) / RATE)
        assert off <= (0 if kind != "audio/ogg" and form != "mp3" else 0.125)
        assert 0.5 < got.std() / (sound.std() * 0.25) < 4
        assert not hub.streams


async def test_strength_reaches_the_model() -> None:
    async with server({"smooth": Volume()}) as (at, _):
        reply = await post(at, recording(noise(RATE)), strength="0")
        assert not read(reply.content)[0].any()


@pytest.mark.parametrize(
    ("data", "fields", "status", "words"),
    [
        (b"no sound at all" * 99, {}, 415, "Invalid data"),
        (b"", {}, 415, "cannot be opened"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", {}, 415, ""),
        (recording(noise(RATE))[:9000], {}, 400, "truncated"),
        (recording(noise(800)), {"strength": "7"}, 422, "strength"),
        (recording(noise(800)), {"model": "none"}, 400, "'none'"),
        (recording(noise(800)), {"response_format": "exe"}, 422, "response_format"),
    ],
)
async def test_what_cannot_be_restored_is_an_error_as_openai_clients_read_it(
    data: bytes, fields: dict[str, str], status: int, words: str
) -> None:
    async with server({"smooth": Volume()}) as (at, hub):
        reply = await post(at, data, **fields)
        error = reply.json()["error"]
        assert reply.status_code in (status, 400), reply.text
        assert words in error["message"] and set(error) == {"message", "type", "param", "code"}
        assert "/" not in error["message"] or "stdin" in error["message"]
        await asyncio.sleep(0.1)
        assert not hub.streams and not hub.replies


async def test_an_upload_that_is_too_big_is_refused_while_it_comes() -> None:
    async with server({"smooth": Volume()}, files={"bytes": 1 << 16}) as (at, _):
        reply = await post(at, bytes(1 << 20))
        assert reply.status_code == 413 and reply.json()["error"]["code"] == "too_big"


async def test_a_bomb_of_duration_is_stopped() -> None:
    async with server({"smooth": Volume()}, files={"seconds": 2.0}) as (at, hub):
        silence = recording(np.zeros((20 * RATE, 1), np.float32), "flac", "flac")
        reply = await post(at, silence, "in.flac")
        assert reply.status_code in (400, 415) and "limit" in reply.json()["error"]["message"]
        assert not hub.streams


async def test_a_cut_reply_is_taken_up_where_it_was_cut() -> None:
    sound = noise(20 * RATE)
    whole = recording(sound)
    async with server({"smooth": Volume()}) as (at, hub):
        async with httpx.AsyncClient(base_url=f"http://{at}", timeout=30) as client:
            asked = client.build_request(
                "POST", "/v1/audio/restorations", files={"file": ("a.wav", whole)}, data={"model": "smooth"}
            )
            reply = await client.send(asked, stream=True)
            got, pieces = b"", reply.aiter_raw()
            while len(got) < 100_000:
                got += await anext(pieces)
            session, token = reply.headers["riverrun-session"], reply.headers["riverrun-token"]
            await reply.aclose()
            path, headers = f"/v1/audio/restorations/{session}", {"Range": f"bytes={len(got)}-"}
            stranger = await client.get(path, headers={**headers, "Riverrun-Token": "x"})
            assert stranger.status_code == 404
            rest = await client.get(path, headers={**headers, "Riverrun-Token": token})
            assert rest.status_code == 206
        sent_twice = await post(at, whole)
        assert got + rest.content == sent_twice.content


async def test_a_client_that_vanishes_frees_what_it_used() -> None:
    sound = noise(60 * RATE)
    async with server({"smooth": Volume()}, streams={"resume": 0.1}, files={"journal_bytes": 1 << 16}) as (
        at,
        hub,
    ):
        async with httpx.AsyncClient(base_url=f"http://{at}", timeout=30) as client:
            asked = client.build_request(
                "POST",
                "/v1/audio/restorations",
                files={"file": ("a.wav", recording(sound))},
                data={"model": "smooth"},
            )
            reply = await client.send(asked, stream=True)
            await anext(reply.aiter_raw())
            await reply.aclose()
        for _ in range(100):
            await asyncio.sleep(0.02)
            if not (hub.streams or hub.replies or hub.engine.sessions):
                break
        assert not hub.streams and not hub.replies and not hub.engine.sessions


async def test_a_client_that_leaves_before_its_reply_has_begun_frees_what_it_used() -> None:
    async with server({"smooth": Slow()}, streams={"resume": 0.1}) as (at, hub):
        tasks = asyncio.all_tasks()
        async with httpx.AsyncClient(base_url=f"http://{at}") as client:
            asking = asyncio.create_task(
                client.post(
                    "/v1/audio/restorations",
                    files={"file": ("a.wav", recording(noise(3 * RATE)))},
                    data={"model": "smooth"},
                )
            )
            while not hub.replies:
                await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await freed(hub, tasks)


async def test_a_reply_may_be_longer_in_a_second_than_what_is_kept_of_it() -> None:
    async with server({"smooth": Volume(hop=1600)}, files={"journal_bytes": 1 << 16}) as (at, _):
        reply = await post(at, recording(noise(2 * 48_000), rate=48_000))
        assert reply.status_code == 200 and len(read(reply.content)[0]) == 2 * 48_000


async def test_so_many_recordings_are_restored_at_once_and_no_more() -> None:
    sound = recording(noise(2 * RATE))
    async with server({"smooth": Slow()}, files={"at_once": 1}) as (at, hub):
        first = asyncio.create_task(post(at, sound))
        while not hub.replies:
            await asyncio.sleep(0.01)
        second = await post(at, sound)
        assert second.status_code == 503 and int(second.headers["retry-after"]) >= 1
        assert (await first).status_code == 200
        assert (await post(at, sound)).status_code == 200
        assert (await post(at, b"nothing")).status_code in (400, 415)
        assert not hub.decoding


async def test_models_health_and_figures_are_there() -> None:
    async with (
        server({"smooth": Volume()}) as (at, hub),
        httpx.AsyncClient(base_url=f"http://{at}") as client,
    ):
        (model,) = (await client.get("/v1/models")).json()["data"]
        assert model["id"] == "smooth" and math.isclose(model["latency"], 52 / 16_000)
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        assert "riverrun_streams_opened_total" in (await client.get("/metrics")).text
        hub.draining = True
        assert (await client.get("/health/ready")).status_code == 503
        hub.draining = False


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://friend.example"}, 200),
    ],
)
async def test_only_known_hosts_and_origins_are_served(headers: dict[str, str], status: int) -> None:
    async with server(access={"origins": ["https://friend.example"]}) as (at, _):
        async with httpx.AsyncClient(base_url=f"http://{at}") as client:
            reply = await client.get("/v1/models", headers=headers)
            assert reply.status_code == status
            if status != 200:
                assert reply.json()["error"]["code"] == "not_allowed"


async def test_with_keys_the_api_needs_one_and_the_page_none() -> None:
    async with server(access={"keys": [digest("right")]}) as (at, _):
        async with httpx.AsyncClient(base_url=f"http://{at}") as client:
            assert (await client.get("/v1/models")).status_code == 401
            assert (await client.get("/metrics")).status_code == 401
            assert (
                await client.get("/v1/models", headers={"Authorization": "Bearer wrong"})
            ).status_code == 401
            assert (
                await client.get("/v1/models", headers={"Authorization": "Bearer right"})
            ).status_code == 200
            assert (await client.get("/health/live")).status_code == 200


async def test_too_many_requests_are_told_when_to_come_back() -> None:
    async with server(access={"requests": 1, "burst": 3}) as (at, _):
        async with httpx.AsyncClient(base_url=f"http://{at}") as client:
            replies = [await client.get("/health/live") for _ in range(5)]
        assert [r.status_code for r in replies] == [200, 200, 200, 429, 429]
        assert int(replies[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/v1/models", 405)])
async def test_every_error_has_the_same_body(method: str, path: str, status: int) -> None:
    async with server() as (at, _), httpx.AsyncClient(base_url=f"http://{at}") as client:
        reply = await client.request(method, path)
        assert reply.status_code == status and reply.json()["error"]["message"]


async def test_an_engine_that_dies_while_nobody_speaks_is_replaced() -> None:
    async with server() as (at, hub), httpx.AsyncClient(base_url=f"http://{at}") as http:
        dead = hub.engine
        await dead.shut()
        for _ in range(1_000):
            if (await http.get("/health/ready")).status_code == 200:
                break
            await asyncio.sleep(0.01)
        assert hub.engine is not dead and hub.engine.alive
        async with call(at) as peer:
            await peer.send(noise(RATE))
            assert (await peer.until("ended"))["reason"] == "finished"
