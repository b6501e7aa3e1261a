"""riverrun top: what is seen of a server, on a terminal and without one."""

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from typing import Any

import pytest

from riverrun.cli.top import bar, span
from riverrun.streaming.access import digest
from tests.streaming.serving import RATE, Peer, call, noise, server

pytestmark = pytest.mark.anyio
COMMAND = [sys.executable, "-m", "riverrun.cli", "top"]


async def seen(*arguments: str) -> tuple[int | None, str, str]:
    """Exit status, output and complaint of `riverrun top`."""
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    running = await asyncio.create_subprocess_exec(*COMMAND, *arguments, **pipes)  # type: ignore[arg-type]
    out, err = await running.communicate()
    return running.returncode, out.decode(), err.decode()


async def busy(peer: Peer) -> None:
    """Some sound through a stream."""
    await peer.send(noise(RATE // 2), last=False)
    while len(peer.sound()) < RATE // 4:
        await peer.hear()


async def test_it_is_printed_once_without_a_terminal() -> None:
    async with server(compute={"lanes": 2}) as (at, _), call(at, live=0.1) as peer:
        await busy(peer)
        status, out, _ = await seen(f"http://{at}")
        assert status == 0 and "ready" in out and "1 of 32 streams" in out
        (row,) = [line for line in out.splitlines() if peer.opened["session"] in line]
        assert "smooth" in row and " ws " in row
        assert {line.split()[0] for line in out.splitlines() if "█" in line or "░" in line} == {
            "live",
            "rest",
        }
        assert "refused: nothing" in out and "\x1b" not in out
        status, out, _ = await seen(f"http://{at}", "--json")
        assert json.loads(out)["sessions"][0]["id"] == peer.opened["session"]


async def test_what_keeps_it_from_being_seen_is_told() -> None:
    async with server(access={"keys": [digest("right")]}) as (at, _):
        status, out, err = await seen(f"http://{at}")
        assert status == 1 and not out and "API key is missing" in err
        assert (await seen(f"http://{at}", "--key", "right"))[0] == 0
    status, _, err = await seen(f"http://{at}")
    assert status == 1 and "cannot be reached" in err and len(err.splitlines()) == 1
    assert (await seen("nowhere"))[0] == 2


class Terminal:
    """`riverrun top` on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.mine, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.theirs, (40, 160))
        self.before = termios.tcgetattr(self.theirs)
        environment = {**os.environ, "TERM": "xterm"}
        ends: dict[str, Any] = {"stdin": self.theirs, "stdout": self.theirs, "stderr": self.theirs}
        self.running = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # background jobs inherit a deaf ear
            **ends,
        )
        self.screen = ""

    def until(self, words: str) -> None:
        """Wait until something is on it that was not before."""
        self.screen = ""
        while words not in self.screen:
            assert select.select([self.mine], [], [], 30)[0], self.screen
            self.screen += os.read(self.mine, 1 << 16).decode(errors="replace")

    def press(self, keys: bytes) -> int:
        """The exit status that some keys lead to."""
        os.write(self.mine, keys)
        return self.left()

    def left(self) -> int:
        """Its exit status; it is read meanwhile, since a terminal that nobody reads holds up who writes to it."""
        for _ in range(300):
            if self.running.poll() is not None:
                return int(self.running.returncode)
            if select.select([self.mine], [], [], 0.1)[0]:
                os.read(self.mine, 1 << 16)
        raise AssertionError("it did not end")

    def close(self) -> None:
        self.running.kill()
        self.running.wait()
        os.close(self.mine)
        os.close(self.theirs)


@pytest.mark.parametrize("keys", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
async def test_it_is_watched_on_a_terminal_which_is_left_as_it_was(keys: bytes) -> None:
    async with server() as (at, _):
        terminal = Terminal(f"http://{at}")
        try:
            await asyncio.to_thread(terminal.until, "0 of 32 streams")
            async with call(at) as peer:
                await busy(peer)
                await asyncio.to_thread(terminal.until, peer.opened["session"])
            await asyncio.to_thread(terminal.until, "0 of 32 streams" if keys == b"q" else "streams")
            if keys == b"\x03":
                os.killpg(terminal.running.pid, signal.SIGINT)  # what a terminal does that is a session's own
                assert await asyncio.to_thread(terminal.left) == 0
            else:
                assert await asyncio.to_thread(terminal.press, keys) == 0
            assert termios.tcgetattr(terminal.theirs) == terminal.before
        finally:
            terminal.close()


async def test_a_server_that_goes_is_told_of_and_waited_for() -> None:
    async with server() as (at, _):
        terminal = Terminal(f"http://{at}")
        try:
            await asyncio.to_thread(terminal.until, "ready")
        except BaseException:
            terminal.close()
            raise
    try:
        await asyncio.to_thread(terminal.until, "cannot be reached")
        assert await asyncio.to_thread(terminal.press, b"q") == 0
    finally:
        terminal.close()


def test_figures_are_short() -> None:
    assert [span(s) for s in (5, 65, 3_700)] == ["5s", "1m05", "1h01"]
    assert bar(0.5).count("█") == bar(0.5).count("░") and set(bar(7)) == {"█"}
