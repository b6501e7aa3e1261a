"""Stories of the procedural world as training sees them: groups of pictures, and reels of latents with captions."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from riverrun.models import checkpoint
from riverrun.models.errors import ModelError
from riverrun.models.training.flowing import Reel
from riverrun.models.training.loop import OTHER, Crew, precision
from riverrun.models.training.world import sprites
from riverrun.models.training.world.captions import caption
from riverrun.models.training.world.labels import Labeler
from riverrun.models.training.world.render import Renderer
from riverrun.models.training.world.scenes import Story, draw_story
from riverrun.models.video.lite import ShowLiteNet
from riverrun.models.video.pixels import to_pixels
from riverrun.models.video.vae import Config, VideoVae
from riverrun.models.video.words import Vocabulary

Frames = NDArray[np.uint8]
Times = NDArray[np.float64]
LATEST = 3.0  # seconds into a story at which it is looked at first
WORDINGS = 3  # captions of each scene
REEL = 64  # stories in a file


class Groups(torch.utils.data.IterableDataset[Frames]):
    """Groups of pictures of stories of the split "train", one after another.  # [f, y, x, 3]"""

    def __init__(self, bank: Path, size: int, rate: int, frames: int, seed: int) -> None:
        self.bank, self.size, self.rate, self.frames, self.seed = bank, size, rate, frames, seed

    def __iter__(self) -> Iterator[Frames]:
        info = torch.utils.data.get_worker_info()
        seed, bank = self.seed + (info.id * OTHER if info else 0), sprites.load(self.bank)
        while True:
            rng = np.random.default_rng([seed])
            story = draw_story(seed, "train", bank)
            start = rng.uniform(0, story.switches[-1] + 1)
            yield Renderer(story, bank, self.size).frames(start + np.arange(self.frames) / self.rate)
            seed += 1


def groups(dataset: Groups, batch: int, workers: int) -> Iterator[Tensor]:
    """Batches of groups without end, drawn by `workers` processes, or here by this one.  # [b, f, y, x, 3]"""
    yield from torch.utils.data.DataLoader(dataset, batch, num_workers=workers)


def told(seed: int, bank: sprites.Bank, chunks: int, seconds: float) -> tuple[Story, float, list[int]]:
    """A story, when it is looked at first, and of which scene each of some chunks of `seconds` is.

    Half of them are looked at from their beginning, as a stream begins. The scene changes where a chunk begins, or not
    at all.
    """
    rng = np.random.default_rng([seed, chunks])
    story = draw_story(seed, "train", bank)
    start = 0.0 if rng.random() < 0.5 else float(rng.uniform(0, LATEST))
    switch = int(rng.integers(1, chunks + 2))  # chunks after the start
    scenes = [0] * switch + [1] * chunks
    return replace(story, switches=(start + switch * seconds,)), start, scenes[:chunks]


@torch.inference_mode()
def reel(net: ShowLiteNet, bank: sprites.Bank, seeds: Sequence[int], chunks: int) -> Reel:
    """Stories as the transformer learns them."""
    config, words = net.config, Vocabulary(net.config.words)
    hop, rate = config.vae.group, config.rate
    latents, pictures, shown, captions = (
        [],
        [],
        [],
        torch.zeros(len(seeds), chunks, WORDINGS, config.most, dtype=torch.int16),
    )
    for n, seed in enumerate(seeds):
        rng = np.random.default_rng([seed, 1])
        story, start, scenes = told(seed, bank, chunks, hop / rate)
        times = start + np.arange(chunks * hop) / rate
        frames = Renderer(story, bank, config.size[0]).frames(times)
        latents.append(encoded(net.vae, frames, hop))
        shown.append(labels(story, bank, times, config.vae, config.size))
        pictures.append(encoded(net.vae, frames[::hop], 1)[:, :, 0])
        for scene in set(scenes):
            for w in range(WORDINGS):
                numbers = words.encode(caption(story.scenes[scene], rng, bank), config.most)
                for k in range(chunks):
                    if scenes[k] == scene:
                        captions[n, k, w, : len(numbers)] = torch.tensor(numbers, dtype=torch.int16)
    half = [torch.stack(part).half().cpu() for part in (latents, pictures)]
    return Reel(half[0], half[1], torch.stack(shown), captions)


def labels(story: Story, bank: sprites.Bank, times: Times, config: Config, size: tuple[int, ...]) -> Tensor:
    """What latents of groups of pictures show, of all that the pictures of a latent do the one nearest its middle.

    A group is filled up at its front, as the autoencoder does, so that its first latent may be of one picture.
    Shapes: as many times, in seconds, as pictures, `[(k f)]`; gives `[k, 2, f', y', x']`, int16.
    """
    _, y, x = config.size(config.group, *size)
    labeler, factor = Labeler(story, bank, y), config.temporal.factor
    seen = torch.from_numpy(np.stack([labeler.at(t) for t in times])).unflatten(0, (-1, config.group))
    spots = pad(seen, (0, 0) * 3 + (-config.group % factor, 0)).unflatten(1, (-1, factor))
    found = torch.zeros_like(spots[:, :, 0])
    for i in sorted(range(factor), key=lambda i: abs(i - factor // 2)):
        found = torch.where(found[:, :, :1] > 0, found, spots[:, :, i])
    return found.transpose(1, 2)


def encoded(vae: VideoVae, frames: Frames, group: int) -> Tensor:
    """Latents of groups of pictures.  # [(k f), y, x, 3] -> [k, c, f', y', x']"""
    rows = torch.from_numpy(frames).to(vae.scale.device).unflatten(0, (-1, group))
    with precision(rows.device, half=True):
        mean, _ = vae.told(to_pixels(rows))
    normed: Tensor = (mean.float() - vae.shift) / vae.scale
    return normed


def film(
    net: ShowLiteNet, bank: sprites.Bank, count: int, chunks: int, seed: int, out: Path, crew: Crew
) -> None:
    """Make the reels that are missing of `count`; processes of a crew share the work."""
    out.mkdir(parents=True, exist_ok=True)
    for n in range(crew.process_index, count, crew.num_processes):
        path = out / f"{n:05}.safetensors"
        if not path.exists():
            made = reel(net, bank, range(seed + n * REEL, seed + (n + 1) * REEL), chunks)
            checkpoint.write(path, vars(made), "reel", net.config.vae)


def reels(folder: Path) -> list[Reel]:
    """All that `film` made. Raises ModelError for a reel of another version."""
    made, wanted = list[Reel](), {field.name for field in fields(Reel)}
    for path in sorted(folder.glob("*.safetensors")):
        tensors = checkpoint.read(path)[1]
        if tensors.keys() != wanted:
            raise ModelError(
                f"{path} holds {sorted(tensors)}, expected {sorted(wanted)}: delete it, to have it made anew"
            )
        made.append(Reel(**tensors))
    return made
