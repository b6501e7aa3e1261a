"""Recordings handed in to be looked at: what is said of them, and what every error looks like."""

from importlib.resources import files
from pathlib import Path

import httpx
import numpy as np
import pytest

import riverrun
from riverrun.media import MediaError, read
from riverrun.models.errors import CheckpointError
from riverrun.models.speech import perth
from tests.streaming.serving import RATE, noise, server
from tests.streaming.test_http import recording

pytestmark = pytest.mark.anyio
CLEAN = str(files("riverrun.assets") / "sample-clean.flac")


def marked() -> bytes:
    """The sample, marked, as a call leaves it."""
    import torch

    from riverrun.models.speech.marking import Marker

    sound, rate = read(CLEAN)
    marker = Marker(rate)
    made, _ = marker(torch.from_numpy(sound.T), marker.start(1))
    return recording(np.ascontiguousarray(made.numpy().T), "ogg", "libopus", rate)


async def post(at: str, data: bytes) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{at}", timeout=120) as client:
        return await client.post("/v1/detect", files={"file": ("speech.ogg", data)})


async def test_a_recording_is_said_to_be_marked(tmp_path: Path) -> None:
    file = tmp_path / "speech.ogg"
    file.write_bytes(marked())
    async with server() as (at, hub), riverrun.AsyncClient(f"http://{at}") as client:
        told = await client.detect(file)
        assert told["marked"] and told["confidence"] > 0.9 and 8.5 < told["seconds"] < 8.6
        with pytest.raises(MediaError, match="none"):
            await client.detect(tmp_path / "none")
        assert not hub.decoding


async def test_what_cannot_be_heard_is_an_error_as_openai_clients_read_it() -> None:
    async with server(files={"bytes": 1 << 16}) as (at, hub):
        for data, status, code in (
            (b"no sound at all" * 99, 415, "unsupported_media"),
            (recording(noise(RATE))[:9000], 400, "corrupt_media"),
            (bytes(1 << 17), 413, "too_big"),
        ):
            reply = await post(at, data)
            error = reply.json()["error"]
            assert reply.status_code in (status, 400) and set(error) == {"message", "type", "param", "code"}
            assert error["code"] in (code, "corrupt_media")
        assert not hub.decoding
        hub.decoding = hub.settings.files.at_once
        reply = await post(at, recording(noise(100)))
        assert reply.status_code == 503 and reply.json()["error"]["code"] == "at_capacity"
        hub.decoding = 0


async def test_without_the_package_a_client_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perth, "PACKAGE", "no-such-package")
    async with server() as (at, _), riverrun.AsyncClient(f"http://{at}") as client:
        with pytest.raises(CheckpointError, match=r"pip install 'riverrun\[mark\]'"):
            await client.detect(CLEAN)
