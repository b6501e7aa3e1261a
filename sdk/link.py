"""A stream at a server, and whichever connection it has now: dialled again and resumed when one is lost."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from itertools import chain, repeat
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from riverrun.answers import AGAIN, Unreachable, closed, refusal, told
from riverrun.media import Chunk
from riverrun.media.chunk import Array
from riverrun.streaming import wire
from riverrun.streaming.errors import AtCapacity, ProtocolError, SessionEnded
from riverrun.streaming.journal import Journal
from riverrun.streaming.problems import NotFound, TooMany
from riverrun.streaming.wire import Word

log = logging.getLogger(__name__)
PROTOCOL = "riverrun.v1"
BEGIN = 10.0  # seconds until a connection must be open
LEAVE = 2.0  # seconds that closing one may take
PING, PONG = 5.0, 10.0  # seconds between signs of life, and until one that is missing means a loss
HELD = 30.0  # seconds of unread output from which on the server is not told of more, and so stops making it
LATE = 2.0  # seconds of unread live output that are kept
WORDS = 10_000  # words that are remembered, about an hour of them
SOON, LATER = 0.1, 10.0  # seconds between the first questions for the server's clock, and between later ones


@dataclass(frozen=True)
class Event:
    """Something that befell a stream.

    `overrun`: the server had no room for `ticks` of live input; `skipped`: `ticks` of live output were read too late;
    `unsaid`: some text cannot be said, `refused`: an update cannot be followed, `why` tells; `draining`: the server is
    about to stop; `lost` and `resumed`: the connection.
    """

    name: str
    ticks: int = 0
    why: str = ""


@dataclass(frozen=True)
class Opened:
    """What the server says of a stream: `window` and `frame` in ticks, `latency` and `resume` in seconds.

    Of pictures, `size` is rows and columns.
    """

    session: str
    token: str
    latency: float
    window: int
    frame: int
    input: int
    resume: float
    rate: float
    size: tuple[int, int] = (0, 0)


class Clock:
    """How far the server's clock is ahead of ours, in microseconds, by the quickest of its last answers."""

    def __init__(self) -> None:
        self.heard: deque[tuple[int, int]] = deque(maxlen=8)

    def hear(self, asked: int, server: int, now: int) -> None:
        """Take an answer."""
        self.heard.append((now - asked, server - (now + asked) // 2))

    @property
    def offset(self) -> int | None:
        """None before the first answer."""
        return min(self.heard)[1] if self.heard else None


class Link:
    """The state of one stream, which `run` keeps up until it is over."""

    def __init__(
        self, url: str, headers: dict[str, str], wanted: wire.Open, tell: Callable[[Event], object] | None
    ) -> None:
        self.url, self.headers, self.wanted = url, headers, wanted
        self.tell = tell or (lambda event: None)
        self.opened: Opened | None = None
        self.connected = self.cancelled = False
        self.over: str | None = None  # why
        self.failure: Exception | None = None
        self.pictures = wanted.format in wire.PICTURES
        self.kind = wire.PICTURES.get(wanted.format) or wire.FORMATS[wanted.format][0]
        self.rate: int | Fraction = wanted.rate  # of output; of pictures the server tells it
        self.journal = Journal(wanted.rate, 0, 0)  # input that is not acknowledged
        self.position = -1  # seq of the last frame this connection was given
        self.fed = 0  # ticks
        self.chunks: deque[Chunk] = deque()  # output that is not read
        self.unread = 0  # ticks in it
        self.received = self.acknowledged = -1  # seq
        self.reached = 0  # tick after the last one that came
        self.skips = wanted.live is not None  # whether of output read too late the newest is kept
        self.texts: deque[wire.Text] = deque()  # not said to be safe
        self.typed = self.shown = -1  # seq of the last one, and of the last this connection was given
        self.unsaid = 0  # characters of them
        self.words: deque[Word] = deque(maxlen=WORDS)  # since what was to be said was cleared
        self.effects: dict[str, int] = {}  # from which tick on a prompt counts, by its update
        self.says: deque[wire.Control] = deque()
        self.held: list[wire.Control] = []  # what is said on every connection
        self.asked: dict[str, wire.Control] = {}  # what is to be answered, asked anew on every connection
        self.answers: dict[str, Any] = {}
        self.clock = Clock()
        self.changed = asyncio.Event()  # there is something to send
        self.moved = asyncio.Event()  # something came
        self.lost: float | None = None  # since when there is no connection
        self.tries = 0
        self.cause: Exception | None = None

    # What the caller's side does

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until something is so. Raises what ended the stream if that comes first."""
        while not done():
            if self.over:
                raise self.failure or SessionEnded(f"the stream is over ({self.over}): open another")
            self.moved.clear()
            await self.moved.wait()

    def put(self, data: Array, at: int, last: bool = False) -> None:
        """Have input `[t, c]` sent; `at` is in microseconds on the server's clock, or 0."""
        payload = wire.payload(data, self.wanted.format)
        self.journal.add(self.fed, len(data), payload, at, last, self.kind)
        self.fed += len(data)
        self.changed.set()

    def take(self) -> Chunk:
        """The oldest unread output."""
        chunk = self.chunks.popleft()
        self.unread -= len(chunk)
        self.changed.set()  # perhaps the server may be told of more
        return chunk

    def type(self, text: str, context: str, flush: bool) -> None:
        """Have text sent, once for all, on whichever connection."""
        self.typed += 1
        self.texts.append(wire.Text(text, context, flush, self.typed))
        self.unsaid += len(text)
        self.changed.set()

    def said(self, seq: int) -> None:
        """Forget the texts up to one."""
        while self.texts and self.texts[0].seq <= seq:
            self.unsaid -= len(self.texts.popleft().text)

    def mute(self) -> None:
        """Forget output that is unread."""
        self.chunks.clear()
        self.unread = 0
        self.changed.set()

    def say(self, control: wire.Control) -> None:
        """Have a control message sent, on this connection or not at all."""
        self.says.append(control)
        self.changed.set()

    def hold(self, control: wire.Control) -> None:
        """Have a control message sent, on this connection and on every one after it."""
        self.held.append(control)
        if self.connected:
            self.say(control)

    async def ask(self, key: str, control: wire.Control) -> Any:
        """Have a control message sent, on whichever connection, and wait for its answer. Raises what that is."""
        self.asked[key] = control
        if self.connected:
            self.say(control)
        try:
            await self.until(lambda: key in self.answers)
            answer = self.answers[key]
        finally:
            self.asked.pop(key, None)
            self.answers.pop(key, None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def full(self) -> bool:
        """Whether so much output is unread that the server is told of no more."""
        return self.unread > HELD * self.rate

    @property
    def safe(self) -> int:
        """The last frame that the server may hear of: of pictures, which are made as they are seen, a read one."""
        return self.received - len(self.chunks) if self.pictures else self.received

    # The connection

    async def run(self) -> None:
        """Keep a connection up until the stream is over; an error is kept for whoever waits."""
        try:
            while not self.over:
                await self._connection()
        except Exception as error:
            self.failure, self.over = error, self.over or "failed"
        finally:
            self.over = self.over or "cancelled"
            self.moved.set()

    async def _connection(self) -> None:
        """One connection, from its dialling to its loss. Raises what ends the stream."""
        socket = await self._dial()
        if socket is None:
            return
        try:
            await self._begin(socket)
            await self._talk(socket)
        except (ConnectionClosed, TimeoutError) as error:
            ended = closed(socket.close_code or 1006, socket.close_reason or "")
            if self.over:
                return
            if ended or not self.opened:
                raise ended or Unreachable(f"{self.url} hung up before the stream was opened") from error
            self._lose(error)
        finally:
            self.connected = False
            await socket.close()

    def _lose(self, cause: Exception) -> None:
        self.cause = cause
        if self.lost is None:
            log.info("the connection to %s is lost (%s) and dialled again", self.url, cause)
            self.lost = asyncio.get_running_loop().time()
            self.tell(Event("lost"))

    async def _dial(self) -> ClientConnection | None:
        """A connection; None if there is none yet. Raises why there will not be one."""
        await self._pause()
        try:
            return await connect(
                self.url,
                subprotocols=[PROTOCOL],  # type: ignore[list-item]
                additional_headers=self.headers,
                compression=None,
                max_size=wire.HEADER.size + wire.LARGEST,
                open_timeout=BEGIN,
                close_timeout=LEAVE,
                ping_interval=PING,
                ping_timeout=PONG,
            )
        except (OSError, EOFError, InvalidHandshake, TimeoutError) as error:
            why = _refused(self.url, error)
            if self.lost is None or not isinstance(why, Unreachable | AtCapacity | TooMany):
                raise why from error
            self.cause = error if isinstance(why, Unreachable) else why
            return None

    async def _pause(self) -> None:
        """Wait before another attempt. Raises Unreachable if there were enough."""
        if self.lost is None or self.opened is None:
            return
        spent = asyncio.get_running_loop().time() - self.lost
        if spent >= self.opened.resume:
            raise Unreachable(
                f"{self.url} did not come back in {spent:.1f} s and {self.tries} attempts ({_text(self.cause)}): "
                f"{self._kept()}"
            ) from self.cause
        wait = max(AGAIN[min(self.tries, len(AGAIN) - 1)], getattr(self.cause, "retry_after", 0.0))
        self.tries += 1
        await asyncio.sleep(min(wait, self.opened.resume - spent))

    def _kept(self) -> str:
        """What there is of a stream that cannot be taken up."""
        rate = self.wanted.rate
        return (
            f"{self.journal.ticks / rate:.2f} s of the {self.fed / rate:.2f} s fed were not taken and are lost, "
            f"output came up to tick {self.reached}; open another stream"
        )

    async def _begin(self, socket: ClientConnection) -> None:
        """Open or resume. Raises what the server says against it."""
        before = self.opened
        first = wire.Resume(before.session, before.token, self.received) if before else self.wanted
        async with asyncio.timeout(BEGIN):
            await socket.send(wire.text(first))
            message = _parsed(await socket.recv())
        try:
            if message["type"] == "error":
                raise told(message)
            needed = [f.name for f in fields(Opened) if f.name in message or f.default is MISSING]
            self.opened = Opened(**{name: message[name] for name in needed})
        except NotFound as error:
            if not before:
                raise
            raise SessionEnded(
                f"{self.url} has not kept the stream, as when it was started anew: {self._kept()}"
            ) from error
        except KeyError as error:
            raise ProtocolError(f"the server says {message}, expected opened: is it of version 1?") from error
        self.journal.acknowledge(self.opened.input - 1)
        self.position, self.acknowledged = self.opened.input - 1, -1 if self.pictures else self.received
        self.says, self.shown = deque([*self.asked.values(), *self.held]), -1
        if self.pictures:
            self.rate = Fraction(self.opened.rate).limit_denominator(1001)
        self.lost, self.tries, self.connected = None, 0, True
        if before:
            self.tell(Event("resumed"))
        self.moved.set()

    async def _talk(self, socket: ClientConnection) -> None:
        """Read and write until the connection is over. Raises ConnectionClosed, or what ends the stream."""
        work = [self._read(socket), self._write(socket)]
        if self.wanted.live is not None:
            work.append(self._compare())
        tasks = [asyncio.create_task(part) for part in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, socket: ClientConnection) -> None:
        """Send what there is to send; when that fails, reading tells why."""
        try:
            while True:
                self.changed.clear()
                if self.safe > self.acknowledged and not self.full:
                    self.acknowledged = self.safe
                    waiting = 0.0 if self.pictures else float(self.unread / self.rate)
                    await socket.send(wire.text(wire.Ack(self.acknowledged, waiting)))
                for control in [text for text in self.texts if text.seq > self.shown]:
                    self.shown = control.seq
                    await socket.send(wire.text(control))
                while self.says:
                    await socket.send(wire.text(self.says.popleft()))
                for frame in self.journal.after(max(self.position, self.journal.oldest - 1)):
                    await socket.send(frame.pack())
                    self.position = frame.seq
                await self.changed.wait()
        except ConnectionClosed:
            return

    async def _compare(self) -> None:
        """Ask for the server's clock, a few times at once and then now and again, because clocks drift."""
        for wait in chain(repeat(SOON, 4), repeat(LATER)):
            self.say(wire.Clock(_now()))
            await asyncio.sleep(wait)

    async def _read(self, socket: ClientConnection) -> None:
        """Take what comes. Raises ConnectionClosed at the end, or what ends the stream."""
        while True:
            message = await socket.recv()
            if isinstance(message, bytes):
                self._hear(wire.unpack(message))
            else:
                self._told(_parsed(message))
            self.moved.set()

    def _hear(self, frame: wire.Frame) -> None:
        """Take output, once however often it comes; of live output that nobody reads, keep the newest."""
        if frame.seq <= self.received:
            return
        rate = self.rate
        if self.pictures and self.opened:
            data = wire.pictures(frame.payload, self.opened.size)
        else:
            data = wire.samples(frame.payload, self.wanted.format, self.wanted.channels)
        self.received, self.reached = frame.seq, frame.pts + len(data)
        self.chunks.append(Chunk(data, frame.pts, rate, frame.last))
        self.unread += len(data)
        skipped = 0
        while self.skips and self.unread > LATE * rate and len(self.chunks) > 1:
            skipped += len(self.take())
        if skipped:
            self.tell(Event("skipped", skipped))
        if frame.last:
            self.over = "finished"
        self.changed.set()

    def _told(self, message: dict[str, Any]) -> None:
        """Take a control message. Raises what ends the stream."""
        if message.get("type") == "event":
            self.tell(Event(str(message.get("name")), int(message.get("ticks") or 0)))
            return
        try:
            match message["type"]:
                case "ack":
                    self.journal.acknowledge(message["seq"])
                case "said":
                    self.said(message["seq"])
                case "words":
                    self._learn([Word(context=message["context"], **word) for word in message["words"]])
                case "cleared":
                    self.mute()
                    self._answer("clear", message["start"])
                case "updated":
                    self._updated(message["id"])
                case "shown":
                    self.effects.setdefault(message["id"], message["tick"])
                case "stats":
                    key = next(
                        (key for key in self.asked if key.startswith("stats") and key not in self.answers),
                        None,
                    )
                    self._answer(key, {name: message[name] for name in message if name != "type"})
                case "clock":
                    self.clock.hear(message["at"], message["server"], _now())
                case "error" if message["fatal"]:
                    raise told(message)
                case "error" if "context" in message:
                    self.tell(Event("unsaid", why=str(message["error"]["message"])))
                case "error":
                    self._answer(message.get("id"), told(message))
                case "ended":
                    self._ended(message["reason"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"the server says {message}, which version 1 does not know") from error

    def _learn(self, words: list[Word]) -> None:
        """Remember words, in their order, once however often they are told."""
        if self.words and words and words[0].begins <= self.words[-1].begins:
            words = sorted({*self.words, *words}, key=lambda word: (word.begins, word.ends))
            self.words.clear()
        self.words.extend(words)

    def _updated(self, key: str) -> None:
        """An update has come, and those that were asked for before it."""
        updates = [other for other in self.asked if other.startswith("update")]
        for other in updates[: updates.index(key) + 1] if key in updates else []:
            self._answer(other, None)

    def _answer(self, key: str | None, answer: Any) -> None:
        if key in self.asked:
            self.answers[key] = answer
        elif isinstance(answer, Exception):
            log.warning("the server at %s: %s", self.url, answer)
            self.tell(Event("refused", why=str(answer)))

    def _ended(self, reason: str) -> None:
        if reason == "finished" or (reason == "cancelled" and self.cancelled):
            self.over = self.over or reason
        elif not self.over:
            raise SessionEnded(f"the server ended the stream, because it is {reason}: open another")


def _now() -> int:
    """Our clock, in microseconds."""
    return round(1e6 * asyncio.get_running_loop().time())


def _parsed(message: str | bytes) -> dict[str, Any]:
    """A control message of the server. Raises ProtocolError."""
    try:
        parsed = json.loads(message)
        if isinstance(message, str) and isinstance(parsed, dict):
            return parsed
    except ValueError:
        pass
    raise ProtocolError(f"the server says {message[:80]!r}, expected a JSON object")


def _refused(url: str, error: Exception) -> Exception:
    """Why there is no connection."""
    if isinstance(error, InvalidStatus):
        response = error.response
        return refusal(response.status_code, response.headers, bytes(response.body or b""), url)
    return Unreachable(f"{url} cannot be reached ({_text(error)}): does the server run there?")


def _text(error: Exception | None) -> str:
    return str(error) or type(error).__name__
