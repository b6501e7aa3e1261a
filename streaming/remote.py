"""Remote: the handle of an engine that runs in a process of its own (worker.py), so that neither can hurt the other."""

import asyncio
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from riverrun.media import Chunk
from riverrun.media.chunk import Array
from riverrun.models.contract import Spec
from riverrun.streaming import pipe
from riverrun.streaming.errors import SessionEnded, Stuck
from riverrun.streaming.handle import Band, pour
from riverrun.streaming.logs import Form, Level
from riverrun.streaming.session import Live, Rate

log = logging.getLogger(__name__)
GRACE = 5.0  # seconds until a worker that was told to end is killed
SILENCE = 1.0  # seconds between two beats that ask a worker for an answer
TELL = 4  # times a second of output that the worker hears how much was read


@dataclass(eq=False)
class Far:
    """What is known here of a session over there."""

    live: Live | None
    latency: float
    limit: int  # ticks of input, and of output, that may wait
    fed: int
    used: int  # ticks of input that wait no more
    polled: int
    outboxes: list[deque[Chunk]]
    event: asyncio.Event = field(default_factory=asyncio.Event)
    told: int = 0  # ticks of output that the worker knows were read
    ended: set[int] = field(default_factory=set)  # ports that gave their last
    steps: deque[tuple[int, int, float, float]] = field(default_factory=lambda: deque(maxlen=256))
    less: tuple[str, ...] = ()
    error: Exception | None = None

    @property
    def credit(self) -> int:
        """How many more ticks may be fed now."""
        return max(0, min(self.limit, self.limit - (self.fed - self.used)))


class Remote:
    """An engine behind a pipe. Make one with `start`; belongs to one event loop."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader,
                 writer: asyncio.StreamWriter, stuck: float) -> None:  # fmt: skip
        self.process, self.reader, self.writer = process, reader, writer
        self.sessions: dict[str, Far] = {}
        self.alive = True
        self._answers: dict[int, tuple[asyncio.Future[tuple[Any, bytes]], Callable[[Any], None] | None]] = {}
        self._numbers = count()
        self._listening = asyncio.create_task(self._listen())
        self._beating = asyncio.create_task(self._beat(stuck))

    @classmethod
    async def start(
        cls,
        models: Sequence[str],
        device: str = "cpu",
        threads: int = 1,
        capacity: int = 64,
        lanes: int = 2,
        budget: int | None = None,
        stuck: float = 10.0,
        logs: tuple[Form, Level] = ("text", "info"),
    ) -> "Remote":
        """Start a worker. `stuck` seconds are as long as a step may take before its end is given up on.

        `logs` is how the worker writes its log, as `logs.begin` takes it.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "riverrun.streaming.worker", str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=[theirs.fileno()], env={**os.environ},
            )  # fmt: skip
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 24)
        made = cls(process, reader, writer, stuck)
        settings = {"models": list(models), "device": device, "threads": threads, "capacity": capacity,
                    "lanes": lanes, "budget": budget, "stuck": stuck, "logs": logs}  # fmt: skip
        writer.write(pipe.pack(settings))
        return made

    # The handle

    async def open(
        self,
        model: str,
        request: Any,
        rate: Rate | None = None,
        channels: int | None = None,
        live: Live | None = None,
        band: Band = "full",
        saved: bytes | None = None,
        session: str | None = None,
    ) -> str:
        """As `Handle.open`; `request` is a model's values by name."""
        head = {"do": "open", "model": model, "session": session, "request": dict(request), "rate": pipe.rate(rate),
                "channels": channels, "live": pipe.live(live), "band": band, "saved": saved is not None}  # fmt: skip

        def seated(told: Any) -> None:  # at once: its output may come right behind
            boxes: list[deque[Chunk]] = [deque() for _ in range(told["ports"])]
            far = Far(live, told["latency"], told["limit"], told["fed"], told["used"], told["polled"], boxes)
            far.told = far.polled
            self.sessions[told["session"]] = far

        asked = asyncio.ensure_future(self._ask(head, saved or b"", seated))
        try:
            told, _ = await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._abandon)
            raise
        return str(told["session"])

    async def feed(self, session: str, chunk: Chunk, captured: float | None = None) -> None:
        """As `Handle.feed`."""
        far = self._far(session)

        def put(piece: Chunk, final: bool) -> None:
            heads, body = pipe.chunks([piece])
            far.fed += len(piece)
            self._say({"do": "feed", "session": session, "chunks": heads,
                       "captured": captured if final else None}, body)  # fmt: skip

        await pour(chunk, far, far.event, lambda: far.error, put)
        await self._drain()

    async def update(self, session: str, request: Any) -> None:
        """As `Handle.update`."""
        self._far(session)
        await self._ask({"do": "update", "session": session, "request": dict(request)})

    async def finish(self, session: str) -> None:
        """As `Handle.finish`."""
        self._far(session)
        await self._ask({"do": "finish", "session": session})

    async def poll(self, session: str, port: int = 0) -> list[Chunk]:
        """As `Handle.poll`."""
        far = self._far(session)
        while True:
            far.event.clear()
            box = far.outboxes[port]
            if box:
                made = [box.popleft() for _ in range(len(box))]
                self._took(session, far, port, sum(map(len, made)))
                return made
            if port in far.ended:
                return []
            if far.error:
                raise far.error
            await far.event.wait()

    async def close(self, session: str) -> None:
        """As `Handle.close`."""
        far = self.sessions.pop(session, None)
        if far is None:
            return
        far.error = far.error or SessionEnded(f"session {session} is over: it was closed")
        far.event.set()
        if self.alive:
            await asyncio.shield(self._ask({"do": "close", "session": session}))

    async def save(self, session: str) -> bytes:
        """As `Handle.save`."""
        self._far(session)
        return (await self._ask({"do": "save", "session": session}))[1]

    async def check(self, model: str, request: Any) -> Spec:
        """As `Handle.check`."""
        value, _ = await self._ask({"do": "check", "model": model, "request": dict(request)})
        return pipe.unspec(value)

    async def fit(self, model: str, preset: str = "auto") -> dict[str, Any]:
        """As `Handle.fit`."""
        value: dict[str, Any] = (await self._ask({"do": "fit", "model": model, "preset": preset}))[0]
        return value

    async def several(self, model: str, sound: Array) -> bool:
        """As `Handle.several`."""
        return bool((await self._ask({"do": "several", "model": model}, sound.astype("<f4").tobytes()))[0])

    async def settle(self, model: str, preset: str) -> None:
        """As `Handle.settle`."""
        await self._ask({"do": "settle", "model": model, "preset": preset})

    async def warm(self, model: str) -> None:
        """As `Handle.warm`."""
        await self._ask({"do": "warm", "model": model})

    async def figures(self) -> dict[str, Any]:
        """As `Handle.figures`."""
        value: dict[str, Any] = (await self._ask({"do": "figures"}))[0]
        return {**value, "process": self.process.pid}

    async def shut(self) -> None:
        """As `Handle.shut`; a worker that does not end is killed."""
        self.writer.close()
        try:
            await asyncio.wait_for(self.process.wait(), GRACE)
        except TimeoutError:
            log.warning("the engine did not end within %g s and is killed", GRACE)
            self.process.kill()
            await self.process.wait()
        await self._listening

    def latency(self, session: str) -> float:
        """As `Handle.latency`."""
        return self._far(session).latency

    def polled(self, session: str) -> int:
        """As `Handle.polled`."""
        return self._far(session).polled

    def steps(self, session: str) -> list[tuple[int, int, float, float]]:
        """As `Handle.steps`."""
        steps = self._far(session).steps
        return [steps.popleft() for _ in range(len(steps))]

    def given_up(self, session: str) -> tuple[str, ...]:
        """As `Handle.given_up`."""
        return self._far(session).less

    def played(self, session: str, at: float, until: int | None = None) -> None:
        """As `Handle.played`."""
        self._say({"do": "played", "session": session, "at": at, "until": until})

    # The pipe

    def _far(self, session: str) -> Far:
        far = self.sessions.get(session)
        if far is None:
            raise SessionEnded(f"session {session} is not open")
        return far

    def _say(self, head: dict[str, Any], body: bytes = b"") -> None:
        if self.alive:
            self.writer.write(pipe.pack(head, body))

    async def _drain(self) -> None:
        try:
            await self.writer.drain()
        except ConnectionError:
            log.debug("the engine is gone")  # _listen tells everybody

    async def _ask(
        self, head: dict[str, Any], body: bytes = b"", heard: Callable[[Any], None] | None = None
    ) -> tuple[Any, bytes]:
        """What the worker answers; `heard` is called with it before anything that follows it is read."""
        if not self.alive:
            raise SessionEnded("the engine has stopped")
        number = next(self._numbers)
        answer: asyncio.Future[tuple[Any, bytes]] = asyncio.get_running_loop().create_future()
        self._answers[number] = (answer, heard)
        self._say({**head, "id": number}, body)
        await self._drain()
        try:
            return await answer
        finally:
            self._answers.pop(number, None)

    def _abandon(self, asked: "asyncio.Future[tuple[Any, bytes]]") -> None:
        """Close a session whose opener went away meanwhile."""
        if not asked.cancelled() and not asked.exception():
            name = asked.result()[0]["session"]
            self.sessions.pop(name, None)
            self._say({"do": "close", "session": name, "id": next(self._numbers)})

    def _took(self, session: str, far: Far, port: int, ticks: int) -> None:
        if port:
            return
        far.polled += ticks
        if far.polled - far.told > far.limit // TELL:
            far.told = far.polled
            self._say({"do": "took", "session": session, "ticks": far.polled})

    async def _beat(self, stuck: float) -> None:
        """Kill a worker that does not even say that it is stuck."""
        await self._ask({"do": "beat"})  # the first answer comes when it has started
        while True:
            await asyncio.sleep(SILENCE)
            try:
                await asyncio.wait_for(self._ask({"do": "beat"}), stuck + SILENCE)
            except TimeoutError:
                log.critical("the engine has said nothing for %g s and is killed", stuck + SILENCE)
                self.process.kill()
                return
            except SessionEnded:
                return

    async def _listen(self) -> None:
        try:
            while True:
                self._hear(*await pipe.read(self.reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            log.info("the engine has ended")
        except Exception:
            log.exception("the engine sent what cannot be read")
            self.process.kill()
        self.alive = False
        self._beating.cancel()
        for far in self.sessions.values():
            far.error = far.error or SessionEnded("the engine has stopped")
            far.event.set()
        for answer, _ in self._answers.values():
            if not answer.done():
                answer.set_exception(SessionEnded("the engine has stopped"))
        self.writer.close()
        await self.process.wait()

    def _hear(self, head: dict[str, Any], body: bytes) -> None:
        if "re" in head:
            answer, heard = self._answers.get(head["re"], (None, None))
            if answer is None or answer.done():
                return
            if "error" in head:
                answer.set_exception(pipe.unerror(head["error"]))
                return
            if heard:
                heard(head["value"])
            answer.set_result((head["value"], body))
        elif "out" in head:
            self._out(head, body)
        elif "over" in head:
            if far := self.sessions.get(head["over"]):
                far.error = far.error or pipe.unerror(head["error"])
                far.event.set()
        elif "stuck" in head:
            for name in head["stuck"]:
                if far := self.sessions.get(name):
                    far.error = Stuck(f"session {name} is over: its step took more than {head['limit']:g} s")

    def _out(self, head: dict[str, Any], body: bytes) -> None:
        far = self.sessions.get(head["out"])
        if far is None:
            return
        made = pipe.unchunk(head["chunks"], body)
        far.outboxes[head["port"]].extend(made)
        if not made or made[-1].last:
            far.ended.add(head["port"])
        far.steps.extend((end, needs, start, stop) for end, needs, start, stop in head["steps"])
        far.less, far.used = tuple(head["less"]), head["used"]
        far.event.set()
