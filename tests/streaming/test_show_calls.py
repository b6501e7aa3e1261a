"""Pictures in calls: shown at their pace in either codec, changed and paused on the data channel, watched by others."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiortc import RTCRtpSender

from riverrun import models
from riverrun.models.contract import StreamModel
from riverrun.models.video import live
from riverrun.streaming.hub import Hub
from riverrun.streaming.show import Show
from tests.models.toys import Painter, Smooth
from tests.models.video import folders
from tests.models.video.test_live import USUAL
from tests.streaming import calling
from tests.streaming.calling import SDP, Caller, loopback
from tests.streaming.lines import freed
from tests.streaming.serving import call, server
from tests.streaming.test_show import colour, watch
from tests.streaming.test_whip import offer

__all__ = ["loopback"]
pytestmark = pytest.mark.anyio
LOCAL = {"hosts": ["127.0.0.1"], "ice_timeout": 60}
WAIT = 30.0  # seconds, that a busy machine may take
until = partial(calling.until, wait=WAIT)
At = tuple[str, Hub]


@pytest.fixture
async def at() -> AsyncIterator[At]:
    toys: dict[str, StreamModel] = {"painter": Painter((96, 96), hop=3), "smooth": Smooth()}
    async with server(toys, webrtc=LOCAL, streams={"resume": 1}) as found:
        yield found


class Viewer(Caller):
    """A caller who sees: when each picture came, its time, and its colour."""

    def __init__(self, at: str, client: httpx.AsyncClient) -> None:
        super().__init__(at, client)
        self.seen: list[tuple[float, float, str]] = []
        self.sizes: set[tuple[int, int]] = set()  # rows and columns

    def _take(self, frame: Any) -> None:
        self.sizes.add((frame.height, frame.width))
        self.seen.append((time.monotonic(), frame.time, colour(frame.to_ndarray(format="rgb24"))))

    def colours(self) -> list[str]:
        """Those that were seen, each once, in their order."""
        every = [name for _, _, name in self.seen]
        return [name for name, before in zip(every, ["", *every], strict=False) if name != before]


@asynccontextmanager
async def viewer(at: str, codec: str = "VP8", talks: bool = True) -> AsyncIterator[Viewer]:
    """Somebody who would watch in a codec."""
    async with httpx.AsyncClient() as client:
        peer = Viewer(at, client)
        transceiver = peer.connection.addTransceiver("video", "recvonly")
        offered = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in offered if c.name == codec])
        if talks:
            peer.talk()
        try:
            yield peer
        finally:
            await peer.close()


@asynccontextmanager
async def watching(at: str, codec: str = "VP8", rate: int = 12, **values: Any) -> AsyncIterator[Viewer]:
    async with viewer(at, codec) as peer:
        await peer.duplex(**{"model": "painter", "request": {"prompt": "a red ball"}, **values})
        opened = await peer.told_of("opened", WAIT)
        assert opened["rate"] == rate
        yield peer


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_call_shows_its_prompts_at_the_pace_of_the_pictures(at: At, codec: str) -> None:
    tasks = asyncio.all_tasks()
    async with watching(at[0], codec) as peer:
        await until(lambda: len(peer.seen) > 12)
        shown = await peer.told_of("shown", WAIT)
        assert (shown["prompt"], shown["tick"]) == (0, 0)
        assert (await peer.told_of("event", WAIT))["name"] == "playing"
        peer.say("update", request={"prompt": "a green ball"}, id="a")
        assert (await peer.told_of("updated", WAIT))["id"] == "a"
        shown = await peer.told_of("shown", WAIT)
        assert (shown["id"], shown["prompt"], shown["tick"] % 3) == ("a", 1, 0)
        peer.say("update", request={"prompt": ""}, id="b")
        assert (await peer.told_of("error", WAIT))["id"] == "b"
        await until(lambda: "green" in peer.colours())
        times = np.array([at for _, at, _ in peer.seen])
        assert np.median(np.diff(times)) == pytest.approx(1 / 12, abs=0.005), "each at its time"
        peer.say("finish")
        assert (await peer.told_of("ended", WAIT))["reason"] == "finished"
    assert peer.colours() == ["red", "green"]
    await freed(at[1], tasks, WAIT)


async def test_what_is_made_stays_a_lead_ahead_of_what_is_shown_and_stops_in_a_pause(at: At) -> None:
    async with watching(at[0]) as peer:
        (stream,) = at[1].streams.values()
        assert isinstance(stream, Show)
        await until(lambda: stream.seen > 6)
        assert stream.out - stream.seen <= 6, "a chunk, and the one that is made meanwhile"
        peer.say("pause")
        await until(lambda: stream.paused)
        await asyncio.sleep(0.2)
        held, shown = stream.out, stream.seen
        await asyncio.sleep(0.6)
        assert (stream.out, stream.seen) == (held, shown)
        peer.say("pause", on=False)
        await until(lambda: stream.out > held + 6)


async def test_who_is_too_slow_costs_no_memory(at: At) -> None:
    async with watching(at[0]) as peer:
        await until(lambda: len(peer.seen) > 3)
        (call,) = at[1].calls.values()
        own: Any = call.own  # type: ignore[attr-defined]
        for _ in range(1000):
            own.put(object())
        assert len(own.waiting) <= 6
        own.waiting.clear()


async def test_many_watch_what_a_call_or_a_websocket_shows(at: At) -> None:
    tasks = asyncio.all_tasks()
    async with watching(at[0], stream="studio") as peer, viewer(at[0], "H264", talks=False) as other:
        assert (await other.post("/v1/whep/studio")).status_code == 201
        await until(lambda: len(peer.seen) > 3 and len(other.seen) > 3)
        peer.say("cancel")
        await until(lambda: not at[1].casts and not at[1].calls)
    opening = {"model": "painter", "format": "rgb", "stream": "studio", "live": 60.0}
    async with call(at[0], request={"prompt": "a blue ball", "seconds": 3.0}, **opening) as screen:
        async with viewer(at[0], talks=False) as other:
            assert (await other.post("/v1/whep/studio")).status_code == 201
            await watch(screen)
            await until(lambda: len(other.seen) > 3)
            assert other.colours() == ["blue"]
    await freed(at[1], tasks, WAIT)


@pytest.mark.parametrize(("mode", "steps", "codec"), [("loop", 2, "VP8"), ("fifo", 9, "H264")])
async def test_a_published_folder_is_called_told_another_prompt_and_watched_by_others(
    mode: str, steps: int, codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first clip is of 27 pictures, each further one of 18 more; in fifo 9 come at a time."""
    folders.readable(monkeypatch)
    monkeypatch.setattr(live, "usual", lambda parts: replace(USUAL, frames=27, size=(64, 96)))
    model = models.load(str(folders.write(tmp_path)))
    request = {"prompt": "a calm sea", "mode": mode, "steps": steps}
    async with server({"opensora": model}, webrtc=LOCAL) as at:
        tasks = asyncio.all_tasks()
        asked = {"model": "opensora", "request": request, "stream": "studio"}
        async with watching(at[0], codec, 24, **asked) as peer, viewer(at[0], talks=False) as other:
            shown = await peer.told_of("shown", WAIT)
            assert (shown["prompt"], shown["tick"]) == (0, 0)
            assert (await other.post("/v1/whep/studio")).status_code == 201
            await until(lambda: len(peer.seen) > 6 and len(other.seen) > 6)
            peer.say("update", request={"prompt": "a storm"}, id="a")
            assert (await peer.told_of("updated", WAIT))["id"] == "a"
            shown = await peer.told_of("shown", WAIT)
            assert (shown["id"], shown["prompt"]) == ("a", 1) and shown["tick"] > 0
            assert shown["tick"] % (18 if mode == "loop" else 9) == (9 if mode == "loop" else 0)
            peer.say("update", request={"prompt": "a storm", "mode": "causal"}, id="b")
            assert (await peer.told_of("error", WAIT))["id"] == "b"
            peer.say("finish")
            assert (await peer.told_of("ended", WAIT))["reason"] == "finished"
        assert peer.sizes == other.sizes == {(64, 96)}
        await freed(at[1], tasks, WAIT)


async def test_pictures_are_not_sent_to_who_wants_sound_nor_taken(at: At) -> None:
    body = {"sdp": await offer(), "type": "offer", "model": "painter", "request": {"prompt": "a ball"}}
    async with httpx.AsyncClient(base_url=f"http://{at[0]}") as http:
        reply = await http.post("/v1/webrtc/offer", json=body)
        assert reply.status_code == 400 and "VP8 or H.264" in reply.json()["error"]["message"]
        reply = await http.post("/v1/whip/painter", content=await offer(), headers=SDP)
        assert reply.status_code == 400 and "takes no sound" in reply.json()["error"]["message"]
    assert not at[1].streams and not at[1].casts
