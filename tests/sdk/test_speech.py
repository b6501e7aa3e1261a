"""Speech through riverrun.Client: text as it comes, whatever happens to the connection, and files of it."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import riverrun
from riverrun import live
from riverrun.media import Chunk, UnsupportedMedia, read
from riverrun.streaming.hub import Hub
from riverrun.streaming.problems import NotFound
from tests.models.speech.small import small
from tests.models.toys import Smooth
from tests.sdk.cutting import Cut, proxy
from tests.streaming.serving import Audio, server

pytestmark = pytest.mark.anyio
TEXT = "Hello there. It is five, Dr. Smith! And so we go"
LONG = "This is one of many sentences that are all alike. " * 3
QUICK: Any = {"steps": 1}  # so that a slow machine does it
RATE = 24_000


@pytest.fixture(scope="module")
def model() -> Any:
    return small()


@pytest.fixture
async def at(model: Any, tmp_path: Path) -> AsyncIterator[tuple[str, Hub]]:
    async with server({"smooth": Smooth(), "small": model}, voices={"folder": tmp_path / "kept"}) as found:
        yield found


def sound(chunks: list[Chunk]) -> Audio:
    """Chunks as one sound, which must follow on one another."""
    assert [c.pts for c in chunks[1:]] == [c.end for c in chunks[:-1]]
    return np.concatenate([chunk.data for chunk in chunks])[:, 0]


def heard(data: bytes | Path) -> Audio:
    return read(io.BytesIO(data) if isinstance(data, bytes) else data)[0][:, 0]


async def said(at: str, text: str = TEXT, **manner: Any) -> Audio:
    async with riverrun.AsyncClient(f"http://{at}") as client:
        return heard(await client.speak(text, **{**QUICK, **manner}))


async def tokens(text: str = TEXT) -> AsyncIterator[str]:
    """A text as a language model gives it."""
    for start in range(0, len(text), 4):
        yield text[start : start + 4]
        await asyncio.sleep(0)


async def test_tokens_are_heard_as_the_whole_text(at: tuple[str, Hub]) -> None:
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        async with client.speech(**QUICK, voice="ben", seed=3) as speech:
            got = sound([chunk async for chunk in speech.through(tokens())])
            assert [TEXT[w.start : w.end] for w in speech.words][:4] == ["Hello", "there", "It", "is"]
            assert all(a.ends <= b.begins for a, b in zip(speech.words, speech.words[1:], strict=False))
            assert speech.words[-1].ends <= len(got)
            with pytest.raises(riverrun.ProtocolError, match="finished"):
                await speech.say("more")
    assert np.allclose(got.clip(-1, 1), await said(at[0], voice="ben", seed=3), atol=1e-4)


async def test_the_same_without_async(at: tuple[str, Hub]) -> None:
    def spoken() -> tuple[Audio, list[str], list[riverrun.Word]]:
        with riverrun.Client(f"http://{at[0]}") as client:
            with client.speech(**QUICK, seed=3, format="pcm16") as speech:
                got = sound(list(speech.through(["Hello ", "there."])))
                words = [word.text for word in speech.words]
            with client.speech(**QUICK) as speech:
                speech.say(LONG)
                next(speech)
                left = speech.clear(played=0)
                speech.say("New.", "second", flush=True)
                while "New" not in [word.text for word in speech.words]:
                    next(speech)
            return got, words, left

    got, words, left = await asyncio.to_thread(spoken)
    assert np.allclose(got, await said(at[0], "Hello there.", seed=3), atol=1e-3)
    assert words == ["Hello", "there"] and left == []
    assert not at[1].streams


CUTS: list[list[Cut]] = [
    [("up", 600)],
    [("up", 900)],
    [("down", 700)],
    [("down", 60_000)],
    [("up", 500), ("down", 60), ("down", 900), ("up", 700), ("down", 50_000)],
]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
async def test_a_cut_connection_costs_neither_a_word_nor_a_sample(
    at: tuple[str, Hub], cuts: list[Cut]
) -> None:
    events = list[str]()
    async with proxy(at[0], *cuts) as cutting:
        async with riverrun.AsyncClient(f"http://{cutting.at}") as client:
            async with client.speech(**QUICK, seed=3, on_event=lambda e: events.append(e.name)) as speech:
                got = sound([chunk async for chunk in speech.through(tokens(LONG))])
                words = [LONG[word.start : word.end] for word in speech.words]
    assert np.allclose(got.clip(-1, 1), await said(at[0], LONG, seed=3), atol=1e-4)
    assert words == LONG.replace(".", "").split()
    assert events.count("lost") == events.count("resumed") >= 1


async def test_what_is_cleared_is_not_heard_and_what_follows_is(at: tuple[str, Hub]) -> None:
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        async with client.speech(**QUICK, live=0.3) as speech:
            await speech.say(LONG * 9, "first")
            while not speech.words or speech.heard < speech.words[0].ends:
                last = await anext(speech)
            left = await speech.clear()
            assert left and all(word.ends <= last.end for word in left) and not speech.words
            assert [word.context for word in left] == ["first"] * len(left)
            await speech.say("New words.", "second")
            await speech.finish()
            rest = [chunk async for chunk in speech]
            assert [(w.text, w.start) for w in speech.words] == [("New", 0), ("words", 4)]
            assert rest[0].pts >= last.end and speech.words[0].begins >= rest[0].pts
            assert sum(map(len, rest)) < 4 * RATE and rest[-1].last
            assert await speech.clear() != [], "there is nothing to clear any more"


async def test_clearing_lets_go_who_waits_to_say_more(
    at: tuple[str, Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PIECE", 50)
    monkeypatch.setattr(live, "TYPED", 200)
    async with riverrun.AsyncClient(f"http://{at[0]}") as client, client.speech(**QUICK) as speech:
        saying = asyncio.create_task(speech.say(LONG * 40))
        await anext(speech)
        assert not saying.done()
        await speech.clear()
        await saying
        await speech.say("Short.")
        await speech.finish()
        assert sound([chunk async for chunk in speech]).any()
        assert [word.text for word in speech.words] == ["Short"]


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_clear_that_is_cut_clears_once(at: tuple[str, Hub], direction: str) -> None:
    async with proxy(at[0]) as cutting, riverrun.AsyncClient(f"http://{cutting.at}") as client:
        async with client.speech(**QUICK) as speech:
            await speech.say(LONG * 3)
            await anext(speech)
            if direction == "up":
                cutting.cut()  # before it is sent
                await speech.clear()
            else:
                clearing = asyncio.create_task(speech.clear())
                await asyncio.sleep(0)
                cutting.cut()  # while it is on its way, or its answer
                await clearing
            await speech.say("New.", "second")
            await speech.finish()
            got = [chunk async for chunk in speech]
            assert [word.text for word in speech.words] == ["New"] and sum(map(len, got)) < 4 * RATE


async def test_text_that_cannot_be_said_is_an_event_and_the_rest_is_said(at: tuple[str, Hub]) -> None:
    events: list[riverrun.Event] = []
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        async with client.speech(**QUICK, on_event=events.append) as speech:
            await speech.say("日本語。", "a", flush=True)
            await speech.say("Hello.", "b")
            await speech.finish()
            assert sound([chunk async for chunk in speech]).any()
    assert [event.name for event in events] == ["unsaid"] and "CJK" in events[0].why


async def test_a_text_is_said_at_another_speed_from_then_on(at: tuple[str, Hub]) -> None:
    async with riverrun.AsyncClient(f"http://{at[0]}") as client, client.speech(**QUICK) as speech:
        await speech.say("Hello there.", flush=True)
        await speech.update(speed=2.0)
        await speech.say(" Hello there.")
        await speech.finish()
        assert sound([chunk async for chunk in speech]).any()
        one, two = [word.ends - word.begins for word in speech.words if word.text == "Hello"]
        assert two < 0.8 * one
        with pytest.raises((riverrun.InvalidRequest, riverrun.SessionEnded)):
            await speech.update(seed=5)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"model": "none"}, riverrun.InvalidRequest, "'none'"),
        ({"voice": "carl"}, NotFound, "voice is 'carl'"),
        ({"speed": 9.0}, riverrun.InvalidRequest, "speed"),
        ({"format": "mp3"}, riverrun.InvalidRequest, "format is 'mp3'"),
    ],
    ids=str,
)
async def test_a_speech_no_server_gives_is_refused(
    at: tuple[str, Hub], options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    async with riverrun.AsyncClient(f"http://{at[0]}") as client:
        with pytest.raises(kind, match=words):
            async with client.speech(**options):
                pass
        assert not at[1].streams


async def test_a_server_that_does_not_speak_says_so() -> None:
    async with server() as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        with pytest.raises(riverrun.InvalidRequest, match="no model here speaks"):
            async with client.speech(**QUICK):
                pass
        with pytest.raises(riverrun.InvalidRequest, match="no model here speaks"):
            await client.speak("Hello.")


async def test_a_text_becomes_a_file_or_bytes(at: tuple[str, Hub], tmp_path: Path) -> None:
    target = tmp_path / "new" / "hello.flac"

    def spoken() -> tuple[bytes, Path]:
        with riverrun.Client(f"http://{at[0]}") as client:
            wav = client.speak(TEXT, voice="ben", seed=3, steps=1)
            path = client.speak(TEXT, target, voice="ben", seed=3, steps=1)
            with pytest.raises(UnsupportedMedia, match="force=True"):
                client.speak(TEXT, target)
            for name in ("a.exe", "a.m4a"):
                with pytest.raises(riverrun.InvalidRequest, match=name):
                    client.speak(TEXT, tmp_path / name)
            return wav, path

    wav, path = await asyncio.to_thread(spoken)
    assert path == target and np.allclose(heard(path), heard(wav), atol=1e-4) and heard(wav).any()
    assert int.from_bytes(wav[4:8], "little") == len(wav) - 8, "it knows how long it is"
    marked = '<speak>Hi<break time="1s"/></speak>'
    assert len(await said(at[0], marked, format="mp3")) > RATE
    assert [p.name for p in target.parent.iterdir()] == ["hello.flac"]


@pytest.mark.parametrize(
    "cuts", [[("down", 9_000)], [("down", 30_000), ("down", 0), ("down", 60_000)]], ids=str
)
async def test_a_file_that_is_cut_is_taken_up(at: tuple[str, Hub], cuts: list[Cut]) -> None:
    async with proxy(at[0], *cuts) as cutting:
        assert np.allclose(await said(cutting.at, LONG), await said(at[0], LONG), atol=1e-4)
        assert cutting.connections > len(cuts)


class Broken(Exception):
    """What a source fails with."""


async def test_a_source_that_fails_ends_the_speech_and_is_heard(at: tuple[str, Hub]) -> None:
    def broken() -> Iterator[str]:
        yield "Hello. "
        raise Broken

    def through() -> None:
        with riverrun.Client(f"http://{at[0]}") as client, client.speech(**QUICK) as speech:
            list(speech.through(broken()))

    with pytest.raises(Broken):
        await asyncio.to_thread(through)
    async with riverrun.AsyncClient(f"http://{at[0]}") as client, client.speech(**QUICK) as speech:
        with pytest.raises(Broken):
            [chunk async for chunk in speech.through(broken())]
    while at[1].streams:
        await asyncio.sleep(0.01)
