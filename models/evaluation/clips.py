"""Clips of a model that shows, streamed or whole, and what each part of the work took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from resource import RUSAGE_SELF, getrusage

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riverrun.media import Chunk, Fragments
from riverrun.models.noise import noise_rows
from riverrun.models.shown import Shown
from riverrun.models.state import State, clone
from riverrun.models.video import caching, rflow
from riverrun.models.video.caching import BRANCHES, Caching
from riverrun.models.video.lite import ShowLite, ShowLiteNet
from riverrun.models.video.pixels import to_pictures
from riverrun.models.video.words import Vocabulary

Frames = NDArray[np.uint8]
STAGES = ("text", "denoise", "vae", "keep", "mp4")


@dataclass
class Clip:
    """Pictures and latents of one prompt. Units: `stages` s of each part, `first` s until there was a picture."""

    frames: Frames  # [t, y, x, 3]
    latents: Tensor  # [c, f, y, x]
    counts: dict[str, int]  # evaluations, and what of them was taken over
    stages: dict[str, float]
    first: float
    peak: int  # bytes

    @property
    def elapsed(self) -> float:
        """Seconds of all parts."""
        return sum(self.stages.values())


@dataclass
class Watch:
    """Adds up what parts of the work take: on one thread, processor time, and else that of the wall clock."""

    device: torch.device
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def __post_init__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        begun = self.now()
        yield
        self.stages[stage] += self.now() - begun

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if alone(self.device) else time.perf_counter()

    @property
    def spent(self) -> float:
        return sum(self.stages.values())

    @property
    def peak(self) -> int:
        """The most memory in bytes: of the GPU since the watch was made, or of this process since it began."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return getrusage(RUSAGE_SELF).ru_maxrss * 1024


def alone(device: torch.device) -> bool:
    """Whether one thread does all the work, so that its processor time is what counts on cores that others use."""
    return device.type == "cpu" and torch.get_num_threads() == 1


def device(net: ShowLiteNet) -> torch.device:
    return net.dit.final_layer.linear.weight.device


def pixels(made: Tensor) -> Frames:
    """# [1, 3, t, y, x] in [-1, 1] -> [t, y, x, 3]"""
    data: Frames = to_pictures(made[0]).cpu().numpy()
    return data


def read(net: ShowLiteNet, prompt: str, nothing: bool = False) -> State:
    """A prompt as the blocks attend to it, or as many words that say nothing. Raises InvalidRequest."""
    words = Vocabulary(net.config.words).encode(prompt, net.config.most)
    table = torch.tensor([words], device=device(net))
    return net.read(table, torch.tensor([nothing], device=table.device))


@torch.inference_mode()
def streamed(net: ShowLiteNet, setting: Caching, prompt: str, frames: int, steps: int, seed: int = 0) -> Clip:
    """A clip chunk by chunk, as it is served. Raises InvalidRequest for a prompt that is not understood."""
    model, config, watch = ShowLite(net, caching=setting), net.config, Watch(device(net))
    state = model.open(Shown(prompt, frames / config.rate, seed=seed, steps=steps))
    warm = clone(state)
    for _ in range(2):  # which reads the prompt, too
        _, warm = model.step([None], warm)
    writer = Fragments(config.rate, (config.size[0], config.size[1]))
    shown, latents, first = list[Frames](), list[Tensor](), 0.0
    with watch.on("text"):
        read(net, prompt)
    while True:
        phase = state["phase"][0]
        with watch.on("denoise" if phase <= steps else "vae" if phase == steps + 1 else "keep"):
            ((made, _),), state = model.step([None], state)
        if made is None:
            continue
        first = first or watch.spent
        shown, latents = [*shown, made.data], [*latents, state["x"][0].cpu()]
        with watch.on("mp4"):
            writer.add(made)
        if made.last:
            counts = state["cache"]["counts"][0]
            return Clip(np.concatenate(shown), torch.cat(latents, 1), counts, watch.stages, first, watch.peak)


@torch.inference_mode()
def whole(net: ShowLiteNet, setting: Caching, prompt: str, frames: int, steps: int, seed: int = 0) -> Clip:
    """A clip all of whose frames see each other, of the same noise. Raises InvalidRequest, as above."""
    config, watch, place = net.config, Watch(device(net)), device(net)
    with watch.on("text"):
        led, unled = read(net, prompt), read(net, prompt, nothing=True)
    groups = config.vae.groups(frames)
    noise = noise_rows([seed] * len(groups), range(len(groups)), net.latent).to(place)
    x = torch.cat([*noise[:, None]], dim=2)[:, :, : config.vae.size(frames, 0, 0)[0]]
    fps, size = net.shown(x)
    strength = config.guidance - 1  # of what goes beyond the caption
    with watch.on("denoise"):
        velocity = rflow.guided(net.dit, led, unled, fps, size, strength)
        x, cache = caching.sample(
            setting,
            net.dit,
            velocity,
            x,
            rflow.grid(steps, config.shift),
            lambda step: torch.empty(0),  # no frame begins later
            fps,
            size,
            BRANCHES if strength else BRANCHES[:1],
        )
    writer, shown, first = Fragments(config.rate, (config.size[0], config.size[1])), list[Frames](), 0.0
    for z, count in zip(x.split(config.vae.latents, dim=2), groups, strict=True):
        with watch.on("vae"):
            shown.append(pixels(net.vae.group(z.to(net.vae.scale), count)))
        first = first or watch.spent
        with watch.on("mp4"):
            writer.add(Chunk(shown[-1], sum(map(len, shown[:-1])), config.rate))
    return Clip(np.concatenate(shown), x[0].cpu(), cache["counts"][0], watch.stages, first, watch.peak)
