"""Pictures from prompts, in this process: clips, still pictures, and endless shows that follow another prompt."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riverrun.files import PIPE
from riverrun.local import guard
from riverrun.shots import Cue, Shot, Shows, Take, loaded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from riverrun.media import Chunk

__all__ = ["Cue", "Projected", "Projector", "Shot"]
WHOLE = Shot()
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Projected:
    """What was shown. Units: `seconds` of pictures, `elapsed` seconds of work, `first` seconds until there was one."""

    path: str
    frames: int
    seconds: float
    elapsed: float
    first: float


class Projector:
    """A model made ready to show any number of prompts.

    Processes that torchrun started make the clips of a published checkpoint together; each has to ask for the same, and
    the one that `leads` writes and tells.
    """

    def __init__(
        self, model: str | None = None, *, device: str = "cpu", half: bool = False, seed: int = 0
    ) -> None:
        """`model` is a name, what `riverrun train video` made, or the folder of a published checkpoint.

        `half` computes a published one in half precision. Raises InvalidRequest or CheckpointError if there is no such
        model.
        """
        from riverrun.models import for_task

        self.name, self.seed = model or for_task("show"), seed
        self.model: Shows = loaded(self.name, device, half)
        self.leads = self.model.leads

    def show(self, prompt: str, shot: Shot = WHOLE) -> "Iterator[Chunk]":
        """Pictures as they are made.

        Raises InvalidRequest for a prompt or a shot that the model does not take, or has no memory for, and MediaError
        for references that are not usable.
        """
        return self.model.take(prompt, shot, self.seed).chunks

    def file(
        self, prompt: str, target: str, shot: Shot = WHOLE, *, force: bool = False, tell: Tell | None = None
    ) -> Projected:
        """Show a prompt in an MP4 file, which appears whole or not at all, or as fragmented MP4 in a pipe.

        The file's tags say how it was made. `tell` is told what it is going to take, where that is worth knowing.
        Raises MediaError if the target is there and not to be replaced, and as `show` does.
        """
        begun, first, frames = time.perf_counter(), 0.0, 0
        place = target if target == PIPE else guard(PIPE, target, force)
        take = self.model.take(prompt, shot, self.seed)
        if tell and take.plan and self.leads:
            tell(take.plan)
        with self._writer(place, take, prompt, shot) if self.leads else Nowhere() as writer:
            for chunk in take.chunks:
                first = first or time.perf_counter() - begun
                frames += len(chunk)
                writer.put(replace(chunk, last=False))
        return Projected(target, frames, float(frames / take.rate), time.perf_counter() - begun, first)

    def picture(self, prompt: str, shot: Shot = WHOLE, *, tell: Tell | None = None) -> "NDArray[Any]":
        """One picture.  # -> [y, x, 3]. `tell` is as in `file`. Raises as `show` does."""
        take = self.model.take(prompt, shot, self.seed, still=True)
        if tell and take.plan and self.leads:
            tell(take.plan)
        (made,) = take.chunks
        pixels: NDArray[Any] = made.data[0]
        return pixels

    def _writer(self, place: str, take: Take, prompt: str, shot: Shot) -> Any:
        from riverrun.media import Fragments, VideoWriter, tagged

        told = {name: value for name, value in shot.told.items() if name != "image"}
        told |= {"then": [[cue.seconds, cue.prompt] for cue in shot.then]} if shot.then else {}
        settings = {"model": Path(self.name).name, "prompt": prompt, "seed": self.seed, **told}
        if place != PIPE:
            return VideoWriter(place, take.rate, take.size, prompt, settings)
        return Piped(Fragments(take.rate, take.size, tags=tagged(prompt, settings)))


class Nowhere:
    """Where the pictures of a process go that does not lead."""

    def __enter__(self) -> "Nowhere":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def put(self, chunk: "Chunk") -> None:
        """Nothing is kept."""


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
