"""Hub: what every transport opens its streams at."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

from riverrun.models.contract import StreamModel
from riverrun.models.errors import InvalidRequest
from riverrun.streaming.engine import Engine
from riverrun.streaming.errors import AtCapacity
from riverrun.streaming.metrics import Metrics
from riverrun.streaming.session import RATES
from riverrun.streaming.settings import Settings
from riverrun.streaming.stream import Stream
from riverrun.streaming.wire import Open

if TYPE_CHECKING:
    from riverrun.streaming.restorations import Reply
    from riverrun.streaming.webrtc import Call, Peer
    from riverrun.streaming.ws import Link

log = logging.getLogger(__name__)
CHANNELS = 8


class Hub:
    """The engine with its models, the settings, the figures. One a process."""

    def __init__(
        self, settings: Settings, start: Callable[[], Engine], requests: Mapping[str, type[Any]]
    ) -> None:
        """`start` makes an engine with its models; `requests` names the class of each model's requests."""
        self.settings, self.start, self.requests = settings, start, dict(requests)
        self.engine, self.metrics = start(), Metrics()
        self.streams: dict[int, Stream] = {}
        self.links: dict[str, Link] = {}  # WebSocket streams, by session
        self.replies: dict[str, Reply] = {}  # of uploads, by session
        self.calls: dict[str, Peer] = {}  # callers and listeners over WebRTC
        self.casts: dict[str, Call] = {}  # the callers, by the names they are heard under
        self.ready = self.warm = self.draining = False
        self.clock: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, settings: Settings, models: Mapping[str, StreamModel]) -> Self:
        """A hub with models, whose engines are as the settings say."""

        def start() -> Engine:
            engine = Engine(settings.device, settings.threads, capacity=2 * settings.streams.sessions)
            for name, model in models.items():
                engine.add(name, model)
            return engine

        return cls(settings, start, {name: model.request for name, model in models.items()})

    async def open(self, wanted: Open, transport: str) -> Stream:
        """Start a stream. Raises AtCapacity, InvalidRequest, ProtocolError."""
        if self.draining or not self.ready:
            raise AtCapacity("the server is stopping" if self.draining else "the server is starting", 2.0)
        if len(self.streams) >= self.settings.streams.sessions:
            raise AtCapacity(
                f"{len(self.streams)} streams are open, which is the limit: try again later", 5.0
            )
        if wanted.rate not in RATES or not 1 <= wanted.channels <= CHANNELS:
            raise InvalidRequest(
                f"rate is {wanted.rate} and channels {wanted.channels}, expected "
                f"{RATES.start} to {RATES.stop - 1} Hz and 1 to {CHANNELS}"
            )
        stream = Stream(self, wanted, transport)
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

    def revive(self) -> None:
        """Start another engine if this one has failed."""
        if not self.engine.alive and not self.draining:
            log.error(
                "the engine has failed and is started again; its streams go on from their last saved states"
            )
            self.engine = self.start()

    def request(self, model: str, values: Mapping[str, Any]) -> Any:
        """A model's request from JSON values. Raises InvalidRequest."""
        kind = self.requests.get(model)
        if kind is None:
            raise InvalidRequest(f"model is {model!r}, expected one of {', '.join(self.requests)}")
        known = {f.name: f for f in fields(kind)}
        if unknown := set(values) - set(known):
            raise InvalidRequest(f"request has no {', '.join(sorted(unknown))}, only {', '.join(known)}")
        for name, value in values.items():
            wanted: Any = known[name].type
            fits = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
            if not fits or (isinstance(value, bool) and wanted is not bool):
                raise InvalidRequest(f"{name} is {value!r}, expected a {wanted.__name__}")
        return kind(**values)
