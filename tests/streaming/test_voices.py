"""Custom voices: made under a consent, found by their owner alone, whole or not there, gone when they are deleted."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from importlib.resources import files
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from riverrun.models.contract import Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.voice.lite import ConvertLite
from riverrun.streaming.access import digest
from riverrun.streaming.hub import Hub
from riverrun.streaming.problems import NotFound
from riverrun.streaming.voices.library import FILE, Library
from riverrun.streaming.voices.recordings import RATE, cut
from tests.models.voice.small import small
from tests.streaming.serving import Audio, noise, server
from tests.streaming.test_http import recording

pytestmark = pytest.mark.anyio
SPEECH = (files("riverrun.assets") / "sample-clean.flac").read_bytes()
PATIENCE = "riverrun.streaming.voices.library.PATIENCE"
CONSENTS, VOICES = "/v1/audio/voice_consents", "/v1/audio/voices"
ANNA, BERT = ({"authorization": f"Bearer {name}"} for name in ("anna", "bert"))


def sound(seconds: float, level: float = 0.1, rate: int = RATE, channels: int = 1) -> Audio:
    """Noise of a level.  # [t, c]"""
    made = np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    return (level * made).astype(np.float32)


def wav(seconds: float, level: float = 0.1, rate: int = RATE, channels: int = 1) -> bytes:
    return recording(sound(seconds, level, rate, channels), rate=rate)


@asynccontextmanager
async def serving(
    folder: Path, voices: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Hub]]:
    """A client of a server whose voices are in a folder."""
    given = {"folder": folder / "voices", **(voices or {})}
    async with server(voices=given, **settings) as (at, hub):
        async with httpx.AsyncClient(base_url=f"http://{at}", timeout=30) as client:
            yield client, hub


def library(hub: Hub) -> Library:
    assert hub.voices
    return hub.voices


async def agree(
    client: httpx.AsyncClient, data: bytes = SPEECH, headers: dict[str, str] | None = None, **fields: str
) -> httpx.Response:
    """Hand in a consent."""
    told = {"name": "Anna", "language": "en-US", **fields}
    return await client.post(CONSENTS, data=told, files={"recording": ("a.wav", data)}, headers=headers)


async def add(
    client: httpx.AsyncClient,
    consent: str,
    data: bytes = SPEECH,
    headers: dict[str, str] | None = None,
    **fields: str,
) -> httpx.Response:
    """Hand in a sample."""
    told = {"name": "me", "consent": consent, **fields}
    return await client.post(VOICES, data=told, files={"audio_sample": ("a.wav", data)}, headers=headers)


def refused(reply: httpx.Response, status: int, param: str | None = None) -> str:
    """What an error says, which looks as OpenAI's clients expect it."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["param"] == param
    assert reply.headers["x-should-retry"] == "false"
    return str(error["message"])


async def test_openais_own_client_makes_a_voice_and_takes_it_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, hub):
        hub.specs["speak"] = Spec(None, (), voices=("alba", "bruno"))
        hub.specs["other"] = Spec(None, (), voices=("alba",))
        async with openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="none") as theirs:
            consents, voices = theirs.audio.voice_consents, theirs.audio.voices
            consent = await consents.create(name="Anna", language="en-US", recording=("c.flac", SPEECH))
            assert consent.id.startswith("cons_") and consent.object == "audio.voice_consent"
            assert (consent.name, consent.language) == ("Anna", "en-US")
            assert (await consents.update(consent.id, name="Anna B.")).name == "Anna B."
            assert await consents.retrieve(consent.id) == consent.model_copy(update={"name": "Anna B."})
            voice = await voices.create(name="me", audio_sample=("s.flac", SPEECH), consent=consent.id)
            assert voice.id.startswith("voice_") and voice.object == "audio.voice"
            assert (voice.name, voice.type) == ("me", "audio_sample")
            listed = (await client.get(VOICES)).json()
            assert listed["data"][:2] == [{"id": name, "name": name} for name in ("alba", "bruno")]
            assert [told["id"] for told in listed["data"][2:]] == [voice.id] and not listed["has_more"]
            assert (await client.get(f"{VOICES}/{voice.id}")).json() == listed["data"][2]
            assert (await client.get(f"{VOICES}/alba")).json() == listed["data"][0]
            assert "model's own" in refused(await client.delete(f"{VOICES}/alba"), 400)
            gone = await voices.delete(voice.id)
            assert (gone.id, gone.deleted, gone.object) == (voice.id, True, "audio.voice.deleted")
            assert (await consents.delete(consent.id)).deleted
            with pytest.raises(openai.NotFoundError, match=f"there is no consent '{consent.id}'"):
                await consents.retrieve(consent.id)


async def test_consents_are_paged_as_openais_client_asks(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        ids = [(await agree(client, name=f"c{i}")).json()["id"] for i in range(3)]
        first = (await client.get(CONSENTS, params={"limit": 2})).json()
        assert [told["id"] for told in first["data"]] == [ids[2], ids[1]] and first["has_more"]
        assert (first["object"], first["first_id"], first["last_id"]) == ("list", ids[2], ids[1])
        async with openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="none") as theirs:
            assert [one.id async for one in theirs.audio.voice_consents.list(limit=1)] == ids[::-1]
        assert "begin anew" in refused(await client.get(CONSENTS, params={"after": "cons_x"}), 400)


async def test_the_sound_of_a_voice_is_found_by_id_and_by_name(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, hub):
        consent = (await agree(client)).json()["id"]
        silence = np.zeros((2 * RATE, 1), np.float32)
        sample = np.concatenate([silence, sound(20), silence])
        told = (await add(client, consent, recording(sample, "flac", "flac", RATE))).json()
        assert (told["seconds"], told["sample_seconds"], told["consent"]) == (15, 24, consent)
        found = await library(hub).find("", "me")
        assert (found.id, found.name) == (told["id"], "me")
        assert found.sound.dtype == np.float32 and found.sound.shape == (15 * RATE,)
        start = 2 * RATE - RATE // 10  # what is quiet before the first sound stays for a moment
        assert np.abs(found.sound - sample[start : start + 15 * RATE, 0]).max() < 1e-4
        assert (await library(hub).find("", told["id"])).id == told["id"]
        for owner, name in (("", "you"), ("anna", "me"), ("anna", told["id"])):
            with pytest.raises(NotFound, match="there is no voice"):
                await library(hub).find(owner, name)
        await add(client, consent)
        with pytest.raises(InvalidRequest, match="2 of your voices are called 'me'"):
            await library(hub).find("", "me")


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 2), (44_100, 1), (48_000, 2), (24_000, 1)])
async def test_any_rate_and_channels_become_mono_at_one_rate(
    rate: int, channels: int, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (client, hub):
        consent = (await agree(client, wav(3, rate=rate, channels=channels))).json()["id"]
        t = np.arange(3 * rate) / rate
        tone = np.repeat((0.3 * np.sin(2 * np.pi * 440 * t))[:, None], channels, 1).astype(np.float32)
        assert (await add(client, consent, recording(tone, rate=rate))).status_code == 200
        found = (await library(hub).find("", "me")).sound
        wanted = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)
        assert len(found) == 3 * RATE and np.abs(found - wanted)[RATE // 10 : -RATE // 10].max() < 2e-3
        slower = (await library(hub).find("", "me", RATE * 2 // 3)).sound
        assert len(slower) == 2 * RATE
        assert np.abs(slower[::2] - wanted[::3])[RATE // 10 : -RATE // 10].max() < 2e-3


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (wav(3, level=0), 400, "holds 0.0 s of sound above -50 dBFS, expected at least 1 s"),
        (wav(3, level=0.0005), 400, "louder"),
        (wav(0.2), 400, "lasts 0.2 s, expected at least 1 s, and 3 to 10 s are best"),
        (recording(np.zeros((600 * 8000, 1), np.float32), "flac", "flac", 8000), 415, "lasts 600 s, the limit is 120"),
        (b"no sound at all" * 99, 400, "cannot be opened: Invalid data found when processing input; send a whole file"),
        (b"", 400, "cannot be opened"),
        (wav(3)[:9000], 400, "truncated; send a whole file"),
        (bytes(10 * 2**20 + 1), 413, "has 10485761 bytes, the limit is 10485760: cut it"),
    ],
    ids=["silence", "quiet", "0.2 s", "10 minutes", "no sound", "empty", "truncated", "more than 10 MiB"],
)  # fmt: skip
async def test_a_recording_that_is_not_usable_is_refused_and_not_kept(
    data: bytes, status: int, words: str, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (client, hub):
        consent = (await agree(client)).json()["id"]
        replies = {"audio_sample": await add(client, consent, data), "recording": await agree(client, data)}
        for field, reply in replies.items():
            message = refused(reply, status, field)
            assert words in message and message.startswith(field)
        assert not (await client.get(VOICES)).json()["data"] and not hub.decoding
        assert len((await client.get(CONSENTS)).json()["data"]) == 1


async def test_an_upload_far_too_big_is_refused_while_it_comes(tmp_path: Path) -> None:
    async with serving(tmp_path, {"bytes": 1 << 16}) as (client, _):
        assert "which is the limit" in refused(await add(client, "cons_x", bytes(1 << 20)), 413)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"language": "english please"}, "language"),
        ({"language": ""}, "language"),
    ],
)
async def test_what_is_wrong_in_a_form_is_named(fields: dict[str, Any], param: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        refused(await agree(client, **fields), 422, param)
        assert not (tmp_path / "voices").exists()  # nothing was kept, so there is nowhere


async def test_a_voice_needs_a_consent_and_no_prompt_makes_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        assert "'cons_x'" in refused(await add(client, "cons_x"), 404, "consent")
        form = {"name": "me", "consent": "cons_x", "type": "prompt", "prompt": "a deep voice"}
        reply = await client.post(VOICES, data=form, files={"audio_sample": SPEECH})
        assert "audio_sample" in refused(reply, 422, "type")
        refused(await client.post(VOICES, data={"name": "me", "consent": "cons_x"}), 422, "audio_sample")


async def test_consents_and_voices_are_their_owners(tmp_path: Path) -> None:
    async with serving(tmp_path, access={"keys": [digest("anna"), digest("bert")]}) as (client, hub):
        consent = (await agree(client, headers=ANNA)).json()["id"]
        voice = (await add(client, consent, headers=ANNA)).json()["id"]
        assert "no consent" in refused(await add(client, consent, headers=BERT), 404, "consent")
        for path, name in ((CONSENTS, consent), (VOICES, voice)):
            assert (await client.get(path, headers=BERT)).json()["data"] == []
            assert (await client.get(f"{path}/{name}", headers=ANNA)).status_code == 200
            assert (await client.get(f"{path}/{name}")).status_code == 401
            for method in ("GET", "DELETE"):
                stranger = await client.request(method, f"{path}/{name}", headers=BERT)
                unknown = await client.request(method, f"{path}/{name[:-1]}x", headers=BERT)
                assert refused(stranger, 404).replace(name, "") == refused(unknown, 404).replace(
                    f"{name[:-1]}x", ""
                )
        refused(await client.post(f"{CONSENTS}/{consent}", json={"name": "mine"}, headers=BERT), 404)
        assert (await client.get(f"{CONSENTS}/{consent}", headers=ANNA)).json()["name"] == "Anna"
        assert (await library(hub).find(digest("anna"), voice)).id == voice
        with pytest.raises(NotFound):
            await library(hub).find(digest("bert"), voice)


async def test_a_consent_that_is_withdrawn_takes_its_voices_with_it_for_good(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, hub):
        consent, other = [(await agree(client)).json()["id"] for _ in range(2)]
        voices = [(await add(client, which)).json()["id"] for which in (consent, consent, other)]
        samples = [library(hub).store.sample("", voice) or b"" for voice in voices]
        tails = [sample[-64:] for sample in samples]
        assert all(any(tail in file for file in stored(tmp_path)) for tail in tails)
        assert (await client.delete(f"{CONSENTS}/{consent}")).json()["deleted"]
        assert [told["id"] for told in (await client.get(VOICES)).json()["data"]] == [voices[2]]
        assert (await client.delete(f"{VOICES}/{voices[2]}")).status_code == 200
        assert (await client.delete(f"{CONSENTS}/{other}")).status_code == 200
        assert not any(tail in file for file in stored(tmp_path) for tail in tails)


def stored(folder: Path) -> list[bytes]:
    """What lies on the disk."""
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def test_a_consent_withdrawn_while_a_voice_is_made_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as (client, hub):
        consent = (await agree(client)).json()["id"]
        hear = library(hub)._hear

        async def slowly(file: Any) -> Audio:
            await client.delete(f"{CONSENTS}/{consent}")
            return await hear(file)

        monkeypatch.setattr(library(hub), "_hear", slowly)
        refused(await add(client, consent), 404, "audio_sample")
        assert not (await client.get(VOICES)).json()["data"]


async def test_a_voice_half_written_does_not_appear(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        consent = (await agree(client)).json()["id"]
        voice = (await add(client, consent)).json()["id"]
        torn = sqlite3.connect(tmp_path / "voices" / FILE, isolation_level=None)
        torn.execute("BEGIN IMMEDIATE")
        torn.execute("PRAGMA cache_size = 1")  # so that it reaches the disk
        torn.execute(
            "INSERT INTO voices SELECT NULL, 'voice_torn', owner, 'torn', consent, 0, 1, 1, zeroblob(1000000), '' "
            "FROM voices"
        )
        (tmp_path / "after" / "voices").mkdir(parents=True)
        for path in (tmp_path / "voices").iterdir():  # as a disk is found after the power went
            (tmp_path / "after" / "voices" / path.name).write_bytes(path.read_bytes())
        torn.close()
    async with serving(tmp_path / "after") as (client, hub):
        assert [told["id"] for told in (await client.get(VOICES)).json()["data"]] == [voice]
        assert len((await library(hub).find("", voice)).sound) > RATE


async def test_who_leaves_meanwhile_leaves_no_voice_and_no_decoder(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, hub):
        consent = (await agree(client)).json()["id"]
        adding = asyncio.create_task(library(hub).add_voice("", "me", consent, BytesIO(wav(100))))
        while not hub.decoding:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        assert not hub.decoding and not (await client.get(VOICES)).json()["data"]


async def test_an_owner_has_so_many_and_no_more(tmp_path: Path) -> None:
    limits = {"voices": 2, "consents": 1, "kept": 4_000_000}
    async with serving(tmp_path, limits) as (client, _):
        consent = (await agree(client, wav(3))).json()["id"]
        assert "you have 1 of at most 1 consents: delete one first" in refused(
            await agree(client), 400, "recording"
        )
        for _ in range(2):
            assert (await add(client, consent, wav(3))).status_code == 200
        assert "you have 2 of at most 2 voices" in refused(
            await add(client, consent, wav(3)), 400, "audio_sample"
        )
    async with serving(tmp_path, {"kept": 400_000}) as (client, _):
        assert "would pass the limit of 400000" in refused(
            await add(client, consent, wav(3)), 400, "audio_sample"
        )


async def test_voices_are_there_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        consent = (await agree(client)).json()["id"]
        voice = (await add(client, consent)).json()
    async with serving(tmp_path) as (client, hub):
        assert {**(await client.get(f"{VOICES}/{voice['id']}")).json(), "warnings": []} == voice
        assert (await library(hub).find("", "me")).id == voice["id"]


async def test_what_is_said_in_a_sample_is_kept_and_corrected(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, hub):
        consent = (await agree(client)).json()["id"]
        said = " It is as I say. \n"
        told = [
            (await add(client, consent, transcript=said)).json(),
            (await add(client, consent, ref_text=said)).json(),
        ]
        assert [voice["transcript"] for voice in told] == ["It is as I say."] * 2
        assert [voice.pop("warnings") for voice in told] == [[], []]
        assert (await client.get(VOICES)).json()["data"] == told[::-1]
        assert (await library(hub).find("", told[0]["id"])).transcript == "It is as I say."
        at = f"{VOICES}/{told[0]['id']}"
        corrected = {**told[0], "transcript": "It is \u8fd9\u6837."}
        assert (await client.post(at, json={"transcript": "It is \u8fd9\u6837."})).json() == corrected
        assert (await client.get(at)).json() == corrected
        assert (await client.post(at, json={"transcript": ""})).json()["transcript"] == ""
        assert (await add(client, consent)).json()["transcript"] == ""


async def test_a_transcript_that_nobody_says_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, hub):
        hub.specs["speak"] = Spec(None, (), voices=("alba",))
        consent = (await agree(client)).json()["id"]
        said = "at most 500 characters"
        assert said in refused(await add(client, consent, transcript="x" * 501), 422, "transcript")
        voice = (await add(client, consent, transcript="x" * 500)).json()["id"]
        at = f"{VOICES}/{voice}"
        assert said in refused(await client.post(at, json={"transcript": "x" * 501}), 422, "transcript")
        refused(await client.post(at, json={"transcript": "a\0b"}), 422, "transcript")
        assert "no voice" in refused(await client.post(f"{VOICES}/voice_x", json={"transcript": "a"}), 404)
        named = await client.post(f"{VOICES}/alba", json={"transcript": "a"})
        assert "model's own" in refused(named, 400)
        assert (await client.get(at)).json()["transcript"] == "x" * 500


async def test_voices_that_were_kept_before_there_were_transcripts_stay(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        voice = (await add(client, (await agree(client)).json()["id"])).json()
    with closing(sqlite3.connect(tmp_path / "voices" / FILE, isolation_level=None)) as db:
        db.execute("ALTER TABLE voices DROP COLUMN transcript")
        db.execute("PRAGMA user_version = 1")
    for _ in range(2):
        async with serving(tmp_path) as (client, hub):
            assert {**(await client.get(f"{VOICES}/{voice['id']}")).json(), "warnings": []} == voice
            assert (await library(hub).find("", "me")).transcript == ""


@pytest.mark.parametrize("several", [True, False])
async def test_a_sample_of_more_than_one_person_is_taken_and_doubted(
    several: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = list[int]()

    def judged(_: ConvertLite, sound: Audio) -> Iterator[bool]:
        lengths.append(len(sound))
        yield from (False, several)

    monkeypatch.setattr(ConvertLite, "several", judged)
    monkeypatch.setattr(PATIENCE, 100.0)
    async with serving(tmp_path, models={"small": small()}) as (client, _):
        consent = (await agree(client)).json()["id"]
        made = (await add(client, consent, wav(4))).json()
        told = made.pop("warnings")
        assert [warning.split(",")[0] for warning in told] == [
            "the sample seems to be of more than one person"
        ] * several
        assert (await client.get(f"{VOICES}/{made['id']}")).json() == made, "though there is a doubt"
        assert lengths == [pytest.approx(4 * 24_000, abs=2)], (
            "the sample at the model's rate; no consent is judged"
        )


async def test_where_no_model_can_tell_nothing_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        assert (await add(client, (await agree(client)).json()["id"])).json()["warnings"] == []


async def test_a_voice_that_cannot_be_judged_or_not_soon_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: ConvertLite, sound: Audio) -> Iterator[bool]:
        raise RuntimeError("no ear")

    def slow(_: ConvertLite, sound: Audio) -> Iterator[bool]:
        return repeat(False)

    async with serving(tmp_path, models={"small": small()}) as (client, hub):
        consent = (await agree(client)).json()["id"]
        for judged, why in ((broken, "no ear"), (slow, "TimeoutError")):
            monkeypatch.setattr(ConvertLite, "several", judged)
            monkeypatch.setattr(PATIENCE, 100.0 if judged is broken else 0.3)
            made = await add(client, consent, wav(2))
            assert made.status_code == 200 and made.json()["warnings"] == [], made.text
            assert f"voice {made.json()['id']} could not be judged" in caplog.text and why in caplog.text
        assert len(await library(hub).voices("")) == 2


async def test_as_many_are_decoded_at_once_as_may_be(tmp_path: Path) -> None:
    async with serving(tmp_path, files={"at_once": 1}) as (client, hub):
        hub.decoding = 1
        reply = await agree(client)
        assert reply.status_code == 503 and "retry-after" in reply.headers
        hub.decoding = 0
        assert (await agree(client)).status_code == 200


@pytest.mark.parametrize("name", ["..%2f..%2fvoices.sqlite", "voice_%00", "' OR 1=1 --"])
async def test_a_strange_id_is_none(name: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        await add(client, (await agree(client)).json()["id"])
        for path in (VOICES, CONSENTS):
            for method in ("GET", "DELETE"):
                assert (await client.request(method, f"{path}/{name}")).status_code == 404


def test_a_click_before_a_long_silence_is_no_voice() -> None:
    quiet = np.zeros(30 * RATE, np.float32)
    quiet[:200] = 0.5 * np.sign(np.sin(np.arange(200)))
    quiet[20 * RATE :] = noise(10 * RATE)[:, 0]
    with pytest.raises(InvalidRequest, match="holds 0.0 s"):
        cut(quiet)
