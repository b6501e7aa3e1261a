"""What operators do to a server, and what befalls one: told to stop, killed, its engine killed, its clock set."""

import asyncio
import os
import signal
import time

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

import riverrun
from riverrun.media import Chunk, read
from riverrun.models import load
from riverrun.streaming import wire
from riverrun.streaming.engine import run
from riverrun.streaming.server import drain
from tests.models.toys import Loudness, Smooth
from tests.streaming.processes import MODEL, Process, alive, free, serving, until
from tests.streaming.serving import RATE, Audio, Peer, call, dial, noise, server
from tests.streaming.test_http import Volume, recording

pytestmark = pytest.mark.anyio
UPLOAD = "/v1/audio/restorations"


def restored(sound: Audio) -> Audio:
    """A recording as the model gives it when nothing befalls it."""
    model = load(MODEL)
    made = run(model, model.request(), [Chunk(sound, 0, RATE, last=True)])
    return np.concatenate([chunk.data for chunk in made])


async def gone(process: Process, *workers: int) -> None:
    """The server ends as one that was told to, and leaves nobody behind."""
    assert await asyncio.to_thread(process.running.wait, 60) == 0, process.log()
    await asyncio.to_thread(until, lambda: not any(map(alive, workers)))
    assert "Traceback" not in process.log(), process.log()


async def closed(peer: Peer) -> int | None:
    """The code that a connection is closed with, once all was heard."""
    with pytest.raises(ConnectionClosed):
        while True:
            await peer.hear()
    return peer.socket.close_code


async def test_a_server_told_to_stop_lets_streams_end_and_takes_none() -> None:
    """The signal goes to the engine and to decoders, too, as when a service manager stops a group."""
    sound, long = noise(2 * RATE), recording(noise(30 * RATE, 1))
    with serving(streams__drain=600) as process:
        at, workers = process.at, process.children
        options = {"model": MODEL, "request": {}}
        async with (
            call(at, **options) as ending,
            call(at, **options) as lost,
            httpx.AsyncClient(base_url=f"http://{at}", timeout=30) as client,
        ):
            await ending.send(sound[:RATE], last=False)
            asked = client.build_request(
                "POST", UPLOAD, files={"file": ("a.wav", long)}, data={"model": MODEL}
            )
            reply = await client.send(asked, stream=True)
            process.tell(signal.SIGTERM, group=True)
            event = await ending.until("event")
            assert event["name"] == "draining" and 0 < event["seconds"] <= 600
            assert process.health() == 503 and process.health("live") == 200

            refused = await client.post(UPLOAD, files={"file": ("a.wav", long)}, data={"model": MODEL})
            assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
            async with dial(at) as late:
                await late.say(wire.Open(MODEL, rate=RATE))
                error = await late.until("error")
                assert error["error"]["code"] == "at_capacity" and error["retry_after"] > 0
                assert await closed(late) == 1013
            async with dial(at) as again:
                await again.say(wire.Resume(lost.opened["session"], lost.opened["token"], -1))
                assert (await again.until("opened"))["session"] == lost.opened["session"]
                assert (await again.until("event"))["name"] == "draining"
                await again.say(wire.Cancel())
                assert await closed(again) == 1000

            await ending.send(sound[RATE:], first=50)
            assert (await ending.until("ended"))["reason"] == "finished"
            assert np.abs(ending.sound() - restored(sound)).max() < 1e-5
            assert len(read(b"".join([part async for part in reply.aiter_raw()]))[0]) == 30 * RATE
        await gone(process, *workers)


async def test_what_does_not_end_in_time_is_ended() -> None:
    with serving(streams__drain=0.5) as process:
        workers = process.children
        async with call(process.at, model=MODEL, request={}) as peer:
            await peer.send(noise(RATE), last=False)
            process.tell(signal.SIGTERM)
            assert (await peer.until("event"))["name"] == "draining"
            assert (await peer.until("ended"))["reason"] == "shutdown"
            assert await closed(peer) == 1001
        await gone(process, *workers)


async def test_a_second_signal_ends_streams_at_once() -> None:
    with serving(streams__drain=600) as process:
        workers = process.children
        async with call(process.at, model=MODEL, request={}) as peer:
            process.tell(signal.SIGTERM)
            assert (await peer.until("event"))["seconds"] > 500
            process.tell(signal.SIGTERM)
            assert await closed(peer) in (1001, 1012)
        await gone(process, *workers)


async def test_a_server_may_be_stopped_while_it_starts() -> None:
    with serving(ready=False) as process:
        until(lambda: process.health("live") == 200 and process.children)
        workers = process.children
        process.tell(signal.SIGTERM)
        await gone(process, *workers)


async def test_a_killed_server_leaves_no_engine_and_its_clients_get_a_clear_end() -> None:
    port, told = free(), list[str]()
    with serving(port) as process:
        workers = process.children
        async with riverrun.AsyncClient(f"http://{process.at}") as client:
            async with client.stream(rate=RATE, on_event=lambda event: told.append(event.name)) as stream:
                await stream.feed(noise(RATE))
                got = await stream.next()
                process.tell(signal.SIGKILL)
                until(lambda: not any(map(alive, workers)))
                with serving(port):
                    with pytest.raises(riverrun.SessionEnded, match="output came up to tick") as ended:
                        while await stream.next():
                            pass
    assert got and "was started anew" in str(ended.value) and "lost" in told


async def test_a_killed_engine_is_not_noticed_in_the_sound() -> None:
    """Those that are open go on, and so does the server when nothing was open."""
    sounds = [noise(4 * RATE, seed) for seed in range(3)]
    with serving(streams__snapshot=0.2) as process:

        async def through(sound: Audio) -> Audio:
            async with client.stream(MODEL, rate=RATE) as stream:

                async def feed() -> None:
                    for at in range(0, len(sound), 1600):
                        await stream.feed(sound[at : at + 1600])
                        await asyncio.sleep(0.02)
                        if at == 25 * 1600:
                            await stream.update(strength=1.0)
                    await stream.finish()

                feeding = asyncio.create_task(feed())
                got = [chunk.data async for chunk in stream]
                await feeding
                return np.concatenate(got)

        def strike() -> None:
            """Kill the engine, and then the one that takes its place before that has started."""
            (first,) = process.children
            os.kill(first, signal.SIGKILL)
            until(lambda: set(process.children) - {first})
            (second,) = set(process.children) - {first}
            os.kill(second, signal.SIGKILL)
            until(lambda: process.health() == 200)

        async def strikes() -> None:
            for _ in range(2):
                await asyncio.sleep(0.4)
                await asyncio.to_thread(strike)

        async with riverrun.AsyncClient(f"http://{process.at}") as client:
            striking = asyncio.create_task(strikes())
            made = await asyncio.gather(*map(through, sounds))
            await striking
            for sound, one in zip(sounds, made, strict=True):
                assert np.abs(one - restored(sound)).max() < 1e-5
            (worker,) = process.children
            os.kill(worker, signal.SIGKILL)
            until(lambda: process.health() != 200)
            until(lambda: process.health() == 200)
            again = await client.restore(sounds[0], rate=RATE)
            assert np.abs(again - restored(sounds[0])).max() < 1e-5
        assert "Traceback" not in process.log(), process.log()


async def test_while_an_engine_is_started_again_new_streams_are_put_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("riverrun.streaming.hub.AGAIN", (2.0,))  # time to be put off
    async with server() as (at, hub):
        await hub.engine.shut()
        async with dial(at) as peer:
            await peer.say(wire.Open("smooth", rate=RATE))
            assert (await peer.until("error"))["error"]["code"] == "at_capacity"
        for _ in range(200):
            await asyncio.sleep(0.02)
            if hub.engine.alive:
                break
        async with call(at):
            assert hub.engine.sessions


async def test_a_change_that_meets_a_dead_engine_acts_at_the_next_one() -> None:
    sound = noise(RATE)
    async with server() as (at, hub), call(at) as peer:
        await peer.send(sound[:8000], last=False)
        while len(peer.sound()) < 7000:
            await peer.hear()
        heard = len(peer.sound())
        await hub.engine.shut()
        await peer.say(wire.Update({"gain": 0.0}, "quiet"))
        assert (await peer.until("updated"))["id"] == "quiet"
        await peer.send(sound[8000:], first=25)
        assert (await peer.until("ended"))["reason"] == "finished"
    got, whole = peer.sound(), Smooth().whole(sound, Loudness())
    assert len(got) == RATE and not got[8100:].any()
    assert np.abs(got[:heard] - whole[:heard]).max() < 1e-5


async def test_a_stop_waits_for_the_decoders_of_uploads() -> None:
    """One whose reader takes nothing has a decoder that is full, and stays so."""
    data = recording(noise(60 * RATE))
    async with server({"smooth": Volume()}, files={"journal_bytes": 1 << 16}) as (at, hub):
        async with httpx.AsyncClient(base_url=f"http://{at}", timeout=30) as client:
            asked = client.build_request(
                "POST", UPLOAD, files={"file": ("a.wav", data)}, data={"model": "smooth"}
            )
            reply = await client.send(asked, stream=True)
            (kept,) = hub.replies.values()
            await drain(hub)
            assert kept.work and kept.work.done() and not hub.replies and not hub.streams
            await reply.aclose()


async def test_setting_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, wall = noise(2 * RATE), time.time
    async with server() as (at, hub), call(at, live=0.1) as live, call(at) as peer:
        for i, jump in enumerate((0.0, 86_400.0, -86_400.0, 5.0)):
            monkeypatch.setattr(time, "time", lambda jump=jump: wall() + jump)
            for one in (live, peer):
                await one.send(sound[i * 8000 : (i + 1) * 8000], first=25 * i, last=i == 3)
            await peer.say(wire.Stats())
            stats = await peer.until("stats")
            assert 0 <= stats["delay"].get("total", 0) < 10_000
            await asyncio.sleep(0.1)
        for one in (live, peer):
            assert (await one.until("ended"))["reason"] == "finished"
        whole = Smooth().whole(sound, Loudness())
        assert np.abs(peer.sound() - whole).max() < 1e-5
        assert not hub.streams
