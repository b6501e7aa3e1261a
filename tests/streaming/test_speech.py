"""Text becomes speech over HTTP and WebSocket: as it comes, word by word, cleared within a chunk."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from riverrun.media import read
from riverrun.models.recording import recorded
from riverrun.models.speech.lite import SpeakLite
from riverrun.streaming import wire
from riverrun.streaming.errors import AtCapacity
from riverrun.streaming.hub import Hub
from tests.models.speech.small import small
from tests.models.toys import Smooth
from tests.streaming.lines import freed
from tests.streaming.serving import Peer, call, dial, noise, server
from tests.streaming.test_http import recording

pytestmark = pytest.mark.anyio
TEXT = "Hello there. It is five, Dr. Smith! And so we go"
LONG = "This is one of many sentences that are all alike. " * 40
RATE = 24_000
SPEECH = "/v1/audio/speech"


@pytest.fixture(scope="module")
def model() -> SpeakLite:
    return small()


@pytest.fixture
async def at(model: SpeakLite, tmp_path: Path) -> AsyncIterator[tuple[str, Hub]]:
    kept = {"streams": {"resume": 1}, "voices": {"folder": tmp_path}}
    async with server({"smooth": Smooth(), "small": model}, **kept) as found:
        yield found


async def say(at: str, **values: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{at}", timeout=30) as client:
        return await client.post(SPEECH, json={"input": TEXT, "response_format": "pcm", **values})


def pcm(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i2").astype(np.float32) / 32767


async def test_every_format_holds_the_same_speech(at: tuple[str, Hub]) -> None:
    plain = pcm((await say(at[0])).content)
    assert len(plain) > RATE // 2 and np.abs(plain).max() > 0
    for form, kind in {"mp3": "mpeg", "opus": "ogg", "aac": "aac", "flac": "flac", "wav": "wav"}.items():
        reply = await say(at[0], response_format=form)
        assert reply.headers["content-type"] == f"audio/{kind}"
        sound, _ = read(io.BytesIO(reply.content))
        assert abs(len(sound) / (48_000 if form == "opus" else RATE) - len(plain) / RATE) < 0.2
        if form in ("flac", "wav"):
            assert np.allclose(sound[:, 0], plain, atol=1e-4)


async def test_the_list_of_models_says_which_speaks_and_in_which_voices(at: tuple[str, Hub]) -> None:
    async with httpx.AsyncClient(base_url=f"http://{at[0]}") as client:
        other, speaker = (await client.get("/v1/models")).json()["data"]
    assert (other["speaks"], other["voices"], other["task"]) == (False, [], "restore")
    assert (speaker["speaks"], speaker["voices"], speaker["task"]) == (True, ["anna", "ben"], "speak")


async def test_it_is_the_model_alone_that_is_heard(at: tuple[str, Hub], model: SpeakLite) -> None:
    from riverrun.models.speech.lite import Said, speak
    from riverrun.models.speech.reading.script import Script

    lines = "".join(line.symbols for line in Script(model.spec.symbols).whole(TEXT))
    wanted = speak(model, Said(lines, voice="ben", seed=5, speed=1.25))
    got = pcm((await say(at[0], voice="ben", seed=5, speed=1.25)).content)
    assert len(got) == len(wanted) and np.allclose(got, wanted.clip(-1, 1), atol=1e-3)


async def test_events_tell_sound_and_use(at: tuple[str, Hub]) -> None:
    reply = await say(at[0], stream_format="sse")
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n\n") if line]
    sound = b"".join(base64.b64decode(e["audio"]) for e in events if e["type"] == "speech.audio.delta")
    assert sound == (await say(at[0])).content
    assert events[-1]["type"] == "speech.audio.done" and events[-1]["usage"]["input_tokens"] == len(TEXT)


async def test_several_inputs_are_said_one_after_the_other(at: tuple[str, Hub]) -> None:
    one, two, both = [len((await say(at[0], input=x)).content) for x in ("One.", "Two.", ["One.", "Two."])]
    assert abs(both - one - two) <= 0.1 * both


async def test_markup_is_followed(at: tuple[str, Hub]) -> None:
    plain = len((await say(at[0], input="<speak>Hi</speak>")).content)
    paused = len((await say(at[0], input='<speak>Hi<break time="1s"/></speak>')).content)
    assert abs(paused - plain - 2 * RATE) <= 0.2 * 2 * RATE, "and it changes how the word beside it is said"


@pytest.mark.parametrize(
    ("values", "status", "why"),
    [
        ({"input": ""}, 400, "input is empty"),
        ({"input": []}, 400, "input is empty"),
        ({"input": " ☺ \u200b"}, 400, "nothing that can be said"),
        ({"input": "日本語のテキスト"}, 400, "CJK"),
        ({"input": "<speak><a/></speak>"}, 400, "a"),
        ({"input": "x" * 200_001}, 413, "200001 characters, the limit is 200000"),
        ({"voice": "carl"}, 404, "voice is 'carl', expected one of anna, ben, or a voice of yours"),
        ({"voice": {"name": "anna"}}, 422, "voice"),
        ({"model": "smooth"}, 400, "takes sound, no text"),
        ({"model": "gpt"}, 400, "model is 'gpt', expected one of smooth, small"),
        ({"speed": 9}, 422, "speed"),
        ({"response_format": "ogg"}, 422, "response_format"),
        ({"tempo": 1}, 422, "tempo"),
    ],
    ids=str,
)
async def test_what_cannot_be_said_is_told(
    at: tuple[str, Hub], values: dict[str, Any], status: int, why: str
) -> None:
    reply = await say(at[0], **values)
    assert reply.status_code == status and why in reply.json()["error"]["message"]
    assert not at[1].streams and not at[1].replies and not at[1].engine.sessions


async def test_control_characters_and_a_hundred_thousand_characters_are_said(at: tuple[str, Hub]) -> None:
    assert len((await say(at[0], input="Hel\x00lo\x07 there\u202e.")).content) > 1000
    async with (
        httpx.AsyncClient(base_url=f"http://{at[0]}", timeout=30) as client,
        client.stream("POST", SPEECH, json={"input": LONG * 50, "response_format": "pcm"}) as reply,
    ):
        assert reply.status_code == 200
        async for _ in reply.aiter_bytes():
            break
    for left in list(at[1].replies.values()):
        await left.stop()
    assert not at[1].streams


async def test_openai_s_own_client_speaks(at: tuple[str, Hub]) -> None:
    def work() -> tuple[bytes, list[bytes]]:
        with openai.OpenAI(base_url=f"http://{at[0]}/v1", api_key="any", max_retries=0) as client:
            whole = client.audio.speech.create(model="small", voice="anna", input=TEXT, response_format="pcm")
            with client.audio.speech.with_streaming_response.create(
                model="small", voice="anna", input=TEXT, response_format="pcm"
            ) as reply:
                parts = list(reply.iter_bytes(4096))
            with pytest.raises(openai.NotFoundError, match="carl"):
                client.audio.speech.create(model="small", voice="carl", input=TEXT)
            return whole.content, parts

    whole, parts = await asyncio.to_thread(work)
    assert b"".join(parts) == whole and len(parts) > 1


async def test_openai_s_client_may_leave_in_the_middle(at: tuple[str, Hub]) -> None:
    tasks = asyncio.all_tasks()
    async with openai.AsyncOpenAI(base_url=f"http://{at[0]}/v1", api_key="any", max_retries=0) as client:
        speech = client.audio.speech.with_streaming_response
        async with speech.create(model="small", voice="anna", input=LONG, response_format="pcm") as reply:
            async for _ in reply.iter_bytes(1024):
                break
    for left in list(at[1].replies.values()):
        await left.stop()
    await freed(at[1], tasks)


# Over a WebSocket


async def until_ended(peer: Peer) -> None:
    while not peer.told or peer.told[-1]["type"] != "ended":
        if isinstance(message := await peer.hear(), wire.Frame):
            await peer.acknowledge(message.seq)


def speaks(at: str, **values: Any) -> Any:
    return call(at, model="small", rate=RATE, **values)


def words(peer: Peer) -> list[dict[str, Any]]:
    return [word for m in peer.told if m["type"] == "words" for word in m["words"]]


@pytest.mark.parametrize("cuts", [[], [3, 20, 21], list(range(1, len(TEXT)))], ids=len)
async def test_text_in_pieces_is_heard_as_the_whole(at: tuple[str, Hub], cuts: list[int]) -> None:
    wanted = pcm((await say(at[0], seed=3)).content)
    edges = [0, *cuts, len(TEXT)]
    async with speaks(at[0], request={"seed": 3}) as peer:
        for a, b in zip(edges, edges[1:], strict=False):
            await peer.say(wire.Text(TEXT[a:b]))
        await peer.say(wire.Finish())
        await until_ended(peer)
    assert np.allclose(peer.sound()[:, 0].clip(-1, 1), wanted, atol=1e-3)
    assert [TEXT[w["start"] : w["end"]] for w in words(peer)][:6] == [
        "Hello",
        "there",
        "It",
        "is",
        "five",
        "Dr.",
    ]
    begins = [word["begins"] for word in words(peer)]
    assert begins == sorted(begins) and words(peer)[-1]["ends"] <= len(wanted)


async def test_sound_comes_before_the_text_is_over_and_the_rest_when_flushed(at: tuple[str, Hub]) -> None:
    async with speaks(at[0]) as peer:
        await peer.say(wire.Text("This is a sentence that is quite long, as it is. And"))
        while not peer.frames:
            await peer.hear()
        await peer.say(wire.Text(" then", flush=True))
        while not any(word["text"] == "then" for word in words(peer)):
            await peer.hear()
        await peer.say(wire.Finish())
        await until_ended(peer)
        assert peer.told[-1]["reason"] == "finished"


async def test_what_is_cleared_is_not_heard_and_other_text_follows(at: tuple[str, Hub]) -> None:
    async with speaks(at[0], live=0.3) as peer:
        await peer.say(wire.Text(LONG, "first"))
        while len(peer.frames) < 3:
            await peer.hear()
        played = peer.frames[1].pts
        await peer.say(wire.Clear(played))
        cleared = await peer.until("cleared")
        heard = [LONG[w["start"] : w["end"]] for w in cleared["words"]]
        assert heard == LONG.replace(".", "").split()[: len(heard)] and cleared["context"] == "first"
        assert all(word["ends"] <= played for word in cleared["words"])
        await peer.say(wire.Text("New words.", "second"))
        await peer.say(wire.Finish())
        await until_ended(peer)
        said = [m for m in peer.told if m["type"] == "words" and m["context"] == "second"]
        assert [word["text"] for word in said[0]["words"]] == ["New", "words"]
        assert said[0]["words"][0]["begins"] >= cleared["start"]
        assert [w["start"] for w in said[0]["words"]] == [0, 4], "characters are those of the context"
    pts = 0
    for frame in peer.frames:
        assert frame.pts == pts, "ticks go on"
        pts += len(frame.payload) // 4
    assert pts - cleared["start"] < 3 * RATE


async def test_a_speaker_is_cleared_however_full_the_engine_is(
    at: tuple[str, Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaks(at[0], live=0.3) as peer:
        await peer.say(wire.Text(LONG))
        while not peer.frames:
            await peer.hear()

        def full(*_: Any) -> None:
            raise AtCapacity("it is full")

        monkeypatch.setattr("riverrun.streaming.engine.admit", full)
        await peer.say(wire.Finish())
        await peer.say(wire.Clear())
        await peer.until("cleared")
        await until_ended(peer)
        assert peer.told[-1]["reason"] == "finished", "as the text was over, so is the speech"


async def test_cancelling_frees_the_engine_and_others_speak_on(at: tuple[str, Hub]) -> None:
    tasks = asyncio.all_tasks()
    async with speaks(at[0]) as peer, speaks(at[0]) as other:
        await peer.say(wire.Text(LONG))
        while not peer.frames:
            await peer.hear()
        await peer.say(wire.Cancel())
        assert (await peer.until("ended"))["reason"] == "cancelled"
        await other.say(wire.Text("Hello.", flush=True))
        await other.say(wire.Finish())
        await until_ended(other)
        assert len(other.sound())
    await freed(at[1], tasks)


async def test_a_lost_connection_is_taken_up_in_the_middle_of_a_word(at: tuple[str, Hub]) -> None:
    wanted = pcm((await say(at[0], input=LONG[:200])).content)
    async with speaks(at[0]) as first:
        await first.say(wire.Text(LONG[:200]))
        while len(first.frames) < 2:
            await first.hear()
        first.socket.transport.abort()
    async with dial(at[0]) as second:
        await second.say(wire.Resume(first.opened["session"], first.opened["token"], first.frames[-1].seq))
        await second.until("opened")
        await second.say(wire.Finish())
        await until_ended(second)
    got = np.concatenate([first.sound(), second.sound()])[:, 0]
    assert np.allclose(got.clip(-1, 1), wanted, atol=1e-3)


async def test_text_with_a_number_is_taken_once_and_words_are_told_again(at: tuple[str, Hub]) -> None:
    async with call(at[0], model="", rate=RATE, request={"steps": 1}) as first:
        for seq in (0, 0, 1, 0, 1):
            await first.say(wire.Text("Hello. ", seq=seq, flush=bool(seq)))
        while len(words(first)) < 2:
            await first.hear()
        assert [m["seq"] for m in first.told if m["type"] == "said"][-1] == 1
        first.socket.transport.abort()
    async with dial(at[0]) as second:
        await second.say(wire.Resume(first.opened["session"], first.opened["token"], -1))
        assert (await second.until("said"))["seq"] == 1
        await second.say(wire.Text("Hello. ", seq=1))
        await second.say(wire.Finish())
        await until_ended(second)
    assert [word["text"] for word in words(second)] == ["Hello", "Hello"]


async def test_more_text_than_may_wait_ends_its_stream_alone(at: tuple[str, Hub]) -> None:
    async with speaks(at[0]) as peer:
        for _ in range(200):
            await peer.say(wire.Text(LONG[:1600]))
        while (message := await peer.hear()) and not (
            isinstance(message, dict) and message["type"] == "error"
        ):
            pass
        assert "characters wait to be said" in message["error"]["message"]
    assert (await say(at[0])).status_code == 200


async def test_sound_for_a_speaker_and_text_for_a_listener_are_refused(at: tuple[str, Hub]) -> None:
    async with speaks(at[0]) as peer:
        await peer.send(noise(320))
        assert "takes text, no sound" in (await peer.until("error"))["error"]["message"]
    async with call(at[0]) as peer:
        await peer.say(wire.Text("Hello."))
        assert "takes sound, no text" in (await peer.until("error"))["error"]["message"]


async def test_text_that_is_no_english_is_told_and_the_rest_is_said(at: tuple[str, Hub]) -> None:
    async with speaks(at[0]) as peer:
        await peer.say(wire.Text("日本語。", "a", flush=True))
        error = await peer.until("error")
        assert not error["fatal"] and error["context"] == "a" and "CJK" in error["error"]["message"]
        await peer.say(wire.Text("Hello.", "b"))
        await peer.say(wire.Finish())
        await until_ended(peer)
        assert [word["text"] for word in words(peer)] == ["Hello"]


async def test_two_who_come_at_once_do_not_both_take_the_last_place(
    model: SpeakLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, Any] = {"streams": {"sessions": 1, "resume": 0}, "voices": {"folder": tmp_path}}
    async with server({"small": model}, **kept) as (at, hub):
        known = hub.voiced

        async def slowly(*asked: Any) -> dict[str, Any]:
            await asyncio.sleep(0.1)
            return await known(*asked)

        monkeypatch.setattr(hub, "voiced", slowly)
        opened = await asyncio.gather(
            *(hub.open(wire.Open("small"), "ws") for _ in range(2)), return_exceptions=True
        )
        assert sorted(isinstance(one, AtCapacity) for one in opened) == [False, True]
        for stream in list(hub.streams.values()):
            await stream.close()


async def test_a_voice_is_cloned_under_a_consent_and_by_no_other_way(
    at: tuple[str, Hub], tmp_path: Path
) -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal((3 * RATE, 1)).astype(np.float32)
    async with openai.AsyncOpenAI(base_url=f"http://{at[0]}/v1", api_key="any", max_retries=0) as client:
        own = ("a.wav", recording(sound, rate=RATE))
        consent = await client.audio.voice_consents.create(name="me", language="en-US", recording=own)
        voice = await client.audio.voices.create(name="mine", audio_sample=own, consent=consent.id)
    plain = pcm((await say(at[0], input="Hello.", voice="anna")).content)
    cloned = pcm((await say(at[0], input="Hello.", voice={"id": voice.id})).content)
    assert (await say(at[0], input="Hello.", voice="mine")).content and len(cloned)
    count = min(len(plain), len(cloned))
    assert not np.allclose(plain[:count], cloned[:count], atol=1e-3)
    async with speaks(at[0], request={"voice": voice.id}) as peer:
        await peer.say(wire.Text("Hello."))
        await peer.say(wire.Finish())
        await until_ended(peer)
    assert np.allclose(peer.sound()[:, 0].clip(-1, 1), cloned, atol=1e-3)
    async with dial(at[0]) as peer:
        await peer.say(wire.Open("small", {"recording": recorded(sound[:, 0])[:9000]}))
        assert "under a consent" in (await peer.until("error"))["error"]["message"]
