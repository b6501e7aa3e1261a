"""Load: real sessions at a server, spoken to at the pace of speech, and what their listeners heard.

`python -m riverrun.load` reads a plan as JSON and writes its takes: what `spread` runs in processes of their own.
"""

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from typing import Literal
from urllib.parse import urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray

from riverrun.answers import Unreachable
from riverrun.asked import Talk
from riverrun.client import SPEECH_RATE, AsyncClient
from riverrun.link import Event
from riverrun.live import AsyncStream
from riverrun.models.errors import InvalidRequest
from riverrun.playout import FINE, LEAD, Playout, Take
from riverrun.streaming.errors import AtCapacity, StreamError
from riverrun.streaming.problems import TooMany
from riverrun.usage import Usage, listener, usage

RATE, FRAME = 48_000, 960  # Hz; ticks of 20 ms
TEXT = (
    "The water came up over the road in the night, and nobody had seen it.",
    "We walked along the river until the houses ended and the fields began.",
    "She asked him twice what the letter said, but he only shook his head.",
    "It was the last train of the year, and there were three of us in it.",
)  # a turn is two of these
DUE = 0.25  # seconds in which the first sound of a text is due
LOOP = 5.0  # seconds of speech that are said over and over
GOLDEN = 0.618
GRACE = 10.0  # seconds after its end within which a stream must be over
START = 120.0  # seconds until a server must take requests
STOP = 20.0  # seconds that it may take to stop
SAMPLED = 1.0  # seconds between looks at what it uses
Sound = NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """Sessions that begin evenly over `ramp` seconds and last for `seconds` each.

    They speak and ask for the delay `live`, or with the task "speak" have texts said to them, one after the other.
    """

    url: str
    sessions: int = 8
    seconds: float = 60.0
    ramp: float = 1.0
    transport: Literal["ws", "webrtc"] = "ws"
    task: str = "restore"
    model: str = ""  # by default the server's first for the task
    live: float = 0.1
    key: str | None = None
    first: int = 0  # of how many all, where processes share the sessions
    step: int = 1


def speech(seed: int = 0) -> Sound:
    """`LOOP` seconds of what is like speech: a gliding voice in syllables and words, above some noise.  # -> [t, 1]"""
    dice, t = np.random.default_rng(seed), np.arange(round(LOOP * RATE)) / RATE
    pitch = dice.uniform(90, 220) * (1 + 0.15 * np.sin(2 * np.pi * 0.6 * t + dice.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * dice.uniform(3, 5) * t), 0, 1) ** 0.5
    words = np.sin(2 * np.pi * 0.4 * t + dice.uniform(0, 6)) > -0.6
    sound = 0.15 * voice * syllables * words + 0.01 * dice.standard_normal(len(t))
    return np.asarray(np.clip(sound, -1, 1)[:, None], np.float32)


async def drive(plan: Plan) -> list[Take]:
    """Hold the sessions of a plan, all in this event loop. Raises StreamError if the server does not answer.

    Cancel: ends all sessions.
    """
    async with AsyncClient(plan.url, plan.key) as client:
        plan = await _named(client, plan)
        begun = asyncio.get_running_loop().time()
        if plan.transport == "webrtc" and plan.task != "speak":
            from riverrun.caller import packets

            sent = packets(speech())
        sounds = [speech(seed) for seed in range(4)]

        async def one(number: int) -> Take:
            phase = FRAME / RATE * (GOLDEN * number % 1)  # no two speak in step
            due = begun + plan.ramp * number / plan.sessions + phase
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            if plan.task == "speak":
                return await _listen(client, plan, number)
            if plan.transport == "webrtc":
                return await _call(client, plan, sent)
            return await _stream(client, plan, sounds[number % len(sounds)])

        return list(await asyncio.gather(*map(one, range(plan.first, plan.sessions, plan.step))))


async def spread(plan: Plan, processes: int) -> tuple[list[Take], float]:
    """As `drive`, the sessions shared out to so many processes; with the seconds of processor time these used.

    Raises StreamError if one of them fails. Cancel: ends them.
    """
    async with AsyncClient(plan.url, plan.key) as client:
        plan = await _named(client, plan)
    plans = [replace(plan, first=i, step=processes) for i in range(min(processes, plan.sessions))]
    done = await asyncio.gather(*map(_child, plans))
    return [take for takes, _ in done for take in takes], sum(cpu for _, cpu in done)


async def _child(plan: Plan) -> tuple[list[Take], float]:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "riverrun.load", stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        out, said = await child.communicate(json.dumps(asdict(plan)).encode())
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise StreamError(
            f"a process of the load tester failed: {said.decode(errors='replace').strip()[-400:]}"
        )
    told = json.loads(out)
    return [Take.of(values) for values in told["takes"]], told["cpu"]


async def _named(client: AsyncClient, plan: Plan) -> Plan:
    """A plan with its model: the server's first for the task. Raises InvalidRequest."""
    if (plan.task, plan.transport) == ("speak", "webrtc"):
        raise InvalidRequest("transport is webrtc, which takes no text: use ws")
    if plan.model:
        return plan
    models = await client.models()
    found = next((model["id"] for model in models if plan.task in model["tasks"]), None)
    if found is None:
        tasks = ", ".join(sorted({task for model in models for task in model["tasks"]}))
        raise InvalidRequest(f"task is {plan.task!r}, the server at {client.url} has {tasks or 'none'}")
    return replace(plan, model=found)


@dataclass
class Session:
    """One session that runs: what is heard of it so far."""

    seconds: float
    rate: int = RATE
    take: Take = field(default_factory=Take)
    playout: Playout = field(init=False)
    begun: float = 0.0  # when the first sample was spoken, or the session began to listen
    over: int = 0  # tick up to which something is to be heard

    def __post_init__(self) -> None:
        self.playout = Playout(self.rate)

    def hear(self, pts: int, ticks: int, at: float) -> None:
        """Note sound that arrived, by the ticks in which it was spoken."""
        self.take.late[round(FINE * self.playout.hear(pts, ticks, at))] += 1
        self.take.delay[round(FINE * (at - self.begun - pts / self.rate))] += 1

    def tell(self, event: Event) -> None:
        """Note what befell the stream."""
        match event.name:
            case "overrun":
                self.take.dropped += event.ticks / self.rate
            case "skipped":
                self.take.skipped += event.ticks / self.rate
            case "lost":
                self.take.lost += 1
            case "resumed":
                self.take.resumed += 1

    async def paced(self) -> AsyncIterator[tuple[int, float]]:
        """The number of each frame, and when its last sample was spoken, as soon as it was."""
        loop = asyncio.get_running_loop()
        self.begun = loop.time()
        for i in range(round(self.seconds * RATE) // FRAME):
            due = self.begun + (i + 1) * FRAME / RATE
            await asyncio.sleep(due - loop.time())
            self.take.own[round(FINE * (loop.time() - due))] += 1
            self.over = (i + 1) * FRAME
            yield i, due


@asynccontextmanager
async def noted(session: Session) -> AsyncIterator[None]:
    """Notes how a session ends, whatever ends it."""
    take = session.take
    try:
        async with asyncio.timeout(session.seconds + GRACE):
            yield
    except (AtCapacity, TooMany) as error:
        take.outcome, take.error = "failed" if take.first else "refused", type(error).__name__
        take.retry_after = getattr(error, "retry_after", None)
    except StreamError as error:
        take.outcome, take.error = "failed", f"{type(error).__name__}: {error}"[:200]
    except TimeoutError:
        take.outcome, take.error = "failed", f"not over {GRACE:g} s after its end"
    if take.outcome != "refused":
        take.seconds = session.seconds
        whole = round(session.seconds * session.rate) // FRAME * FRAME
        session.playout.end(whole if take.outcome == "failed" else session.over)
        take.note(session.playout)


async def _stream(client: AsyncClient, plan: Plan, sound: Sound) -> Take:
    """One session over WebSocket."""
    session, loop = Session(plan.seconds), asyncio.get_running_loop()
    async with noted(session):
        opened = client.stream(plan.model, rate=RATE, live=plan.live, format="pcm16", on_event=session.tell)
        async with opened as stream:
            talking = asyncio.create_task(_talk(stream, session, sound))
            try:
                async for chunk in stream:
                    session.hear(chunk.pts, len(chunk), loop.time())
                await talking
            finally:
                talking.cancel()
                await asyncio.gather(talking, return_exceptions=True)
    return session.take


async def _talk(stream: AsyncStream, session: Session, sound: Sound) -> None:
    frames = cycle(np.split(sound, len(sound) // FRAME))
    async for _, due in session.paced():
        await stream.feed(next(frames), due)
    await stream.finish()


async def _listen(client: AsyncClient, plan: Plan, number: int) -> Take:
    """One session of turns: each text is said when the one before it has been played, as to who talks with an agent."""
    session, loop = Session(plan.seconds, SPEECH_RATE), asyncio.get_running_loop()
    async with noted(session):
        session.begun = due = loop.time()
        until, turn = due + plan.seconds, number
        while due < until:
            session.take.own[round(FINE * (loop.time() - due))] += 1
            session.take.note(session.playout)
            session.playout, session.over = Playout(session.rate), 0
            text = " ".join((TEXT[turn % len(TEXT)], TEXT[(turn + 1) % len(TEXT)]))
            due = await _turn(client, plan, session, text, until)
            turn += 1
            await asyncio.sleep(min(due, until) - loop.time())
    return session.take


async def _turn(client: AsyncClient, plan: Plan, session: Session, text: str, until: float) -> float:
    """Have a text said; give when it has been played. What comes after the end of the session is not waited for."""
    loop, playout, take = asyncio.get_running_loop(), session.playout, session.take
    talk: Talk = {"model": plan.model, "rate": session.rate, "live": DUE, "format": "pcm16"}
    talk["on_event"] = session.tell
    async with client.speech(**talk) as speech:
        said = loop.time()
        await speech.say(text)
        await speech.finish()
        async for chunk in speech:
            now = loop.time()
            if playout.first is None:
                take.first[round(FINE * (now - said))] += 1
            take.late[round(FINE * playout.hear(chunk.pts, len(chunk), now))] += 1
            session.over = chunk.end
            if now >= until:
                break
    return playout.turn(session.over) + LEAD


async def _call(client: AsyncClient, plan: Plan, sent: Sequence[bytes]) -> Take:
    """One session over WebRTC."""
    from riverrun.caller import Caller

    session = Session(plan.seconds)
    async with noted(session):
        await Caller(client, plan.model, session, sent).run()
    return session.take


# A server of one's own, and what a server uses


@asynccontextmanager
async def serving(sessions: int, **settings: str) -> AsyncIterator[tuple[str, int]]:
    """`riverrun serve` in a process of its own, with room for so many sessions: its address and its process.

    `settings` go into its environment (`compute__process="false"`). Raises StreamError if it does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    room = {
        name: str(max(sessions, 8))
        for name in ("streams__sessions", "streams__per_address", "webrtc__sessions")
    }
    wanted = {**room, "access__requests": "1000", "access__burst": "1000", **settings}
    env = {**os.environ, **{f"RIVERRUN_{name.upper()}": value for name, value in wanted.items()}}
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as said:
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "riverrun.cli", "serve", "--port", str(port),
            stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, env=env,
        )  # fmt: skip
        try:
            await _ready(url, server)
            yield url, server.pid
        except Unreachable:
            said.seek(0)
            print(said.read()[-2000:].decode(errors="replace"), file=sys.stderr)
            raise
        finally:
            await _stop(server)


async def _ready(url: str, server: asyncio.subprocess.Process) -> None:
    until = time.monotonic() + START
    async with httpx.AsyncClient() as http:
        while time.monotonic() < until and server.returncode is None:
            try:
                if (await http.get(f"{url}/health/ready")).is_success:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.1)
    raise Unreachable(f"the server at {url} did not start: its last words are above")


async def _stop(server: asyncio.subprocess.Process) -> None:
    if server.returncode is None:
        server.terminate()
    try:
        await asyncio.wait_for(server.wait(), STOP)
    except TimeoutError:
        server.kill()
        await server.wait()


def process(url: str) -> int | None:
    """The process of a server on this machine; None if it is elsewhere, or there is no /proc."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    return listener(parts.port or {"https": 443}.get(parts.scheme, 80)) if local else None


async def watch(pid: int, samples: list[tuple[float, Usage]]) -> None:
    """Note what a process and all below it use, now and again, until cancelled."""
    while found := usage(pid):
        samples.append((time.monotonic(), found))
        await asyncio.sleep(SAMPLED)


def main() -> None:
    """Drive the plan on standard input."""
    takes = asyncio.run(drive(Plan(**json.load(sys.stdin))))
    json.dump({"takes": [vars(take) for take in takes], "cpu": time.process_time()}, sys.stdout)


if __name__ == "__main__":
    main()
