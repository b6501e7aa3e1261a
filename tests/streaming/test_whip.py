"""WHIP (RFC 9725) and WHEP by a plain HTTP client: statuses, headers, limits, and that a refusal leaves nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from riverrun.streaming import sdp
from riverrun.streaming.access import digest
from riverrun.streaming.hub import Hub
from tests.streaming.calling import SDP, Caller, loopback, murmur
from tests.streaming.calling import Speech as Speech
from tests.streaming.serving import server

__all__ = ["loopback"]
pytestmark = pytest.mark.anyio
FRAGMENT = {"content-type": "application/trickle-ice-sdpfrag"}
LOCAL = {"hosts": ["127.0.0.1"]}


@asynccontextmanager
async def client(**settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Hub]]:
    """A client of a server."""
    webrtc = {**LOCAL, **settings.pop("webrtc", {})}
    async with (
        server(webrtc=webrtc, **settings) as (at, hub),
        httpx.AsyncClient(base_url=f"http://{at}") as http,
    ):
        yield http, hub


async def offer(direction: str = "sendonly", video: bool = False) -> str:
    """What a broadcaster sends; nobody waits for its connection."""
    async with httpx.AsyncClient() as http:
        peer = Caller("", http)
        if video:
            peer.connection.addTransceiver("video", direction)
        peer.connection.addTransceiver(Speech(murmur(1)) if "send" in direction else "audio", direction)
        text = await peer.offer()
        await peer.close()
        return text


async def test_publishing_is_answered_as_the_standard_says() -> None:
    ice = [
        {"url": "stun:stun.example:3478"},
        {"url": "turn:turn.example?transport=udp", "username": "u", "credential": "c"},
    ]
    async with client(webrtc={"ice_servers": ice}) as (http, hub):
        reply = await http.post("/v1/whip/smooth", content=await offer(), headers=SDP)
        assert reply.status_code == 201 and reply.headers["content-type"] == "application/sdp"
        assert "a=recvonly" in reply.text and "a=end-of-candidates" in reply.text
        assert reply.text.count("a=candidate:") == 1 and " 127.0.0.1 " in reply.text
        assert "stereo=1" in reply.text and "a=ptime:10\r\n" in reply.text
        assert "PCMU" not in reply.text and "opus/48000/2" in reply.text
        assert reply.headers["etag"].strip('"') in reply.text
        links = reply.headers.get_list("link")
        assert '<stun:stun.example:3478>; rel="ice-server"' in links
        assert (
            '<turn:turn.example?transport=udp>; rel="ice-server"; username="u"; credential="c"; '
            'credential-type="password"' in links
        )
        where = reply.headers["location"]
        assert len(where.rsplit("/", 1)[1]) >= 22, "nobody guesses 128 bits"
        assert (await http.get(where)).status_code == 405
        assert (await http.delete(where)).status_code == 200
        assert (await http.delete(where)).status_code == 404
        assert not hub.calls and not hub.streams and not hub.casts
        assert (await http.get("/v1/webrtc")).json()["iceServers"][1]["username"] == "u"


async def test_what_may_be_posted_is_told() -> None:
    async with client() as (http, _):
        for path in ("/v1/whip/smooth", "/v1/whep/studio"):
            reply = await http.options(path)
            assert reply.status_code == 204 and reply.headers["accept-post"] == "application/sdp"
            assert (await http.get(path)).status_code == 405


async def test_trickling_needs_the_right_precondition() -> None:
    async with client() as (http, hub):
        text = await offer()
        reply = await http.post("/v1/whip/smooth", content=text, headers=SDP)
        where, tag = reply.headers["location"], reply.headers["etag"]
        part = (
            f"a=ice-ufrag:{sdp.fragment(text)}\r\na=ice-pwd:x\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
            "a=candidate:1 1 udp 2130706431 127.0.0.1 40000 typ host\r\na=candidate:2 1 udp 1 a.local 4 typ host\r\n"
        )

        async def patch(body: str = part, **head: str) -> int:
            named = {name.replace("_", "-"): value for name, value in head.items()}
            return (await http.patch(where, content=body, headers={**FRAGMENT, **named})).status_code

        assert await patch(if_match=tag) == 204
        assert await patch() == 428
        assert await patch(if_match='"stale"') == 412
        assert await patch(if_match="*") == 422
        assert await patch("a=ice-ufrag:other\r\n", if_match=tag) == 422
        assert await patch("a=candidate:nonsense\r\n", if_match=tag) == 400
        assert await patch("a=candidate:1 1 udp 1 127.0.0.1 4 typ host\r\n" * 65,
                           if_match=tag) == 400  # fmt: skip
        assert await patch(content_type="text/plain", if_match=tag) == 415
        assert len(hub.calls) == 1, "no refusal ends the call"


@pytest.mark.parametrize(
    ("path", "content", "kind", "status"),
    [
        ("/v1/whip/smooth", "", "application/sdp", 400),
        ("/v1/whip/smooth", "v=0\r\n", "application/sdp", 400),
        (
            "/v1/whip/smooth",
            "v=0\r\nm=audio 9 x 111\r\na=rtpmap:111 opus/48000/2\r\n",
            "application/sdp",
            400,
        ),
        ("/v1/whip/smooth", "v=0\r\nm=audio\r\n" * 9, "application/sdp", 400),
        ("/v1/whip/smooth", "v=0\r\n" + "a=x\r\n" * 20_000, "application/sdp", 413),
        ("/v1/whip/smooth", "v=0", "text/plain", 415),
        ("/v1/whip/none", "v=0", "application/sdp", 404),
        ("/v1/whip/smooth?strength=2", "v=0", "application/sdp", 422),
        ("/v1/whip/smooth?stream=a/b", "v=0", "application/sdp", 422),
        ("/v1/whep/nobody", "v=0", "application/sdp", 409),
        ("/v1/whep/a%20b", "v=0", "application/sdp", 404),
    ],
)
async def test_what_is_wrong_is_told_and_leaves_nothing(
    path: str, content: str, kind: str, status: int
) -> None:
    async with client() as (http, hub):
        reply = await http.post(path, content=content, headers={"content-type": kind})
        assert reply.status_code == status and reply.json()["error"]["message"]
        assert ("retry-after" in reply.headers) == (status == 409)
        assert not hub.calls and not hub.streams and not hub.engine.sessions


@pytest.mark.parametrize(
    "line", ["a=fingerprint:", "a=ice-ufrag:", "a=setup:actpass", "m=audio 9", "a=mid:0"]
)
async def test_an_offer_that_is_damaged_is_refused_or_ends_and_leaves_nothing(line: str) -> None:
    async with client(webrtc={"ice_timeout": 0.2}) as (http, hub):
        text = (await offer()).replace(line, "a=x:")
        reply = await http.post("/v1/whip/smooth", content=text, headers=SDP)
        assert reply.status_code in (201, 400)
        await asyncio.sleep(1.0 if reply.status_code == 201 else 0)
        assert not hub.calls and not hub.streams and not hub.engine.sessions


async def test_a_full_house_says_when_to_come_back() -> None:
    async with client(webrtc={"sessions": 1}) as (http, _):
        assert (await http.post("/v1/whip/smooth", content=await offer(), headers=SDP)).status_code == 201
        reply = await http.post("/v1/whip/smooth", content=await offer(), headers=SDP)
        assert reply.status_code == 503 and int(reply.headers["retry-after"]) >= 1


async def test_a_name_belongs_to_one_sender_at_a_time() -> None:
    async with client() as (http, _):
        path = "/v1/whip/smooth?stream=studio"
        first = await http.post(path, content=await offer(), headers=SDP)
        assert (await http.head("/v1/whep/studio")).status_code == 200
        assert (await http.post(path, content=await offer(), headers=SDP)).status_code == 409
        await http.delete(first.headers["location"])
        assert (await http.head("/v1/whep/studio")).status_code == 409
        assert (await http.post(path, content=await offer(), headers=SDP)).status_code == 201


async def test_a_listener_is_answered_and_leaves_with_the_sender() -> None:
    async with client() as (http, hub):
        sent = await http.post("/v1/whip/smooth?stream=studio", content=await offer(), headers=SDP)
        reply = await http.post("/v1/whep/studio", content=await offer("recvonly"), headers=SDP)
        assert reply.status_code == 201 and "a=sendonly" in reply.text and reply.headers["location"]
        await http.delete(sent.headers["location"])
        for _ in range(100):
            if not hub.calls:
                break
            await asyncio.sleep(0.02)
        assert not hub.calls


async def test_pictures_are_refused_and_the_sound_is_taken() -> None:
    """Broadcasters send both in one offer."""
    async with client() as (http, _):
        reply = await http.post("/v1/whip/smooth", content=await offer(video=True), headers=SDP)
        assert reply.status_code == 201
        video, audio = reply.text.split("m=video")[1].split("m=audio")
        assert "a=inactive" in video and "a=recvonly" in audio


async def test_the_world_is_told_the_public_address() -> None:
    async with client(webrtc={"nat": {"127.0.0.1": "203.0.113.7"}}) as (http, _):
        reply = await http.post("/v1/whip/smooth", content=await offer(), headers=SDP)
        assert " 203.0.113.7 " in reply.text and "127.0.0.1" not in reply.text


async def test_a_key_is_needed_where_there_are_keys() -> None:
    async with client(access={"keys": [digest("secret")], "origins": ["http://studio.example"]}) as (http, _):
        text = await offer()
        reply = await http.post("/v1/whip/smooth", content=text, headers=SDP)
        assert reply.status_code == 401 and reply.headers["www-authenticate"] == "Bearer"
        bearer = {"authorization": "Bearer secret", "origin": "http://studio.example"}
        reply = await http.post("/v1/whip/smooth", content=text, headers={**SDP, **bearer})
        assert reply.status_code == 201
        assert reply.headers["access-control-allow-origin"] == "http://studio.example"
        assert "location" in reply.headers["access-control-expose-headers"].lower()
        assert (await http.delete(reply.headers["location"])).status_code == 401
        asked = {"origin": "http://studio.example", "access-control-request-method": "POST"}
        assert (await http.options("/v1/whip/smooth", headers=asked)).status_code == 200


def test_hidden_names_other_codecs_and_ends_are_left_out_of_offers() -> None:
    text = (
        "v=0\nm=audio 9 UDP/TLS/RTP/SAVPF 111 0\na=rtpmap:111 opus/48000/2\na=rtpmap:0 PCMU/8000\n"
        "a=candidate:1 1 udp 1 x.local 5 typ host\na=candidate:2 1 udp 1 10.0.0.1 5 typ host\na=end-of-candidates\n"
        "a=ice-ufrag:u\na=ice-pwd:p\na=fingerprint:sha-256 00\n"
        "m=video 9 UDP/TLS/RTP/SAVPF 0\na=rtpmap:0 VP8/90000\n"
    )
    lines = sdp.offer(text).splitlines()
    assert "m=audio 9 UDP/TLS/RTP/SAVPF 111" in lines and "m=video 9 UDP/TLS/RTP/SAVPF 0" in lines
    assert "a=rtpmap:0 PCMU/8000" not in lines and "a=rtpmap:0 VP8/90000" in lines
    assert [line for line in lines if "candidate" in line] == ["a=candidate:2 1 udp 1 10.0.0.1 5 typ host"]


def test_stereo_is_what_is_sent_not_what_could_be_heard() -> None:
    assert sdp.stereo("a=fmtp:111 minptime=10;stereo=1;sprop-stereo=1;useinbandfec=1\r\n")
    assert not sdp.stereo("a=fmtp:111 minptime=10;stereo=1\r\n") and not sdp.stereo("")
