"""Clips by Open-Sora 1.2: a request to pixels, group by group, loop by loop.

What went before is kept as latents from loop to loop, and not decoded and coded again as in the published script.
Letters: b session, c channel, f frame, y and x rows and columns.
Source: arXiv 2412.20404 (Open-Sora), image and video conditioning.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from riverrun.models.errors import InvalidRequest
from riverrun.models.state import State
from riverrun.models.video import prompts, rflow, strategy, vae
from riverrun.models.video.published import load as load_network
from riverrun.models.video.published import load_vae
from riverrun.models.video.resolutions import PICTURE, shift_frames
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.text import Read, once
from riverrun.models.video.vae import VideoVae

Reader = Callable[[Sequence[str]], Read]
"""Prompts to features."""


@dataclass(frozen=True)
class Request:
    """What is to be shown. `strength` of guidance is one less than what is published as its scale.

    `prompt` may hold a text for each loop, and `strategy` says which latent frames references become. Every loop but
    the first begins with the `carried` last latent frames of the one before, changed as far as `edit` says.
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

    def __post_init__(self) -> None:
        for name in ("frames", "steps", "loops", "carried", "fps"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise InvalidRequest(f"{name} is {value}, expected a positive number")
        if not 0 <= self.strength < float("inf") or not 0 <= self.edit <= 1:
            raise InvalidRequest(
                f"strength is {self.strength} and edit {self.edit}, expected at least 0, and 0 to 1"
            )

    def text(self, loop: int) -> str:
        """What is read for a loop: with scores, and cleaned."""
        said = prompts.at(self.prompt, loop)
        return prompts.cleaned(prompts.scored(said, self.aesthetic, self.motion, self.camera))


@dataclass(frozen=True)
class OpenSora:
    """The parts of Open-Sora 1.2."""

    net: STDiT3
    vae: VideoVae
    reader: Reader

    @torch.inference_mode()
    def generate(self, request: Request, references: Sequence[Tensor] = ()) -> Iterator[Tensor]:
        """The pixels of all loops in a row, group by group.  # [3, f, y, x] in [-1, 1]

        References are `[3, n, y, x]`, of the size that is asked for. Raises InvalidRequest for a size without
        latents, for loops that carry no whole groups or all of a clip, and for what `strategy` refuses.
        """
        shape = self._shape(request)
        steps = strategy.parse(request.strategy)
        texts = [request.text(loop) for loop in range(request.loops)]
        unique = list(dict.fromkeys(texts))
        captions = dict(zip(unique, self._read(unique), strict=True))
        draw = vae.draws(request.seed)
        held = [self.vae.encode(r[None].to(self._like), draw)[0] for r in references]
        dropped = self.vae.config.frames(request.carried)
        for loop, text in enumerate(texts):
            x = rflow.draws([request.seed + loop], shape)(rflow.START)[0].to(self._like.device)
            again = (
                [strategy.continuation(loop, len(held) - 1, request.carried, request.edit)] if loop else []
            )
            x, mask = strategy.apply([*steps, *again], held, x, loop, request.align)
            x = self._sample(request, x, mask, captions[text], loop)
            late = 0 if loop == 0 else dropped
            for pixels in self.vae.stream(x.to(self._like), request.frames):
                if pixels.shape[2] > late:
                    yield pixels[0, :, late:]
                late = max(late - pixels.shape[2], 0)
            held = [*held[: len(references)], x[0]]

    def _shape(self, request: Request) -> tuple[int, int, int, int]:
        config = self.vae.config
        shape = config.spatial.latent, *config.size(request.frames, *request.size)
        if min(shape) < 1:
            raise InvalidRequest(
                f"size is {request.size} pixels, expected at least {config.spatial.factor} on a side"
            )
        if request.loops > 1 and (request.carried % config.latents or request.carried >= shape[1]):
            raise InvalidRequest(
                f"carried is {request.carried} of {shape[1]} latent frames, expected fewer,"
                f" in groups of {config.latents}"
            )
        return shape

    @property
    def _like(self) -> Tensor:
        return self.vae.scale.new_zeros(())

    def _read(self, texts: Sequence[str]) -> list[tuple[State, State]]:
        """Each text, and nothing in its place, as the network reads them."""
        told = self.reader(texts)
        device = self.net.final_layer.linear.weight.device
        features, mask = told.features.to(device), told.mask.to(device)
        nothing = torch.ones(1, dtype=torch.bool, device=device)
        rows = zip(features.split(1), mask.split(1), strict=True)
        return [(self.net.read(f, m), self.net.read(f, m, nothing)) for f, m in rows]

    def _sample(
        self, request: Request, x: Tensor, mask: Tensor, captions: tuple[State, State], loop: int
    ) -> Tensor:
        """Latents of one loop.  # [c, f, y, x] -> [1, c, f, y, x], float32"""
        config, device = self.vae.config, self.net.final_layer.linear.weight.device
        fps = torch.tensor([PICTURE if request.frames == 1 else request.fps], device=device)
        velocity = rflow.guided(self.net, *captions, fps, request.size, request.strength)
        moved = shift_frames(request.frames, config.group, config.latents)
        times = rflow.grid(request.steps, rflow.ratio(request.size, moved))
        draw = rflow.draws([request.seed + loop], x.shape)
        return rflow.sample(velocity, x[None].float().to(device), times, draw, mask[None].to(device))


def load(net: Path, vae: Path, text: Path, device: str = "cpu", dtype: str = "float32") -> OpenSora:
    """Open-Sora 1.2 from published folders; the text encoder is loaded for every request, and let go of.

    Raises CheckpointError for what is missing or does not fit.
    """
    network = load_network(net, "stdit3", device, dtype)
    tokens = network.config.tokens
    return OpenSora(network, load_vae(vae, device, dtype), lambda texts: once(text, texts, tokens, device))
