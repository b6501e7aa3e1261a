"""The log: one life of a stream can be followed in it, in one form, and nothing in it is secret."""

import asyncio
import json
import logging
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from riverrun.models.state import State
from riverrun.streaming import logs, wire
from riverrun.streaming.access import KEY_PROTOCOL, digest
from tests.models.toys import Smooth
from tests.streaming.processes import serving
from tests.streaming.serving import RATE, call, dial, noise, server
from tests.streaming.test_http import Volume, recording

pytestmark = pytest.mark.anyio
SECRET = "correct-horse-battery-staple"


class Kept(logging.Handler):
    """Lines as the server would write them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts = list[str]()
        self.told = list[dict[str, Any]]()
        self.addFilter(logs.wanted)
        self.addFilter(lambda record: record.name != "httpx")  # the client of these tests

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logs.Text().format(record))
        self.told.append(json.loads(logs.Json().format(record)))

    def life(self, session: str) -> list[str]:
        """What is said of a session."""
        return [line["message"] for line in self.told if line.get("session") == session]

    def __contains__(self, secret: str) -> bool:
        return any(secret in line for line in (*self.texts, *map(json.dumps, self.told)))


@pytest.fixture
def lines() -> Iterator[Kept]:
    """All lines: ours from DEBUG on, others' as the server has them."""
    kept, root, ours = Kept(), logging.getLogger(), logging.getLogger(logs.OURS)
    before = root.level, ours.level
    root.addHandler(kept)
    root.setLevel(logging.INFO)
    ours.setLevel(logging.DEBUG)
    yield kept
    root.removeHandler(kept)
    root.setLevel(before[0])
    ours.setLevel(before[1])


class Quoting(Smooth):
    """Fails at what is loud, with an error that quotes."""

    def step(self, inputs: Any, state: State) -> Any:
        if any(chunk is not None and chunk.data.max(initial=0) > 0.9 for chunk in inputs):
            raise ValueError(f"cannot say {SECRET}")
        return super().step(inputs, state)


async def test_no_key_token_or_value_is_in_it(lines: Kept) -> None:
    key, secrets = f"key-{SECRET}", [SECRET]
    async with server({"smooth": Volume(), "quoting": Quoting()}, access={"keys": [digest(key)]}) as (
        at,
        hub,
    ):
        bearer = {"Authorization": f"Bearer {key}"}
        async with dial(at, additional_headers=bearer) as peer:
            await peer.say(wire.Open("smooth", {}, RATE, format="f32"))
            opened = await peer.until("opened")
            secrets.append(opened["token"])
            await peer.send(noise(RATE // 4), last=False)
            await peer.say(wire.Update({"gain": SECRET}, "a"))
            await peer.until("error")
            await peer.say(wire.Update({SECRET: 1}, "b"))
            await peer.until("error")
        async with dial(at, subprotocols=["riverrun.v1", KEY_PROTOCOL + key]) as again:
            await again.say(wire.Resume(opened["session"], opened["token"], -1))
            await again.until("opened")
            await again.say(wire.Cancel())
            await again.until("ended")
        for first in (
            wire.Open(SECRET),
            wire.Open("smooth", {"gain": SECRET}),
            wire.Resume(SECRET, SECRET, 0),
        ):
            async with dial(at, additional_headers=bearer) as other:
                await other.say(first)
                await other.until("error")
        async with dial(at, additional_headers=bearer) as other:
            await other.socket.send(json.dumps({"type": SECRET}))
            await other.until("error")
        async with dial(at, additional_headers=bearer) as other:
            await other.say(wire.Open("quoting", {}, RATE, format="f32"))
            failed = (await other.until("opened"))["session"]
            await other.send(np.ones((RATE // 4, 1), np.float32))
            await other.until("ended")
        async with httpx.AsyncClient(base_url=f"http://{at}", headers=bearer) as client:
            upload, path = {"file": (f"{SECRET}.wav", recording(noise(RATE)))}, "/v1/audio/restorations"
            reply = await client.post(path, files=upload, data={"model": "smooth"})
            secrets.append(reply.headers["riverrun-token"])
            await client.post(path, files=upload, data={"model": SECRET, "strength": SECRET})
            await client.post(path, files={"file": (SECRET, SECRET.encode())}, data={"model": "smooth"})
            await client.get(f"{path}/{SECRET}?key={SECRET}", headers={"riverrun-token": SECRET})
            await client.post(
                f"/v1/whip/{SECRET}", content=SECRET, headers={"content-type": "application/sdp"}
            )
            await client.get("/v1/models", headers={"Authorization": f"Bearer bad-{SECRET}"})
            await client.get("/v1/models", headers={"Host": SECRET})
            await client.get("/v1/models", headers={"Origin": SECRET})
    for secret in secrets:
        assert secret not in lines, secret
    assert digest(key) not in lines
    assert any("failed" in line for line in lines.life(failed)), "where it failed is told, though"
    (trace,) = [line["traceback"] for line in lines.told if "traceback" in line]
    assert trace[-1] == "ValueError" and any("in step" in part for part in trace)


async def test_the_life_of_a_stream_can_be_followed(lines: Kept) -> None:
    async with server(streams={"snapshot": 0.05, "resume": 0.2}) as (at, hub):
        async with call(at) as peer:
            session, token = peer.opened["session"], peer.opened["token"]
            await peer.send(noise(10 * 320), last=False)
            while not any(told["type"] == "ack" and told["seq"] == 9 for told in peer.told):
                await peer.hear()
        async with dial(at) as again:
            await again.say(wire.Resume(session, token, -1))
            await again.until("opened")
            await hub.engine.shut()
            await again.send(noise(10 * 320), first=10, last=False)
            await again.until("ack")
        while hub.links:
            await asyncio.sleep(0.02)
    words = " / ".join(lines.life(session))
    wanted = ["opened: smooth over ws, 16000 Hz", "lost its connection", "has another connection"]
    wanted += ["goes on at another engine", "lost its connection", "ended: expired after"]
    place = 0
    for word in wanted:
        assert (place := words.find(word, place)) >= 0, f"{word} is missing in: {words}"


@pytest.mark.parametrize("form", ["text", "json"])
async def test_server_and_engine_write_one_form(form: str) -> None:
    with serving(log=form, log_level="debug") as process:
        async with call(process.at, model="restore-lite", request={}) as peer:
            await peer.send(noise(RATE // 4))
            await peer.until("ended")
        process.tell(signal.SIGTERM)
        process.running.wait(60)
        said = process.log().splitlines()
    if form == "text":
        assert not [
            line for line in said if not re.match(r"\d{4}-\S+ [a-z]+ (riverrun|uvicorn)\.\S+: ", line)
        ]
        return
    told = [json.loads(line) for line in said]
    assert all(set(line) - {"session"} == {"time", "level", "logger", "message"} for line in told)
    assert {"riverrun.streaming.hub", "riverrun.streaming.shelf", "uvicorn.error"} <= {
        t["logger"] for t in told
    }
    life = [line["message"] for line in told if line.get("session") == peer.opened["session"]]
    assert "opened" in life[0] and "ended: finished" in life[-1]


def test_a_line_is_one_line_and_an_error_says_what_led_to_it() -> None:
    try:
        try:
            raise ExceptionGroup(SECRET, [KeyError(SECRET)])
        except ExceptionGroup as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError:
        record = logging.LogRecord("a", logging.ERROR, "", 0, "two\nlines of %s", ("b",), sys.exc_info())
    text = logs.Text().format(record)
    assert text.splitlines()[0].endswith("error a: two\\nlines of b") and SECRET not in text
    trace = json.loads(logs.Json().format(record))["traceback"]
    assert trace[-1] == "RuntimeError" and [
        trace.index(k) for k in ("ExceptionGroup", "KeyError", "which led to")
    ]
