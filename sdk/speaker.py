"""Speech from text, in this process or at a server: a text of any length, sentence by sentence, in a voice."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from riverrun.files import PIPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from riverrun.asked import Manner as Told
    from riverrun.link import Event
    from riverrun.media import Chunk

HEARD = 15.0  # seconds of a recording that a voice is taken from
THREADS = 1  # of a small model, whose steps are shorter than it takes to wake another
MOST = 16  # candidates
LIMIT = 300  # characters that are said in one go at most


@dataclass(frozen=True)
class Voice:
    """Whose voice: a name the model knows, or a recording, with what is said in it where the model needs that."""

    name: str = ""
    sound: "NDArray[Any] | None" = None  # [n], at the model's rate
    transcript: str = ""


@dataclass(frozen=True)
class Manner:
    """How it is said: the best of so many, with the mark of generated speech. `steps` None is the model's default."""

    speed: float = 1.0
    seed: int = 0
    steps: int | None = None
    best_of: int = 1
    mark: bool = True


@dataclass(frozen=True)
class Made:
    """What was said. Units: `seconds` of sound, `elapsed` seconds of work, `first` seconds until there was sound."""

    path: str
    seconds: float
    elapsed: float
    first: float


class Voiced(Protocol):
    """A model as a Speaker uses it."""

    rate: int
    names: tuple[str, ...]
    """Of the voices it knows."""

    def say(self, text: "str | Iterable[str]", voice: Voice, manner: Manner) -> "Iterator[Chunk]":
        """Sound of a text, or of one that comes in pieces. Raises InvalidRequest."""
        ...


class Lite:
    """A model that was trained by `riverrun train speech`: one stream, however many sentences."""

    def __init__(self, path: Path, device: str, half: bool) -> None:
        from riverrun.models.speech.lite import load

        self.model = load(path, device, half)
        self.rate, self.names = int(self.model.spec.gives[0].rate), tuple(sorted(self.model.voices))

    def say(self, text: "str | Iterable[str]", voice: Voice, manner: Manner) -> "Iterator[Chunk]":
        """As Voiced.say."""
        from riverrun.models.inference import on
        from riverrun.models.recording import recorded
        from riverrun.models.speech.lite import Said
        from riverrun.models.speech.reading.script import Script
        from riverrun.models.speech.talk import talk

        script = Script(self.model.symbols.symbols, longest=LIMIT)
        steps = Said.steps if manner.steps is None else manner.steps
        begun = Said("", False, speed=manner.speed, seed=manner.seed, steps=steps, mark=manner.mark)
        if voice.sound is None:
            begun = replace(begun, voice=voice.name or (self.names[0] if self.names else ""))
        else:
            begun = replace(begun, recording=recorded(voice.sound))

        def more() -> Iterator[Said]:
            for line in script.whole(text) if isinstance(text, str) else script.all(text):
                yield replace(begun, symbols=line.symbols, pause=line.pause, speed=line.pace(manner.speed))
            yield replace(begun, end=True)

        if manner.best_of == 1:
            chunks = talk(self.model, begun, more())
        else:
            from riverrun.models.speech.choice import Aligned, best

            lines = (line for line in more() if not line.end)
            chunks = best(self.model, begun, lines, manner.best_of, Aligned())
        yield from on(THREADS, chunks)


class Published:
    """A published LongCat-AudioDiT checkpoint, in its folder: one stream, drawn chunk by chunk after what was said."""

    def __init__(self, path: Path, tokens: Path | None, device: str, half: bool) -> None:
        from riverrun.models.speech.infill import load

        self.model = load(path, device, half, tokens)
        self.rate = self.model.rate
        self.names: tuple[str, ...] = ()

    def say(self, text: "str | Iterable[str]", voice: Voice, manner: Manner) -> "Iterator[Chunk]":
        """As Voiced.say."""
        from riverrun.models.errors import InvalidRequest
        from riverrun.models.recording import recorded
        from riverrun.models.speech.infill import Told
        from riverrun.models.speech.talk import talk

        if manner.best_of > 1:
            raise InvalidRequest(f"best_of is {manner.best_of}, and this model says all once: leave it out")
        steps = Told.steps if manner.steps is None else manner.steps
        heard = "" if voice.sound is None else recorded(voice.sound)
        begun = Told("", False, voice=voice.name, recording=heard, transcript=voice.transcript, speed=manner.speed,
                     seed=manner.seed, steps=steps, mark=manner.mark)  # fmt: skip
        pieces = [text] if isinstance(text, str) else text
        more = [replace(begun, end=True)]
        yield from talk(self.model, begun, chain((replace(begun, symbols=piece) for piece in pieces), more))


class Served:
    """A model of a server, by name or the first that speaks: text goes there as it comes, and so does sound come."""

    def __init__(self, model: str | None, server: str, key: str | None) -> None:
        from riverrun.blocking import Client
        from riverrun.models.errors import InvalidRequest

        self.server, self.key, self.model = server, key, model or ""
        with Client(server, key) as client:
            models, voices = client.models(), client.voices()
        found = [m for m in models if "speak" in m["tasks"] and model in (None, m["id"])]
        if not found:
            raise InvalidRequest(f"{server} has no {f'model {model!r}' if model else 'model'} that speaks")
        self.rate = round(found[0]["rate"])
        self.names = tuple(dict.fromkeys(name for voice in voices for name in (voice["id"], voice["name"])))

    def say(self, text: "str | Iterable[str]", voice: Voice, manner: Manner) -> "Iterator[Chunk]":
        """As Voiced.say; markup is said when all of it is made."""
        from io import BytesIO

        from riverrun.blocking import Client
        from riverrun.media import Chunk, read
        from riverrun.models.errors import InvalidRequest

        if voice.sound is not None:
            raise InvalidRequest("voice is a recording: make it a voice of yours with `riverrun voices add`")
        if manner.best_of > 1 or not manner.mark:
            raise InvalidRequest(
                "a server says each sentence once, and its settings tell whether with a mark"
            )
        told: Told = {"model": self.model, "voice": voice.name, "speed": manner.speed, "seed": manner.seed}
        if manner.steps is not None:
            told["steps"] = manner.steps
        with Client(self.server, self.key) as client:
            if isinstance(text, str) and text.lstrip().startswith("<speak"):
                sound, rate = read(BytesIO(client.speak(text, **told)))
                yield Chunk(sound, 0, rate, last=True)
                return
            with client.speech(rate=self.rate, on_event=_unsaid, **told) as speech:
                yield from speech.through([text] if isinstance(text, str) else text)


def _unsaid(event: "Event") -> None:
    if event.name == "unsaid":
        print(f"riverrun: {event.why}", file=sys.stderr)


def _loaded(model: str | None, tokenizer: str | None, device: str, half: bool) -> Voiced:
    """A model by name, or in a file or folder. Raises CheckpointError, InvalidRequest."""
    from riverrun.models.errors import InvalidRequest
    from riverrun.models.registry import MODELS, for_task

    name = model or for_task("speak")
    path = MODELS[name].path if name in MODELS else Path(name)
    if not path.exists():
        raise InvalidRequest(
            f"model is {name!r}, expected {for_task('speak')}, or a file or folder that is there"
        )
    folder = path if path.is_dir() else path.parent
    if (folder / "config.json").exists():
        return Published(path, Path(tokenizer) if tokenizer else None, device, half)
    return Lite(path, device, half)


def found(voice: str | None, names: Sequence[str], rate: int, transcript: str = "") -> Voice:
    """A voice by name, or from the beginning of a recording, heard at a rate. Raises InvalidRequest, MediaError."""
    from riverrun.models.errors import InvalidRequest

    if voice is None or voice in names:
        return Voice(voice or "")
    if not Path(voice).is_file():
        known = ", ".join(names) or "none by name"
        raise InvalidRequest(f"voice is {voice!r}, expected one of {known}, or a recording")
    from riverrun.models.training.corpus import decode

    return Voice("", decode(Path(voice), rate)[: round(HEARD * rate)], transcript)


class Speaker:
    """A model and a voice made ready to say any number of texts."""

    def __init__(
        self,
        model: str | None = None,
        *,
        server: str | None = None,
        key: str | None = None,
        voice: str | None = None,
        transcript: str = "",
        tokenizer: str | None = None,
        device: str = "cpu",
        half: bool = False,
        speed: float = 1.0,
        seed: int = 0,
        steps: int | None = None,
        best_of: int = 1,
        mark: bool = True,
    ) -> None:
        """`model` is a name, what `riverrun train speech` made or a published checkpoint; `voice` a name or a file.

        A published checkpoint needs the `transcript` of the recording, and the folder of the `tokenizer` if that is
        another. With a `server`, model and voice are its own. `half` is half precision. Raises CheckpointError or
        InvalidRequest if there is no such model or voice, MediaError for a recording that is not usable, StreamError
        if the server is not.
        """
        from riverrun.models.errors import InvalidRequest

        if server and half:
            raise InvalidRequest("half is of a model that runs here, and a server has its own: leave it out")
        self.model: Voiced = Served(model, server, key) if server else _loaded(model, tokenizer, device, half)
        self.voice = found(voice, self.model.names, self.rate, transcript)
        if not 1 <= best_of <= MOST:
            raise InvalidRequest(f"best_of is {best_of}, expected 1 to {MOST}")
        self.manner = Manner(speed, seed, steps, best_of, mark)

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.model.rate

    def say(self, text: "str | Iterable[str]") -> "Iterator[Chunk]":
        """Sound of a text, or of one that comes in pieces, as it is made.

        Raises InvalidRequest for what cannot be said; what was made before has been given by then.
        """
        return self.model.say(text, self.voice, self.manner)

    def file(self, text: "str | Iterable[str]", target: str, *, force: bool = False) -> Made:
        """Say a text into a file, which appears whole or not at all, or a pipe.

        Raises MediaError if the target is there and not to be replaced, InvalidRequest for what cannot be said.
        """
        from riverrun.local import guard
        from riverrun.media import UnsupportedMedia, Writer

        begun, first, ticks = time.perf_counter(), 0.0, 0
        place: Any = sys.stdout.buffer if target == PIPE else guard(PIPE, target, force)
        with Writer(place, rate=self.rate, channels=1, format="wav" if target == PIPE else None) as writer:
            for chunk in self.say(text):
                first = first or time.perf_counter() - begun
                ticks += len(chunk)
                writer.put(replace(chunk, data=chunk.data.clip(-1, 1)))
            if not ticks:
                raise UnsupportedMedia("the text holds nothing that can be said")
        return Made(target, ticks / self.rate, time.perf_counter() - begun, first)
