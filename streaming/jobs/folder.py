"""A file of lines and the folder of their results: made here or at a server, by as many runs as it takes."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from riverrun.media.errors import MediaError
from riverrun.media.limits import DEFAULT
from riverrun.models.errors import ModelError
from riverrun.models.registry import load
from riverrun.streaming.errors import StreamError
from riverrun.streaming.handle import Handle
from riverrun.streaming.hub import Hub
from riverrun.streaming.jobs import manifest
from riverrun.streaming.jobs.lines import Line, parse, shown, wrong
from riverrun.streaming.jobs.runner import Place, Runner, recover
from riverrun.streaming.jobs.states import Changes, State
from riverrun.streaming.jobs.store import Row, Store
from riverrun.streaming.jobs.tasks import GRAMMARS, Do, Making, check, model
from riverrun.streaming.jobs.whole import inside
from riverrun.streaming.settings import Files, Settings

if TYPE_CHECKING:
    from riverrun.models.contract import StreamModel

FILE = ".riverrun-jobs.sqlite"
WEIGHTS = ".safetensors"  # a model that is a file


class Folder:
    """One batch on this machine. `open` it, and close it."""

    def __init__(self, file: Path, out: Path, model: str | None = None) -> None:
        """Read the lines; `model` is that of lines that name none.

        Raises InvalidRequest with the number of the one that is wrong, OSError.
        """
        usual = {"model": model} if model else {}
        lines = parse(file.read_bytes(), GRAMMARS)
        self.lines = [replace(line, values={**usual, **line.values}) for line in lines]
        self.home, self.out, self.job = file.resolve().parent, out, ""
        self.store = Store(out / FILE)

    def open(self, *, here: bool = True, retry: bool = False, force: bool = False) -> Changes:
        """Hold the lines against what earlier runs have made; give what is new.

        `here` says that they are made in this process; `retry` that what failed is tried again, whatever the reason;
        `force` that outputs replace files that are not of this batch.
        Raises InvalidRequest with the number of a line that cannot be done, Conflict if another run is at work.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StreamError(f"{self.out} cannot be made: {error.strerror}") from error
        self.store.open()
        now = time.time()
        recover(self.store, self.place, now)
        jobs = self.store.jobs(limit=1)
        self.job = jobs[0].id if jobs else self.store.add(secrets.token_hex(16), [], now)
        rows = self.rows()
        self._clear({row.line.output for row in rows}, force)
        lost = {r.line.id for r in rows if r.state is State.done and not (self.out / r.line.output).is_file()}
        wanted = {line.id: (self._placed(line) if here else line, self._digest(line)) for line in self.lines}
        return self.store.sync(self.job, wanted, now, lost, retry)

    def close(self) -> None:
        """Let others have it. Twice is once."""
        self.store.close()

    def rows(self, state: State | None = None) -> list[Row]:
        """The lines, and what became of them."""
        return self.store.lines(self.job, state=state)

    def place(self, row: Row) -> Place:
        """Where the files of a line are."""
        return Place(self.home / row.line.input if row.line.input else None, self.out)

    async def run(self, do: Do, at_once: int, told: Callable[[Row], object]) -> None:
        """Make what is queued, and write the manifest however that ends. Raises StreamError."""
        try:
            await Runner(self.store, self.place, do, at_once, told).run()
        finally:
            await asyncio.shield(asyncio.to_thread(self.write))

    def write(self) -> None:
        """Write the manifest. Raises StreamError."""
        try:
            manifest.write(self.out, self.rows())
        except OSError as error:
            raise StreamError(
                f"{self.out / manifest.NAME} cannot be written: {error.strerror}; the results are kept, so mend that"
                " and run the same command again"
            ) from error

    def _placed(self, line: Line) -> Line:
        """A line whose model, if that is a file, is found from anywhere."""
        name = line.values.get("model", "")
        if not name.endswith(WEIGHTS):
            return line
        return replace(line, values={**line.values, "model": str(self.home / name)})

    def _digest(self, line: Line) -> str:
        """What a change of the line or of its input changes."""
        if line.input is None:
            return line.digest()
        try:
            found = (self.home / line.input).stat()
        except (OSError, ValueError):
            return line.digest("missing")
        return line.digest(f"{found.st_size} {found.st_mtime_ns}")

    def _clear(self, ours: set[str], force: bool) -> None:
        """Raises InvalidRequest if a result would leave the folder, or replace what it should not."""
        sources = {(self.home / line.input).resolve() for line in self.lines if line.input}
        for line in self.lines:
            try:
                path = inside(self.out, line.output)
            except MediaError as error:
                wrong(line.number, f"output {error}", error)
            if path.resolve() in sources:
                wrong(line.number, f"output is {shown(line.output)}, which is an input: name another place")
            if path.is_dir() or (path.exists() and not force and line.output not in ours):
                wrong(
                    line.number,
                    f"output is {shown(line.output)}, which is there already and not of this batch: name another "
                    "place, or replace it with --force",
                )


@asynccontextmanager
async def here(lines: Iterable[Line], device: str = "cpu") -> AsyncIterator[Do]:
    """What makes lines in this process. Raises ModelError with the number of a line whose model is not to be had."""
    from riverrun.streaming.engine import Engine  # torch comes with it

    wanted = list(lines)
    models: dict[str, StreamModel] = {}
    for line in wanted:
        try:
            name = model(line)
            models[name] = models.get(name) or load(name, device)
        except ModelError as error:
            wrong(line.number, str(error), error)

    async def start() -> Handle:
        engine = Engine(device)
        for name, made in models.items():
            engine.add(name, made)
        return engine

    hub = Hub(Settings(files=Files(seconds=DEFAULT.seconds)), start, models)
    hub.engine, hub.ready = await start(), True
    hub.specs = {name: made.spec for name, made in models.items()}
    try:
        await check(hub, wanted)
        yield Making(hub)
    finally:
        await hub.stop()
