"""Voices through riverrun.Client and `riverrun voices`."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import pytest

import riverrun
from riverrun.models.contract import Spec
from riverrun.models.voice.lite import ConvertLite
from riverrun.streaming.access import digest
from riverrun.streaming.hub import Hub
from riverrun.streaming.problems import NotFound, TooBig
from tests.models.voice.small import small
from tests.streaming.serving import Audio, server
from tests.streaming.test_voices import wav

pytestmark = pytest.mark.anyio
SPEECH = str(files("riverrun.assets") / "sample-clean.flac")
COMMAND = [sys.executable, "-m", "riverrun.cli", "voices"]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[str, Hub]]:
    """The address of a server with voices of its own, and its hub."""
    async with server(voices={"folder": folder / "kept"}, access={"keys": [digest("right")]}) as (at, hub):
        hub.specs["speak"] = Spec(None, (), voices=("alba", "bruno"))
        yield f"http://{at}", hub


async def held(hub: Hub) -> tuple[int, int]:
    """How many consents and voices the owner of the key has."""
    assert hub.voices
    owner = digest("right")
    return len(await hub.voices.consents(owner)), len(await hub.voices.voices(owner))


async def test_a_voice_is_added_listed_and_removed(tmp_path: Path) -> None:
    def used(url: str) -> None:
        with riverrun.Client(url, "right") as client:
            voice = client.add_voice("me", SPEECH, consent=SPEECH, transcript="As it was")
            assert voice["transcript"] == "As it was"
            voice = client.transcribe_voice(voice["id"], "As it is")
            assert voice["transcript"] == "As it is"
            assert client.voices() == [*({"id": n, "name": n} for n in ("alba", "bruno")), voice]
            client.remove_voice(voice["id"])
            with pytest.raises(NotFound, match="there is no voice"):
                client.remove_voice(voice["id"])

    async with serving(tmp_path) as (url, hub):
        await asyncio.to_thread(used, url)
        assert await held(hub) == (1, 0)
        async with riverrun.AsyncClient(url, "right") as client:
            voice = await client.add_voice("me", SPEECH, consent=SPEECH, language="de-DE")
            await client.remove_voice(voice["id"], withdraw=True)
        assert await held(hub) == (1, 0)


async def test_a_list_of_many_pages_is_read_to_its_end(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (url, hub), riverrun.AsyncClient(url, "right") as client:
        hub.specs["speak"] = Spec(None, (), voices=tuple(f"voice {i}" for i in range(2_001)))
        assert [voice["name"] for voice in await client.voices()] == list(hub.specs["speak"].voices)


async def test_a_voice_that_is_not_taken_leaves_no_consent(tmp_path: Path) -> None:
    (tmp_path / "short.wav").write_bytes(wav(0.2))
    (tmp_path / "big.wav").write_bytes(wav(400))
    async with serving(tmp_path) as (url, hub), riverrun.AsyncClient(url, "right") as client:
        with pytest.raises(riverrun.InvalidRequest, match="audio_sample lasts 0.2 s"):
            await client.add_voice("me", tmp_path / "short.wav", consent=SPEECH)
        with pytest.raises(riverrun.MediaError, match="none.wav cannot be read: No such file"):
            await client.add_voice("me", tmp_path / "none.wav", consent=SPEECH)
        with pytest.raises(TooBig, match="which is the limit"):
            await client.add_voice("me", tmp_path / "big.wav", consent=SPEECH)
        assert await held(hub) == (0, 0)


async def said(*arguments: str | Path) -> tuple[int | None, str, str]:
    """Exit status, output and complaint of `riverrun voices`."""
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(*COMMAND, *map(str, arguments), stdout=pipe, stderr=pipe)
    out, err = await running.communicate()
    return running.returncode, out.decode(), err.decode()


async def test_the_command_line_does_the_same(tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(wav(20))
    async with serving(tmp_path) as (url, hub):
        there = ("--server", url, "--key", "right")
        status, out, err = await said("add", "me", tmp_path / "long.wav", "--consent", SPEECH, *there)
        assert status == 0 and out.startswith("voice_") and "15.0 of 20.0 s are kept" in err
        voice = out.strip()
        assert (await said("list", *there))[1] == f"alba\nbruno\n{voice}  me  15.0 s\n"
        assert (await said("transcribe", voice, "As I say.", *there))[0] == 0
        assert f"{voice}  me  15.0 s, with its transcript\n" in (await said("list", *there))[1]
        assert (await said("remove", voice, "--withdraw", *there))[0] == 0
        assert await held(hub) == (0, 0)
        status, _, err = await said("remove", voice, *there)
        assert (status, err) == (1, f"riverrun: there is no voice '{voice}'\n")
        status, _, err = await said("list", "--server", url)
        assert status == 1 and "API key is missing" in err
    assert (await said("list", "--server", "nowhere"))[0] == 2


async def test_who_adds_a_voice_of_more_than_one_person_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def several(_: ConvertLite, sound: Audio) -> Iterator[bool]:
        yield True

    monkeypatch.setattr(ConvertLite, "several", several)
    monkeypatch.setattr("riverrun.streaming.voices.library.PATIENCE", 100.0)
    async with server({"small": small()}, voices={"folder": tmp_path}) as (at, _):
        async with riverrun.AsyncClient(f"http://{at}") as client:
            (told,) = (await client.add_voice("me", SPEECH, consent=SPEECH))["warnings"]
        assert told.startswith("the sample seems to be of more than one person")
        status, out, err = await said("add", "me", SPEECH, "--consent", SPEECH, "--server", f"http://{at}")
        assert status == 0 and out.startswith("voice_") and f"{told}\n" in err
