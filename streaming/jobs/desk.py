"""Desk: where a server's jobs are handed in and their results given out."""

import asyncio
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from riverrun.models.errors import InvalidRequest
from riverrun.streaming.errors import AtCapacity, StreamError
from riverrun.streaming.hub import Hub
from riverrun.streaming.jobs.lines import Line, parse, shown, wrong
from riverrun.streaming.jobs.runner import Place, Runner, recover
from riverrun.streaming.jobs.states import State
from riverrun.streaming.jobs.store import Job, Row, Store
from riverrun.streaming.jobs.tasks import GRAMMARS, Making, check
from riverrun.streaming.jobs.whole import sync
from riverrun.streaming.problems import Conflict, NotFound, TooBig
from riverrun.streaming.uploads import settled

log = logging.getLogger(__name__)
FILE = "jobs.sqlite"
TIDY = 3600.0  # seconds between looks for what is old
AGAIN = 10.0  # seconds until a store that failed is tried again
DAY = 86_400.0


class Desk:
    """The jobs of one server, in its own folder: a store, and for each job a folder of inputs and one of outputs."""

    def __init__(self, hub: Hub, clock: Callable[[], float] = time.time) -> None:
        self.hub, self.settings, self.clock = hub, hub.settings.jobs, clock
        self.home = self.settings.home
        self.store = Store(self.home / FILE)
        self.runner: Runner | None = None
        self.work: list[asyncio.Task[None]] = []
        self.opening = asyncio.Lock()

    async def start(self) -> None:
        """Take up the jobs there are, if there are any."""
        if self.store.path.exists():
            try:
                await self.open()
            except StreamError as error:
                log.error("jobs are not taken: %s", error)

    async def open(self) -> Runner:
        """Be ready for jobs. Raises AtCapacity if another server has the folder, StreamError if it is not usable."""
        if self.hub.draining:
            raise AtCapacity("the server is stopping", 2.0)
        async with self.opening:
            if self.runner is None or any(task.done() for task in self.work):
                await self._begin()
            assert self.runner
            return self.runner

    async def _begin(self) -> None:
        await self.stop()
        try:
            await settled(self._open)
        except Conflict as error:
            raise AtCapacity("another server has the folder of jobs: set jobs.folder", 60.0) from error
        self.runner = Runner(
            self.store, self.place, Making(self.hub, self._owner), self.settings.at_once, clock=self.clock
        )
        self.work = [asyncio.create_task(self._run(self.runner)), asyncio.create_task(self._tidy())]

    def _open(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StreamError(f"{self.home} cannot be made: {error.strerror}; set jobs.folder") from error
        self.store.open()
        recover(self.store, self.place, self.clock())
        for folder in self.home.iterdir():  # uploads of a job that a crash kept from being entered
            if folder.is_dir() and self.store.job(folder.name) is None:
                shutil.rmtree(folder, ignore_errors=True)

    async def stop(self) -> None:
        """Put back what is being made; it is taken up at the next start. Twice is once."""
        for task in self.work:
            task.cancel()
        await asyncio.gather(*self.work, return_exceptions=True)
        if self.runner:
            await self.runner.changes()  # who waits need not wait longer
        self.runner, self.work = None, []
        self.store.close()

    async def _run(self, runner: Runner) -> None:
        while True:
            try:
                await runner.run(forever=True)
            except StreamError:
                log.exception("jobs stand still, and are tried again in %g s", AGAIN)
                await asyncio.sleep(AGAIN)

    async def _tidy(self) -> None:
        while True:
            before = self.clock() - self.settings.keep * DAY
            for job in await settled(self.store.old, before):
                await settled(self._forget, job)
            await asyncio.sleep(TIDY)

    def _owner(self, job: str) -> str:
        found = self.store.job(job)
        return found.owner if found else ""

    def place(self, row: Row) -> Place:
        """Where the files of a line are."""
        name = row.line.input
        return Place(self._input(row.job, name) if name else None, self.outputs(row.job))

    def _input(self, job: str, name: str) -> Path:
        """Where an upload is kept: a name of ours, whatever the client's is."""
        return self.home / job / "inputs" / hashlib.sha256(name.encode()).hexdigest()

    def outputs(self, job: str) -> Path:
        """The folder of a job's outputs."""
        return self.home / job / "outputs"

    async def post(
        self, told: bytes, files: Mapping[str, BinaryIO], owner: str, key: str | None, prefix: str = ""
    ) -> tuple[Job, bool]:
        """Take a job in, and say whether it is new: under a key that came before, it is the one from then.

        Its id begins with the prefix.

        Raises InvalidRequest, TooBig, Reused, AtCapacity; then nothing of it is kept.
        """
        lines = await settled(self._read, told, files)
        await check(self.hub, lines, owner)
        body = await settled(_body, told, files, self.hub.settings.files.bytes)
        runner = await self.open()
        if before := await settled(self.store.keyed, owner, key, body):
            return await self.job(before, owner), False
        waiting = await settled(self.store.waiting)
        if waiting + len(lines) > self.settings.waiting:
            raise AtCapacity(
                f"{waiting} lines wait, and with {len(lines)} more there would be over {self.settings.waiting}",
                60.0,
            )
        job, entered = prefix + secrets.token_hex(16), ""
        try:
            await settled(self._keep, job, files)
            entered = await settled(self.store.add, job, lines, self.clock(), owner, key, body)
        except OSError as error:
            raise AtCapacity(f"the job cannot be stored: {error.strerror}", 60.0) from error
        finally:
            if entered != job and await settled(self.store.job, job) is None:
                await settled(shutil.rmtree, self.home / job, ignore_errors=True)
        await runner.changes()
        return await self.job(entered, owner), entered == job

    def _read(self, told: bytes, files: Mapping[str, BinaryIO]) -> list[Line]:
        lines = parse(told, GRAMMARS, self.settings.lines)
        for line in lines:
            if line.input is not None and line.input not in files:
                wrong(line.number, f"input is {shown(line.input)}, and no file of that name was sent")
        if extra := sorted(set(files) - {line.input for line in lines}):
            raise InvalidRequest(f"file {shown(extra[0])} was sent, and is no line's input")
        return lines

    def _keep(self, job: str, files: Mapping[str, BinaryIO]) -> None:
        """Copy uploads to where they stay, on the disk for good."""
        inputs = self.home / job / "inputs"
        inputs.mkdir(parents=True, mode=0o700)
        for name, file in files.items():
            with open(self._input(job, name), "xb") as kept:
                file.seek(0)
                shutil.copyfileobj(file, kept)
                kept.flush()
                os.fsync(kept.fileno())
        for folder in (inputs, inputs.parent, self.home):
            sync(folder)

    async def job(self, job: str, owner: str) -> Job:
        """A job of an owner. Raises NotFound; whether another has it is not told."""
        found = await settled(self.store.job, job, owner) if self.runner else None
        if found is None:
            raise NotFound(f"there is no job {shown(job)}")
        return found

    async def jobs(self, owner: str, after: str | None, limit: int, prefix: str = "") -> list[Job]:
        """The newest jobs of an owner whose ids begin with the prefix."""
        return await settled(self.store.jobs, owner, after, limit, prefix) if self.runner else []

    async def wait(self, job: str, owner: str, seconds: float) -> Job:
        """A job when a line of it has begun or ended, or after some seconds, or at once if it is over."""
        version = self.runner.version if self.runner else 0
        found = await self.job(job, owner)
        try:
            async with asyncio.timeout(seconds):
                while self.runner and not found.counts.over:
                    await self.runner.wait(version)
                    version, before = self.runner.version, found
                    found = await self.job(job, owner)
                    if found != before:
                        break
        except TimeoutError:
            pass
        return found

    async def cancel(self, job: str, owner: str) -> Job:
        """End what has not ended of a job."""
        await self.job(job, owner)
        assert self.runner
        await self.runner.cancel(job)
        return await self.job(job, owner)

    async def retry(self, job: str, owner: str) -> Job:
        """Queue again what failed or was cancelled of a job."""
        await self.job(job, owner)
        assert self.runner
        await settled(self.store.retry, job)
        await self.runner.changes()
        return await self.job(job, owner)

    async def remove(self, job: str, owner: str) -> None:
        """End a job, and forget it with its files."""
        await self.cancel(job, owner)
        await settled(self._forget, job)

    def _forget(self, job: str) -> None:
        self.store.remove(job)
        shutil.rmtree(self.home / job, ignore_errors=True)

    async def output(self, job: str, owner: str, line: str) -> tuple[Row, Path]:
        """A line that is done, and its output. Raises NotFound."""
        await self.job(job, owner)
        row = await settled(self.store.line, job, line)
        if row is None:
            raise NotFound(f"the job has no line {shown(line)}")
        path = self.outputs(job) / row.line.output
        if row.state is not State.done or not path.is_file():
            raise NotFound(f"line {shown(line)} is {row.state}, and has no output")
        return row, path


def _body(told: bytes, files: Mapping[str, BinaryIO], most: int) -> str:
    """What a posted job is known by. Raises TooBig if one of its files is."""
    whole = hashlib.sha256(told)
    for name in sorted(files):
        file = files[name]
        file.seek(0)
        held = hashlib.file_digest(cast(Any, file), "sha256")
        if file.tell() > most:
            raise TooBig(f"file {shown(name)} has {file.tell()} bytes, the limit is {most}: cut it")
        whole.update(hashlib.sha256(name.encode()).digest() + held.digest())
    return whole.hexdigest()
