"""Train a published Open-Sora 1.2 on videos and pictures of one's own: latents and captions, then the transformer."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from riverrun.media import Chunk, VideoWriter
from riverrun.media.pictures import save as save_picture
from riverrun.models import checkpoint
from riverrun.models.errors import ModelError
from riverrun.models.training import buckets, footage, latents, plans, velocities
from riverrun.models.training.buckets import Bucket, Slot
from riverrun.models.training.latents import Example, Shelf, stamp
from riverrun.models.training.loop import Crew, precision
from riverrun.models.training.optimizer import native
from riverrun.models.training.velocities import Recipe
from riverrun.models.video import resolutions
from riverrun.models.video.clips import OpenSora, Request, complete, shown
from riverrun.models.video.published import described, load, load_vae, parse
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.text import load_t5

KIND = "stdit3"
FROZEN = ("vae", "text_encoder")  # folders of a checkpoint that stay as they are
WEIGHTS = "model.safetensors"
RATE = 24  # of samples  # frames a second
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a config file says; paths are taken from the folder of the file.

    `model` is the folder of a published Open-Sora 1.2, from whose transformer a run begins, or with `scratch` from
    random weights of its shape. `clips` are folders and lists as `footage.listed` takes them, and `aesthetic` is the
    score of clips that have none. `out` gets latents and captions, logs, what resuming needs, and at last a folder like
    `model`. One clip in `heldout` is not learned from, but measured whenever weights are written (0: none is), and
    then `samples`, which are prompts, are shown as large and long as the first bucket.
    Raises ValueError where there are no clips or no buckets, two that are for the same, or all clips are held out,
    and InvalidRequest for samples that say nothing.
    """

    model: str
    clips: tuple[str, ...]
    out: str
    buckets: tuple[Bucket, ...]
    transformer: Recipe = Recipe()
    scratch: bool = False
    aesthetic: float = 6.5
    heldout: int = 0
    samples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.clips or not self.buckets:
            raise ValueError("it names no clips or no buckets, expected clips = [...] and [[buckets]]")
        told = Counter((bucket.resolution, bucket.frames) for bucket in self.buckets)
        if twice := [f"{name} of {frames} frames" for (name, frames), count in told.items() if count > 1]:
            raise ValueError(f"there are two buckets {twice[0]}, expected one")
        if self.heldout < 0 or self.heldout == 1:
            raise ValueError(
                f"heldout is {self.heldout}, expected 0, which is none, or one clip in 2 or more"
            )
        for prompt in self.samples:
            self.shown(prompt)

    def holds(self, example: Example) -> bool:
        """Whether one is held out, which its content decides."""
        return bool(self.heldout) and int(example.content[:16], 16) % self.heldout == 0

    def shown(self, prompt: str) -> Request:
        """How a sample is made. Raises InvalidRequest for a prompt that says nothing."""
        first = self.buckets[0]
        size = resolutions.size(first.resolution, "9:16")
        return Request(prompt, first.frames, size, RATE, seed=self.transformer.seed, aesthetic=self.aesthetic)


def read(config: Path) -> Plan:
    """Parse a config file. Raises ModelError if it is missing, no TOML, or has unknown or missing keys."""
    return plans.read(Plan, config)


def shorten(plan: Plan, minutes: float) -> Plan:
    """The same with other minutes."""
    return replace(plan, transformer=replace(plan.transformer, minutes=minutes))


def run(plan: Plan, base: Path, crew: Crew, fresh: bool = False) -> Path:
    """Do what is not done yet of a plan; give the folder of the checkpoint.

    All of a crew work in one folder. Raises ModelError where the model is not whole, or there is nothing to learn from.
    """
    model, out = base / plan.model, base / plan.out
    complete(model)
    if out.resolve() == model.resolve():
        raise ModelError(f"out is {out}, where the model is, expected another folder")
    clips = footage.listed([base / told for told in plan.clips], plan.aesthetic, out)
    device = str(crew.device)
    config = parse(described(model / "transformer" / "config.json"), KIND)
    dtype = precise(plan, crew.device)
    shelf = Shelf(out / "features", stamp(model / "vae", dtype), stamp(model / "text_encoder", config.tokens))
    measured = latents.measures(clips, shelf, crew)
    found = latents.examples(measured, plan.buckets, plan.transformer.seed)
    heldout = [one for one in found if plan.holds(one)]
    slots = by_slot(one for one in found if not plan.holds(one))
    if crew.is_main_process:
        tell(slots, len(clips) - len(measured), len(measured) - len(found), len(heldout))
    if not slots:
        raise ModelError(f"none of {len(clips)} clips is left to learn from: add smaller or shorter buckets")
    latents.encode(found, shelf, crew, partial(load_vae, model / "vae", device, dtype))
    texts = [one.clip.text for one in found] + [plan.shown(prompt).text(0) for prompt in plan.samples]
    latents.read(texts, shelf, crew, partial(load_t5, model / "text_encoder", config.tokens, device))

    def save(net: STDiT3, folder: Path) -> None:
        lay(model, out, net)
        show(plan, net, shelf, out)

    net = begun(plan, model)
    velocities.train(net, plan.transformer, shelf, slots, out / "training", crew, save, not fresh, heldout)
    crew.wait_for_everyone()
    return out


def by_slot(examples: Iterable[Example]) -> dict[Slot, list[Example]]:
    """Examples by their slots, in an order that depends on them alone."""
    slots: dict[Slot, list[Example]] = {}
    for one in sorted(examples, key=lambda one: (str(one.slot), one.content, one.clip.text)):
        slots.setdefault(one.slot, []).append(one)
    return slots


def tell(slots: dict[Slot, list[Example]], unread: int, unfit: int, heldout: int) -> None:
    """Log what there is to learn from, and what is left out."""
    count = sum(map(len, slots.values()))
    left = f"{unread} cannot be decoded, {unfit} stay in no bucket, {heldout} are held out"
    log.info("%d clips to learn from; %s", count, left)
    for slot, found in slots.items():
        size = buckets.count(slot, len(found))
        fewer = (
            "" if size == slot.bucket.batch else f", fewer than the {slot.bucket.batch} that are asked for"
        )
        log.info("%s: %d clips in batches of %d%s", slot, len(found), size, fewer)


def begun(plan: Plan, model: Path) -> STDiT3:
    """The transformer as a run begins; what reads captions learns only from random weights, as published."""
    folder = model / "transformer"
    if plan.scratch:
        torch.manual_seed(plan.transformer.seed)
        net = STDiT3(parse(described(folder / "config.json"), KIND))
    else:
        net = load(folder, KIND)
    net.requires_grad_(True).y_embedder.requires_grad_(plan.scratch)
    return net


def lay(model: Path, out: Path, net: STDiT3) -> None:
    """Write a checkpoint like `model`, with another transformer and links to the rest."""
    folder = out / "transformer"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(model / "transformer" / "config.json", folder / "config.json")
    checkpoint.write(folder / WEIGHTS, net.state_dict(), KIND, net.config)
    for name in FROZEN:
        if (link := out / name).is_symlink():
            link.unlink()
        if not link.exists():
            link.symlink_to((model / name).resolve(), target_is_directory=True)


def precise(plan: Plan, device: torch.device) -> str:
    """What the autoencoder computes in: the same as the transformer."""
    return "bfloat16" if plan.transformer.half and native(device) else "float32"


def show(plan: Plan, net: STDiT3, shelf: Shelf, out: Path) -> None:
    """Write the samples of a plan: clips, or pictures where the first bucket is of these."""
    if not plan.samples:
        return
    device = next(net.parameters()).device
    vae = load_vae(out / "vae", str(device), precise(plan, device))
    parts, folder = OpenSora(net, vae, shelf.read), out / "samples"
    folder.mkdir(exist_ok=True)
    for number, prompt in enumerate(plan.samples):
        request = plan.shown(prompt)
        with precision(device, plan.transformer.half):
            made = torch.cat([part.cpu() for part in parts.generate(request)], dim=1)
        pictures = shown(made)
        if request.frames == 1:
            save_picture(folder / f"{number}.png", pictures[0])
            continue
        with VideoWriter(folder / f"{number}.mp4", RATE, pictures.shape[1:3], prompt) as writer:
            writer.put(Chunk(pictures, 0, RATE))
