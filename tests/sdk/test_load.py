"""The load tester: every session is counted once, and what befalls it is told."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import riverrun
from riverrun.load import GRACE, RATE, Plan, drive, process, speech, spread
from riverrun.playout import Take, report
from riverrun.streaming import admission
from riverrun.usage import slope, usage
from tests.models.speech.small import small, stored
from tests.sdk.cutting import proxy
from tests.streaming.serving import server

pytestmark = pytest.mark.anyio
NEVER = ("", 0)  # the question for models comes first
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")


def plan(at: str, **values: Any) -> Plan:
    return Plan(f"http://{at}", **{"sessions": 3, "seconds": 0.6, "ramp": 0.05, **values})


async def test_every_session_is_held_and_measured() -> None:
    async with server() as (at, hub):
        takes = await drive(plan(at))
        assert not hub.streams
    assert [take.outcome for take in takes] == ["held"] * 3
    for take in takes:
        assert take.seconds == 0.6 and take.own.total() == 30, "frames of 20 ms"
        assert take.late.total() == take.delay.total() > 0
        assert min(take.delay) > 0, "nothing is heard before it was spoken"
        assert 0 <= take.worst <= take.silent <= 0.6
    found = report(takes)
    assert (found.sessions, found.opened, found.refused, found.failed) == (3, 3, 0, 0)
    for times in (found.late, found.delay, found.own):
        assert times is not None and times.p50 <= times.p99 <= times.most
    assert found.delay and json.loads(json.dumps(found.values()))["delay"]["p50"] == found.delay.p50


async def test_sessions_in_processes_are_all_sessions() -> None:
    async with server() as (at, _):
        takes, cpu = await spread(plan(at), 2)
    assert [take.outcome for take in takes] == ["held"] * 3
    assert cpu > 0 and all(take.delay for take in takes)


async def test_what_a_full_server_refuses_is_no_failure() -> None:
    async with server(streams={"sessions": 1}) as (at, _):
        found = report(await drive(plan(at, ramp=0.3)))
    assert (found.sessions, found.opened, found.refused, found.failed) == (3, 1, 2, 0)
    assert found.errors == {"AtCapacity": 2} and found.retry_after == (5.0, 5.0)


async def test_a_call_is_held_and_measured() -> None:
    async with server() as (at, hub):
        takes = await drive(plan(at, sessions=2, transport="webrtc"))
        assert not hub.streams
    for take in takes:
        assert (take.outcome, take.error) == ("held", "")
        assert take.own.total() == 30 and 40 < take.delay.total() <= 65, "packets of 10 ms"
        assert min(take.delay) > 0


async def test_a_call_that_is_refused_says_when_to_come_back() -> None:
    async with server(webrtc={"sessions": 1}) as (at, _):
        found = report(await drive(plan(at, sessions=2, seconds=2.0, ramp=2.0, transport="webrtc")))
    assert (found.opened, found.refused, found.retry_after) == (1, 1, (5.0, 5.0))


async def test_a_connection_that_comes_back_is_counted() -> None:
    async with server() as (at, _), proxy(at, NEVER, ("down", 20_000)) as cutting:
        found = report(await drive(plan(cutting.at, sessions=2, seconds=1.0)))
    assert (found.opened, found.failed, found.lost, found.resumed) == (2, 0, 1, 1)


async def test_a_server_that_dies_is_told_and_not_waited_for() -> None:
    async with server(streams={"resume": 0.2}) as (at, _), proxy(at) as cutting:
        driving = asyncio.create_task(drive(plan(cutting.at, seconds=2.0)))
        await asyncio.sleep(0.8)
        cutting.gone = True
        cutting.cut()
        found = report(await asyncio.wait_for(driving, 2.0 + GRACE))
    assert (found.opened, found.failed, found.continuity) == (3, 3, 0.0)
    assert found.worst > 0.5, "what was to be heard after its death was not"
    assert all(error.startswith("Unreachable") for error in found.errors)


async def test_a_server_that_is_not_there_or_has_no_such_model_is_an_error() -> None:
    with pytest.raises(riverrun.Unreachable):
        await drive(Plan("http://127.0.0.1:9"))
    async with server() as (at, _):
        with pytest.raises(riverrun.InvalidRequest, match="'show'.*restore"):
            await spread(plan(at, task="show"), 1)


async def test_speech_is_sound_of_full_length_and_is_always_the_same() -> None:
    sound = speech(3)
    assert (
        sound.shape == (5 * RATE, 1)
        and 0.02 < float(abs(sound).mean()) < 0.5
        and float(abs(sound).max()) <= 1
    )
    assert (sound == speech(3)).all() and (sound != speech(4)).any()


@LINUX
async def test_what_a_process_and_its_children_use_is_read() -> None:
    before = usage(os.getpid())
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "x = bytearray(50 << 20); input()", stdin=asyncio.subprocess.PIPE
    )
    try:
        for _ in range(200):
            during = usage(os.getpid())
            if before and during and during.memory > before.memory + (50 << 20):
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("the child's memory does not count")
        assert during.files > before.files and during.cpu >= before.cpu
    finally:
        child.kill()
        await child.wait()
    assert usage(child.pid) is None


@LINUX
async def test_the_process_of_a_server_is_found_by_its_port() -> None:
    async with server() as (at, _):
        assert process(f"http://{at}") == os.getpid()
    assert process("http://192.0.2.1:80") is None, "that is another machine"


async def test_a_slope_is_growth_in_a_unit_of_time() -> None:
    assert slope([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)
    assert slope([0, 1, 2, 3], [1, 1, 1, 1]) == 0
    assert slope([1], [1]) == 0


async def told(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit status and both outputs of `riverrun load`."""
    pipe = asyncio.subprocess.PIPE
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "riverrun.cli", "load", *arguments, stdout=pipe, stderr=pipe,
        env={**os.environ, **environment},
    )  # fmt: skip
    out, said = await command.communicate()
    return command.returncode or 0, out.decode(), said.decode()


async def test_the_command_prints_a_table_and_writes_the_figures(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    async with server(streams={"sessions": 1}) as (at, _):
        command = (
            f"http://{at}",
            "--sessions",
            "2",
            "--minutes",
            "0.02",
            "--ramp",
            "0.2",
            "--json",
            str(file),
        )
        status, out, said = await told(*command, "--aim", "0")
        assert status == 0, said
        assert "continuity" in out and "1, 1, 0" in out and "1 x AtCapacity" in said
        figures = json.loads(file.read_text())
        assert (figures["opened"], figures["refused"]) == (1, 1)
        assert figures["delay"]["p50"] > 0 and figures["tester"]["cpu"] > 0
    status, _, said = await told(*command)
    assert status == 1 and "cannot be reached" in said and "Traceback" not in said


async def test_continuity_below_the_aim_is_exit_status_1() -> None:
    async with server(webrtc={"sessions": 1}) as (at, hub):
        hub.draining = True
        status, out, _ = await told(f"http://{at}", "--sessions", "1", "--minutes", "0.01")
    assert status == 1 and "0, 1, 0" in out


async def test_without_a_url_it_has_a_server_of_its_own(tiny: str) -> None:
    status, out, said = await told(
        "--sessions", "2", "--minutes", "0.02", "--aim", "0", RIVERRUN_MODELS=json.dumps([tiny])
    )
    assert status == 0, said
    assert "2, 0, 0" in out
    if Path("/proc/self/stat").exists():
        assert "MiB" in out


async def test_texts_are_said_to_every_session_and_the_first_sound_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "LIMIT", 1e9)  # however slow this machine is
    monkeypatch.setattr(admission, "feasible", lambda *_: True)
    async with server({"small": small()}) as (at, hub):
        takes = await drive(plan(at, sessions=2, task="speak", seconds=1.5))
        assert not hub.streams
    for take in takes:
        assert (take.outcome, take.error, take.seconds) == ("held", "", 1.5)
        assert take.first.total() >= 1 and take.own.total() >= 1 and take.late.total() >= 1
        assert min(take.first) >= 0 and not take.delay
    found = report(takes)
    assert found.first and found.first.p50 <= found.first.p99 and found.delay is None
    assert [Take.of(json.loads(json.dumps(vars(take)))) for take in takes] == takes


async def test_a_speech_that_a_full_server_refuses_is_no_failure() -> None:
    async with server({"small": small()}, streams={"sessions": 1}) as (at, _):
        found = report(await drive(plan(at, sessions=2, task="speak", seconds=1.5, ramp=0.1)))
    assert (found.sessions, found.opened, found.refused, found.failed) == (2, 1, 1, 0)


async def test_who_does_not_speak_or_speaks_over_webrtc_is_told() -> None:
    async with server() as (at, _):
        with pytest.raises(riverrun.InvalidRequest, match="'speak'.*restore"):
            await drive(plan(at, task="speak"))
        with pytest.raises(riverrun.InvalidRequest, match="webrtc"):
            await drive(plan(at, task="speak", transport="webrtc"))


async def test_the_command_prints_how_soon_speech_is_heard(tmp_path: Path) -> None:
    command = ("--task", "speak", "--sessions", "1", "--minutes", "0.02", "--aim", "0")
    status, out, said = await told(*command, "--model", stored(tmp_path))
    assert status == 0, said
    assert "first sound (TTFA)" in out and "continuity C100" in out and "1, 0, 0" in out
