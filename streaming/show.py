"""Show: a stream whose input is prompts, and whose output pictures; made as they are watched, and not far ahead."""

import asyncio
import base64
import binascii
import math
import re
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any

from riverrun.media import Chunk, cover, picture
from riverrun.media.chunk import Array
from riverrun.models.contract import Port
from riverrun.models.errors import InvalidRequest
from riverrun.models.picture import pictured
from riverrun.models.shown import Shown
from riverrun.streaming.errors import ProtocolError, SessionEnded
from riverrun.streaming.handle import build
from riverrun.streaming.problems import EXPECTED, body
from riverrun.streaming.session import Live
from riverrun.streaming.settings import Showing
from riverrun.streaming.stream import Stream
from riverrun.streaming.wire import Open

if TYPE_CHECKING:
    from riverrun.streaming.hub import Hub

FIRST = 1.0  # seconds within which the first pictures are due
LEAD = 86_400.0  # seconds that the engine's clock lets pictures be ahead: `until` tells better
KEPT = 256  # prompts whose ticks are remembered
STEPS = 64  # the most evaluations a chunk that may be asked for
CHANGE = ("prompt", "seconds")  # what may change on the way
URL = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.DOTALL)


class Show(Stream):
    """Prompts in, pictures out, up to `lead` ticks more than were seen; who sees nothing has nothing made.

    Of updates that wait for the engine only the last counts. From which tick a prompt does is told by `notice`.
    """

    takes = "prompts by update"

    def __init__(
        self,
        hub: "Hub",
        wanted: Open,
        transport: str,
        address: str = "",
        owner: str = "",
        batch: bool = False,
    ) -> None:
        """Of a `batch`, nothing is due, and all of it is read as it comes."""
        super().__init__(hub, wanted, transport, address, owner)
        self.batch = batch
        port = hub.specs[wanted.model].gives[0]
        self.hop, self.size = port.hop, port.size
        self.lead = port.hop if wanted.live is None else max(1, round(wanted.live * port.rate))  # ticks
        self.request = self.values
        self.seen, self.paused = 0, False  # ticks
        # when play-out began, on the hub's clock: of the first picture, and as if of it by when the latest was seen
        self.first: float | None = None
        self.began = -math.inf
        self.waiting: dict[str, tuple[Any, str]] = {}  # values for the engine, and the updates they are of
        self.number = 1  # of the next prompt
        # prompts whose tick is not known, and their updates
        self.asked: deque[tuple[int, str]] = deque([(0, "")])
        self.known = 0  # prompts whose tick is
        self.shown: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, saved: bytes | None = None) -> None:
        """As Stream.begin; what is shown is told from then on."""
        await super().begin(saved)
        self._pace()
        self._work("listen")

    def _asked(self, saved: bytes | None) -> dict[str, Any]:
        """As Stream's; a saved session has its picture."""
        return {**self.request, "picture": ""} if saved else self.request

    def _due(self) -> Live | None:
        """As Stream's."""
        if self.batch:
            return None
        return Live(arrival=self.hub.clock(), first=FIRST, lead=LEAD, until=self._until())

    def _changed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """As Stream's: a prompt that is sent again would be another."""
        return dict(values)

    async def feed(self, data: Array, captured: float | None = None, arrived: float | None = None) -> int:
        """Raises ProtocolError: it takes prompts."""
        raise ProtocolError(f"{self.wanted.model} takes {self.takes}, no sound or pictures")

    async def read(self) -> list[Chunk]:
        """As Stream.read; the session is saved now and then."""
        chunks = await super().read()
        if chunks and self.hub.clock() - self.saved_at > self.hub.settings.streams.snapshot:
            async with self.turn:
                with suppress(SessionEnded):  # whoever reads next will recover
                    await self._save()
        return chunks

    async def update(self, values: Mapping[str, Any], name: str = "") -> None:
        """Take another prompt, or another end, and return at once; what the model refuses of it is told later.

        Raises InvalidRequest, ProtocolError.
        """
        if self.finished or self.closed:
            raise ProtocolError("the pictures are finished: open another stream for more")
        if unknown := set(values) - set(CHANGE):
            raise InvalidRequest(
                f"{', '.join(sorted(unknown))} cannot change now, only {' and '.join(CHANGE)}: open another stream"
            )
        check(values, self.hub.settings.show)
        self.waiting |= {key: (value, name) for key, value in values.items()}
        self._work("change")

    def pause(self, on: bool) -> None:
        """Begin no more pictures, or go on with them."""
        self.paused = on
        self._pace()

    def watched(self, tick: int) -> None:
        """Note that the pictures before a tick were seen, the first of those that are new a moment ago.

        Who sees pictures before they would play may have them as soon as they are made, but none is late for that.
        """
        tick = min(tick, self.out)
        if tick > self.seen:
            began = self._begun()
            self.first = began if self.first is None else self.first
            self.began, self.seen = max(began, self.first), tick
        self._pace()

    async def finish(self) -> None:
        """End with the next chunk. Twice is once."""
        if not self.finished:
            self.finished = True
            self._pace()
            if change := self.tasks.get("change"):
                await asyncio.wait({change})  # a prompt that comes after the end would be none
            with suppress(SessionEnded):  # it has given its last; if it failed, whoever reads is told
                await super().update({"end": True})

    async def close(self, why: str = "closed") -> None:
        """As Stream.close."""
        for task in self.tasks.values():
            task.cancel()
        await super().close(why)

    def stats(self) -> dict[str, Any]:
        """As Stream.stats; what waits is to be seen."""
        return {**super().stats(), "queue": round(float((self.out - self.seen) / self.rate), 4)}

    def _until(self) -> int | None:
        """The tick from which on nothing may be begun."""
        return None if self.finished or self.batch else 0 if self.paused else self.seen + self.lead

    def _pace(self) -> None:
        """Have the engine know how far it may go, and since when it plays."""
        with suppress(SessionEnded):  # it gave its last, or is taken up elsewhere and told then
            self.engine.played(self.name, max(self._begun(), self.began), self._until())

    def _begun(self) -> float:
        """When play-out began, if the next picture is to be seen now."""
        return self.hub.clock() - float(self.seen / self.rate)

    def _work(self, name: str) -> None:
        """Have a task do a part of the work, unless one does."""
        if name not in self.tasks or self.tasks[name].done():
            work = {"listen": self._listen, "change": self._change}[name]
            self.tasks[name] = asyncio.create_task(work())

    async def _change(self) -> None:
        """Hand on what waits, update by update."""
        while self.waiting:
            values, name = {}, next(iter(self.waiting.values()))[1]
            for key in [key for key, (_, of) in self.waiting.items() if of == name]:
                values[key] = self.waiting.pop(key)[0]
            if "prompt" in values:
                self.asked.append((self.number, name))  # first: its tick may be known before the answer comes
            try:
                await super().update(values)
                self.number += "prompt" in values
            except EXPECTED as error:
                if "prompt" in values:
                    self.asked.pop()
                if not self.closed:
                    self.notice("error", **body(error), fatal=False, id=name)

    async def _listen(self) -> None:
        """Learn from which tick on prompts count, and tell."""
        while not self.closed:
            engine = self.engine
            try:
                chunks = await engine.poll(self.name, 1)
            except SessionEnded as error:
                if not self._lost(engine, error):
                    return
                await self._recover(engine)
                continue
            if not chunks:
                return
            for chunk in chunks:
                fresh = chunk.data[max(0, self.known - chunk.pts) :, 0]
                for tick, same in groupby(map(int, fresh)):
                    self._tell(tick, len(list(same)))

    def _tell(self, tick: int, count: int) -> None:
        """Tell of the last of so many prompts that count from a tick on."""
        self.known += count
        name = ""
        while self.asked and self.asked[0][0] < self.known:
            name = self.asked.popleft()[1]
        self.shown.append({"id": name, "prompt": self.known - 1, "tick": tick})
        self.notice("shown", **self.shown[-1])


def check(values: Mapping[str, Any], limits: Showing) -> None:
    """Raises InvalidRequest that says what of a request for pictures no model takes."""
    asked = build(Shown, values)
    if "prompt" in values and not asked.prompt.strip():
        raise InvalidRequest("prompt is empty, expected what is to be seen")
    if len(asked.prompt) > limits.prompt:
        raise InvalidRequest(
            f"prompt has {len(asked.prompt)} characters, the limit is {limits.prompt}: say it in fewer"
        )
    if not 0 <= asked.seconds <= limits.seconds:
        raise InvalidRequest(
            f"seconds is {asked.seconds:g}, expected up to {limits.seconds:g}, or 0 for as many as are watched"
        )
    if not 0 <= asked.steps <= STEPS:
        raise InvalidRequest(f"steps is {asked.steps}, expected 1 to {STEPS}, or 0 for the model's own")


async def prepared(values: Mapping[str, Any], port: Port, limits: Showing) -> dict[str, Any]:
    """A request for pictures, checked; its first picture, if it is a data URL, brought to the model's size.

    Raises InvalidRequest, MediaError.
    """
    check({"prompt": "", **values}, limits)
    given = str(values.get("picture", ""))
    if not given.startswith("data:"):
        return dict(values)
    if not (found := URL.fullmatch(given)):
        raise InvalidRequest(
            f"picture begins with {given[:40]!r}, expected data:image/png;base64, or another kind"
        )
    try:
        data = base64.b64decode(found[1], validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"picture is no base64: {error}") from error
    return {**values, "picture": await asyncio.to_thread(fitted, data, port.size)}


def fitted(data: bytes, size: tuple[int, int]) -> str:
    """A picture file's pixels as a request holds them, cut to a size. Raises MediaError."""
    return pictured(cover(picture(data), size))
