"""Runner: takes lines from a store and makes them, so many at once, each output whole or not at all."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from riverrun.media.errors import MediaError
from riverrun.streaming.errors import StreamError
from riverrun.streaming.jobs.store import Row, Store
from riverrun.streaming.jobs.tasks import Do
from riverrun.streaming.jobs.whole import Whole, digest, inside, part, source
from riverrun.streaming.problems import EXPECTED
from riverrun.streaming.uploads import settled

log = logging.getLogger(__name__)


class Halt(StreamError):
    """Going on is no use: not the line is wrong, but what every line needs."""


@dataclass(frozen=True)
class Place:
    """Where the files of a line are: what it names as input, if anything, and the folder of its output."""

    input: Path | None
    outputs: Path


def recover(store: Store, place: Callable[[Row], Place], now: float) -> None:
    """Take up what a crash has left: half-made files are removed, their lines queued."""
    for row in store.recover(now):
        try:
            part(inside(place(row).outputs, row.line.output)).unlink(missing_ok=True)
        except (OSError, MediaError) as error:
            log.warning("line %s of job %s left a file behind: %s", row.line.id, row.job, error)


class Runner:
    """Makes the lines of a store. One event loop; one a store."""

    def __init__(
        self,
        store: Store,
        place: Callable[[Row], Place],
        do: Do,
        at_once: int = 1,
        told: Callable[[Row], object] = lambda row: None,  # with every line that has ended
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.place, self.do, self.at_once = store, place, do, at_once
        self.told, self.clock = told, clock
        self.tasks: dict[asyncio.Task[None], str] = {}  # with their jobs
        self.changed = asyncio.Condition()
        self.version = 0  # of what the store holds

    async def run(self, forever: bool = False) -> None:
        """Make all that is queued; then end, or wait for more. What it is at when cancelled is queued again.

        Raises StreamError if the store fails, or whatever every line needs.
        """
        workers = [asyncio.create_task(self._work(forever)) for _ in range(self.at_once)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await asyncio.shield(settled(self.store.release))

    async def changes(self) -> None:
        """Say that the store holds something else."""
        async with self.changed:
            self.version += 1
            self.changed.notify_all()

    async def wait(self, version: int) -> None:
        """Wait until the store holds something else than at a version."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.version != version)

    async def cancel(self, job: str) -> None:
        """End a job: what is being made of it stops within a chunk, and is gone when this returns."""
        await settled(self.store.cancel, job, self.clock())
        tasks = [task for task, of in self.tasks.items() if of == job]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.changes()

    async def _work(self, forever: bool) -> None:
        while True:
            version = self.version
            row = await settled(self.store.take, self.clock())
            if row is None:
                if not forever:
                    return
                await self.wait(version)
                continue
            task = asyncio.create_task(self._line(row))
            self.tasks[task] = row.job
            try:
                await asyncio.wait({task})
            finally:
                del self.tasks[task]
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                task.result()

    async def _line(self, row: Row) -> None:
        try:
            made = await self._make(row)
        except Halt:
            raise
        except Exception as error:
            await settled(self.store.fail, row, self.clock(), why(error), passing(error))
        else:
            await settled(self.store.done, row, self.clock(), made)
        if found := await settled(self.store.line, row.job, row.line.id):
            self.told(found)
        await self.changes()

    async def _make(self, row: Row) -> dict[str, Any]:
        """Make one output; give what the manifest tells of it."""
        line, place = row.line, self.place(row)
        target = inside(place.outputs, line.output)
        with source(place.input) if place.input else nullcontext() as file:
            heard = asdict(await settled(digest, file)) if file else None
            with Whole(target) as whole:
                made = await self.do(row, file, whole.file)
                output = asdict(await settled(whole.commit))
        return {**asdict(made), "input": heard, "output": output}


def why(error: BaseException) -> str:
    """What a user is told; the log has what is a bug."""
    if isinstance(error, OSError) and error.strerror:
        return f"{Path(error.filename).name}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, EXPECTED):
        return str(error)
    log.error("a line failed", exc_info=error)
    return "something failed; the log tells what"


def passing(error: BaseException) -> bool:
    """Whether an error is the machine's, not the line's: a full disk, a file that is not there."""
    return any(isinstance(e, OSError) and e.errno is not None for e in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__
