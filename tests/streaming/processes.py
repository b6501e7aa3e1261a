"""A server in a process of its own, as an operator runs it, and what there is to see of processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

MODEL = "restore-lite"


class Process:
    """`riverrun serve`, in a process group of its own."""

    def __init__(self, port: int, settings: dict[str, str]) -> None:
        self.port, self.at = port, f"127.0.0.1:{port}"
        self.said = tempfile.TemporaryFile()
        defaults = {"RIVERRUN_MODELS": json.dumps([MODEL]), "RIVERRUN_WEBRTC__HOSTS": '["127.0.0.1"]'}
        self.running = subprocess.Popen(
            [sys.executable, "-m", "riverrun.cli", "serve", "--port", str(port)],
            env={**os.environ, **defaults, **settings},
            stderr=self.said,
            start_new_session=True,
        )

    def log(self) -> str:
        """What it has written so far."""
        self.said.seek(0)
        return self.said.read().decode()

    def tell(self, number: int, group: bool = False) -> None:
        """Send it a signal, or one to it and all that it has started, as service managers do."""
        (os.killpg if group else os.kill)(self.running.pid, number)

    def health(self, path: str = "ready") -> int:
        """The status of a question for its health; 0: nobody answers."""
        try:
            return httpx.get(f"http://{self.at}/health/{path}", timeout=5).status_code
        except httpx.TransportError:
            assert self.running.poll() is None, self.log()
            return 0

    def ready(self) -> None:
        """Wait until it takes streams."""
        until(lambda: self.health() == 200)

    @property
    def children(self) -> list[int]:
        """The processes it has started."""
        pid = self.running.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def close(self) -> None:
        """End it and all it has started, whatever it does."""
        for pid in [self.running.pid, *(self.children if self.running.poll() is None else [])]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.running.wait(20)
        self.said.close()


def free() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(port: int | None = None, ready: bool = True, **settings: Any) -> Iterator[Process]:
    """A server; settings as in the environment, such as `streams__drain=1`."""
    told = {f"RIVERRUN_{name.upper()}": str(value) for name, value in settings.items()}
    process = Process(port or free(), told)
    try:
        if ready:
            process.ready()
        yield process
    finally:
        process.close()


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has taken the status of does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(done: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until something is so."""
    for _ in range(int(seconds / 0.05)):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError("it never was so")
