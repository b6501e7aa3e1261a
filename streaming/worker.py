"""The engine in a process of its own: `python -m riverrun.streaming.worker FD`, at the other end of a socket.

Its first message names the models and the engine's settings. What belongs to one session is done in the order it
came in; output is sent as it is made, up to as much as the other end says it has room for. A step that does not end
takes the process with it: the sessions in it are named first, the others go on elsewhere.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import numpy as np

from riverrun.models import load
from riverrun.streaming import logs, pipe
from riverrun.streaming.engine import Engine
from riverrun.streaming.errors import SessionEnded
from riverrun.streaming.session import Session

log = logging.getLogger("riverrun.streaming.worker")  # which is __main__ here
CHECK = 0.25  # seconds between looks at whether a step is stuck
STUCK = 70  # exit status


class Pump:
    """One session: what came for it, in order, and what it gives."""

    def __init__(self, worker: "Worker", name: str, session: Session) -> None:
        self.worker, self.name, self.session = worker, name, session
        self.inbox: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self.room = asyncio.Event()
        self.sent = [session.polled] + [0] * (len(session.outboxes) - 1)  # ticks a port
        self.taken = session.polled  # of port 0, and read over there
        self.tasks = [asyncio.create_task(self._work())]
        self.tasks += [asyncio.create_task(self._send(port)) for port in range(len(session.outboxes))]

    async def _work(self) -> None:
        while True:
            await (await self.inbox.get())()

    async def feed(self, head: dict[str, Any], body: bytes) -> None:
        """Feed what came; the other end saw to it that there is room."""
        (chunk,) = pipe.unchunk(head["chunks"], body)
        try:
            await self.worker.engine.feed(self.name, chunk, head["captured"])
        except SessionEnded:
            log.debug("session %s ended before it was fed", self.name)

    async def _send(self, port: int) -> None:
        engine = self.worker.engine
        try:
            while made := await engine.poll(self.name, port):
                self.sent[port] += sum(map(len, made))
                self.worker.say(self._message(port, made), pipe.chunks(made)[1])
                while not port and self.sent[0] - self.taken > self.session.limit:
                    self.room.clear()
                    await self.room.wait()
            self.worker.say(self._message(port, []))
        except Exception as error:
            if not isinstance(error, SessionEnded):
                log.exception("session %s failed", self.name, extra={"session": self.name})
            self.worker.say({"over": self.name, "error": pipe.error(error)})

    def _message(self, port: int, made: list[Any]) -> dict[str, Any]:
        """A message with output, with what is known of the session beside it."""
        try:
            steps, less = self.worker.engine.steps(self.name), self.worker.engine.given_up(self.name)
        except SessionEnded:
            steps, less = [], ()
        used = self.session.fed - (self.session.limit - self.session.credit)  # what makes room for more
        heads = pipe.chunks(made)[0]
        return {"out": self.name, "port": port, "chunks": heads, "steps": steps, "less": less, "used": used}

    def stop(self) -> None:
        """Send nothing more."""
        for task in self.tasks:
            task.cancel()


class Worker:
    """Does what comes in over a socket, until it closes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: dict[str, Any]
    ) -> None:
        self.reader, self.writer, self.stuck = reader, writer, told["stuck"]
        self.engine = Engine(told["device"], told["threads"], told["capacity"], lanes=told["lanes"],
                             budget=told["budget"])  # fmt: skip
        for name in told["models"]:
            self.engine.offer(name, partial(load, name, told["device"]))
        self.pumps: dict[str, Pump] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def say(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a message; how much may wait is bounded by what sessions may give unread."""
        self.writer.write(pipe.pack(head, body))

    async def serve(self) -> None:
        """Work until the other end is gone."""
        watching = asyncio.create_task(self._watch())
        try:
            while True:
                self._do(*await pipe.read(self.reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            log.info("the server is gone")
        finally:
            watching.cancel()
            self.engine.stop(wait=False)

    def _do(self, head: dict[str, Any], body: bytes) -> None:
        pump = self.pumps.get(head.get("session", ""))
        match head["do"]:
            case "feed" if pump:
                pump.inbox.put_nowait(partial(pump.feed, head, body))
            case "took" if pump:
                pump.taken = head["ticks"]
                pump.room.set()
            case "played":
                try:
                    self.engine.played(head["session"], head["at"], head["until"])
                except SessionEnded:
                    log.debug("session %s ended before it was played", head["session"])
            case "feed" | "took":
                log.debug("session %s is over", head["session"])
            case "update" | "finish" | "save" if pump:  # after what was fed before
                pump.inbox.put_nowait(partial(self._answer, head, body))
            case _:
                task = asyncio.create_task(self._answer(head, body))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def _answer(self, head: dict[str, Any], body: bytes) -> None:
        """Do what wants an answer, and give it."""
        try:
            value, data = await self._result(head, body)
            self.say({"re": head["id"], "value": value}, data)
        except Exception as error:
            if pipe.error(error)["message"] != str(error):
                log.exception("%s failed", head["do"], extra={"session": head.get("session")})
            self.say({"re": head["id"], "error": pipe.error(error)})

    async def _result(self, head: dict[str, Any], body: bytes) -> tuple[Any, bytes]:
        engine, session = self.engine, head.get("session", "")
        match head["do"]:
            case "open":
                return await self._open(head, body), b""
            case "update":
                await engine.update(session, head["request"])
            case "finish":
                await engine.finish(session)
            case "save":
                return None, await engine.save(session)
            case "close":
                if pump := self.pumps.pop(session, None):
                    pump.stop()
                await engine.close(session)
            case "check":
                return pipe.spec(await engine.check(head["model"], head["request"])), b""
            case "fit":
                return await engine.fit(head["model"], head["preset"]), b""
            case "several":
                return await engine.several(head["model"], np.frombuffer(body, "<f4")), b""
            case "settle":
                await engine.settle(head["model"], head["preset"])
            case "warm":
                await engine.warm(head["model"])
            case "figures":
                return await engine.figures(), b""
        return None, b""

    async def _open(self, head: dict[str, Any], body: bytes) -> dict[str, Any]:
        live = pipe.unlive(head["live"])
        name = await self.engine.open(head["model"], head["request"], pipe.unrate(head["rate"]), head["channels"],
                                      live, head["band"], body if head["saved"] else None, head["session"])  # fmt: skip
        session = self.engine.seats[name].session
        self.pumps[name] = Pump(self, name, session)
        return {
            "session": name,
            "latency": session.latency,
            "polled": session.polled,
            "limit": session.limit,
            "fed": session.fed,
            "used": session.fed - (session.limit - session.credit),
            "ports": len(session.outboxes),
        }

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK)
            if names := self.engine.stuck(self.stuck):
                log.critical(
                    "a step took more than %g s, so the engine ends: %s", self.stuck, ", ".join(names)
                )
                self.say({"stuck": names, "limit": self.stuck})
                await self.writer.drain()
                os._exit(STUCK)


async def main(fd: int) -> None:
    """Serve the socket of a number."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a terminal or a service manager tells a whole group to stop:
        signal.signal(number, signal.SIG_IGN)  # the server ends this when its streams are over
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd), limit=1 << 24)
    try:
        told, _ = await pipe.read(reader)
    except (asyncio.IncompleteReadError, ConnectionError):
        return  # the server is gone already
    logs.begin(*told["logs"])
    await Worker(reader, writer, told).serve()


if __name__ == "__main__":
    gc.collect()
    gc.freeze()  # as in the server
    asyncio.run(main(int(sys.argv[1])))
    os._exit(0)  # not waiting for a step in progress, which nobody wants any more
