"""How much memory a clip takes, part by part, before any of it is made.

The weights of transformer and autoencoder stay. Prompts are read, latents sampled, and groups of pictures decoded one
after the other, so that the largest of the three counts. What operators hold at once is counted from the shapes; the
tests compare it with what they really hold.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from torch import nn

from riverrun.models.video import resolutions
from riverrun.models.video.caching import BLOCKS
from riverrun.models.video.config import Config
from riverrun.models.video.vae import Config as VaeConfig

GIB = 2**30
MARGIN = 1.1  # for what libraries hold beside tensors


@dataclass(frozen=True)
class Plan:
    """Bytes by part: weights that stay, and the most that reading, sampling and decoding hold besides.

    With `split`, the two velocities of guidance are computed one after the other, in half the memory.
    """

    transformer: int
    autoencoder: int
    reading: int
    sampling: int
    decoding: int
    split: bool

    @property
    def more(self) -> int:
        """What is needed beside the weights."""
        return max(self.reading, self.sampling, self.decoding)

    @property
    def peak(self) -> int:
        """The most that is held at once."""
        return self.transformer + self.autoencoder + self.more

    def __str__(self) -> str:
        parts = {
            "transformer": self.transformer,
            "autoencoder": self.autoencoder,
            "then the text encoder": self.reading,
            f"sampling{' (guidance split)' if self.split else ''}": self.sampling,
            "decoding": self.decoding,
        }
        told = ", ".join(f"{name} {gib(size)}" for name, size in parts.items())
        return f"about {gib(self.peak)} of memory: {told}"


def gib(size: float) -> str:
    """Bytes as one reads them."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / GIB * 1024:.1f} MiB"


def sampling(
    config: Config, latents: tuple[int, int, int], rows: int, captions: int, item: int, ranks: int = 1
) -> int:
    """Bytes of one evaluation of an STDiT3, and of the captions that it is given.

    Either feed-forward holds most, or attention along time, which turns queries and keys in float32, or attention
    within frames where what it attends with is exchanged.
    Units: `latents` are frames, rows and columns; `rows` of the batch; `item` bytes of a value; `ranks` processes
    have a share of the patches each.
    """
    tokens = rows * latents[0] * -(-_places(config, latents) // ranks)
    a_value = max((4 + 2 * config.ratio) * item, 6 * item + 26, 16 * item if ranks > 1 else 0)
    words = (captions + rows) * 4 * config.depth * config.tokens * config.width * item
    return round(MARGIN * (tokens * config.width * a_value + words))


def remembered(
    config: Config,
    latents: tuple[int, int, int],
    clips: int,
    kept: Collection[str],
    branches: int,
    item: int,
    ranks: int = 1,
) -> int:
    """Bytes of features that evaluations of `clips` take over: see caching.Caching.kept.

    They are there three times where they are computed anew: as before, block by block, and put together.
    Units: as in `sampling`; `branches` of guidance.
    """
    places = _places(config, latents)
    share = -(-places // ranks)
    attention = sum(config.depth * (2 if kind == "cross" else 1) for kind in kept if kind != BLOCKS)
    whole = branches * share + places if BLOCKS in kept else 0  # what they add, and their input
    held = 3 * (whole + attention * branches * share)
    return round(MARGIN * clips * latents[0] * held * config.width * item)


def _places(config: Config, latents: tuple[int, int, int]) -> int:
    """Patches of a latent frame."""
    _, y, x = latents
    return -(-y // config.patch) * -(-x // config.patch)


def decoding(config: VaeConfig, frames: int, size: tuple[int, int], item: int) -> int:
    """Bytes of decoding one group of pictures, of which the 2D decoder takes a micro-batch at a time.

    At each level it holds either five times its own channels or three times those of the one that is coarser.
    Units: `size` in pixels.
    """
    spatial, group = config.spatial, min(config.group, frames)
    pixels = size[0] * size[1]
    levels = zip(spatial.channels, (*spatial.channels[1:], 0), strict=True)
    widest = max(max(5 * c, 3 * d) / 4.0**i for i, (c, d) in enumerate(levels)) / spatial.patch**2
    flat = min(config.batch, frames) * widest + 2 * 3 * group
    along = 13 * config.temporal.width * (group + config.temporal.factor) / spatial.factor**2
    return round(MARGIN * pixels * item * max(flat, along))


def weights(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    held: int = sum(v.numel() * v.element_size() for v in (*module.parameters(), *module.buffers()))
    return held


def ways(fits: Callable[[int, tuple[int, int]], bool], frames: int, size: tuple[int, int]) -> Iterator[str]:
    """What would fit instead: fewer frames of this size, as many of a smaller one."""
    shorter = (n for n in range((frames - 1) // resolutions.GROUP * resolutions.GROUP, 0, -resolutions.GROUP))
    if found := next((n for n in shorter if fits(n, size)), None):
        yield f"{found} frames"
    shape = next(
        (shape for shape, sizes in resolutions.SHAPES.items() if size in sizes),
        "9:16" if size[0] < size[1] else "16:9",
    )
    smaller = ((name, resolutions.size(name, shape)) for name in reversed(resolutions.NAMES))
    for name, (y, x) in smaller:
        if y * x < size[0] * size[1] and fits(frames, (y, x)):
            yield f"{name}, {y} x {x} pixels"
            return
