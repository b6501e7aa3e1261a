"""What an operator sees of a running server: the status, and the figures for Prometheus."""

import asyncio
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from riverrun.streaming import wire
from riverrun.streaming.access import digest
from riverrun.streaming.ledger import STAGES
from riverrun.streaming.metrics import Metrics
from tests.streaming.serving import RATE, call, dial, noise, server
from tests.streaming.test_http import Volume, post, recording

pytestmark = pytest.mark.anyio


async def scrape(at: str) -> dict[str, float]:
    """Every figure, by its name and, in braces, the values of its labels in the order of their names."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://{at}/metrics")).text
    return {
        sample.name + ("{" + ",".join(sample.labels.values()) + "}" if sample.labels else ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def ask(at: str, **headers: str) -> Any:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{at}/v1/status", headers=headers)).json()


async def test_figures_move_with_a_stream() -> None:
    async with server({"smooth": Volume()}, streams={"sessions": 2}) as (at, hub):
        before = await scrape(at)
        assert before["riverrun_ready"] == before["riverrun_engine_up"] == 1
        assert before["process_resident_memory_bytes"] > 1e6 and before["process_open_fds"] > 3
        async with call(at, live=0.1) as peer, call(at) as other:
            await peer.send(noise(RATE // 2), last=False)
            while len(peer.sound()) < RATE // 4:
                await peer.hear()
            async with dial(at) as third:
                await third.say(wire.Open("smooth", rate=RATE))
                await third.until("error")
            during = await scrape(at)
            assert (
                during["riverrun_streams{smooth,ws}"]
                == during["riverrun_streams_opened_total{smooth,ws}"]
                == 2
            )
            assert during["riverrun_refused_total{at_capacity}"] == 1
            assert during["riverrun_lane_sessions{live,live}"] == 1
            assert (
                during["riverrun_lane_steps_total{live}"] > 0 and during["riverrun_lane_rows_total{live}"] > 0
            )
            assert during["riverrun_lane_busy_seconds_total{live,live}"] > 0
            assert {"riverrun_lane_late_seconds{live,0.5}", "riverrun_lane_late_seconds{live,0.99}"} <= set(
                during
            )
            for stage in STAGES:
                assert during[f"riverrun_delay_seconds_count{{{stage},ws}}"] > 0
            assert during["riverrun_step_seconds_count"] > 0
            hub.streams[next(iter(hub.streams))].less = ("buffer",)
            assert (await scrape(at))["riverrun_streams_degraded"] == 1

            async with dial(at) as again:
                await again.say(wire.Resume(other.opened["session"], other.opened["token"], -1))
                await again.until("opened")
                await again.say(wire.Cancel())
                await again.until("ended")
        await post(at, recording(noise(RATE)))
        async with httpx.AsyncClient() as client:
            for path, headers in (
                ("/nothing", {}),
                ("/v1/models", {"Host": "evil.example"}),
                ("/v1/whep/nobody", {}),
            ):
                await client.post(f"http://{at}{path}", headers=headers)
        await hub.engine.shut()
        while hub.restarts == 0 or not hub.engine.alive:
            await asyncio.sleep(0.02)
        after = await scrape(at)
        assert after["riverrun_resumed_total{ws}"] == 1
        assert after["riverrun_streams_ended_total{cancelled,ws}"] == 1
        assert after["riverrun_streams_ended_total{finished,http}"] == 1
        assert after["riverrun_engine_restarts_total"] == 1
        for code in ("not_found", "not_allowed", "unsupported_media"):
            assert after[f"riverrun_refused_total{{{code}}}"] == 1


async def test_dropped_input_is_counted() -> None:
    async with server() as (at, hub), call(at, live=0.1) as peer:
        (stream,) = hub.streams.values()
        for _ in range(20):
            await stream.feed(noise(RATE // 5))
        assert (await scrape(at))["riverrun_dropped_seconds_total"] > 0
        (session,) = (await ask(at))["sessions"]
        assert session["dropped"] > 0 and session["id"] == peer.opened["session"]


async def test_every_figure_has_a_unit_or_counts_and_is_told_without_an_engine() -> None:
    families = list(text_string_to_metric_families(Metrics("1").text().decode()))
    for family in families:
        assert family.documentation.endswith((".", "seconds", "bytes")), family.name
        assert family.name.startswith(("riverrun", "process_"))
        if family.name.endswith("_created"):
            continue  # when a counter began, which the client library adds
        if "seconds" in family.name or "bytes" in family.name:
            assert family.name.endswith(("_seconds", "_bytes")), "the unit comes last"
    assert "riverrun_lane_load_ratio" in {family.name for family in families}


async def test_the_status_tells_who_is_there_and_no_secret() -> None:
    key = "the-operators-key"
    async with server(access={"keys": [digest(key)]}) as (at, hub):
        assert (await ask(at))["error"]["code"] == "invalid_api_key"
        bearer = {"Authorization": f"Bearer {key}"}
        async with dial(at, additional_headers=bearer) as peer:
            await peer.say(wire.Open("smooth", {"gain": 0.777}, RATE, format="f32", live=0.1))
            opened = await peer.until("opened")
            await peer.send(noise(RATE // 2), last=False)
            while len(peer.sound()) < RATE // 4:
                await peer.hear()
            told = await ask(at, **bearer)
            assert told["state"] == "ready" and told["version"] and told["uptime"] > 0 and told["limit"] == 32
            assert told["refused"] == {"invalid_api_key": 1} and told["restarts"] == 0
            (session,) = told["sessions"]
            assert (session["id"], session["model"], session["transport"]) == (
                opened["session"],
                "smooth",
                "ws",
            )
            assert session["taken"] == 0.5 and session["given"] > 0.2 and session["live"] == 0.1
            for share in ("p50", "p99"):
                assert set(session["delay"][share]) == {*STAGES, "total"}
            assert [lane["name"] for lane in told["engine"]["lanes"]] in (["live"], ["live", "rest"])
            for secret in (key, digest(key), opened["token"], "0.777"):
                assert secret not in str(told)
            await hub.engine.shut()
            assert (await ask(at, **bearer))["engine"] is None or hub.restarts


async def test_figures_that_are_switched_off_are_not_there() -> None:
    async with server(metrics=False) as (at, _), httpx.AsyncClient() as client:
        assert (await client.get(f"http://{at}/metrics")).status_code == 404
        schema = (await client.get(f"http://{at}/openapi.json")).json()
        assert "Status" in schema["components"]["schemas"] and "/v1/status" in schema["paths"]
