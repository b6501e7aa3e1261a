"""What a transformer of video learns from, worked out once by frozen networks and kept on disk by content.

So nothing but the transformer is in memory while it learns, and neither another run nor the same clip under another
name works it out again. Processes of a crew share the work, and the folder. For this a clip has one bucket, one part of
it is learned, and its latents are drawn once, where published all of these are drawn anew in each round.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from riverrun.media import MediaError
from riverrun.models import checkpoint
from riverrun.models.training import buckets, footage
from riverrun.models.training.buckets import Bucket, Slot
from riverrun.models.training.footage import Clip, Measure
from riverrun.models.training.loop import Clock, Crew
from riverrun.models.video import vae
from riverrun.models.video.pixels import to_pixels
from riverrun.models.video.text import T5, Read
from riverrun.models.video.vae import VideoVae

READ = 8  # captions at a time
LOG_SECONDS = 10.0
LATENTS, CAPTION = "latents", "caption"  # kinds of files, and of tensors in them
log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """A clip in its place: what it was measured to be, and a number of its content."""

    clip: Clip
    measure: Measure
    slot: Slot
    content: str

    @property
    def start(self) -> int:
        """The first of its frames that are learned: those in the middle are."""
        return (self.measure.frames - self.slot.bucket.frames) // 2


@dataclass(frozen=True)
class Caption:
    """What a file of features says they are of."""

    text: str


@dataclass(frozen=True)
class Shelf:
    """A folder of what is worked out, by what that depends on.

    `autoencoder` and `encoder` are numbers of the networks: others have latents and captions of their own.
    """

    folder: Path
    autoencoder: str = ""
    encoder: str = ""

    def measured(self, content: str) -> Path:
        return self.folder / f"{number(content)}.json"

    def latents(self, example: Example) -> Path:
        cut = (example.start, example.slot.bucket.frames, *example.slot.size)
        return self.folder / f"{number(self.autoencoder, example.content, *cut)}.safetensors"

    def caption(self, text: str) -> Path:
        return self.folder / f"{number(self.encoder, text)}.safetensors"

    def read(self, texts: Sequence[str]) -> Read:
        """Features of captions that are there, padded to one length: a Reader."""
        found = [checkpoint.read(self.caption(text))[1][CAPTION] for text in texts]
        mask = [torch.ones(len(one), dtype=torch.bool) for one in found]
        pad = torch.nn.utils.rnn.pad_sequence
        return Read(pad(found, batch_first=True), pad(mask, batch_first=True))


def number(*told: object) -> str:
    """One that only the same values have."""
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def stamp(folder: Path, *told: object) -> str:
    """The number of a network: of its files by their names, sizes and times, and of how it is used."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    return number(*told, *((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


def content(path: Path) -> str:
    """The number of a file by its bytes, or by its name where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return number(str(path))


def contents(paths: Sequence[Path], shelf: Shelf, crew: Crew) -> list[str]:
    """The numbers of files, kept for as long as their sizes and times stay."""
    shelf.folder.mkdir(parents=True, exist_ok=True)
    file = shelf.folder / "contents.json"
    keys = [number(str(path.resolve()), *_written(path)) for path in paths]
    with crew.main_process_first():
        kept = json.loads(file.read_text()) if file.exists() else {}
        known = {key: kept.get(key) or content(path) for key, path in zip(keys, paths, strict=True)}
        if crew.is_main_process:
            part = file.with_suffix(".tmp")
            part.write_text(json.dumps(known))
            part.replace(file)
    return [known[key] for key in keys]


def _written(path: Path) -> tuple[int, ...]:
    """How large a file is, and when it was written; nothing where it cannot be seen."""
    try:
        return path.stat().st_size, path.stat().st_mtime_ns
    except OSError:
        return ()


def share(work: Mapping[Path, T], crew: Crew) -> list[tuple[Path, T]]:
    """What a process of a crew does of some work, by the files it is to write: of what is not done yet."""
    missing = [(path, one) for path, one in work.items() if not path.exists()]
    crew.wait_for_everyone()  # all have seen the same
    return missing[crew.process_index :: crew.num_processes]


def measures(clips: Sequence[Clip], shelf: Shelf, crew: Crew) -> list[tuple[Clip, str, Measure]]:
    """Clips that can be decoded, with their content and measures; the log tells of the others."""
    found = contents([clip.path for clip in clips], shelf, crew)
    places = [shelf.measured(told) for told in found]
    for path, clip in share(dict(zip(places, clips, strict=True)), crew):
        try:
            part, told = path.with_suffix(".tmp"), asdict(footage.measure(clip))
        except MediaError as error:
            log.warning("left out: %s", error)
            continue
        part.write_text(json.dumps(told))
        part.replace(path)
    crew.wait_for_everyone()
    return [
        (clip, told, checkpoint.build(Measure, json.loads(path.read_text())))
        for clip, told, path in zip(clips, found, places, strict=True)
        if path.exists()
    ]


def examples(
    measured: Iterable[tuple[Clip, str, Measure]], given: Sequence[Bucket], seed: int
) -> list[Example]:
    """The clips that fill a bucket which keeps them. Equal seeds and clips give equal places."""
    found = list[Example]()
    for clip, told, measure in measured:
        dice = np.random.default_rng([seed, int(told[:16], 16)]).random
        if place := buckets.slot(given, measure.frames, measure.height, measure.width, dice):
            found.append(Example(clip, measure, place, told))
    return found


@torch.inference_mode()
def encode(found: Sequence[Example], shelf: Shelf, crew: Crew, load: Callable[[], VideoVae]) -> None:
    """Work out the latents that are not there, drawn as published. `load` is called if there are such."""
    if work := share({shelf.latents(one): one for one in found}, crew):
        net, clock = load(), Clock(LOG_SECONDS, 0)
        for done, (path, one) in enumerate(work):
            if clock.logs():
                log.info("latents of %d clips of %d", done, len(work))
            pictures = footage.cut(one.clip, one.start, one.slot.bucket.frames, one.slot.size)
            pixels = to_pixels(torch.from_numpy(pictures))[None].to(net.scale)
            made = net.encode(pixels, vae.draws(int(one.content[:15], 16)))[0].half().cpu()
            checkpoint.write(path, {LATENTS: made}, LATENTS, net.config)
        del net
    settle(crew)


def read(texts: Iterable[str], shelf: Shelf, crew: Crew, load: Callable[[], T5]) -> None:
    """Work out the features of captions that are not there. `load` is called if there are such."""
    if work := share({shelf.caption(text): text for text in texts}, crew):
        encoder, clock = load(), Clock(LOG_SECONDS, 0)
        for i in range(0, len(work), READ):
            if clock.logs():
                log.info("%d captions of %d", i, len(work))
            paths, some = zip(*work[i : i + READ], strict=True)
            for path, text, features, mask in zip(paths, some, *encoder.read(some), strict=True):
                checkpoint.write(path, {CAPTION: features[mask].cpu()}, CAPTION, Caption(text))
        del encoder
    settle(crew)


def settle(crew: Crew) -> None:
    """Let go of what a network held, and wait until all have done their share."""
    if crew.device.type == "cuda":
        torch.cuda.empty_cache()
    crew.wait_for_everyone()


def latents(shelf: Shelf, example: Example) -> tuple[Tensor, vae.Config]:
    """Those of an example, and the shape of the autoencoder that they are of.  # [c, f, y, x], float32"""
    path = shelf.latents(example)
    header, tensors = checkpoint.read(path)
    return tensors[LATENTS].float(), checkpoint.config(header, LATENTS, vae.Config, path)
