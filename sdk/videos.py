"""Videos and pictures of a prompt, had from a server: asked for, waited for, fetched, and forgotten there."""

import asyncio
import base64
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from riverrun.answers import Unreachable
from riverrun.asked import Picture
from riverrun.files import PIPE
from riverrun.local import guard
from riverrun.media.errors import UnsupportedMedia
from riverrun.media.pictures import encoded, picture, save
from riverrun.media.writer import writing
from riverrun.models.errors import InvalidRequest
from riverrun.streaming import wire
from riverrun.streaming.errors import StreamError
from riverrun.transfer import ask, kept, patient, pieces

log = logging.getLogger(__name__)
VIDEOS, IMAGES = "/v1/videos", "/v1/images/generations"
POLL = 0.5  # seconds between two looks at what is made, if the server does not say
MOST = 2 * wire.FIRST // 3  # bytes of a picture that fit, as base64, into the first message of a stream

Share = Callable[[float], object]
"""Told how much of a video is made, from 0 to 1."""


async def render(
    http: httpx.AsyncClient,
    asked: Mapping[str, Any],
    image: Picture | None,
    out: str | None,
    force: bool,
    progress: Share | None,
) -> bytes | Path:
    """Have a video made: into a file, whole or not at all, whose path is given, or else as bytes."""
    target = None if out is None else Path(guard(PIPE, out, force))
    key = {"idempotency-key": secrets.token_urlsafe(16)}  # asked again, it is not made twice
    data = {name: str(value) for name, value in asked.items()}
    files = {} if image is None else {"input_reference": file_of(image)}
    reply = await ask(
        http, lambda: http.build_request("POST", VIDEOS, data=data, files=files or None, headers=key)
    )
    await reply.aread()
    at = f"{VIDEOS}/{reply.json()['id']}"
    try:
        await _made(http, at, reply, progress or (lambda share: None))
        content = f"{at}/content"

        def rest(received: int) -> httpx.Request:
            return http.build_request("GET", content, headers={"range": f"bytes={received}-"})

        first = await ask(http, lambda: http.build_request("GET", content))
        return await kept(pieces(http, first, rest), target, "mp4")
    finally:
        await _forget(http, at)


async def _made(http: httpx.AsyncClient, at: str, reply: httpx.Response, tell: Share) -> None:
    """Wait until a video is there, wherever the server was meanwhile. Raises StreamError if it cannot be made."""
    while (told := reply.json())["status"] != "completed":
        if told["status"] == "failed":
            raise StreamError(f"the video could not be made: {told['error']['message']}")
        tell(told["progress"] / 100)
        await asyncio.sleep(float(reply.headers.get("openai-poll-after-ms", 1e3 * POLL)) / 1e3)
        try:
            reply = await ask(http, lambda: http.build_request("GET", at))
        except Unreachable:
            lost = "the video is made nevertheless, if the server runs again"
            reply = await patient(http, lambda: http.build_request("GET", at), lost)
        await reply.aread()
    tell(1.0)


async def _forget(http: httpx.AsyncClient, at: str) -> None:
    """End the making, and let the server free what there is of it; it does so by itself, if later."""
    try:
        await http.delete(at, timeout=2.0)
    except httpx.HTTPError as error:
        log.debug("%s was not freed: %s", at, error)


async def draw(
    http: httpx.AsyncClient, asked: Mapping[str, Any], out: str | None, force: bool
) -> NDArray[np.uint8] | Path:
    """Have a picture made: into a file, whose path is given, or else as an array.  # [y, x, 3]"""
    target = None if out is None else Path(guard(PIPE, out, force))
    wait = httpx.Timeout(
        **{**http.timeout.as_dict(), "read": None}
    )  # the answer is the picture, however long it takes
    reply = await ask(http, lambda: http.build_request("POST", IMAGES, json=dict(asked), timeout=wait))
    await reply.aread()
    made = picture(base64.b64decode(reply.json()["data"][0]["b64_json"]))
    if target is None:
        return made
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    save(target, made)
    return target


def file_of(image: Picture) -> tuple[str, bytes]:
    """A picture as a file: its name, and what it holds. Raises UnsupportedMedia if it cannot be read."""
    if not isinstance(image, str | os.PathLike):
        return "image.png", encoded(image)
    try:
        return Path(image).name, Path(image).read_bytes()
    except OSError as error:
        raise UnsupportedMedia(f"{os.fspath(image)} cannot be read: {error.strerror}") from error


def data_url(image: Picture) -> str:
    """A picture as the first message of a stream may hold it. Raises MediaError, InvalidRequest for one too large."""
    _, data = file_of(image)
    data = data if len(data) <= MOST else encoded(picture(data), "webp")
    if len(data) > MOST:
        raise InvalidRequest(f"the first picture has {len(data)} bytes, the limit is {MOST}: make it smaller")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
