"""Speech in calls: text on the data channel is heard, cleared and ended; and others hear what any session says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest

from riverrun.media import Resampler
from riverrun.models.speech.lite import SpeakLite
from riverrun.streaming import wire
from riverrun.streaming.hub import Hub
from riverrun.streaming.webrtc import Spoken
from tests.models.speech.small import small
from tests.models.toys import Smooth
from tests.streaming import calling
from tests.streaming.calling import RATE, SDP, Caller, caller, loopback, murmur, shift
from tests.streaming.lines import freed
from tests.streaming.serving import Audio, call, dial, server
from tests.streaming.test_abrupt import unplug
from tests.streaming.test_whip import offer

__all__ = ["loopback"]
pytestmark = pytest.mark.anyio
LOCAL = {"hosts": ["127.0.0.1"], "ice_timeout": 60}
LONG = "This is one of many sentences that are all alike. " * 40
QUICK = {"steps": 1}  # so that a busy machine is no slower than speech
WAIT = 60.0  # seconds, that a busy machine may take
until = partial(calling.until, wait=WAIT)
At = tuple[str, Hub]


@pytest.fixture(scope="module")
def model() -> SpeakLite:
    return small()


@pytest.fixture
async def at(model: SpeakLite) -> AsyncIterator[At]:
    async with server({"smooth": Smooth(), "small": model}, webrtc=LOCAL, streams={"resume": 1}) as found:
        yield found


@asynccontextmanager
async def talking(at: str, **values: Any) -> AsyncIterator[Caller]:
    """A caller who types and listens."""
    async with caller(at) as peer:
        peer.connection.addTransceiver("audio", "recvonly")
        await peer.duplex(model="small", **{"request": QUICK, **values})
        await peer.told_of("opened", WAIT)
        yield peer


@asynccontextmanager
async def hearing(at: str, name: str) -> AsyncIterator[Caller]:
    async with caller(at, talks=False) as peer:
        peer.connection.addTransceiver("audio", "recvonly")
        reply = await peer.post(f"/v1/whep/{name}")
        assert reply.status_code == 201, reply.text
        yield peer


def loud(peer: Caller) -> float:
    """Seconds of sound among the silence that was heard."""
    return sum(len(part) for _, part in peer.heard if np.abs(part).max() > 0.01) / RATE


async def test_a_call_says_what_is_typed_and_tells_words(at: At) -> None:
    tasks = asyncio.all_tasks()
    async with talking(at[0], request={"voice": "ben", "steps": 1}, stream="talk") as peer:
        await until(lambda: len(peer.heard) > 20)
        assert not loud(peer), "silence keeps the time"
        text = "Hello there. It is five."
        for piece in (text[:3], text[3:9], text[9:]):
            peer.say("text", text=piece, context="a")
        peer.say("text", context="a", flush=True)
        assert (await peer.told_of("event", WAIT))["name"] == "playing"
        told = [await peer.told_of("words", WAIT) for _ in range(2)]
        words = [word for message in told for word in message["words"]]
        assert [text[word["start"] : word["end"]] for word in words] == ["Hello", "there", "It", "is", "five"]
        assert {message["context"] for message in told} == {"a"}
        await until(lambda: loud(peer) > 0.3)
        peer.say("text", text="日本語。", context="b", flush=True)
        error = await peer.told_of("error", WAIT)
        assert not error["fatal"] and error["context"] == "b"
        peer.say("update", request={"speed": 1.5}, id="quick")
        await peer.told_of("updated", WAIT)
        peer.say("text", text="And more", context="c")
        peer.say("finish")
        assert [w["text"] for w in (await peer.told_of("words", WAIT))["words"]] == ["And", "more"]
        assert (await peer.told_of("ended", WAIT))["reason"] == "finished"
        steps = np.diff([pts for pts, _ in peer.heard])
        assert set(steps) == {960}, "no tick is missing, silent or not"
    await freed(at[1], tasks, WAIT)


async def test_what_is_cleared_is_not_heard_and_other_text_follows(at: At) -> None:
    async with talking(at[0]) as peer:
        peer.say("text", text=LONG, context="first")
        await until(lambda: loud(peer) > 2)
        (spoken,) = at[1].calls.values()
        assert isinstance(spoken, Spoken)
        peer.say("clear")
        peer.say("text", text="New words.", context="second", flush=True)
        cleared = await peer.told_of("cleared", WAIT)
        assert cleared["context"] == "first" and cleared["words"]
        assert all(word["ends"] <= cleared["start"] for word in cleared["words"])
        while (words := await peer.told_of("words", WAIT))["context"] == "first":
            pass
        assert [word["text"] for word in words["words"]] == ["New", "words"]
        assert words["words"][0]["begins"] >= cleared["start"]
        peer.say("finish")
        await peer.told_of("ended", WAIT)
        assert spoken.player.playout.tick - cleared["start"] < 5 * RATE, "only the new words were said"


async def test_tokens_that_come_all_at_once_are_all_said(at: At) -> None:
    async with talking(at[0]) as peer:
        for word in ["one "] * 500:
            peer.say("text", text=word)
        peer.say("finish")
        await until(lambda: any(message["type"] == "words" for message in peer.told))
        assert not [message for message in peer.told if message["type"] == "error"]
        peer.say("cancel")
        await until(lambda: not at[1].calls)


async def test_who_neither_types_nor_hears_for_long_is_ended(model: SpeakLite) -> None:
    streams = {"idle": 8, "resume": 1}
    async with server({"small": model}, webrtc=LOCAL, streams=streams) as (at, hub), talking(at) as peer:
        peer.say("text", text=LONG[:100], flush=True)
        assert (await peer.told_of("ended", WAIT))["reason"] == "idle"
        assert len([m for m in peer.told if m["type"] == "words"]) == 2, "but not before all was said"
        assert loud(peer) > 3
        await until(lambda: not (hub.calls or hub.streams or hub.engine.sessions))


@pytest.mark.parametrize("how", ["unplugs", "closes", "deletes"])
async def test_a_caller_who_vanishes_frees_the_engine(
    at: At, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = asyncio.all_tasks()
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.2)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 1000)
    async with talking(at[0], stream="talk") as peer, hearing(at[0], "talk") as other:
        peer.say("text", text=LONG)
        await until(lambda: loud(peer) and loud(other))
        monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 3)
        match how:
            case "unplugs":
                unplug(peer)
            case "closes":
                await peer.connection.close()
            case "deletes":
                (mine,) = (call for call in at[1].calls.values() if isinstance(call, Spoken))
                await peer.client.delete(f"http://{at[0]}/v1/calls/{mine.id}")
        await until(lambda: not (at[1].calls or at[1].casts or at[1].streams or at[1].engine.sessions))
    await freed(at[1], tasks, WAIT)


async def test_a_model_that_speaks_takes_no_broadcast_and_another_no_text(at: At) -> None:
    async with httpx.AsyncClient(base_url=f"http://{at[0]}") as http:
        reply = await http.post("/v1/whip/small", content=await offer(), headers=SDP)
        assert reply.status_code == 400 and "takes no sound" in reply.json()["error"]["message"]
    assert not at[1].streams and not at[1].casts
    async with caller(at[0], murmur(8)) as peer:
        await peer.duplex()
        await peer.told_of("opened", WAIT)
        peer.say("text", text="Hello.")
        error = await peer.told_of("error", WAIT)
        assert error["fatal"] and "takes sound, no text" in error["error"]["message"]


# Heard by others


def found(said: Audio, heard: Audio) -> list[bool]:
    """Whether each tenth of a second that is no silence was heard, whenever that was."""
    pieces = [said[start : start + 4800] for start in range(0, len(said) - 4800, 4800)]
    loud = [piece for piece in pieces if piece.std() > 1e-3]
    places = [(piece, heard[max(0, shift(piece, heard)) :][:4800]) for piece in loud]
    return [
        len(there) == 4800 and there.std() > 0 and np.corrcoef(piece[:, 0], there[:, 0])[0, 1] > 0.5
        for piece, there in places
    ]


@pytest.mark.parametrize("live", [None, 0.3])
async def test_many_hear_what_is_said_over_a_websocket(at: At, live: float | None) -> None:
    tasks = asyncio.all_tasks()
    opening = {"model": "small", "rate": 24_000, "stream": "studio", "live": live, "request": QUICK}
    async with (
        call(at[0], **opening) as peer,
        hearing(at[0], "studio") as one,
        hearing(at[0], "studio") as two,
    ):
        for listener in (one, two):
            await until(lambda heard=listener.heard: heard)  # type: ignore[misc]
        await peer.say(wire.Text(LONG[:50]))
        await peer.say(wire.Finish())
        while not peer.told or peer.told[-1]["type"] != "ended":
            if isinstance(message := await peer.hear(), wire.Frame):
                await peer.acknowledge(message.seq)
        said = Resampler(24_000, RATE).push(peer.sound())
        for listener in (one, two):
            await until(lambda peer=listener: peer.connection.connectionState == "closed")  # type: ignore[misc]
            assert np.mean(found(said, listener.sound())) > 0.5, "a busy machine may be late with some"
    await freed(at[1], tasks, WAIT)


async def test_what_is_cleared_or_cancelled_is_not_heard_by_others(at: At) -> None:
    opening = {"model": "small", "rate": 24_000, "stream": "studio", "live": 0.3, "request": QUICK}
    async with call(at[0], **opening) as peer, hearing(at[0], "studio") as other:
        await peer.say(wire.Text(LONG))
        await until(lambda: loud(other) > 0.3)
        await peer.say(wire.Clear())
        await peer.until("cleared")
        begun = len(other.heard)
        await until(lambda: len(other.heard) > begun + 100)
        assert max(np.abs(part).max() for _, part in other.heard[-10:]) < 0.01
        await peer.say(wire.Cancel())
        await until(lambda: not (at[1].calls or at[1].casts))


async def test_a_request_is_heard_as_it_is_made(at: At) -> None:
    body = {"input": LONG[:100], "response_format": "pcm", "stream": "news", "steps": 1}
    async with httpx.AsyncClient(base_url=f"http://{at[0]}", timeout=WAIT) as http:
        asked = asyncio.create_task(http.post("/v1/audio/speech", json=body))
        await until(lambda: at[1].casts)
        taken = await http.post("/v1/audio/speech", json=body)
        assert taken.status_code == 409 and "'news'" in taken.json()["error"]["message"]
        async with hearing(at[0], "news") as peer:
            assert (await asked).status_code == 200
            await until(lambda: loud(peer) > 0.5)
        await until(lambda: not at[1].casts)


async def test_a_name_is_one_session_s_and_of_speech_only(at: At) -> None:
    async with call(at[0], model="small", stream="studio"):
        refused: list[tuple[dict[str, Any], str]] = [
            ({"model": "small", "stream": "studio"}, "being sent already"),
            ({"model": "small", "stream": "a/b"}, "letters"),
            ({"model": "smooth", "stream": "other"}, "only speech"),
        ]
        for values, why in refused:
            async with dial(at[0]) as peer:
                await peer.say(wire.Open(**values))
                assert why in (await peer.until("error"))["error"]["message"]
        async with httpx.AsyncClient(base_url=f"http://{at[0]}") as http:
            path = "/v1/whip/smooth?stream=studio"
            assert (await http.post(path, content=await offer(), headers=SDP)).status_code == 409
    assert len(at[1].streams) <= 1
