"""Hub: what every transport opens its streams at."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from riverrun.models.contract import Spec
from riverrun.models.errors import InvalidRequest
from riverrun.streaming.errors import AtCapacity
from riverrun.streaming.handle import Handle
from riverrun.streaming.metrics import Metrics
from riverrun.streaming.problems import TooMany
from riverrun.streaming.session import RATES
from riverrun.streaming.settings import Settings
from riverrun.streaming.stream import Stream
from riverrun.streaming.wire import Open

if TYPE_CHECKING:
    from riverrun.streaming.jobs.desk import Desk
    from riverrun.streaming.restorations import Reply
    from riverrun.streaming.webrtc import Call, Peer
    from riverrun.streaming.ws import Link

log = logging.getLogger(__name__)
CHANNELS = 8
LONGEST = 60  # seconds of delay that live sound may have
KEEP = 0.25  # seconds between looks at whether the engine is alive
PULSE = 0.05  # seconds between two beats by which the event loop's lateness is told


class Hub:
    """The engine with its models, the settings, the figures. One a process."""

    def __init__(
        self, settings: Settings, start: Callable[[], Awaitable[Handle]], models: Iterable[str]
    ) -> None:
        """`start` makes an engine with the models of those names."""
        self.settings, self.start, self.models = settings, start, list(models)
        self.engine: Handle = cast(Handle, Nothing())
        self.metrics = Metrics()
        self.specs: dict[str, Spec] = {}  # of the models, once they are known
        self.streams: dict[int, Stream] = {}
        self.links: dict[str, Link] = {}  # WebSocket streams, by session
        self.replies: dict[str, Reply] = {}  # of uploads, by session
        self.calls: dict[str, Peer] = {}  # callers and listeners over WebRTC
        self.casts: dict[str, Call] = {}  # the callers, by the names they are heard under
        self.decoding = 0  # uploads
        self.desk: Desk | None = None  # where batch jobs are handed in
        self.ready = self.draining = False
        self.clock: Callable[[], float] = time.monotonic
        self.late: deque[float] = deque(
            [0.0], maxlen=200
        )  # seconds by which the event loop's beats came late
        self.failed: Callable[[], None] = lambda: None  # called when there will be no engine
        self._reviving = asyncio.Lock()

    async def launch(self) -> None:
        """Start the engine, learn what its models are and what they cost; then be ready."""
        self.engine = await self.start()
        for name in self.models:
            self.specs[name] = await self.engine.check(name, {})
            await self.engine.warm(name)
        self.ready = True
        self.metrics.ready.set(1)
        log.info("ready: %s", ", ".join(self.models))

    async def beat(self) -> None:
        """Note how late the event loop is, for as long as it runs."""
        while True:
            due = self.clock() + PULSE
            await asyncio.sleep(PULSE)
            self.late.append(max(0.0, self.clock() - due))
            self.metrics.loop.set(max(self.late))

    async def open(self, wanted: Open, transport: str, address: str = "") -> Stream:
        """Start a stream for a client at an address. Raises AtCapacity, TooMany, InvalidRequest, ProtocolError."""
        if self.draining or not self.ready:
            raise AtCapacity("the server is stopping" if self.draining else "the server is starting", 2.0)
        if not self.engine.alive:
            raise AtCapacity("the engine has failed and is starting again", 2.0)
        if len(self.streams) >= self.settings.streams.sessions:
            raise AtCapacity(
                f"{len(self.streams)} streams are open, which is the limit: try again later", 5.0
            )
        most = self.settings.streams.per_address
        if address and sum(stream.address == address for stream in self.streams.values()) >= most:
            raise TooMany(f"{address} has {most} streams, which is the limit: end one of them first")
        if wanted.live is not None and not 0 < wanted.live <= LONGEST:
            raise InvalidRequest(f"live is {wanted.live:g}, expected more than 0 s and up to {LONGEST} s")
        if wanted.rate not in RATES or not 1 <= wanted.channels <= CHANNELS:
            raise InvalidRequest(
                f"rate is {wanted.rate} and channels {wanted.channels}, expected "
                f"{RATES.start} to {RATES.stop - 1} Hz and 1 to {CHANNELS}"
            )
        stream = Stream(self, wanted, transport, address)
        self.streams[id(stream)] = stream  # counted from now on, so that two cannot take the last place
        try:
            await stream.begin()
        except BaseException:
            del self.streams[id(stream)]
            raise
        self.metrics.opened(wanted.model, transport)
        return stream

    def left(self, stream: Stream) -> None:
        """Forget a stream that has ended."""
        if self.streams.pop(id(stream), None):
            self.metrics.closed(stream.wanted.model, stream.transport)

    async def keep(self) -> None:
        """See that there is an engine, for as long as it runs."""
        while True:
            await asyncio.sleep(KEEP)
            if self.ready and not self.engine.alive and not self.draining:
                try:
                    await self.revive()
                except Exception:
                    log.exception("the engine could not be started again; that is tried once more")

    async def revive(self) -> None:
        """Start another engine if this one has failed."""
        async with self._reviving:
            if self.engine.alive or self.draining:
                return
            log.error(
                "the engine has failed and is started again; its streams go on from their last saved states"
            )
            await self.engine.shut()
            self.engine = await self.start()
            for name in self.models:
                await self.engine.warm(name)

    def known(self, model: str) -> None:
        """Raises InvalidRequest if there is no such model."""
        if model not in self.models:
            raise InvalidRequest(f"model is {model!r}, expected one of {', '.join(self.models)}")


class Nothing:
    """In an engine's place until there is one."""

    alive = False

    def __getattr__(self, name: str) -> Any:
        raise AtCapacity("the server is starting", 2.0)

    async def shut(self) -> None:
        """There is nothing to end."""
