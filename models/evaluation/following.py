"""How well clips of the procedural world follow captions, and how steadily: beside what they were drawn after."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from riverrun.models.evaluation.finding import Finder
from riverrun.models.evaluation.pixels import Mark, read
from riverrun.models.evaluation.resemblance import Frames, changes, psnr, recolored, seam
from riverrun.models.training.world.captions import caption
from riverrun.models.training.world.render import Renderer
from riverrun.models.training.world.scenes import Scene, draw
from riverrun.models.training.world.sprites import Bank

KINDS = ("object", "color", "count", "verb", "direction", "light", "camera")
SPAN = 5.0  # seconds of a stream that are compared
AT = (10.0, 30.0, 60.0)  # seconds after which, with the first ones
LEAST = 2.0  # seconds from which attributes can be read

Show = Callable[[str, int, int], Frames]
"""(caption, frames, seed) -> pictures"""


@dataclass(frozen=True)
class Told:
    """A held-out scene, how it is told, and how it looks when drawn."""

    scene: Scene
    caption: str
    drawn: Frames


@dataclass(frozen=True)
class Followed:
    """Of one clip: which attributes are right, and how it moves.

    Units: `change` levels of 255 from picture to picture, `alike` dB between them; `seam` as resemblance.seam.
    """

    caption: str
    marks: list[Mark]
    change: float
    alike: float
    seam: float | None


@dataclass(frozen=True)
class Drift:
    """How far 5 seconds of a stream are from the first 5.

    `mean` and `spread` are the changes of the latents' mean and standard deviation, the root mean square over
    channels, in deviations of the first; `colors` is the share of pixels of another colour.
    Units: `seconds` into the stream, where they end.
    """

    seconds: float
    mean: float
    spread: float
    colors: float


def told(bank: Bank, count: int, frames: int, size: int, rate: float) -> list[Told]:
    """Scenes of the split "heldout", for as many frames or as are needed to read them."""
    scenes = [draw(seed, "heldout", bank) for seed in range(count)]
    times = np.arange(max(frames, round(LEAST * rate))) / rate
    return [
        Told(
            scene,
            caption(scene, np.random.default_rng([seed]), bank),
            Renderer(scene, bank, size).frames(times),
        )
        for seed, scene in enumerate(scenes)
    ]


def follow(
    scenes: Sequence[Told], show: Show | None, finder: Finder, rate: float, hop: int
) -> dict[str, list[Followed]]:
    """Judge what `show` makes of each caption, and the same clips as if they were of the next one, the floor.

    Without `show`, what was drawn, the ceiling.
    """
    clips = [
        one.drawn if show is None else show(one.caption, len(one.drawn), i) for i, one in enumerate(scenes)
    ]
    found = {"own": [judge(one, clip, finder, rate, hop) for one, clip in zip(scenes, clips, strict=True)]}
    if show is not None and len(scenes) > 1:
        turned = [*scenes[1:], scenes[0]]
        found["shuffled"] = [judge(o, clip, finder, rate, hop) for o, clip in zip(turned, clips, strict=True)]
    return found


def judge(one: Told, clip: Frames, finder: Finder, rate: float, hop: int) -> Followed:
    """How well a clip shows a scene."""
    marks = read(clip, one.scene, finder, rate)
    change = float(changes(clip).mean())
    return Followed(one.caption, marks, change, psnr(clip[1:], clip[:-1]), seam(clip, hop))


def drift(
    frames: Frames, latents: Tensor, rate: float, span: float = SPAN, at: Sequence[float] = AT
) -> Iterator[Drift]:
    """What became of the first seconds of a stream later on; where it is too short, nothing.

    Shapes: frames `[t, y, x, 3]`, latents `[c, f, y, x]`.
    """
    pace = latents.shape[1] / len(frames)  # latent frames a picture
    first = slice(0, round(span * rate))

    def part(pictures: slice) -> Tensor:
        return latents[:, round(pictures.start * pace) : round(pictures.stop * pace)].flatten(1).float()

    mean, spread = part(first).mean(1), part(first).std(1)
    for seconds in at:
        later = slice(round((seconds - span) * rate), round(seconds * rate))
        if later.stop > len(frames) or later.start < first.stop:
            continue
        now = part(later)
        moved = ((now.mean(1) - mean) / spread).square().mean().sqrt()
        wider = ((now.std(1) - spread) / spread).square().mean().sqrt()
        yield Drift(seconds, float(moved), float(wider), recolored(frames[first], frames[later]))
