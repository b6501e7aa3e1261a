"""Sound in another voice over HTTP, WebSocket and WebRTC: the model's or one's own, marked, changed on the way."""

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import riverrun
from riverrun.media import read
from riverrun.models import load, registry
from riverrun.models.voice.lite import ConvertLite, Request, convert
from riverrun.models.voice.live import LiveConverter
from riverrun.streaming import wire
from riverrun.streaming.access import digest
from riverrun.streaming.hub import Hub
from tests.models.voice.small import imported, small, stored
from tests.sdk.mutants import tone, write
from tests.streaming.calling import SDP, caller, loopback, murmur
from tests.streaming.lines import freed
from tests.streaming.processes import serving
from tests.streaming.serving import Audio, Peer, call, noise, server
from tests.streaming.test_http import Volume, recording
from tests.streaming.test_speech import until_ended
from tests.streaming.test_voices import ANNA, BERT, VOICES, add, agree
from tests.streaming.test_whip import offer

__all__ = ["loopback"]
pytestmark = pytest.mark.anyio
RATE, LATE = 24_000, 2_400
CONVERSIONS = "/v1/audio/conversions"
WAV = recording(noise(RATE), rate=RATE)
SOUND = read(io.BytesIO(WAV))[0]
At = tuple[str, Hub]


@pytest.fixture(scope="module")
def model() -> ConvertLite:
    return small()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {"streams": {"resume": 1}, "voices": {"folder": tmp_path}, "webrtc": {"hosts": ["127.0.0.1"]}}


@pytest.fixture
async def at(model: ConvertLite, settings: dict[str, Any]) -> AsyncIterator[At]:
    async with server({"smooth": Volume(), "small": model}, **settings) as found:
        yield found


async def post(
    at: str, data: bytes | None = None, headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{at}", timeout=60, headers=headers) as client:
        upload = {"file": ("in.wav", WAV if data is None else data)}
        return await client.post(CONVERSIONS, files=upload, data=fields)


async def own(at: str, sound: Audio | None = None, headers: dict[str, str] | None = None) -> str:
    """The id of a voice "me" that was made of a sound."""
    data = recording(noise(3 * RATE, 7) if sound is None else sound, rate=RATE)
    async with httpx.AsyncClient(base_url=f"http://{at}", timeout=60) as client:
        consent = (await agree(client, data, headers)).json()["id"]
        made = await add(client, consent, data, headers)
        assert made.status_code == 200, made.text
        return str(made.json()["id"])


async def forget(at: str, voice: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{at}") as client:
        assert (await client.delete(f"{VOICES}/{voice}")).status_code == 200


def heard(reply: httpx.Response) -> Audio:
    assert reply.status_code == 200, reply.text
    return read(io.BytesIO(reply.content))[0][:, 0]


def alike(one: Audio, other: Audio) -> bool:
    return len(one) == len(other) and np.allclose(one, other.clip(-1, 1), atol=1e-3)


# A recording


async def test_a_recording_comes_back_in_the_voice_and_at_the_pitch_asked_for(
    at: At, model: ConvertLite
) -> None:
    for asked in (Request("ben", pitch=3.0, seed=5), Request("anna")):
        got = heard(await post(at[0], voice=asked.voice, pitch=asked.pitch, seed=asked.seed))
        assert alike(got, convert(model, SOUND[:, 0], asked)), "with the mark, as the settings say"
    assert alike(got, heard(await post(at[0]))), "the first voice of the first model that converts"
    assert not at[1].streams and not at[1].engine.sessions


async def test_the_settings_say_whether_it_is_marked(model: ConvertLite, settings: dict[str, Any]) -> None:
    async with server({"small": model}, **settings, speech={"mark": False}) as (at, _):
        got = heard(await post(at, voice="anna"))
    plain, marked = (convert(model, SOUND[:, 0], Request("anna", mark=mark)) for mark in (False, True))
    assert alike(got, plain) and not alike(got, marked)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (48_000, 2)])
async def test_any_rate_and_channels_come_back(at: At, rate: int, channels: int) -> None:
    sound = np.repeat(noise(rate), channels, 1)
    reply = await post(at[0], recording(sound, "flac", "flac", rate), voice="ben")
    assert reply.headers["content-type"] == "audio/flac"
    got, at_rate = read(io.BytesIO(reply.content))
    assert at_rate == rate and got.shape == sound.shape and np.abs(got).max() > 1e-3
    assert np.abs(got[:, 0] - got[:, -1]).max() < 1e-3, "each channel in the same voice"


async def test_nothing_of_the_voice_that_came_in_is_left_above_what_the_model_hears(at: At) -> None:
    t = np.arange(48_000) / 48_000
    whistle = (0.5 * np.sin(2 * np.pi * 18_000 * t))[:, None].astype(np.float32)
    got = heard(await post(at[0], recording(whistle, rate=48_000)))
    high = np.abs(np.fft.rfft(got))[17_000:19_000].max() / np.abs(np.fft.rfft(whistle[:, 0])).max()
    assert high < 1e-3


async def test_a_cut_reply_is_taken_up_where_it_was_cut(at: At) -> None:
    whole = (await post(at[0], voice="ben")).content
    async with httpx.AsyncClient(base_url=f"http://{at[0]}", timeout=60) as client:
        upload = {"file": ("in.wav", WAV)}
        async with client.stream("POST", CONVERSIONS, files=upload, data={"voice": "ben"}) as reply:
            path = f"{CONVERSIONS}/{reply.headers['riverrun-session']}"
            token = {"riverrun-token": reply.headers["riverrun-token"]}
            first = await anext(reply.aiter_bytes(1000))
        rest = await client.get(path, headers={**token, "range": "bytes=1000-"})
        assert rest.status_code == 206 and first + rest.content == whole
        assert (await client.delete(path, headers=token)).status_code == 204
        assert (await client.get(path, headers=token)).status_code == 404


@pytest.mark.parametrize(
    ("fields", "status", "why"),
    [
        ({"voice": "carl"}, 404, "voice is 'carl', expected one of anna, ben, or a voice of yours"),
        ({"voice": "../anna"}, 404, "voice is '../anna', expected one of anna, ben"),
        ({"voice": "/etc/passwd"}, 404, "voice is '/etc/passwd', expected one of anna, ben"),
        ({"voice": "' OR 1=1 --"}, 404, "expected one of anna, ben"),
        ({"voice": "an\x00na" * 99}, 404, "expected one of anna, ben"),
        ({"pitch": 13}, 422, "pitch"),
        ({"pitch": "high"}, 422, "pitch"),
        ({"seed": 2**63}, 422, "seed"),
        ({"response_format": "exe"}, 422, "response_format"),
        ({"model": "smooth"}, 400, "model is 'smooth', which gives sound no other voice"),
        ({"model": "none"}, 400, "model is 'none', expected one of smooth, small"),
    ],
    ids=str,
)
async def test_what_cannot_be_is_told_and_leaves_nothing(
    at: At, fields: dict[str, Any], status: int, why: str
) -> None:
    reply = await post(at[0], **fields)
    assert reply.status_code == status and why in reply.json()["error"]["message"]
    assert not at[1].streams and not at[1].replies and not at[1].decoding and not at[1].engine.sessions


async def test_a_server_that_does_not_convert_says_so() -> None:
    async with server({"smooth": Volume()}) as (at, _):
        reply = await post(at)
    assert reply.status_code == 400 and "no model here converts" in reply.json()["error"]["message"]


async def test_the_list_of_models_says_which_converts_and_into_which_voices(at: At) -> None:
    async with httpx.AsyncClient(base_url=f"http://{at[0]}") as client:
        found = (await client.get("/v1/models")).json()["data"][1]
        assert (found["task"], found["voices"], found["speaks"]) == ("convert", ["anna", "ben"], False)
        assert (found["rate"], found["latency"]) == (RATE, 0.12)
        assert [one["id"] for one in (await client.get(VOICES)).json()["data"]] == ["anna", "ben"]


# Voices of one's own


async def test_a_voice_of_one_s_own_is_taken_by_id_and_by_name(at: At) -> None:
    voice = await own(at[0])
    by_id, by_name, other = [heard(await post(at[0], voice=name)) for name in (voice, "me", "anna")]
    assert alike(by_id, by_name) and not alike(by_id, other)


async def test_a_voice_is_its_owner_s_alone(model: ConvertLite, settings: dict[str, Any]) -> None:
    keys = {"keys": [digest("anna"), digest("bert")]}
    async with server({"small": model}, **settings, access=keys) as (at, _):
        voice = await own(at, headers=ANNA)
        assert (await post(at, headers=ANNA, voice=voice)).status_code == 200
        for name in (voice, "me"):
            reply = await post(at, headers=BERT, voice=name)
            assert reply.status_code == 404
            assert f"voice is '{name}', expected one of anna, ben" in reply.json()["error"]["message"]


async def test_a_model_that_knows_no_voice_by_name_takes_one_s_own(settings: dict[str, Any]) -> None:
    async with server({"small": small(voices=())}, **settings) as (at, _):
        reply = await post(at)
        assert reply.status_code == 404
        assert "voice is '', expected one of none by name, or a voice of yours" in reply.text
        await own(at)
        assert len(heard(await post(at, voice="me"))) == len(SOUND)


@pytest.mark.parametrize("kind", ["music", "clipped"])
async def test_any_sound_will_do_as_a_voice(at: At, kind: str) -> None:
    t = np.arange(3 * RATE) / RATE
    chord = np.sin(2 * np.pi * t[:, None] * (220.0, 277.2, 329.6)).mean(1)
    sound = {"music": chord, "clipped": np.sign(np.sin(2 * np.pi * 150 * t))}[kind]
    await own(at[0], sound[:, None].astype(np.float32))
    got = heard(await post(at[0], voice="me"))
    assert len(got) == len(SOUND) and np.abs(got).max() > 1e-4


# A live stream


def converts(at: str, **request: Any) -> Any:
    return call(at, model="small", rate=RATE, request={"mark": False, **request})


async def rest(peer: Peer, sound: Audio, first: int = 0) -> Audio:
    """Send sound to its end; all that came."""
    await peer.send(sound, first, 480)
    await until_ended(peer)
    return peer.sound()[:, 0]


async def test_a_stream_is_the_model_alone_and_marked_whatever_its_client_says(
    at: At, model: ConvertLite
) -> None:
    async with converts(at[0], voice="ben", pitch=-2, seed=3) as peer:
        got = await rest(peer, SOUND)
    assert alike(got, convert(model, SOUND[:, 0], Request("ben", pitch=-2.0, seed=3)))


async def test_voice_pitch_and_bypass_change_on_the_way(at: At, model: ConvertLite) -> None:
    await own(at[0])
    whole, half = convert(model, SOUND[:, 0], Request("anna")), 25 * 480
    for changed in ({"voice": "ben"}, {"voice": "me"}, {"pitch": 4}, {"bypass": True}):
        async with converts(at[0], voice="anna") as peer:
            await peer.send(SOUND[:half], 0, 480, last=False)
            while len(peer.sound()) < half - LATE:
                await peer.hear()
            await peer.say(wire.Update(changed, "1"))
            assert (await peer.until("updated"))["id"] == "1"
            got = await rest(peer, SOUND[half:], 25)
        assert alike(got[: half - LATE], whole[: half - LATE]) and not alike(got, whole), changed


async def test_a_voice_that_is_deleted_while_it_is_used_is_used_on(at: At) -> None:
    voice, half = await own(at[0]), 25 * 480
    whole = heard(await post(at[0], voice=voice))
    async with converts(at[0], voice=voice) as peer:
        await peer.send(SOUND[:half], 0, 480, last=False)
        await forget(at[0], voice)
        await peer.say(wire.Update({"pitch": 0.0}, "1"))
        await peer.until("updated")
        await peer.say(wire.Update({"voice": voice}, "2"))
        refused = await peer.until("error")
        assert (
            refused["id"] == "2" and not refused["fatal"] and "voice of yours" in refused["error"]["message"]
        )
        got = await rest(peer, SOUND[half:], 25)
    assert alike(got, whole)


async def test_what_is_behind_a_gate_and_a_gain_is_served_alike(settings: dict[str, Any]) -> None:
    async with server({"small": LiveConverter(small())}, **settings) as (at, _):
        await own(at)
        assert len(heard(await post(at, voice="me"))) == len(SOUND)
        async with converts(at, voice="me", gate=-100.0, gain=False) as peer:
            await peer.say(wire.Update({"voice": "ben", "gain": True}, "1"))
            assert (await peer.until("updated"))["id"] == "1"
            got = await rest(peer, SOUND)
    assert len(got) == len(SOUND) and np.abs(got).max() > 1e-3


async def test_a_killed_engine_takes_no_voice_with_it(tmp_path: Path) -> None:
    model = stored(tmp_path)
    kept: Any = {"models": json.dumps([model]), "voices__folder": tmp_path / "voices"}
    with serving(**kept, streams__snapshot=0.2) as process:
        voice = await own(process.at)

        async def through(strike: bool) -> Audio:
            async with client.stream(model, rate=RATE, voice=voice) as stream:
                for at in range(0, len(SOUND), 2400):
                    await stream.feed(SOUND[at : at + 2400])
                    if strike and at == 12_000:
                        await forget(process.at, voice)
                        (worker,) = process.children
                        os.kill(worker, signal.SIGKILL)
                        await stream.update(pitch=0.0)
                await stream.finish()
                return np.concatenate([chunk.data async for chunk in stream])

        async with riverrun.AsyncClient(f"http://{process.at}") as client:
            whole, got = await through(False), await through(True)
        assert np.abs(got - whole).max() < 1e-5 and np.abs(whole).max() > 1e-3
        assert "Traceback" not in process.log(), process.log()


async def test_a_recording_by_itself_is_no_voice(at: At) -> None:
    async with converts(at[0]) as peer:
        await peer.say(wire.Update({"recording": "AAAA"}, "1"))
        assert "under a consent" in (await peer.until("error"))["error"]["message"]
        assert len(await rest(peer, SOUND)) == len(SOUND)


# What was imported


async def test_an_imported_model_is_served_in_voices_of_one_s_own(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    path = imported(tmp_path)
    model, mine, file = load(path), tone(RATE, 1, 3.0), recording(noise(16_000), rate=16_000)
    sound = read(io.BytesIO(file))[0]  # to the bit, as a code that is near to two may be either
    assert (registry.VOICE, model.spec.converts, model.spec.voices) == (type(model).__module__, True, ())
    settings["compute"] = {"presets": {"x-vc": "default"}}  # as it is below
    async with server({"x-vc": model}, **settings) as (at, _):
        assert (reply := await post(at)).status_code == 404 and "voice is ''" in reply.text
        voice = await own(at, mine)
        refusals: list[tuple[dict[str, Any], str]] = [
            ({"pitch": 2}, "cannot move it"),
            ({"seed": 3}, "at random"),
        ]
        for fields, why in refusals:
            reply = await post(at, voice=voice, **fields)
            assert reply.status_code == 400 and why in reply.text
        whole = heard(await post(at, file, voice="me"))
        asked = {"voice": voice, "mark": False}
        async with call(at, model="x-vc", rate=16_000, request=asked) as peer:
            await peer.say(wire.Update({"pitch": 2}, "1"))
            assert "pitch is 2" in (await peer.until("error"))["error"]["message"]
            await peer.say(wire.Update({"bypass": True}, "1"))
            assert (await peer.until("updated"))["id"] == "1"
            await peer.say(wire.Update({"bypass": False}, "1"))
            assert (await peer.until("updated"))["id"] == "1"
            await peer.say(wire.Update({"voice": "me"}, "2"))
            assert (await peer.until("updated"))["id"] == "2"
            got = await rest(peer, sound)
    assert alike(whole, got) and np.abs(got).max() > 1e-3
    me = write(tmp_path / "me.wav", mine, RATE, "pcm_s16le")
    here = riverrun.convert(sound, 16_000, voice=str(me), model=path)[:, 0]
    assert np.linalg.norm(got - here) < 1e-3 * np.linalg.norm(here), "it hears them at its own rate"


async def test_the_preset_that_keeps_pace_is_chosen_once_and_outlives_the_engine(tmp_path: Path) -> None:
    """By name here: what is chosen otherwise depends on the machine. A saved state fits no other preset."""
    path, sound = imported(tmp_path), noise(32_000)
    kept: Any = {"models": json.dumps([path]), "voices__folder": tmp_path / "voices"}
    with serving(**kept, streams__snapshot=0.2, compute__presets=json.dumps({path: "cpu"})) as process:
        voice = await own(process.at, tone(RATE, 1, 3.0))
        async with httpx.AsyncClient(base_url=f"http://{process.at}", timeout=60) as http:
            (found,) = (await http.get("/v1/models")).json()["data"]
            status = (await http.get("/v1/status")).json()
            assert (found["fit"], found["latency"]) == (status["fits"][path], 0.365)
            assert (found["fit"]["preset"], found["fit"]["hop"], found["fit"]["windows"]) == ("cpu", 0.24, 50)
            assert found["fit"]["p50"] <= found["fit"]["p95"] and "preset cpu" in process.log()

            async def through(strike: bool) -> Audio:
                async with client.stream(path, rate=16_000, voice=voice) as stream:
                    await stream.feed(sound[:16_000])
                    if strike:
                        (worker,) = process.children
                        os.kill(worker, signal.SIGKILL)
                    await stream.feed(sound[16_000:])
                    await stream.finish()
                    return np.concatenate([chunk.data async for chunk in stream])

            async with riverrun.AsyncClient(f"http://{process.at}") as client:
                whole, got = await through(False), await through(True)
            assert np.abs(got - whole).max() < 1e-5 and np.abs(whole).max() > 1e-3
            assert (await http.get("/v1/status")).json()["fits"][path] == found["fit"], "timed once"


async def test_models_that_convert_tell_how_they_do_and_the_others_nothing(at: At) -> None:
    async with httpx.AsyncClient(base_url=f"http://{at[0]}") as http:
        smooth, small = (await http.get("/v1/models")).json()["data"]
    assert smooth["fit"] is None and not at[1].fits["smooth"]
    assert (small["fit"]["preset"], small["fit"]["hop"], small["fit"]["latency"]) == ("", 0.02, 0.12)
    assert small["fit"]["fits"] is (small["fit"]["sessions"] > 0)


async def test_a_preset_that_is_none_stops_the_start(tmp_path: Path) -> None:
    path = imported(tmp_path)
    with serving(
        ready=False, models=json.dumps([path]), compute__presets=json.dumps({path: "best"})
    ) as process:
        while process.running.poll() is None:
            await asyncio.sleep(0.1)
        assert process.running.returncode == 3
        assert "preset is 'best', expected auto or one of default, light, quick, cpu" in process.log()


# Calls


async def test_a_call_is_in_a_voice_that_may_change(at: At) -> None:
    tasks = asyncio.all_tasks()
    async with caller(at[0], murmur(20, 2)) as peer:
        await peer.duplex(model="small", request={"voice": "ben", "pitch": 2})
        await peer.told_of("opened", 60)
        (stream,) = at[1].streams.values()
        assert (stream.values["voice"], stream.values["pitch"], stream.channels) == ("ben", 2, 1)
        await peer.until(0.5)
        peer.say("update", request={"voice": "carl"}, id="1")
        assert (await peer.told_of("error", 20))["error"]["code"] == "not_found"
        peer.say("update", request={"voice": "anna"}, id="2")
        assert (await peer.told_of("updated", 20))["id"] == "2"
        peer.say("cancel")
        await peer.told_of("ended", 20)
    await freed(at[1], tasks)


async def test_a_broadcast_names_its_voice_in_its_address(at: At) -> None:
    async with httpx.AsyncClient(base_url=f"http://{at[0]}") as http:
        for query, status in (("voice=carl", 404), ("pitch=99", 422), ("voice=..%2fanna", 404)):
            reply = await http.post(f"/v1/whip/small?{query}", content=await offer(), headers=SDP)
            assert reply.status_code == status and not at[1].streams
        reply = await http.post("/v1/whip/small?voice=ben&pitch=3", content=await offer(), headers=SDP)
        assert reply.status_code == 201, reply.text
        (stream,) = at[1].streams.values()
        assert (stream.values["voice"], stream.values["pitch"]) == ("ben", 3)
        assert (await http.delete(reply.headers["location"])).status_code == 200
