"""A published checkpoint is served: it speaks over HTTP and WebSocket, in voices whose transcript is known."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from riverrun.media import join
from riverrun.models.errors import CheckpointError
from riverrun.models.recording import recorded
from riverrun.models.registry import load
from riverrun.models.speech.infill import Infill, Told
from riverrun.models.speech.reading.script import Script
from riverrun.models.speech.talk import talk
from riverrun.streaming import engine, wire
from riverrun.streaming.hub import Hub
from tests.models.speech.conftest import LONGCAT, letters
from tests.streaming.processes import serving
from tests.streaming.serving import Peer, call, dial, server
from tests.streaming.test_voices import CONSENTS, VOICES, wav

__all__ = ["letters"]
pytestmark = pytest.mark.anyio
TEXT = "It is five, Dr. Smith! And so we go"
RATE, HOP = 24_000, 2048
SPEECH = "/v1/audio/speech"


@pytest.fixture(scope="module")
def folder(letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as it is published, with random weights, and the tokenizer beside it."""
    made = tmp_path_factory.mktemp("published")
    shutil.copy(LONGCAT / "config.json", made)
    shutil.copy(LONGCAT / "weights.safetensors", made / "model.safetensors")
    shutil.copytree(letters, made / "tokenizer")
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Infill:
    loaded = load(str(folder / "model.safetensors"))
    assert isinstance(loaded, Infill)
    return loaded


@pytest.fixture
async def at(model: Infill, tmp_path: Path) -> AsyncIterator[tuple[str, Hub]]:
    async with server({"longcat": model}, voices={"folder": tmp_path}) as found:
        yield found


async def say(at: str, **values: Any) -> httpx.Response:
    asked = {"input": TEXT, "response_format": "pcm", "steps": 2, **values}
    async with httpx.AsyncClient(base_url=f"http://{at}", timeout=60) as client:
        return await client.post(SPEECH, json=asked)


def pcm(reply: httpx.Response) -> np.ndarray:
    assert reply.status_code == 200, reply.text
    return np.frombuffer(reply.content, "<i2").astype(np.float32) / 32767


async def own(at: str, **fields: str) -> str:
    """The id of a voice of one's own."""
    async with httpx.AsyncClient(base_url=f"http://{at}", timeout=60) as client:
        agreed = {"name": "me", "language": "en-US"}
        consent = await client.post(CONSENTS, data=agreed, files={"recording": ("a.wav", wav(2))})
        told = {"name": "me", "consent": consent.json()["id"], **fields}
        voice = await client.post(VOICES, data=told, files={"audio_sample": ("a.wav", wav(2))})
        return str(voice.json()["id"])


async def until_ended(peer: Peer) -> None:
    while not peer.told or peer.told[-1]["type"] != "ended":
        if isinstance(message := await peer.hear(), wire.Frame):
            await peer.acknowledge(message.seq)


def alone(model: Infill, **values: Any) -> np.ndarray:
    """What the model says by itself of the same lines."""
    lines = "".join(line.symbols for line in Script(model.spec.symbols).whole(TEXT))
    asked = Told(lines, end=False, flush=True, steps=2, **values)
    return join(list(talk(model, asked, [Told("")]))).data[:, 0]


async def test_it_is_listed_and_says_what_the_model_says(at: tuple[str, Hub], model: Infill) -> None:
    async with httpx.AsyncClient(base_url=f"http://{at[0]}") as client:
        (listed,) = (await client.get("/v1/models")).json()["data"]
    assert (listed["task"], listed["speaks"], listed["voices"], listed["transcribed"]) == (
        "speak",
        True,
        [],
        True,
    )
    wanted = alone(model, seed=5)
    got = pcm(await say(at[0], seed=5))
    assert len(got) == len(wanted) > RATE and np.allclose(got, wanted.clip(-1, 1), atol=1e-3)
    paused = '<speak>Hi<break time="2s"/>you</speak>'
    assert len(pcm(await say(at[0], input=paused))) > 2 * RATE
    every = httpx.AsyncClient(base_url=f"http://{at[0]}", timeout=60)
    async with every:
        usual = await every.post(SPEECH, json={"input": "Hi all", "response_format": "pcm"})
    assert usual.content == (await say(at[0], input="Hi all", steps=16)).content, "its own count of steps"


async def test_a_voice_without_a_transcript_is_refused_with_the_way_out(
    at: tuple[str, Hub], model: Infill
) -> None:
    voice = await own(at[0])
    why = f"voice '{voice}' has no transcript, and longcat needs what is said in its sample"
    reply = await say(at[0], voice=voice)
    told = reply.json()["error"]["message"]
    assert reply.status_code == 400 and why in told and f"riverrun voices transcribe {voice} TEXT" in told
    async with dial(at[0]) as peer:
        await peer.say(wire.Open("longcat", {"voice": voice}))
        assert why in (await peer.until("error"))["error"]["message"]
    reply = await say(at[0], voice="af_heart")
    assert reply.status_code == 404 and "none by name, or a voice of yours" in reply.text
    assert not at[1].streams and not at[1].engine.sessions
    async with httpx.AsyncClient(base_url=f"http://{at[0]}") as client:
        await client.post(f"{VOICES}/{voice}", json={"transcript": "As told"})
    assert len(pcm(await say(at[0], voice=voice))) > RATE


async def test_text_is_spoken_as_it_comes_in_the_voice_of_a_recording(
    at: tuple[str, Hub], model: Infill
) -> None:
    voice = await own(at[0], transcript="Words that nobody said")
    assert at[1].voices
    sound = (await at[1].voices.find("", voice, RATE)).sound
    cloned = alone(model, recording=recorded(sound), transcript="Words that nobody said")
    assert not np.allclose(cloned[:RATE], alone(model)[:RATE], atol=1e-3)
    asked = {"voice": voice, "steps": 2}
    async with call(at[0], model="longcat", rate=RATE, request=asked) as peer:
        for cut in range(0, len(TEXT), 5):
            await peer.say(wire.Text(TEXT[cut : cut + 5], flush=cut + 5 >= len(TEXT)))
        await peer.say(wire.Finish())
        await until_ended(peer)
    heard = peer.sound()[:, 0]
    assert len(heard) == len(cloned) and np.allclose(heard.clip(-1, 1), cloned.clip(-1, 1), atol=1e-3)
    words = [word for m in peer.told if m["type"] == "words" for word in m["words"]]
    assert [TEXT[word["start"] : word["end"]] for word in words] == TEXT.replace(",", "").replace(
        "!", ""
    ).split()
    begins = [word["begins"] for word in words]
    assert begins == sorted(set(begins)) and words[-1]["ends"] <= len(heard) + HOP


async def test_sessions_at_once_say_what_each_says_alone(
    at: tuple[str, Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "admit", lambda *_: None)  # however slow this machine is
    asked: list[dict[str, Any]] = [
        {"seed": 1},
        {"seed": 2},
        {"voice": await own(at[0], transcript="Not a word"), "seed": 3},
    ]
    together = await asyncio.gather(*(say(at[0], **values) for values in asked))
    for reply, values in zip(together, asked, strict=True):
        assert np.array_equal(pcm(reply), pcm(await say(at[0], **values)))


async def test_what_is_cleared_is_not_heard_and_other_text_follows(at: tuple[str, Hub]) -> None:
    async with call(at[0], model="longcat", rate=RATE, live=0.3, request={"steps": 2}) as peer:
        await peer.say(wire.Text("This is a sentence that is quite long, as they are. " * 5, "first"))
        while not peer.frames:
            await peer.hear()
        await peer.say(wire.Clear(peer.frames[0].pts))
        cleared = await peer.until("cleared")
        await peer.say(wire.Text("New words.", "second"))
        await peer.say(wire.Finish())
        await until_ended(peer)
    told = [m for m in peer.told if m["type"] == "words" and m["context"] == "second"]
    assert [word["text"] for word in told[0]["words"]] == ["New", "words"]
    assert told[0]["words"][0]["begins"] >= cleared["start"]


def test_the_command_serves_the_folder_as_it_was_published(folder: Path, tmp_path: Path) -> None:
    with serving(models=json.dumps([str(folder)]), voices__folder=tmp_path) as process:
        asked = {"input": "Hello there.", "response_format": "pcm", "steps": 2}
        reply = httpx.post(f"http://{process.at}{SPEECH}", json=asked, timeout=60)
        assert len(pcm(reply)) == 10 * HOP, "at 0.082 s a letter"
        (listed,) = httpx.get(f"http://{process.at}/v1/models").json()["data"]
        assert (listed["id"], listed["transcribed"]) == (str(folder), True)


def test_a_checkpoint_without_its_tokenizer_says_where_that_goes(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(CheckpointError, match="put that of google/umt5-base into .*tokenizer"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(CheckpointError, match="says it holds 'nothing'"):
        load(str(tmp_path / "model.safetensors"))
