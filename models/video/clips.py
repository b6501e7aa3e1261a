"""Clips by Open-Sora 1.2: a request to pixels, group by group, loop by loop.

What went before is kept as latents from loop to loop, and not decoded and coded again as in the published script.
Letters: b session, c channel, f frame, y and x rows and columns.
Source: arXiv 2412.20404 (Open-Sora), image and video conditioning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riverrun.models.errors import CheckpointError, InvalidRequest
from riverrun.models.state import State, rows
from riverrun.models.video import caching, plan, prompts, rflow, strategy, vae
from riverrun.models.video.caching import BRANCHES, Caching
from riverrun.models.video.parallel import Parallel
from riverrun.models.video.pixels import to_pictures, to_pixels
from riverrun.models.video.plan import Plan, gib
from riverrun.models.video.published import load as load_network
from riverrun.models.video.published import load_vae
from riverrun.models.video.resolutions import FRAMES, PICTURE, shift_frames
from riverrun.models.video.rflow import Guided
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.text import Reader, once, weight
from riverrun.models.video.vae import VideoVae

PARTS = {  # folders of a checkpoint, and what is published as they are
    "transformer": "hpcai-tech/OpenSora-STDiT-v3",
    "vae": "hpcai-tech/OpenSora-VAE-v1.2",
    "text_encoder": "DeepFloyd/t5-v1_1-xxl",
}
LIMITS = {
    "frames": (1, max(FRAMES.values()), ": what is longer takes loops"),
    "fps": (1, 120, ""),
    "steps": (1, 1000, ""),
    "strength": (0, 100, ": 0 is no guidance"),
    "loops": (1, 100, ": make more than one clip"),
    "carried": (1, 240, ""),
    "edit": (0, 1, ": 0 changes nothing"),
    "aesthetic": (0, 10, ""),
    "motion": (0, 100, ""),
}
SIDES = range(16, 4097)  # pixels
MOST = 2000  # characters that are read for a loop: more than all the tokens there are


@dataclass(frozen=True)
class Request:
    """What is to be shown. `strength` of guidance is one less than what is published as its scale.

    `prompt` may hold a text for each loop, and `negative` is what guidance leads away from. `strategy` says which
    latent frames references become; where it is empty, strategy.usual does. Every loop but the first begins with the
    `carried` last latent frames of the one before, changed as far as `edit` says. With `split` guidance takes two
    forwards of half the memory; None: where there is not enough for one. `caching` is what evaluations of a clip take
    over from those before.
    Units: `size` in pixels, height and width; `fps` in frames a second.
    Raises InvalidRequest for values outside their limits.
    """

    prompt: str
    frames: int = 51
    size: tuple[int, int] = (240, 426)
    fps: float = 24.0
    steps: int = 30
    strength: float = 6.0
    seed: int = 0
    loops: int = 1
    carried: int = 5
    edit: float = 0.0
    align: int | None = 5
    strategy: str = ""
    aesthetic: float | None = 6.5
    motion: float | None = None
    camera: str | None = None
    negative: str = ""
    split: bool | None = None
    caching: Caching = Caching()

    def __post_init__(self) -> None:
        for name, (least, most, way) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InvalidRequest(f"{name} is {value:g}, expected {least} to {most}{way}")
        if any(side not in SIDES for side in self.size):
            told = " x ".join(map(str, self.size))
            raise InvalidRequest(f"size is {told} pixels, expected {SIDES[0]} to {SIDES[-1]} on a side")
        for name, texts in (("prompt", prompts.segments(self.prompt)[0]), ("negative", [self.negative])):
            if name == "prompt" and not all(text.strip() for text in texts):
                raise InvalidRequest(f"{name} is empty, expected what is to be seen")
            if (length := max(map(len, texts))) > MOST:
                raise InvalidRequest(f"{name} has {length} characters, expected up to {MOST}: shorten it")

    def text(self, loop: int) -> str:
        """What is read for a loop: with scores, and cleaned."""
        said = prompts.at(self.prompt, loop)
        return prompts.cleaned(prompts.scored(said, self.aesthetic, self.motion, self.camera))


@dataclass(frozen=True)
class OpenSora:
    """The parts of Open-Sora 1.2. `reading` is how many bytes the reader takes while it reads.

    With several `ranks` as many processes have these parts, are asked for the same, and have all of what is made: the
    transformer is computed by all of them together, the rest by each.
    """

    net: STDiT3
    vae: VideoVae
    reader: Reader
    reading: int = 0
    ranks: int = 1

    @torch.inference_mode()
    def generate(
        self, request: Request, references: Sequence[Tensor] = (), free: int | None = None
    ) -> Iterator[Tensor]:
        """The pixels of all loops in a row, group by group.  # [3, f, y, x] in [-1, 1]

        References are `[3, n, y, x]`, of the size that is asked for; `free` is as in `plan`. Raises InvalidRequest for
        what does not fit into memory, a size without latents, loops that carry no whole groups or all of a clip, and
        for what `strategy` refuses.
        """
        shape, split = self.shape(request), self.plan(request, free).split
        texts = [request.text(loop) for loop in range(request.loops)]
        steps = strategy.parse(request.strategy)
        captions = self.read(list(dict.fromkeys(texts)), request.negative)
        draw = vae.draws(request.seed)
        held = [self.vae.encode(r[None].to(self.like), draw)[0] for r in references]
        if not request.strategy:
            steps = strategy.usual([r.shape[1] for r in held], request.carried, request.edit)
        dropped = self.vae.config.frames(request.carried)
        for loop, text in enumerate(texts):
            x = rflow.draws([seed_of(request.seed, loop)], shape)(rflow.START)[0].to(self.like.device)
            again = (
                [strategy.continuation(loop, len(held) - 1, request.carried, request.edit)] if loop else []
            )
            x, mask = strategy.apply([*steps, *again], held, x, loop, request.align)
            x = self._sample(request, x, mask, captions[text], loop, split)
            late = 0 if loop == 0 else dropped
            for pixels in self.vae.stream(x.to(self.like), request.frames):
                if pixels.shape[2] > late:
                    yield pixels[0, :, late:]
                late = max(late - pixels.shape[2], 0)
            held = [*held[: len(references)], x[0]]

    def plan(self, request: Request, free: int | None = None) -> Plan:
        """What a request takes, with guidance split where it has to be.

        `free` bytes are to be had beside the weights; None: enough. Raises InvalidRequest where that is too little,
        with what would fit instead.
        """
        tried = [False, True] if request.split is None else [request.split]
        plans = [self._plan(replace(request, split=split)) for split in tried]
        if free is None:
            return plans[0]
        if fitting := next((made for made in plans if made.more <= free), None):
            return fitting
        if self.reading > free:
            raise InvalidRequest(
                f"the text encoder takes {gib(self.reading)} beside the weights, and {gib(free)} are free:"
                " free some memory, or choose another device"
            )
        least = replace(request, split=True)
        other = [] if self._plan(least).more > free or request.split is None else ["split guidance"]
        if least.caching.kept and self._plan(replace(least, caching=Caching())).more <= free:
            other.append("no caching")

        def fits(frames: int, size: tuple[int, int]) -> bool:
            return self._plan(replace(least, frames=frames, size=size)).more <= free

        other += plan.ways(fits, request.frames, request.size)
        raise InvalidRequest(
            f"{request.frames} frames of {request.size[0]} x {request.size[1]} pixels take"
            f" {gib(plans[-1].more)} beside the weights, and {gib(free)} are free: "
            + (f"this would fit: {', or '.join(other)}" if other else "nothing smaller would fit")
        )

    def together(self, request: Request, free: int | None, most: int) -> int:
        """How many clips fit into one forward, `most` at most; one, if `plan` says that it fits."""
        counts = range(most, 1, -1)
        return next((n for n in counts if free is None or self._plan(request, n).more <= free), 1)

    def _plan(self, request: Request, clips: int = 1) -> Plan:
        config, item = self.net.config, self.net.final_layer.linear.weight.element_size()
        latents = self.vae.config.size(request.frames, *request.size)
        count = clips * (2 if request.strength and not request.split else 1)
        texts = clips * len({request.text(loop) for loop in range(request.loops)})
        return Plan(
            plan.weights(self.net),
            plan.weights(self.vae),
            self.reading,
            plan.sampling(config, latents, count, 2 * texts, item, self.ranks)
            + plan.remembered(
                config, latents, clips, request.caching.kept, len(branches(request)), item, self.ranks
            ),
            plan.decoding(self.vae.config, request.frames, request.size, self.like.element_size()),
            bool(request.strength and request.split),
        )

    def shape(self, request: Request) -> tuple[int, int, int, int]:
        """Channels and size of the latents of one clip. Raises InvalidRequest as `generate` does."""
        config = self.vae.config
        shape = config.spatial.latent, *config.size(request.frames, *request.size)
        if request.loops > 1 and (request.carried % config.latents or request.carried >= shape[1]):
            raise InvalidRequest(
                f"carried is {request.carried} of {shape[1]} latent frames, expected fewer,"
                f" in groups of {config.latents}"
            )
        return shape

    @property
    def like(self) -> Tensor:
        """A value as the autoencoder computes with."""
        return self.vae.scale.new_zeros(())

    def read(self, texts: Sequence[str], negative: str) -> dict[str, tuple[State, State]]:
        """Each text, and what guidance leads away from, as the network reads them: nothing, if not something."""
        told = self.reader([*texts, prompts.cleaned(negative)] if negative else texts)
        device = self.net.final_layer.linear.weight.device
        seen = list(zip(told.features.to(device).split(1), told.mask.to(device).split(1), strict=True))
        nothing = torch.ones(1, dtype=torch.bool, device=device)
        away = self.net.read(*seen[-1]) if negative else None
        return {
            text: (self.net.read(f, m), away or self.net.read(f, m, nothing))
            for text, (f, m) in zip(texts, seen, strict=False)
        }

    def _sample(
        self,
        request: Request,
        x: Tensor,
        mask: Tensor,
        captions: tuple[State, State],
        loop: int,
        split: bool,
    ) -> Tensor:
        """Latents of one loop.  # [c, f, y, x] -> [1, c, f, y, x], float32"""
        device = self.net.final_layer.linear.weight.device
        velocity = self.velocity(request, captions, split)
        draw = rflow.draws([seed_of(request.seed, loop)], x.shape)
        start = x[None].float().to(device)
        made, _ = caching.sample(
            request.caching, self._shared(), velocity, start, self.times(request), draw, self.fps(request, 1),
            request.size, branches(request), mask[None].to(device),
        )  # fmt: skip
        return made

    def fps(self, request: Request, clips: int) -> Tensor:
        """The rate that the network is told of.  # [b]"""
        device = self.net.final_layer.linear.weight.device
        return torch.full((clips,), PICTURE if request.frames == 1 else request.fps, device=device)

    def velocity(self, request: Request, captions: tuple[State, State], split: bool) -> Guided:
        """That of clips as long and as large as is asked for, a row for each of the captions that `read` gave."""
        fps = self.fps(request, rows(captions[0]))
        net: Any = rflow.ByRow(self._shared()) if split else self._shared()
        return rflow.guided(net, *captions, fps, request.size, request.strength)

    def _shared(self) -> STDiT3 | Parallel:
        """The network, computed by all ranks where there are several."""
        return Parallel(self.net) if self.ranks > 1 else self.net

    def times(self, request: Request) -> list[float]:
        """The times of the steps of a clip, and 0."""
        moved = shift_frames(request.frames, self.vae.config.group, self.vae.config.latents)
        return rflow.grid(request.steps, rflow.ratio(request.size, moved))


def branches(request: Request) -> tuple[str, ...]:
    """Those of guidance that are computed."""
    return BRANCHES if request.strength else BRANCHES[:1]


def seed_of(seed: int, clip: int) -> int:
    """The seed of a clip that goes on from as many others; after the largest comes the smallest."""
    return (seed + clip + 2**63) % 2**64 - 2**63


def pixels(pictures: NDArray[np.uint8]) -> Tensor:
    """Pictures as a reference.  # [f, y, x, 3] -> [3, f, y, x] in [-1, 1]"""
    return to_pixels(torch.from_numpy(pictures))


def shown(pixels: Tensor) -> NDArray[np.uint8]:
    """What was made as pictures.  # [3, f, y, x] in [-1, 1] -> [f, y, x, 3]"""
    made: NDArray[np.uint8] = to_pictures(pixels).cpu().numpy()
    return made


def complete(folder: Path) -> None:
    """Raise CheckpointError where a folder does not hold those of PARTS."""
    if missing := [name for name in PARTS if not (folder / name).is_dir()]:
        told = ", ".join(f"{name} ({PARTS[name]})" for name in missing)
        raise CheckpointError(f"{folder} holds no folder {told}: put it there, or a link to it")


def load(folder: Path, device: str = "cpu", dtype: str = "float32", ranks: int = 1) -> OpenSora:
    """Open-Sora 1.2 from a folder that holds those of PARTS, as published, in each of `ranks` processes.

    The text encoder is loaded for every request, and let go of. Raises CheckpointError for what is missing or does
    not fit.
    """
    complete(folder)
    network = load_network(folder / "transformer", "stdit3", device, dtype)
    text, tokens = folder / "text_encoder", network.config.tokens
    autoencoder = load_vae(folder / "vae", device, dtype)
    return OpenSora(
        network, autoencoder, lambda texts: once(text, texts, tokens, device), weight(text), ranks
    )
