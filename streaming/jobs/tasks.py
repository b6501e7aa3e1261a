"""What each task is: which keys its lines take, how a line becomes a request, and what makes its output."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from riverrun.media import Chunk, VideoWriter
from riverrun.media.pictures import encoded
from riverrun.models.contract import PITCHES
from riverrun.models.errors import ModelError
from riverrun.models.registry import MODELS, for_task
from riverrun.streaming.errors import AtCapacity
from riverrun.streaming.hub import Hub
from riverrun.streaming.jobs.lines import SEED, Grammar, Line, number, one_of, text, whole, wrong
from riverrun.streaming.jobs.store import Row
from riverrun.streaming.jobs.whole import digest, source
from riverrun.streaming.problems import NotFound
from riverrun.streaming.show import Show, fitted
from riverrun.streaming.speech import Speech
from riverrun.streaming.stream import Stream
from riverrun.streaming.uploads import FORMATS, Decoding, fed, settled, through, writer
from riverrun.streaming.wire import Open

SOUND = {".wav": "wav", ".flac": "flac", ".opus": "opus", ".ogg": "opus", ".oga": "opus", ".mp3": "mp3"}
PICTURES = {".mp4": "video/mp4", ".png": "image/png"}


@dataclass(frozen=True)
class Made:
    """What made an output. Units: `seconds` of media."""

    seconds: float
    model: str
    weights: str | None  # their SHA-256, where it is known
    request: Mapping[str, Any]
    versions: Mapping[str, str]


class Do(Protocol):
    """Makes the output of a line: here, or at a server."""

    async def __call__(self, row: Row, file: BinaryIO | None, out: BinaryIO) -> Made: ...


@dataclass(frozen=True)
class Task:
    """One kind of line. `request` are the keys that go to the model as they are, and what they are if not named.

    `work` makes the output for an owner, in the form its suffix names, and gives how many seconds it lasts. `model`
    is that of a hub which does the task: one of a name, or the first; without it, any will do.
    """

    grammar: Grammar
    request: Mapping[str, Any]
    work: Callable[[Hub, Row, BinaryIO | None, BinaryIO, str], Awaitable[float]]
    model: Callable[[Hub, str], str] | None = None


async def remake(hub: Hub, row: Row, file: BinaryIO | None, out: BinaryIO, owner: str) -> float:
    """Restore or convert a recording: decoded in a child process, encoded here, each as far as the next lets it."""
    assert file is not None
    line = row.line
    decoding = await Decoding.start(file, hub.settings.files)
    try:
        head, band = decoding.head, line.values.get("band", "full")
        wanted = Open(model(line, hub), request(line), head.rate, head.channels, band=band)
        stream = await _room(hub, wanted, owner)
    except BaseException:
        await decoding.close()
        raise
    async with aclosing(through(stream, decoding)) as chunks:
        return await _written(chunks, stream, line, out)


async def speak(hub: Hub, row: Row, file: BinaryIO | None, out: BinaryIO, owner: str) -> float:
    """Say a text, which may be markup, in a voice that the model or the owner has."""
    line = row.line
    name = model(line, hub)
    wanted = Open(name, request(line), int(hub.specs[name].gives[0].rate))
    stream = await _room(hub, wanted, owner)
    assert isinstance(stream, Speech)
    async with aclosing(fed(stream, stream.recite([line.values["text"]]))) as chunks:
        return await _written(chunks, stream, line, out)


async def show(hub: Hub, row: Row, file: BinaryIO | None, out: BinaryIO, owner: str) -> float:
    """Make a video of a prompt, or its first picture; one that is uploaded is the first."""
    name, values = model(row.line, hub), request(row.line)
    port, still = hub.specs[name].gives[0], row.line.output.endswith(".png")
    values["seconds"] = float(1 / port.rate) if still else float(values["seconds"])
    given = {"picture": await settled(fitted, file.read(), port.size)} if file else {}
    stream = await _room(hub, Open(name, {**values, **given}, format="rgb"), owner)
    assert isinstance(stream, Show)
    try:
        if still:
            (chunk, *_) = await stream.read()
            await settled(out.write, encoded(chunk.data[0]))
            return float(1 / port.rate)
        return await _filmed(hub, stream, {"model": name, **values}, row.job, out)
    finally:
        hub.progress.pop(row.job, None)
        await asyncio.shield(stream.close("finished"))


async def _filmed(hub: Hub, stream: Show, values: Mapping[str, Any], job: str, out: BinaryIO) -> float:
    """Encode what a stream shows; give how many seconds that were."""
    title, ticks, last = str(values["prompt"]), 0, False
    made = await settled(VideoWriter, out, stream.rate, stream.size, title, values)
    try:
        while not last and (chunks := await stream.read()):
            for chunk in chunks:
                await settled(made.put, chunk)
                ticks, last = chunk.end, chunk.last
            hub.progress[job] = min(1.0, float(ticks / stream.rate) / values["seconds"])
        await settled(made.close)
    except BaseException:
        made.discard()
        raise
    return float(ticks / stream.rate)


async def _written(chunks: AsyncIterator[Chunk], stream: Stream, line: Line, out: BinaryIO) -> float:
    """Encode what comes of a stream; give how many seconds that were."""
    form, ticks = SOUND[Path(line.output).suffix.lower()], 0
    made = await settled(writer, out, form, stream.rate, stream.channels)
    try:
        async for chunk in chunks:
            await settled(made.put, chunk)
            ticks += len(chunk)
        await settled(made.close)
    except BaseException:
        made.discard()
        raise
    return float(ticks / stream.rate)


async def _room(hub: Hub, wanted: Open, owner: str) -> Stream:
    """A stream without a deadline, so that live ones go first; wait while there is no room."""
    while True:
        try:
            return await hub.open(wanted, "job", owner=owner, batch=True)
        except AtCapacity as error:
            await asyncio.sleep(error.retry_after)


TASKS: dict[str, Task] = {
    "restore": Task(
        Grammar(
            "input",
            {"model": text(1024), "strength": number(0, 1), "seed": SEED, "band": one_of("full", "8k")},
            tuple(SOUND),
        ),
        {"strength": 1.0, "seed": 0},
        remake,
    ),
    "convert": Task(
        Grammar(
            "input",
            {"model": text(1024), "voice": text(256), "pitch": number(*PITCHES), "seed": SEED},
            tuple(SOUND),
        ),
        {"voice": "", "pitch": 0.0, "seed": 0},
        remake,
        Hub.converter,
    ),
    "speak": Task(
        Grammar(
            "text",
            {
                "model": text(1024),
                "voice": text(256),
                "seed": SEED,
                "speed": number(0.25, 4),
                "steps": whole(1, 64),
            },
            tuple(SOUND),
        ),
        {"voice": "", "speed": 1.0, "seed": 0, "steps": 8},
        speak,
        Hub.speaker,
    ),
    "show": Task(
        Grammar(
            "prompt",
            {
                "model": text(1024),
                "input": text(1024),
                "seconds": number(0.01, 3600),
                "seed": SEED,
                "steps": whole(0, 64),
                "mode": text(16),
            },
            tuple(PICTURES),
        ),
        {"prompt": "", "seconds": 4.0, "seed": 0, "steps": 0, "mode": ""},
        show,
        Hub.painter,
    ),
}
GRAMMARS = {name: task.grammar for name, task in TASKS.items()}


def kind(path: Path) -> str:
    """The media type of an output."""
    suffix = path.suffix.lower()
    return PICTURES.get(suffix) or FORMATS[SOUND[suffix]][2]


def model(line: Line, hub: Hub | None = None) -> str:
    """The model a line is made with: the one it names, one of a hub that does its task, or what comes with that.

    Raises ModelError if there is none.
    """
    named, choose = str(line.values.get("model", "")), TASKS[line.task].model
    return choose(hub, named) if hub and choose else named or for_task(line.task)


def request(line: Line) -> dict[str, Any]:
    """What of a line goes to the model."""
    return {key: line.values.get(key, usual) for key, usual in TASKS[line.task].request.items()}


async def check(hub: Hub, lines: Iterable[Line], owner: str = "") -> None:
    """Raises InvalidRequest for the first line whose model or voice is not there, or does not take its values."""
    for line in lines:
        try:
            hub.willing()
            await hub.check(Open(model(line, hub), request(line)), owner)
        except (ModelError, NotFound) as error:
            wrong(line.number, str(error), error)


class Making:
    """Makes lines with the models of a hub, for the `owner` of each job."""

    def __init__(self, hub: Hub, owner: Callable[[str], str] = lambda job: "") -> None:
        self.hub, self.owner = hub, owner
        self.weights: dict[str, str | None] = {}  # their digests
        self.versions = {name: version(name) for name in ("riverrun", "torch")}

    async def __call__(self, row: Row, file: BinaryIO | None, out: BinaryIO) -> Made:
        """Raises MediaError, ModelError, StreamError, OSError."""
        line, name = row.line, model(row.line, self.hub)
        if name not in self.weights:
            self.weights[name] = await settled(_weights, name)
        owner = await settled(self.owner, row.job)
        seconds = await TASKS[line.task].work(self.hub, row, file, out, owner)
        return Made(seconds, name, self.weights[name], request(line), self.versions)


def _weights(name: str) -> str | None:
    """The digest of a model's weights, if they are in a file."""
    path = MODELS[name].path if name in MODELS else Path(name)
    if path.suffix != ".safetensors" or not path.exists():
        return None
    with source(path) as file:
        return digest(file).sha256
