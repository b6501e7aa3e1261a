"""Live streams through riverrun.Client: the sound is that of the model, whatever happens to the connection."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise, repeat
from typing import Any

import numpy as np
import pytest

import riverrun
from riverrun import link
from riverrun.media import Chunk
from riverrun.streaming.access import digest
from riverrun.streaming.engine import run
from riverrun.streaming.hub import Hub
from tests.models.toys import Loudness, Smooth
from tests.sdk.cutting import Cut, proxy
from tests.streaming.serving import RATE, Audio, noise, server

pytestmark = pytest.mark.anyio
TOY: dict[str, Any] = {"model": "smooth", "rate": RATE}


def offline(sound: Audio) -> Audio:
    return whole(list(run(Smooth(), Loudness(), [Chunk(sound, 0, RATE)])))


def whole(chunks: list[Chunk]) -> Audio:
    """Chunks as one sound, which must follow on one another."""
    assert [c.pts for c in chunks[1:]] == [c.end for c in chunks[:-1]]
    return np.concatenate([chunk.data for chunk in chunks])


def pieces(sound: Audio, size: int = 320) -> list[Audio]:
    return [sound[at : at + size] for at in range(0, len(sound), size)]


async def freed(hub: Hub) -> None:
    """Wait until the server holds nothing."""
    while hub.streams or hub.engine.sessions:
        await asyncio.sleep(0.01)


async def test_a_stream_in_five_lines_sounds_as_offline() -> None:
    sound = noise(2 * RATE)

    def five(at: str) -> Audio:
        with riverrun.Client(f"http://{at}") as client:
            with client.stream(**TOY) as stream:
                assert stream.latency >= 52 / RATE
                return whole(list(stream.through(pieces(sound))))

    async with server() as (at, hub):
        assert np.allclose(await asyncio.to_thread(five, at), offline(sound), atol=1e-6)
        await freed(hub)
    assert not [t for t in threading.enumerate() if t.name.startswith("riverrun-client")]


@pytest.mark.parametrize("form", ["whole", "chunks", "flat", "pcm16"])
async def test_fed_and_read_apart_it_sounds_as_offline(form: str) -> None:
    sound = noise(3 * RATE)
    before = asyncio.all_tasks()
    async with server() as (at, _), riverrun.AsyncClient(f"http://{at}/") as client:
        async with client.stream(**TOY, format="pcm16" if form == "pcm16" else "f32") as stream:
            if form == "chunks":
                for i, piece in enumerate(pieces(sound)):
                    await stream.feed(Chunk(piece, 320 * i, RATE, last=320 * (i + 1) >= len(sound)))
            else:
                await stream.feed(sound[:, 0] if form == "flat" else sound)
            await stream.finish()
            with pytest.raises(riverrun.ProtocolError, match="finished"):
                await stream.feed(sound)
            got = whole([chunk async for chunk in stream])
        assert np.allclose(got, offline(sound), atol=2e-4 if form == "pcm16" else 1e-6)
    left = [task for task in asyncio.all_tasks() - before if "/streaming/" not in repr(task)]
    assert not left, "nothing runs on after the client, beside what the server has"


LIGHT = {"smooth": Smooth(hop=320)}  # whose steps leave a slow machine time
CUTS: list[list[Cut]] = [
    [("up", 900)],
    [("up", 30_000)],
    [("up", 100_000)],
    [("down", 700)],
    [("down", 40_000)],
    [("down", 127_900)],
    [("up", 5_000), ("down", 60), ("down", 600), ("up", 20_000), ("down", 50_000)],
]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
async def test_a_cut_connection_costs_not_a_sample(cuts: list[Cut]) -> None:
    sound, events = noise(2 * RATE), list[str]()
    async with server() as (at, hub), proxy(at, *cuts) as cutting:
        async with riverrun.AsyncClient(f"http://{cutting.at}") as client:
            async with client.stream(**TOY, on_event=lambda e: events.append(e.name)) as stream:
                got = whole([chunk async for chunk in stream.through(pieces(sound))])
        await freed(hub)
    assert np.allclose(got, offline(sound), atol=1e-6) and cutting.connections == len(cuts) + 1
    assert events.count("lost") == events.count("resumed") >= 1


@pytest.mark.parametrize("cuts", [[("up", 30_000)], [("down", 50_000), ("up", 9_000)]], ids=str)
async def test_what_a_live_stream_leaves_out_after_a_cut_is_told(cuts: list[Cut]) -> None:
    sound, events = noise(2 * RATE), list[riverrun.Event]()

    async def paced() -> AsyncIterator[Audio]:
        for piece in pieces(sound):
            yield piece
            await asyncio.sleep(0.01)

    async with server(LIGHT) as (at, _), proxy(at, *cuts) as cutting:
        async with riverrun.AsyncClient(f"http://{cutting.at}") as client:
            async with client.stream(**TOY, live=0.1, on_event=events.append) as stream:
                got = [chunk async for chunk in stream.through(paced())]
    assert all(after.pts >= before.end for before, after in pairwise(got)), "nothing comes twice"
    told = sum(event.ticks for event in events)  # dropped input that lies in skipped output is told of twice
    assert sum(map(len, got)) + told >= len(sound) == got[-1].end
    assert [e.name for e in events].count("resumed") == len(cuts)


async def test_a_server_that_stays_away_is_told_with_what_was_lost() -> None:
    async with server(streams={"resume": 0.6}) as (at, _), proxy(at) as cutting:
        async with riverrun.AsyncClient(f"http://{cutting.at}") as client, client.stream(**TOY) as stream:
            await stream.feed(noise(RATE // 2))
            await anext(stream)
            cutting.gone = True
            cutting.cut()
            with pytest.raises(riverrun.Unreachable, match=r"not come back in 0.6 s and 2 attempts"):
                while True:
                    await stream.feed(noise(RATE))
            with pytest.raises(riverrun.Unreachable, match=r"of the \d+\.\d\d s fed were not taken"):
                await stream.update(gain=0.5)
            with pytest.raises(riverrun.Unreachable, match="output came up to tick"):
                while True:
                    await anext(stream)


async def test_a_server_that_forgot_the_stream_is_told() -> None:
    async with server() as (at, hub), proxy(at) as cutting:
        async with riverrun.AsyncClient(f"http://{cutting.at}") as client, client.stream(**TOY) as stream:
            hub.links.clear()
            cutting.cut()
            with pytest.raises(riverrun.SessionEnded, match="has not kept the stream"):
                await anext(stream)


async def test_a_server_that_stops_says_so() -> None:
    events: list[riverrun.Event] = []
    async with server() as (at, hub), riverrun.AsyncClient(f"http://{at}") as client:
        async with client.stream(**TOY, on_event=events.append) as stream:
            (held,) = hub.links.values()
            held.say("event", name="draining")
            held.over = "shutdown"
            with pytest.raises(riverrun.SessionEnded, match="shutdown"):
                await anext(stream)
    assert events == [riverrun.Event("draining")]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"model": "none"}, riverrun.InvalidRequest),
        ({"rate": 5}, riverrun.InvalidRequest),
        ({"gain": 9.0}, riverrun.InvalidRequest),
        ({"volume": 1}, riverrun.InvalidRequest),
        ({"format": "mp3"}, riverrun.InvalidRequest),
    ],
)
async def test_a_stream_no_server_opens_is_refused(options: dict[str, Any], kind: type[Exception]) -> None:
    async with server() as (at, hub), riverrun.AsyncClient(f"http://{at}") as client:
        with pytest.raises(kind, match=f"{list(options)[0]}"):
            async with client.stream(**{**TOY, **options}):
                pass
        await freed(hub)


async def test_a_full_server_says_when_to_come_back() -> None:
    async with server(streams={"sessions": 1}) as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        async with client.stream(**TOY):
            with pytest.raises(riverrun.AtCapacity) as refused:
                await client.stream(**TOY).__aenter__()
            assert refused.value.retry_after == 5
        async with client.stream(**TOY):
            pass


async def test_a_wrong_key_is_refused_and_the_right_one_taken() -> None:
    async with server(access={"keys": [digest("right")]}) as (at, _):
        for key, error in ((None, riverrun.NotAllowed), ("wrong", riverrun.NotAllowed), ("right", None)):
            async with riverrun.AsyncClient(f"http://{at}", key) as client:
                if error is None:
                    assert [model["id"] for model in await client.models()] == ["smooth"]
                    async with client.stream(**TOY):
                        continue
                with pytest.raises(error, match="Bearer KEY"):
                    await client.models()
                with pytest.raises(error, match="Bearer KEY"):
                    await client.stream(**TOY).__aenter__()


async def test_nobody_at_the_address_is_told_at_once() -> None:
    async with server() as (at, _), proxy(at) as cutting:
        cutting.gone = True
        async with riverrun.AsyncClient(f"http://{cutting.at}") as client:
            with pytest.raises(riverrun.Unreachable, match="does the server run there"):
                await client.stream(**TOY).__aenter__()
    async with riverrun.AsyncClient(f"http://{cutting.at}") as client:
        with pytest.raises(riverrun.Unreachable, match="does the server run there"):
            await client.stream(**TOY).__aenter__()
        with pytest.raises(riverrun.Unreachable, match="does the server run there"):
            await client.models()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ws://host", "http://", "http://host/?x=1"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected http://HOST:PORT"):
        riverrun.Client(url)


async def test_an_update_acts_and_a_refused_one_leaves_the_stream_as_it_was() -> None:
    async with server() as (at, _), proxy(at) as cutting:
        async with riverrun.AsyncClient(f"http://{cutting.at}") as client, client.stream(**TOY) as stream:
            with pytest.raises(riverrun.InvalidRequest, match="gain is 9"):
                await stream.update(gain=9.0)
            cutting.cut()
            await stream.update(gain=0.0)
            got = whole([chunk async for chunk in stream.through([noise(RATE)])])
            assert len(got) == RATE and not got.any()
            with pytest.raises(riverrun.SessionEnded, match="over"):
                await stream.update(gain=1.0)


async def test_captured_time_reaches_the_servers_figures() -> None:
    async with server() as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        async with client.stream(**TOY, live=0.1) as stream:
            while stream.link.clock.offset is None:
                await asyncio.sleep(0.01)
            await stream.feed(noise(1600), captured=time.monotonic() - 5)
            await anext(stream)
            stats, again = await asyncio.gather(stream.stats(), stream.stats())
    assert stats["ticks_in"] == again["ticks_in"] == 1600 and stats["delay"]["transport"] > 4000


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        (np.zeros((10, 2)), "2 channels"),
        (np.zeros((10, 1, 1)), "expected"),
        (np.zeros(10, complex), "expected"),
        (Chunk(np.zeros((10, 1)), 0, 8_000), "rate of 8000"),
    ],
)
async def test_sound_of_another_shape_is_refused(sound: Any, words: str) -> None:
    async with server() as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        async with client.stream(**TOY) as stream:
            with pytest.raises(ValueError, match=words):
                await stream.feed(sound)
            with pytest.raises(riverrun.MediaError, match="NaN"):
                await stream.feed(np.full(10, np.nan))
            await stream.feed(np.zeros(0))
            assert len(whole([c async for c in stream.through([noise(640)])])) == 640


async def test_output_that_nobody_takes_stops_the_server_not_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HELD", 1.0)
    sound = noise(8 * RATE)
    async with server(streams={"journal": 0.5}) as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        async with client.stream(**TOY) as stream:
            got = [chunk := await anext(made := stream.through(pieces(sound)))]
            await asyncio.sleep(0.5)
            assert stream.link.unread < 2.5 * RATE and len(chunk)
            got += [chunk async for chunk in made]
        assert np.allclose(whole(got), offline(sound), atol=1e-6)
        async with client.stream(**TOY) as stream:
            with pytest.raises(riverrun.ProtocolError, match="nobody reads it"):
                await stream.feed(sound)


async def test_of_live_output_read_late_the_newest_is_kept_and_the_rest_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "LATE", 0.2)
    events: list[riverrun.Event] = []
    async with server(LIGHT) as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        async with client.stream(**TOY, live=0.1, on_event=events.append) as stream:
            for piece in pieces(noise(RATE)):
                await stream.feed(piece)
                await asyncio.sleep(0.015)  # near the pace of speech, so that the server drops nothing
            await stream.finish()
            while stream.link.over is None:
                await asyncio.sleep(0.01)
            got = [chunk async for chunk in stream]
    assert "skipped" in [event.name for event in events]
    kept, left_out = sum(map(len, got)), sum(event.ticks for event in events)
    assert kept + left_out >= RATE == got[-1].end and got[0].pts > 0 and kept <= 0.2 * RATE


async def test_leaving_early_frees_the_stream_at_the_server() -> None:
    def leave(at: str) -> None:
        with riverrun.Client(f"http://{at}") as client:
            with client.stream(**TOY) as stream:
                for _ in stream.through(repeat(noise(320))):
                    break

    async with server() as (at, hub):
        await asyncio.to_thread(leave, at)
        assert not hub.streams and not hub.links
        async with riverrun.AsyncClient(f"http://{at}") as client:
            streams = [await client.stream(**TOY).__aenter__() for _ in range(3)]
            assert len(hub.streams) == 3
        assert not hub.streams and not hub.links, "a client that is closed cancels what it has"
        with pytest.raises(riverrun.SessionEnded, match="cancelled"):
            await streams[0].feed(noise(320))


class Broken(Exception):
    """What a source fails with."""


async def test_a_source_that_fails_ends_the_stream_and_is_heard() -> None:
    def broken() -> Iterator[Audio]:
        yield noise(3200)
        raise Broken

    def through(at: str) -> None:
        with riverrun.Client(f"http://{at}") as client, client.stream(**TOY) as stream:
            list(stream.through(broken()))

    async with server() as (at, hub):
        with pytest.raises(Broken):
            await asyncio.to_thread(through, at)
        async with riverrun.AsyncClient(f"http://{at}") as client, client.stream(**TOY) as stream:
            with pytest.raises(Broken):
                [chunk async for chunk in stream.through(broken())]
        await freed(hub)


async def test_threads_share_a_client() -> None:
    sounds = [noise(RATE, seed) for seed in range(4)]

    async with server() as (at, _):
        client = await asyncio.to_thread(riverrun.Client, f"http://{at}")

        def one(sound: Audio) -> Audio:
            with client.stream(**TOY) as stream:
                feeding = threading.Thread(target=stream.feed, args=(Chunk(sound, 0, RATE, last=True),))
                feeding.start()
                got = whole(list(stream))
                feeding.join()
                return got

        made = await asyncio.gather(*(asyncio.to_thread(one, sound) for sound in sounds))
        for sound, got in zip(sounds, made, strict=True):
            assert np.allclose(got, offline(sound), atol=1e-6)
        stream = client.stream(**TOY)
        await asyncio.to_thread(stream.__enter__)
        waiting = asyncio.create_task(asyncio.to_thread(lambda: list(stream)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(client.close)
        assert await waiting == [], "who reads when the client is closed is let go"
        for left in (client.models, lambda: stream.feed(sounds[0])):
            with pytest.raises(riverrun.SessionEnded, match="closed"):
                left()
        client.close()


async def test_what_is_told_must_not_use_the_client() -> None:
    async with server(streams={"resume": 0.1}) as (at, _), proxy(at) as cutting:

        def misuse() -> None:
            with riverrun.Client(f"http://{cutting.at}") as client:
                with client.stream(**TOY, on_event=lambda event: client.models()) as stream:
                    cutting_loop.call_soon_threadsafe(cutting.cut)
                    next(stream)

        cutting_loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="must not use the client"):
            await asyncio.to_thread(misuse)


async def test_a_client_never_imports_torch() -> None:
    code = """
import sys, numpy, riverrun
with riverrun.Client(sys.argv[1]) as client:
    client.models()
    clean = client.restore(numpy.zeros(16000, numpy.float32), rate=16000, model="smooth")
print(len(clean), *[m for m in ("torch", "torchaudio", "av", "scipy", "fastapi") if m in sys.modules])
"""
    async with server() as (at, _):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code, f"http://{at}"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.split() == ["16000"]


def test_every_public_name_is_there() -> None:
    assert all(getattr(riverrun, name).__name__ == name for name in riverrun.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = riverrun.nothing
