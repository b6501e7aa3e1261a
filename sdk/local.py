"""Restoration and conversion in this process: files, pipes and arrays through the same streaming path."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast, overload

from riverrun.files import CONVERTED, PIPE, RESTORED, beside

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

    from riverrun.media import Chunk, Reader, Writer
    from riverrun.models.contract import Discerns, StreamModel
    from riverrun.models.voice.fitting import Fit

Progress = Callable[[float, float | None], object]
"""Told the seconds done and, where known, the seconds there are."""

BLOCK = 16_384  # ticks of an array handed on at once
SILENCE = -120  # dB, the lowest level told apart
OTHER = "the model is for another task: `riverrun models` tells which is for what"


@dataclass(frozen=True)
class Result:
    """What became of one recording.

    Units: `seconds` of media in, `elapsed` seconds of work, `latency` seconds that the model holds a sample when it
    runs live; `before` and `after` are the level of the background, in dB below full scale.
    """

    path: str
    seconds: float
    elapsed: float
    latency: float
    before: float
    after: float

    @property
    def rtf(self) -> float:
        """Real-time factor: seconds of work for a second of media."""
        return self.elapsed / self.seconds if self.seconds else 0.0


class Settings(TypedDict, total=False):
    """The settings of a Restorer, for whoever passes them on."""

    task: str  # "restore"; `riverrun models` lists the others
    strength: float  # 1.0; 0 changes nothing
    model: str | None  # a name or a .safetensors file; by default, by task
    device: str  # "cpu", "cuda", "cuda:1", ...
    seed: int  # 0; equal seeds give equal results
    band: str  # "full"; "8k" drops what lies above the model's own band


class Converting(TypedDict, total=False):
    """The settings of a Converter, for whoever passes them on."""

    voice: str | None  # a name, or a recording of it; by default, the model's first
    pitch: float  # 0.0; semitones above the voice's own, -12 to 12
    model: str | None  # a name or a .safetensors file; by default, what comes along
    device: str  # "cpu", "cuda", "cuda:1", ...
    seed: int  # 0; equal seeds give equal results
    mark: bool  # True; by which generated speech can be known, not heard
    preset: str  # of a model that has any; "auto" is the one of least latency that keeps pace on this machine


class Filter:
    """A model and what is asked of it, ready for any number of recordings."""

    def __init__(self, model: "StreamModel", request: Any, band: Literal["full", "8k"] = "full") -> None:
        """Raises InvalidRequest if the model does not take such a request."""
        from riverrun.models import InvalidRequest

        if not isinstance(request, model.request):
            raise InvalidRequest(OTHER)
        model.close(model.open(request))  # what it refuses is refused once, and not for every recording
        self.model, self.request, self.band = model, request, band

    @property
    def latency(self) -> float:
        """Seconds a sample is held when live, resampling left out: one hop and the look-ahead."""
        spec = self.model.spec
        assert spec.takes is not None
        return float((spec.takes.hop + spec.latency) / spec.takes.rate)

    def stream(self, chunks: "Iterable[Chunk]", rate: int, channels: int) -> "Iterator[Chunk]":
        """Filter chunks `[t, channels]` as they come; as many ticks come out as go in."""
        from riverrun.streaming.engine import run

        return run(self.model, self.request, chunks, rate=rate, channels=channels, band=self.band)

    def file(
        self, source: str, target: str, *, force: bool = False, progress: Progress | None = None
    ) -> Result:
        """Filter one file or pipe into another of its form, whole or not at all.

        Raises MediaError if the source is not usable, or the target is there and not to be replaced.
        """
        from riverrun.media import UnsupportedMedia, Writer, open_media

        begun = time.perf_counter()
        target = guard(source, target, force)
        with open_media(sys.stdin.buffer if source == PIPE else source) as reader:
            rate, before, after = (
                reader.audio.rate,
                Background(reader.audio.rate),
                Background(reader.audio.rate),
            )
            if target != PIPE:
                try:
                    Path(target).parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise UnsupportedMedia(f"{target} cannot be written: {error.strerror}") from error
            with Writer(sys.stdout.buffer if target == PIPE else target, like=reader) as writer:
                heard = sound(reader, writer, before, progress)
                ticks = 0
                for chunk in self.stream(heard, rate, reader.audio.channels):
                    writer.put(after.hear(chunk))
                    ticks += len(chunk)
        elapsed = time.perf_counter() - begun
        return Result(target, ticks / rate, elapsed, self.latency, before.level, after.level)

    def array(self, data: "NDArray[Any]", rate: int) -> "NDArray[Any]":
        """Filter samples `[t]` or `[t, c]`, floats in [-1, 1] or whole numbers of full range.

        Raises ValueError for another shape or dtype, CorruptMedia for NaN or infinite samples.
        """
        import numpy as np

        from riverrun.arrays import given, taken

        data = np.asarray(data)
        sound = taken(data)
        made = self.stream(blocks(sound, rate), rate, sound.shape[1])
        return given(np.concatenate([chunk.data for chunk in made]), data)


class Restorer(Filter):
    """A model made ready to clean any number of recordings."""

    def __init__(
        self,
        task: str = "restore",
        *,
        strength: float = 1.0,
        model: str | None = None,
        device: str = "cpu",
        seed: int = 0,
        band: str = "full",
    ) -> None:
        """Raises InvalidRequest or CheckpointError if there is no such model or a setting is not usable."""
        from riverrun import models
        from riverrun.models.restoration.stream import Request

        if band not in ("full", "8k"):
            raise models.InvalidRequest(f"band is {band!r}, expected 'full' or '8k'")
        request, kept = Request(strength=strength, seed=seed), cast(Literal["full", "8k"], band)
        super().__init__(models.load(model or models.for_task(task), device), request, kept)


class Converter(Filter):
    """A model and a voice made ready for any number of recordings."""

    def __init__(
        self,
        voice: str | None = None,
        *,
        pitch: float = 0.0,
        model: str | None = None,
        device: str = "cpu",
        seed: int = 0,
        mark: bool = True,
        preset: str = "",
    ) -> None:
        """`voice` is a name the model knows, or a recording of ten seconds; by default, the model's first name.

        `doubt` says so if more than one person seems to speak in a recording; it is empty otherwise.
        With a `preset`, `fit` says what windows of the model take here, by that one or, with "auto", by the one that
        fits best.

        Raises InvalidRequest or CheckpointError if there is no such model or voice or a setting is not usable,
        MediaError for a recording that is not.
        """
        from riverrun import models
        from riverrun.models.recording import SEVERAL, recorded
        from riverrun.speaker import found

        made = models.load(model or models.for_task("convert"), device)
        if not made.spec.converts:
            raise models.InvalidRequest(OTHER)
        self.fit: Fit | None = None
        if preset:
            made = self._fitting(made, preset)
        whose = found(voice, made.spec.voices, int(made.spec.gives[0].rate))
        if not made.spec.voices and whose.sound is None:
            raise models.InvalidRequest(
                "the model knows no voice by name: give a recording of one as the voice"
            )
        heard, self.doubt = "", ""
        if whose.sound is not None:
            heard = recorded(whose.sound)
            if made.spec.discerns and any(cast("Discerns", made).several(whose.sound)):
                self.doubt = SEVERAL.format(voice)
        request = made.request(voice=whose.name, recording=heard, pitch=pitch, seed=seed, mark=mark)
        super().__init__(made, request, "8k")  # what it cannot hear is still in the voice that came in

    def _fitting(self, model: "StreamModel", preset: str) -> "StreamModel":
        """A model by a preset, with `fit` noted."""
        from riverrun.models.inference import inference
        from riverrun.models.voice.fitting import fitting, ways

        found = ways(model, preset)
        with inference(1):
            self.fit = fitting(found, time.perf_counter)
        return found[self.fit.preset]


def guard(source: str, target: str, force: bool) -> str:
    """The place to write, links followed. Raises UnsupportedMedia where that would destroy what is there."""
    from riverrun.media import UnsupportedMedia

    if target == PIPE or not Path(target).exists():
        return target
    if not Path(target).is_file():
        raise UnsupportedMedia(f"{target} is no ordinary file: name one, or - for a pipe")
    if source != PIPE and Path(source).exists() and Path(source).samefile(target):
        raise UnsupportedMedia(f"{target} is the source itself: name another place")
    if not force:
        raise UnsupportedMedia(f"{target} is there already: --force (in Python, force=True) replaces it")
    return str(Path(target).resolve()) if Path(target).is_symlink() else target


def sound(
    reader: "Reader", writer: "Writer", before: "Background", progress: Progress | None
) -> "Iterator[Chunk]":
    """The sound of a file; what else is in it goes straight to the writer."""
    from riverrun.media import Chunk

    for item in reader.items():
        if isinstance(item, Chunk):
            yield before.hear(item)
            if progress:
                progress(item.end / reader.audio.rate, reader.audio.seconds)
        else:
            writer.put(item)


class Background:
    """How loud a sound is where it is quietest: the tenth percentile of the levels of 20 ms frames."""

    def __init__(self, rate: int) -> None:
        self.frame = max(1, rate // 50)  # ticks
        self.counts = [0] * (1 - SILENCE)  # frames at 0, -1, -2 ... dB
        self.rest: Any = None

    def hear(self, chunk: "Chunk") -> "Chunk":
        """Take the next ticks; give them back."""
        import numpy as np

        power = np.square(chunk.data).mean(axis=1)
        power = power if self.rest is None else np.concatenate([self.rest, power])
        whole = len(power) // self.frame * self.frame
        self.rest = power[whole:]
        levels = 10 * np.log10(power[:whole].reshape(-1, self.frame).mean(axis=1) + 1e-12)
        for level in np.clip(-levels, 0, -SILENCE).round().astype(int):
            self.counts[level] += 1
        return chunk

    @property
    def level(self) -> float:
        """In dB below full scale; SILENCE if nothing was heard."""
        quietest, wanted = 0, sum(self.counts) / 10
        for decibels in range(-SILENCE, -1, -1):
            quietest += self.counts[decibels]
            if quietest > wanted:
                return float(-decibels)
        return float(SILENCE)


def blocks(sound: "NDArray[Any]", rate: int) -> "Iterator[Chunk]":
    """Cut an array into chunks, the last one marked."""
    from riverrun.media import Chunk

    for at in range(0, len(sound), BLOCK):
        yield Chunk(sound[at : at + BLOCK], at, rate, last=at + BLOCK >= len(sound))


@overload
def restore(
    what: "str | PathLike[str]",
    rate: None = None,
    *,
    out: "str | PathLike[str] | None" = None,
    force: bool = False,
    **settings: Unpack[Settings],
) -> Result: ...


@overload
def restore(what: "NDArray[Any]", rate: int, **settings: Unpack[Settings]) -> "NDArray[Any]": ...


def restore(
    what: "str | PathLike[str] | NDArray[Any]",
    rate: int | None = None,
    *,
    out: "str | PathLike[str] | None" = None,
    force: bool = False,
    **settings: Unpack[Settings],
) -> "Result | NDArray[Any]":
    """Clean the speech in a recording: a file into a file of its form, or an array into an array.

    Shapes: an array `[t]` or `[t, c]` of `rate` samples a second gives one of the same shape and dtype.
    A file goes to `out`, by default `<name>.restored.<suffix>` beside it; what is there is kept unless `force`.
    `settings` are those of Settings. To restore many recordings with one model, use a Restorer.
    Raises MediaError if the recording is not usable, ModelError if the model or a setting is not, ValueError if
    an array comes without its rate, or a file with one.
    """
    return _through(lambda: Restorer(**settings), what, rate, out, force, RESTORED)


@overload
def convert(
    what: "str | PathLike[str]",
    rate: None = None,
    *,
    out: "str | PathLike[str] | None" = None,
    force: bool = False,
    **settings: Unpack[Converting],
) -> Result: ...


@overload
def convert(what: "NDArray[Any]", rate: int, **settings: Unpack[Converting]) -> "NDArray[Any]": ...


def convert(
    what: "str | PathLike[str] | NDArray[Any]",
    rate: int | None = None,
    *,
    out: "str | PathLike[str] | None" = None,
    force: bool = False,
    **settings: Unpack[Converting],
) -> "Result | NDArray[Any]":
    """Give the speech in a recording another voice: a file into a file of its form, or an array into an array.

    Shapes: an array `[t]` or `[t, c]` of `rate` samples a second gives one of the same shape and dtype.
    A file goes to `out`, by default `<name>.converted.<suffix>` beside it; what is there is kept unless `force`.
    `settings` are those of Converting. To convert many recordings with one model, use a Converter.
    Raises MediaError if a recording is not usable, ModelError if the model, the voice or a setting is not, ValueError
    if an array comes without its rate, or a file with one.
    """
    return _through(lambda: Converter(**settings), what, rate, out, force, CONVERTED)


def _through(
    made: Callable[[], Filter],
    what: "str | PathLike[str] | NDArray[Any]",
    rate: int | None,
    out: "str | PathLike[str] | None",
    force: bool,
    mark: str,
) -> "Result | NDArray[Any]":
    """A file or an array through a filter, which is made when it is known that there is one of both."""
    named = not hasattr(what, "__array__")
    if named == (rate is not None) or (not named and out is not None):
        raise ValueError("give a path, and `out` if you like, or an array and its `rate`")
    filter = made()
    if rate is not None:
        return filter.array(cast("NDArray[Any]", what), rate)
    source = os.fspath(cast("str | PathLike[str]", what))
    return filter.file(source, beside(source, mark) if out is None else str(out), force=force)
