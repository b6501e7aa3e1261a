"""Calls over HTTP: WHIP (RFC 9725) to send, WHEP (draft-ietf-wish-whep) to listen, and offers for both at once."""

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from riverrun.models.contract import PITCHES
from riverrun.models.errors import InvalidRequest, ModelError
from riverrun.streaming import sdp, wire
from riverrun.streaming.access import address, owner
from riverrun.streaming.cast import NAME, Cast, free
from riverrun.streaming.errors import AtCapacity, ProtocolError, StreamError
from riverrun.streaming.opus import RATE
from riverrun.streaming.peer import Peer
from riverrun.streaming.problems import Conflict, NotFound, Precondition, TooBig, WrongType
from riverrun.streaming.show import Show
from riverrun.streaming.speech import FIRST
from riverrun.streaming.webrtc import Call, Duplex, Listener, Spoken, Watched

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

router = APIRouter()
SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
AGAIN = 2.0  # seconds until a listener may ask again for what nobody sends
ANSWER: dict[int | str, dict[str, Any]] = {201: {"content": {SDP: {}}, "description": "The answer."}}
OFFER = {"requestBody": {"required": True, "content": {SDP: {"schema": {"type": "string"}}}}}
PATCH = {"requestBody": {"required": True, "content": {FRAGMENT: {"schema": {"type": "string"}}}}}

Stream = Annotated[str | None, Query(pattern=NAME, description="The name under which listeners hear it.")]


class Offer(BaseModel):
    """A call: sound both ways and a data channel, if the offer has one, or text in on it and speech or pictures out."""

    model_config = ConfigDict(extra="forbid")

    sdp: str = Field(max_length=sdp.LONGEST)
    type: Literal["offer"] = "offer"
    model: str = "restore-lite"
    request: dict[str, Any] = {}
    stream: str | None = Field(None, pattern=NAME)


@router.post("/v1/whip/{pipeline}", status_code=201, responses=ANSWER, openapi_extra=OFFER)
async def publish(
    request: Request,
    pipeline: str,
    strength: Annotated[float | None, Query(ge=0, le=1)] = None,
    voice: str | None = None,
    pitch: Annotated[float | None, Query(ge=PITCHES[0], le=PITCHES[1])] = None,
    seed: Annotated[int | None, Query(ge=-(2**63), lt=2**63)] = None,
    stream: Stream = None,
) -> Response:
    """Send sound through a model. It is heard at `/v1/whep/{stream}`, and comes back if the offer asks for it."""
    hub: Hub = request.app.state.hub
    offer = await _body(request, SDP)
    told = {"strength": strength, "voice": voice, "pitch": pitch, "seed": seed}
    values = {name: value for name, value in told.items() if value is not None}
    if hub.shows(pipeline):
        raise InvalidRequest(f"{pipeline} shows prompts, and takes no sound: offer at /v1/webrtc/offer")
    call, answer = await _call(request, offer, pipeline, values, stream)
    return _created(hub, call, answer, f'</v1/whep/{call.cast.name}>; rel="alternate"; type="{SDP}"')


@router.post("/v1/whep/{stream}", status_code=201, responses=ANSWER, openapi_extra=OFFER)
async def listen(request: Request, stream: str) -> Response:
    """Listen to what is heard under a name."""
    hub: Hub = request.app.state.hub
    offer = await _body(request, SDP)
    listener = Listener(_room(hub), _cast(hub, stream))
    return _created(hub, listener, await _begin(hub, listener, offer))


@router.head("/v1/whep/{stream}", include_in_schema=False)
async def look(request: Request, stream: str) -> Response:
    """Whether there is something to listen to."""
    _cast(request.app.state.hub, stream)
    return Response(headers={"accept-post": SDP})


@router.options("/v1/whip/{pipeline}", include_in_schema=False)
@router.options("/v1/whep/{pipeline}", include_in_schema=False)
async def options(request: Request, pipeline: str) -> Response:
    """What may be posted here, and which ICE servers to use for it."""
    return _linked(request.app.state.hub, Response(status_code=204, headers={"accept-post": SDP}))


@router.get("/v1/webrtc")
async def configuration(request: Request) -> dict[str, Any]:
    """What a browser's RTCPeerConnection is made with."""
    hub: Hub = request.app.state.hub
    servers = hub.settings.webrtc.ice_servers
    return {
        "iceServers": [
            {"urls": [s.url], **({"username": s.username, "credential": s.credential} if s.username else {})}
            for s in servers
        ]
    }


@router.post("/v1/webrtc/offer", responses={200: {"description": "The answer, and where the call is."}})
async def duplex(request: Request, offer: Offer) -> dict[str, str]:
    """Begin a call both ways, or one in which text is said or prompts are shown."""
    call, answer = await _call(request, offer.sdp, offer.model, offer.request, offer.stream)
    return {"sdp": answer, "type": "answer", "call": f"/v1/calls/{call.id}", "stream": call.cast.name}


@router.patch("/v1/calls/{call}", status_code=204, openapi_extra=PATCH)
async def trickle(request: Request, call: str) -> Response:
    """Add candidates. A new ICE session is not taken up: leave, and call again."""
    peer = _found(request, call)
    text = await _body(request, FRAGMENT)
    wanted = request.headers.get("if-match")
    if wanted is None:
        raise Precondition("If-Match is missing: send the ETag that came with the call", 428)
    if wanted == "*" or sdp.fragment(text) not in ("", peer.remote):
        raise Precondition("ICE cannot be restarted here: end this call and begin another", 422)
    if wanted != peer.etag:
        raise Precondition(f"If-Match is {wanted[:80]}, this ICE session has {peer.etag}", 412)
    await peer.trickle(text)
    return Response(status_code=204, headers={"etag": peer.etag})


@router.delete("/v1/calls/{call}")
async def leave(request: Request, call: str) -> Response:
    """End a call."""
    await _found(request, call).end("left")
    return Response(status_code=200)


@router.options("/v1/calls/{call}", include_in_schema=False)
async def manners(call: str) -> Response:
    """What a call takes."""
    return Response(status_code=204, headers={"accept-patch": FRAGMENT, "allow": "PATCH, DELETE, OPTIONS"})


async def _call(
    request: Request, offer: str, model: str, values: dict[str, Any], name: str | None
) -> tuple[Call, str]:
    """Open a stream for an offer and answer it; if anything fails, nothing is left of either."""
    hub: Hub = request.app.state.hub
    if model not in hub.models:
        raise NotFound(f"there is no pipeline {model!r}, expected one of {', '.join(hub.models)}")
    free(hub, name)
    speaks, shows = hub.speaks(model), hub.shows(model)
    sdp.offer(offer, "video" if shows else "audio")  # refused before anything is opened
    if speaks and not sdp.talks(offer):
        raise InvalidRequest(
            f"{model} speaks what it is told on a data channel, and takes no sound: offer one at /v1/webrtc/offer"
        )
    channels = 2 if sdp.stereo(offer) and not (speaks or hub.converts(model)) else 1
    live = FIRST if speaks else None if shows else hub.settings.streams.delay
    wanted = wire.Open(model, values, RATE, channels, live=live)
    stream = await _room(hub).open(wanted, "webrtc", address(request), owner(request))
    try:
        if isinstance(stream, Show):
            call: Call = Watched(_room(hub), stream, name)
        else:
            call = (Spoken if speaks else Duplex)(_room(hub), stream, name)
    except BaseException:
        await stream.close()
        raise
    return call, await _begin(hub, call, offer)


async def _begin(hub: "Hub", peer: Peer, offer: str) -> str:
    hub.calls[peer.id] = peer
    try:
        return await peer.answer(offer)
    except BaseException as error:
        await peer.end("failed")
        if isinstance(error, (StreamError, ModelError)) or not isinstance(error, Exception):
            raise
        raise ProtocolError(f"the offer cannot be answered: {error}") from error  # aiortc's many refusals


def _room(hub: "Hub") -> "Hub":
    """The hub, if another peer may come. Raises AtCapacity."""
    hub.willing()
    limit = hub.settings.webrtc.sessions
    if len(hub.calls) >= limit:
        raise AtCapacity(f"{limit} callers and listeners are here, which is the limit: try again later", 5.0)
    return hub


def _cast(hub: "Hub", name: str) -> Cast:
    if not re.match(NAME, name):
        raise NotFound(f"{name[:80]!r} cannot be the name of a stream")
    if name not in hub.casts:
        raise Conflict(f"nobody sends {name!r} now: try again later", AGAIN)
    return hub.casts[name]


def _found(request: Request, call: str) -> Peer:
    hub: Hub = request.app.state.hub
    if call not in hub.calls:
        raise NotFound("there is no such call, or it is over")
    return hub.calls[call]


async def _body(request: Request, kind: str) -> str:
    """The text of a request. Raises InvalidRequest, TooBig, WrongType."""
    found = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if found != kind:
        raise WrongType(f"Content-Type is {found!r}, expected {kind}")
    raw = await request.body()
    if len(raw) > sdp.LONGEST:
        raise TooBig(f"the body has {len(raw)} bytes, the limit is {sdp.LONGEST}")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is no UTF-8: {error}") from error


def _created(hub: "Hub", peer: Peer, answer: str, *links: str) -> Response:
    head = {"location": f"/v1/calls/{peer.id}", "etag": peer.etag, "accept-patch": FRAGMENT}
    return _linked(hub, Response(answer, 201, head, SDP), *links)


def _linked(hub: "Hub", response: Response, *links: str) -> Response:
    """Add the ICE servers, as RFC 9725 section 4.6 writes them."""
    for server in hub.settings.webrtc.ice_servers:
        link = f'<{server.url}>; rel="ice-server"'
        if server.username:
            link += f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
        response.headers.append("link", link)
    for link in links:
        response.headers.append("link", link)
    return response
