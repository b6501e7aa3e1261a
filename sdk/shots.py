"""Models that show, each behind the same few words: one that is shown as it goes on, one that makes clips.

What is asked for is a Shot, whose values are None where the model is to choose; one that a model does not know is
refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from riverrun.local import OTHER

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from riverrun.media import Chunk
    from riverrun.models.contract import StreamModel
    from riverrun.models.shown import Shown
    from riverrun.models.training.loop import Crew
    from riverrun.models.video.clips import Request

THREADS = 2  # of a small model
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")  # references that are no videos
LENGTH = 2.25  # seconds that are shown where nothing is said
LONGEST = 816  # frames of a reference


@dataclass(frozen=True)
class Cue:
    """Another prompt, from about so many `seconds` after the beginning on: where the next chunk begins."""

    seconds: float
    prompt: str


@dataclass(frozen=True)
class Shot:
    """How a prompt is shown; None is up to the model.

    `image` is the first picture, `[y, x, 3]`, `then` what is to be seen later, `guidance` 1 for none. Of `references`,
    files of pictures or videos, `strategy` says what they become, and `edit` how far they are changed, 0 to 1. In
    `mode` "loop" or "fifo" a clip of `frames` goes on for `seconds`, clip by clip or frame by frame. With `caching`
    "pab", "teacache-slow" or "teacache-fast" a clip is made sooner and not quite the same; in fifo there is none.
    Units: `frames` a number, or a length such as "2s"; `fps` frames a second; `size` height and width in pixels.
    """

    seconds: float | None = None
    then: Sequence[Cue] | None = None
    image: "NDArray[Any] | None" = None
    steps: int | None = None
    frames: int | str | None = None
    fps: float | None = None
    size: tuple[int, int] | None = None
    guidance: float | None = None
    negative: str | None = None
    loops: int | None = None
    references: Sequence[str] | None = None
    strategy: str | None = None
    edit: float | None = None
    aesthetic: float | None = None
    motion: float | None = None
    camera: str | None = None
    mode: str | None = None
    caching: str | None = None

    @property
    def told(self) -> dict[str, Any]:
        """What is not left to the model."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in named if value is not None}

    @property
    def length(self) -> float:
        """In seconds. Raises InvalidRequest."""
        from riverrun.models.errors import InvalidRequest

        seconds = LENGTH if self.seconds is None else self.seconds
        if not 0 < seconds < float("inf"):
            raise InvalidRequest(f"seconds is {seconds}, expected above 0")
        return seconds

    @property
    def cues(self) -> list[Cue]:
        """What is to be seen later, in order."""
        return sorted(self.then or (), key=lambda cue: cue.seconds)

    def only(self, known: Sequence[str]) -> dict[str, Any]:
        """`told`, if a model knows all of it. Raises InvalidRequest."""
        from riverrun.models.errors import InvalidRequest

        if other := [name for name in self.told if name not in known]:
            raise InvalidRequest(
                f"{other[0]} is given, and this model does not know it, but {', '.join(known)}: leave it out"
            )
        return self.told


@dataclass(frozen=True)
class Take:
    """Pictures of `size` rows and columns, `rate` a second, that are made when they are asked for.

    `plan` tells what that is going to take, where it is worth knowing before.
    """

    rate: Fraction
    size: tuple[int, int]
    chunks: "Iterator[Chunk]"
    plan: str = ""


class Shows(Protocol):
    """A model as a Projector uses it; of processes that make a clip together, the one that `leads` keeps it."""

    @property
    def leads(self) -> bool: ...

    def take(self, prompt: str, shot: Shot, seed: int, still: bool = False) -> Take:
        """A prompt, shown in a clip or in a `still` picture. Raises InvalidRequest, MediaError."""
        ...


class Lite:
    """A model that was trained by `riverrun train video`: a stream that goes on, and takes other prompts."""

    knows = ("seconds", "then", "image", "steps")
    leads = True

    def __init__(self, model: str, device: str) -> None:
        from riverrun import models

        self.model = models.load(model, device)
        if not self.model.spec.shows:
            raise models.InvalidRequest(OTHER)
        port = self.model.spec.gives[0]
        self.rate, self.size = Fraction(port.rate), port.size

    def take(self, prompt: str, shot: Shot, seed: int, still: bool = False) -> Take:
        """As Shows.take."""
        from riverrun.media import cover
        from riverrun.models.inference import on
        from riverrun.models.picture import pictured
        from riverrun.models.shown import Shown

        shot.only(self.knows)
        seconds, cues = shot.length, shot.cues
        given = "" if shot.image is None else pictured(cover(shot.image, self.size))
        begun = Shown(prompt, float(1 / self.rate) if still else seconds, False, seed, shot.steps or 0, given)
        return Take(self.rate, self.size, on(THREADS, followed(self.model, begun, cues)))


class Published:
    """A published Open-Sora 1.2 checkpoint, in its folder: clips that go on from each other, or shows without end."""

    both = (
        "frames", "fps", "size", "steps", "guidance", "negative", "aesthetic", "motion", "camera", "caching",
    )  # fmt: skip
    clips = (*both, "loops", "references", "strategy", "edit")
    live = (*both, "seconds", "then", "image", "mode")

    def __init__(self, folder: Path, crew: "Crew", half: bool) -> None:
        from riverrun.models.video.clips import load

        self.crew, self.device, self.leads = crew, str(crew.device), crew.is_main_process
        self.model = load(folder, self.device, "bfloat16" if half else "float32", crew.num_processes)

    def take(self, prompt: str, shot: Shot, seed: int, still: bool = False) -> Take:
        """As Shows.take; of a side, what does not fill a latent is left out."""
        from riverrun.models.inference import free
        from riverrun.models.video.parallel import least

        if shot.mode and not still:
            return self._live(prompt, shot, seed)
        request, references = self._request(prompt, replace(shot, frames=1) if still else shot, seed)
        room, side = least(free(self.device), self.crew), self.model.vae.config.spatial.factor
        plan = self.model.plan(request, room)
        given = [reference(path, request.size) for path in references]
        rate = Fraction(request.fps).limit_denominator(1001)
        size = request.size[0] // side * side, request.size[1] // side * side
        return Take(rate, size, shades(self.model.generate(request, given, room), rate), str(plan))

    def _live(self, prompt: str, shot: Shot, seed: int) -> Take:
        """As the model is served: clip by clip or frame by frame, for so many seconds."""
        from riverrun.media import cover
        from riverrun.models.inference import free, on
        from riverrun.models.picture import pictured
        from riverrun.models.shown import Shown
        from riverrun.models.video.live import LiveOpenSora
        from riverrun.models.video.parallel import least

        request, _ = self._request(prompt, shot, seed)
        request = replace(request, carried=self.model.vae.config.latents)
        room = least(free(self.device), self.crew)
        model = LiveOpenSora(self.model, request, room)
        port, mode = model.spec.gives[0], shot.mode or ""
        given = "" if shot.image is None else pictured(cover(shot.image, port.size))
        begun = Shown(request.prompt, shot.length, False, seed, shot.steps or 0, given, mode)
        made = on(None, followed(model, begun, shot.cues))
        return Take(Fraction(port.rate), port.size, made, str(self.model.plan(request, room)))

    def _request(self, prompt: str, shot: Shot, seed: int) -> "tuple[Request, Sequence[str]]":
        """What is asked for, and the references; both may be told at the end of a prompt, too."""
        from riverrun.models.errors import InvalidRequest
        from riverrun.models.video import caching, prompts, resolutions
        from riverrun.models.video.clips import Request

        told, asked = prompts.options(prompt), shot.only(self.live if shot.mode else self.clips)
        asked = {name: value for name, value in asked.items() if name in self.clips}
        references = [*asked.pop("references", ()), *told.references]
        if (scale := asked.pop("guidance", None)) is not None:
            if scale < 1:
                raise InvalidRequest(f"guidance is {scale:g}, expected at least 1, which is none")
            asked["strength"] = scale - 1
        if "frames" in asked:
            asked["frames"] = resolutions.frames(asked["frames"])
        if "caching" in asked:
            asked["caching"] = caching.named(asked["caching"])
        return Request(told.text, seed=seed, **{"strategy": told.strategy, **asked}), references


def followed(model: "StreamModel", begun: "Shown", cues: list[Cue]) -> "Iterator[Chunk]":
    """What a stream shows of a request and of the cues, each handed on when so much was shown.

    Raises InvalidRequest before anything is made.
    """
    for asked in (begun, *(replace(begun, prompt=cue.prompt) for cue in cues)):
        model.open(asked)

    def made() -> "Iterator[Chunk]":
        state, shown, waiting = model.open(begun), 0.0, list(cues)
        while True:
            while waiting and waiting[0].seconds <= shown:
                state = model.update(state, type(begun)(waiting.pop(0).prompt))
            ((chunk, *_),), state = model.step([None], state)
            if chunk is None:
                continue
            shown = float(chunk.end / chunk.rate)
            yield chunk
            if chunk.last:
                return

    return made()


def shades(made: "Iterator[Tensor]", rate: Fraction) -> "Iterator[Chunk]":
    """Pixels in [-1, 1] as they are shown.  # [3, f, y, x]"""
    from riverrun.media import Chunk
    from riverrun.models.video.clips import shown

    start = 0
    for pixels in made:
        yield Chunk(shown(pixels), start, rate)
        start += pixels.shape[1]


def reference(path: str, size: tuple[int, int]) -> "Tensor":
    """A picture, or the pictures of a video, scaled and cut to a size.  # -> [3, f, y, x] in [-1, 1]

    Raises MediaError for what is damaged or exceeds a limit.
    """
    import numpy as np

    from riverrun.media import UnsupportedMedia, cover, picture, video
    from riverrun.models.video.clips import pixels

    frames: list[NDArray[Any]] = []
    if path.lower().endswith(PICTURES):
        frames.append(cover(picture(path), size))
    else:
        for chunk in video(path):
            frames += [cover(frame, size) for frame in chunk.data]
            if len(frames) > LONGEST:
                raise UnsupportedMedia(f"{path} has more than {LONGEST} pictures: cut it")
    return pixels(np.stack(frames))


def loaded(name: str, device: str, half: bool) -> Shows:
    """A model by name, or in a file or folder. Raises CheckpointError, InvalidRequest, ModelError."""
    from riverrun.models import InvalidRequest
    from riverrun.models.video import parallel

    crew = parallel.crew(device)
    if Path(name).is_dir():
        return Published(Path(name), crew, half)
    if crew.num_processes > 1:
        raise InvalidRequest(
            f"{crew.num_processes} processes are for published checkpoints, and this model is small: start one"
        )
    if half:
        raise InvalidRequest("half is for published checkpoints, and this model is small: leave it out")
    return Lite(name, device)
