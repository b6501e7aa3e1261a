"""Pictures from prompts, in this process: clips, still pictures, and endless shows that follow another prompt."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riverrun.files import PIPE
from riverrun.local import OTHER, guard

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from riverrun.media import Chunk

THREADS = 2  # of a small model


@dataclass(frozen=True)
class Cue:
    """Another prompt, from about so many `seconds` after the beginning on: where the next chunk begins."""

    seconds: float
    prompt: str


@dataclass(frozen=True)
class Projected:
    """What was shown. Units: `seconds` of pictures, `elapsed` seconds of work, `first` seconds until there was one."""

    path: str
    frames: int
    seconds: float
    elapsed: float
    first: float


class Projector:
    """A model made ready to show any number of prompts."""

    def __init__(
        self, model: str | None = None, *, device: str = "cpu", seed: int = 0, steps: int | None = None
    ) -> None:
        """`model` is a name, or what `riverrun train video` made.

        Raises InvalidRequest or CheckpointError if there is no such model.
        """
        from riverrun import models

        self.name = model or models.for_task("show")
        self.model = models.load(self.name, device)
        if not self.model.spec.shows:
            raise models.InvalidRequest(OTHER)
        port = self.model.spec.gives[0]
        self.rate, self.size, self.seed, self.steps = port.rate, port.size, seed, steps or 0

    def show(
        self, prompt: str, seconds: float, cues: Sequence[Cue] = (), picture: "NDArray[Any] | None" = None
    ) -> "Iterator[Chunk]":
        """Pictures as they are made; `picture` `[y, x, 3]` is the first one, cut and scaled to fit.

        Raises InvalidRequest for a prompt or a length that the model does not take.
        """
        from riverrun.models.inference import on

        yield from on(
            THREADS, self._chunks(prompt, seconds, sorted(cues, key=lambda cue: cue.seconds), picture)
        )

    def _chunks(
        self, prompt: str, seconds: float, cues: Sequence[Cue], picture: "NDArray[Any] | None"
    ) -> "Iterator[Chunk]":
        from riverrun.media import cover
        from riverrun.models.errors import InvalidRequest
        from riverrun.models.picture import pictured
        from riverrun.models.shown import Shown

        if not seconds > 0:
            raise InvalidRequest(f"seconds is {seconds}, expected above 0")
        given = "" if picture is None else pictured(cover(picture, self.size))
        model, waiting = self.model, list(cues)
        for cue in waiting:  # before anything is made
            model.open(Shown(cue.prompt))
        state, shown = model.open(Shown(prompt, seconds, False, self.seed, self.steps, given)), 0.0
        while True:
            while waiting and waiting[0].seconds <= shown:
                state = model.update(state, Shown(waiting.pop(0).prompt))
            ((made, *_),), state = model.step([None], state)
            if made is None:
                continue
            shown = float(made.end / self.rate)
            yield made
            if made.last:
                return

    def file(
        self,
        prompt: str,
        target: str,
        seconds: float = 2.25,
        cues: Sequence[Cue] = (),
        picture: "NDArray[Any] | None" = None,
        *,
        force: bool = False,
    ) -> Projected:
        """Show a prompt in an MP4 file, which appears whole or not at all, or as fragmented MP4 in a pipe.

        The file's tags say how it was made. Raises MediaError if the target is there and not to be replaced,
        InvalidRequest for what cannot be shown.
        """
        begun, first, frames = time.perf_counter(), 0.0, 0
        place = target if target == PIPE else guard(PIPE, target, force)
        settings = {"model": Path(self.name).name, "prompt": prompt, "seconds": seconds, "seed": self.seed}
        settings |= {"steps": self.steps} if self.steps else {}
        settings |= {"cues": [[cue.seconds, cue.prompt] for cue in cues]} if cues else {}
        with self._writer(place, prompt, settings) as writer:
            for chunk in self.show(prompt, seconds, cues, picture):
                first = first or time.perf_counter() - begun
                frames += len(chunk)
                writer.put(replace(chunk, last=False))
        return Projected(target, frames, float(frames / self.rate), time.perf_counter() - begun, first)

    def picture(self, prompt: str, picture: "NDArray[Any] | None" = None) -> "NDArray[Any]":
        """One picture.  # -> [y, x, 3]. Raises InvalidRequest."""
        (made,) = self.show(prompt, float(1 / self.rate), (), picture)
        pixels: NDArray[Any] = made.data[0]
        return pixels

    def _writer(self, place: str, prompt: str, settings: dict[str, Any]) -> Any:
        from riverrun.media import Fragments, VideoWriter, tagged

        if place != PIPE:
            return VideoWriter(place, self.rate, self.size, prompt, settings)
        return Piped(Fragments(self.rate, self.size, tags=tagged(prompt, settings)))


class Piped:
    """Fragments as they come, on standard output."""

    def __init__(self, fragments: Any) -> None:
        self.fragments = fragments

    def __enter__(self) -> "Piped":
        self._write(self.fragments.head)
        return self

    def __exit__(self, *_: object) -> None:
        return

    def put(self, chunk: "Chunk") -> None:
        """Write the next pictures."""
        self._write(self.fragments.add(chunk))

    def _write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
