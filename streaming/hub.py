"""Hub: what every transport opens its streams at."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, cast

from riverrun.models.contract import Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.recording import recorded
from riverrun.models.speech.reading.script import reader
from riverrun.streaming.errors import AtCapacity, SessionEnded
from riverrun.streaming.handle import Handle
from riverrun.streaming.metrics import Metrics
from riverrun.streaming.problems import NotFound, TooMany
from riverrun.streaming.session import RATES
from riverrun.streaming.settings import Settings
from riverrun.streaming.show import Show, prepared
from riverrun.streaming.speech import Speech
from riverrun.streaming.stream import Stream
from riverrun.streaming.wire import PICTURES, Open

if TYPE_CHECKING:
    from riverrun.streaming.cast import Cast
    from riverrun.streaming.jobs.desk import Desk
    from riverrun.streaming.link import Link
    from riverrun.streaming.peer import Peer
    from riverrun.streaming.replies import Reply
    from riverrun.streaming.voices.library import Library

log = logging.getLogger(__name__)
CHANNELS = 8
LONGEST = 60  # seconds of delay that live sound may have
PULSE = 0.05  # seconds between two beats by which the event loop's lateness is told
AGAIN = (0.25, 1.0, 5.0)  # seconds until the engine is looked at again, after so many failures at once


class Hub:
    """The engine with its models, the settings, the figures. One a process."""

    def __init__(
        self, settings: Settings, start: Callable[[], Awaitable[Handle]], models: Iterable[str]
    ) -> None:
        """`start` makes an engine with the models of those names."""
        self.settings, self.start, self.models = settings, start, list(models)
        self.engine: Handle = cast(Handle, Nothing())
        self.version = version("riverrun")
        self.metrics = Metrics(self.version)
        self.specs: dict[str, Spec] = {}  # of the models, once they are known
        self.fits: dict[str, dict[str, Any]] = {}  # how those do here that convert, as `Handle.fit` tells
        self.streams: dict[int, Stream] = {}
        self.links: dict[str, Link] = {}  # WebSocket streams, by session
        self.replies: dict[str, Reply] = {}  # of uploads, by session
        self.calls: dict[str, Peer] = {}  # callers and listeners over WebRTC
        self.casts: dict[str, Cast] = {}  # what may be listened to, by name
        self.decoding = 0  # uploads
        self.reading = (
            asyncio.Lock()
        )  # held by who has text read: what pronounces words is for one thread at a time
        self.desk: Desk | None = None  # where batch jobs are handed in
        self.voices: Library | None = None  # that are their owners'
        self.progress: dict[str, float] = {}  # of jobs that show, how much of what is being made is done
        self.ready = self.draining = False
        self.until = 0.0  # when the streams that are open are ended, if it drains
        self.clock: Callable[[], float] = time.monotonic
        self.since, self.restarts = self.clock(), 0
        self.late: deque[float] = deque(
            [0.0], maxlen=200
        )  # seconds by which the event loop's beats came late
        self.failed: Callable[[], None] = lambda: None  # called when there will be no engine
        self.reviving: asyncio.Task[None] | None = None
        self.tries = 0  # to start another engine, that failed

    @property
    def builtin(self) -> dict[str, tuple[str, ...]]:
        """The names of the voices that come with models, by model."""
        return {name: spec.voices for name, spec in self.specs.items()}

    @property
    def state(self) -> Literal["starting", "ready", "draining"]:
        """Whether streams are taken."""
        return "draining" if self.draining else "ready" if self.ready and self.engine.alive else "starting"

    async def launch(self) -> None:
        """Start the engine, learn what its models are and what they cost; then be ready."""
        self.engine = await self.start()
        for name in self.models:
            asked = self.settings.compute.presets.get(name, "auto")
            self.fits[name] = await self.engine.fit(name, asked)
            await self._warm(self.engine, name)
            self.specs[name] = await self.engine.check(name, {})
        if any(spec.symbols for spec in self.specs.values()):
            await asyncio.to_thread(reader, "en-US")  # takes a second, for which nobody should wait
        self.ready = True
        log.info("ready: %s", ", ".join(self.models))

    async def _warm(self, engine: Handle, model: str) -> None:
        """Have a model ready, by the preset that was chosen for it at the start."""
        if preset := self.fits[model].get("preset"):
            await engine.settle(model, preset)
        await engine.warm(model)

    async def beat(self) -> None:
        """Note how late the event loop is, for as long as it runs."""
        while True:
            due = self.clock() + PULSE
            await asyncio.sleep(PULSE)
            self.late.append(max(0.0, self.clock() - due))
            self.metrics.loop.set(max(self.late))

    async def keep(self) -> None:
        """See that there is an engine, for as long as it runs: also when no stream wants one yet."""
        while True:
            await asyncio.sleep(AGAIN[min(self.tries, len(AGAIN) - 1)])
            if self.ready:
                await self.revive()

    async def revive(self) -> None:
        """Start another engine if this one has failed; whoever asks meanwhile waits for the same, and may leave."""
        if self.reviving is None or self.reviving.done():
            if self.engine.alive or self.draining:
                return
            self.reviving = asyncio.create_task(self._revive())
        await asyncio.shield(self.reviving)

    async def _revive(self) -> None:
        self.restarts += 1
        self.metrics.restarts.inc()
        log.error("the engine has failed and is started again; streams go on from their last saved states")
        try:
            await self.engine.shut()
            self.engine = await self._made()
            self.tries = 0
        except Exception as error:
            self.tries += 1
            known = isinstance(error, SessionEnded)  # that one has failed, too
            log.error("attempt %d failed: %s", self.tries, error, exc_info=not known)

    async def _made(self) -> Handle:
        """An engine whose models are warm."""
        engine = await self.start()
        try:
            for name in self.models:
                await self._warm(engine, name)
        except BaseException:
            await engine.shut()
            raise
        return engine

    async def another(self, failed: Handle) -> None:
        """Have an engine in place of a failed one. Raises SessionEnded if there is none after a few attempts."""
        for pause in AGAIN:
            await self.revive()
            if self.engine is not failed:
                return
            await asyncio.sleep(pause)
        raise SessionEnded("the engine has failed, and there is no other")

    async def stop(self) -> None:
        """End the engine, and the start of another."""
        if self.reviving:
            self.reviving.cancel()
            await asyncio.gather(self.reviving, return_exceptions=True)
        await self.engine.shut()

    def willing(self) -> Handle:
        """The engine, if something new may begin there. Raises AtCapacity."""
        if self.draining or not self.ready:
            raise AtCapacity("the server is stopping" if self.draining else "the server is starting", 2.0)
        if not self.engine.alive:
            raise AtCapacity("the engine has failed and is starting again", 2.0)
        return self.engine

    def decoder(self) -> None:
        """Raises AtCapacity if as many recordings are decoded as may be at once."""
        if self.decoding >= self.settings.files.at_once:
            raise AtCapacity(
                f"{self.decoding} recordings are worked on, which is the limit: try again later", 5.0
            )

    def drain(self) -> None:
        """Take nothing new from now on, and tell the streams that are open. Twice is once."""
        if self.draining:
            return
        limit = self.settings.streams.drain
        self.draining, self.until = True, self.clock() + limit
        log.info("stopping: %d streams have %g s to end", len(self.streams), limit)
        for stream in list(self.streams.values()):
            self.warn(stream)

    def warn(self, stream: Stream) -> None:
        """Tell a stream that the server is about to stop, if it is."""
        if self.draining:
            stream.notice("event", name="draining", seconds=round(max(0.0, self.until - self.clock()), 1))

    async def open(
        self, wanted: Open, transport: str, address: str = "", owner: str = "", batch: bool = False
    ) -> Stream:
        """Start a stream for a client at an address, who may own voices; for a `batch`, nobody waits.

        Raises AtCapacity, TooMany, InvalidRequest, NotFound, ProtocolError.
        """
        engine = self.willing()
        wanted = self.named(wanted)
        wanted = await self._prepared(wanted, owner)  # before places are counted, as others come meanwhile
        if len(self.streams) >= self.settings.streams.sessions:
            raise AtCapacity(
                f"{len(self.streams)} streams are open, which is the limit: try again later", 5.0
            )
        most = self.settings.streams.per_address
        if address and sum(stream.address == address for stream in self.streams.values()) >= most:
            raise TooMany(f"{address} has {most} streams, which is the limit: end one of them first")
        if wanted.live is not None and not 0 < wanted.live <= LONGEST:
            raise InvalidRequest(f"live is {wanted.live:g}, expected more than 0 s and up to {LONGEST} s")
        if not self.shows(wanted.model) and (
            wanted.rate not in RATES or not 1 <= wanted.channels <= CHANNELS
        ):
            raise InvalidRequest(
                f"rate is {wanted.rate} and channels {wanted.channels}, expected "
                f"{RATES.start} to {RATES.stop - 1} Hz and 1 to {CHANNELS}"
            )
        stream = self._stream(wanted, transport, address, owner, batch)
        self.streams[id(stream)] = stream  # counted from now on, so that two cannot take the last place
        try:
            await stream.begin()
        except BaseException as error:
            del self.streams[id(stream)]
            if isinstance(error, SessionEnded) and not engine.alive:
                self.willing()  # says why it cannot begin now
            raise
        self.metrics.opened(wanted.model, transport)
        live = f"live within {wanted.live:g} s" if wanted.live else "as fast as it goes"
        stream.log.info("stream %s opened: %s over %s, %g Hz, %d channels, %s", stream.name, wanted.model, transport,
                        wanted.rate, wanted.channels, live)  # fmt: skip
        return stream

    def _stream(self, wanted: Open, transport: str, address: str, owner: str, batch: bool) -> Stream:
        """A stream of the kind that a model's are."""
        if self.speaks(wanted.model):
            return Speech(self, wanted, transport, address, owner, batch)
        if self.shows(wanted.model):
            return Show(self, wanted, transport, address, owner, batch)
        return Stream(self, wanted, transport, address, owner)

    def left(self, stream: Stream, why: str) -> None:
        """Forget a stream that has ended."""
        if not self.streams.pop(id(stream), None):
            return
        self.metrics.closed(stream.wanted.model, stream.transport, why)
        taken, given, dropped = (
            float(ticks / stream.rate) for ticks in (stream.fed, stream.out, stream.dropped)
        )
        stream.log.info("stream %s ended: %s after %.1f s, %.1f s in, %.1f s out, %.2f s dropped", stream.name, why,
                        self.clock() - stream.begun, taken, given, dropped)  # fmt: skip

    async def check(self, wanted: Open, owner: str = "") -> None:
        """Raises what `open` would of a model, a voice or a request, before anything is begun."""
        engine = self.willing()
        self.known(wanted.model)
        await engine.check(wanted.model, (await self._prepared(wanted, owner)).request)

    def named(self, wanted: Open) -> Open:
        """What is wanted, of the first model that gives its form if none is named. Raises InvalidRequest."""
        if not wanted.model:
            wanted = replace(wanted, model=self.painter() if wanted.format in PICTURES else self.speaker())
        self.known(wanted.model)
        return wanted

    def speaker(self, model: str = "") -> str:
        """The model of a name if it speaks, or the first that does. Raises InvalidRequest if there is none."""
        return self._able(model, self.speaks, "speaks", "takes sound, no text", "speak-lite")

    def converter(self, model: str = "") -> str:
        """The model of a name if it converts, or the first that does. Raises InvalidRequest if there is none."""
        return self._able(model, self.converts, "converts", "gives sound no other voice", "convert-lite")

    def painter(self, model: str = "") -> str:
        """The model of a name if it shows, or the first that does. Raises InvalidRequest if there is none."""
        return self._able(model, self.shows, "shows", "gives no pictures", "show-lite")

    def _able(self, model: str, able: Callable[[str], bool], does: str, does_not: str, usual: str) -> str:
        if model:
            self.known(model)
            if not able(model):
                raise InvalidRequest(f"model is {model!r}, which {does_not}")
            return model
        if found := next(filter(able, self.specs), ""):
            return found
        raise InvalidRequest(
            f"no model here {does}: start the server with one, as in RIVERRUN_MODELS='[\"{usual}\"]'"
        )

    async def _prepared(self, wanted: Open, owner: str) -> Open:
        """What is wanted of a model that gives a voice, with the voice; of one that shows, with the picture.

        Raises InvalidRequest, NotFound, MediaError.
        """
        if self.shows(wanted.model):
            port = self.specs[wanted.model].gives[0]
            if wanted.format == "f32":
                raise InvalidRequest("format is 'f32', expected 'mp4' or 'rgb': this model gives pictures")
            request = await prepared(wanted.request, port, self.settings.show)
            form: Literal["mp4", "rgb"] = "rgb" if wanted.format == "rgb" else "mp4"
            return replace(wanted, request=request, rate=cast(int, port.rate), channels=1, format=form)
        if wanted.format in PICTURES:
            raise InvalidRequest(
                f"format is {wanted.format!r}, expected 'pcm16' or 'f32': this model gives sound"
            )
        converts = self.converts(wanted.model)
        if not (converts or self.speaks(wanted.model)):
            return wanted
        request = await self.voiced(wanted.model, {"voice": "", **wanted.request}, owner)
        # What a converter cannot hear is still in the voice that came in.
        return replace(wanted, request=request, band="8k" if converts else wanted.band)

    async def voiced(self, model: str, request: Mapping[str, Any], owner: str) -> dict[str, Any]:
        """A request whose voice, if it is for one, the model knows or has a recording of; marked as the settings say.

        With the recording goes its transcript, where the model needs that.

        Raises InvalidRequest, NotFound.
        """
        if "recording" in request:
            raise InvalidRequest(
                "request has a recording: make it a voice, under a consent, at /v1/audio/voices"
            )
        request = {**request, "mark": self.settings.speech.mark}
        name, known = request.get("voice"), self.specs[model].voices
        if name in known or not isinstance(name, str):
            return request
        if not name and (known or self.speaks(model)):
            return {**request, "voice": known[0] if known else ""}
        wrong = f"voice is {name[:80]!r}, expected one of {', '.join(known) or 'none by name'}"
        if self.voices is None:
            raise InvalidRequest(wrong)
        try:
            voice = await self.voices.find(owner, name, int(self.specs[model].gives[0].rate))
        except NotFound as error:
            raise NotFound(f"{wrong}, or a voice of yours") from error
        request = {**request, "voice": "", "recording": recorded(voice.sound)}
        if not self.specs[model].transcribed:
            return request
        if not voice.transcript:
            raise InvalidRequest(
                f"voice {name[:80]!r} has no transcript, and {model} needs what is said in its sample: add it by "
                f"`riverrun voices transcribe {voice.id} TEXT`, or POST /v1/audio/voices/{voice.id} "
                'with {"transcript": TEXT}'
            )
        return {**request, "transcript": voice.transcript}

    def speaks(self, model: str) -> bool:
        """Whether a model takes text. (While the server starts, none does yet.)"""
        return model in self.specs and bool(self.specs[model].symbols)

    def converts(self, model: str) -> bool:
        """Whether a model gives sound another voice. (While the server starts, none does yet.)"""
        return model in self.specs and self.specs[model].converts

    def shows(self, model: str) -> bool:
        """Whether a model gives pictures of prompts. (While the server starts, none does yet.)"""
        return model in self.specs and self.specs[model].shows

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
