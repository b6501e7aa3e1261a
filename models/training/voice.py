"""Train what converts voices from folders of timed speech: what listens, and then the rest of the converter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from riverrun.media import Chunk, Writer
from riverrun.models import checkpoint
from riverrun.models.errors import ModelError
from riverrun.models.training import converting, listening, plans
from riverrun.models.training.converting import Recipe as ConvertingRecipe
from riverrun.models.training.converting import Voices
from riverrun.models.training.listening import Recipe as ListeningRecipe
from riverrun.models.training.loop import Crew
from riverrun.models.training.utterances import Line, Samples, parted, planned, sound
from riverrun.models.voice import lite
from riverrun.models.voice.listener import Listener
from riverrun.models.voice.lite import ConvertLite, Request
from riverrun.models.voice.network import Converter, ConverterConfig

Sound = NDArray[np.float32]
KIND = "listener"  # of a checkpoint of what listens alone
HEARD = 12.0  # seconds of a voice that are kept to hear it by, which is done for ten
SAMPLES = 4  # held-out voices that are converted whenever weights are written


@dataclass(frozen=True)
class Plan:
    """What a config file says; paths are taken from the folder of the file.

    `speech` are folders with a manifest, `timings` is what `riverrun train alignments` wrote for each of them;
    `out` gets the sound, its pitch, the logs, what resuming needs, samples, and at last convert.safetensors.
    `weights`, such a file or what listens alone, is what a run begins with. With 0 minutes of `listening`, what
    listens stays as it is there. The shape of what listens is part of the `converter`'s.
    """

    speech: tuple[str, ...]
    timings: tuple[str, ...]
    out: str
    converter: ConverterConfig = ConverterConfig()
    listening: ListeningRecipe = ListeningRecipe()
    converting: ConvertingRecipe = ConvertingRecipe()
    weights: str | None = None
    seed: int = 0


def read(config: Path) -> Plan:
    """Parse a config file. Raises ModelError if it is missing, no TOML, or has unknown or missing keys."""
    return planned(Plan, config)


def shorten(plan: Plan, minutes: float) -> Plan:
    """The same with other minutes for all of it, shared out as before."""
    return plans.shortened(plan, ("listening", "converting"), minutes)


def run(plan: Plan, base: Path, crew: Crew, fresh: bool = False) -> Path:
    """Do what is not done yet of a plan; give the path of the weights.

    All of a crew work in one folder. Raises ModelError where there is no speech, or `weights` do not fit.
    """
    out = base / plan.out
    out.mkdir(parents=True, exist_ok=True)
    lines, count = parted(plan, base)
    net = begun(plan, base)
    with crew.main_process_first():
        whole, ends = sound(lines, plan.converter.listener.rate, out / "sound")
    parts = np.split(whole, ends[:-1])
    known = recorded(lines[:count], parts, plan.converter.listener.rate)
    if plan.listening.minutes:
        listen(net.listener, plan.listening, lines, parts, count, out, crew, not fresh)
    told = {line.voice: (line, part) for line, part in list(zip(lines, parts, strict=True))[count:]}

    def save(model: Converter, folder: Path) -> None:
        nobody = ConvertLite(model, {}, str(crew.device))
        voices = {name: nobody.voice(recording) for name, recording in known.items()}
        lite.save(out / "convert.safetensors", model, voices)
        ours = ConvertLite(model, voices, str(crew.device))
        convert(ours, list(told.values())[:SAMPLES], folder / "samples")

    taught = gathered(lines[:count], whole, ends)
    converting.train(net, plan.converting, taught, out / "converting", crew, save, not fresh)
    crew.wait_for_everyone()
    return out / "convert.safetensors"


def begun(plan: Plan, base: Path) -> Converter:
    """The networks as a run begins. Raises ModelError if its weights do not fit, or it needs some and has none."""
    torch.manual_seed(plan.seed)
    net = Converter(plan.converter)
    path = plans.beginning(plan.weights, base, plan.listening.minutes, "listening")
    if path is None:
        return net
    header, tensors = checkpoint.read(path)
    if header.get(checkpoint.KIND) == KIND:
        checkpoint.fill(net.listener, tensors, path)
    else:
        weights = lite.load(path).net.state_dict()
        checkpoint.fill(net, weights, path)
        net.requires_grad_(True)
    return net


def listen(
    net: Listener,
    recipe: ListeningRecipe,
    lines: Sequence[Line],
    parts: Sequence[Samples],
    count: int,
    out: Path,
    crew: Crew,
    resume: bool,
) -> None:
    """Train what listens with the first `count` utterances; hear the others, which it does not learn from."""
    timings, longest = [line.timing for line in lines], recipe.frames * net.config.hop
    with crew.main_process_first():
        taught = listening.clips(parts[:count], timings[:count], net.config, out / "pitch")
        heldout = None
        if sum(map(len, parts[count:])) > longest:
            heldout = listening.clips(parts[count:], timings[count:], net.config, out / "heldout-pitch")
    if len(taught.sound) <= longest:
        raise ModelError(
            f"{len(taught.sound)} samples of speech are for training, and a crop has {longest}: add speech"
        )

    def keep(model: Listener, folder: Path) -> None:
        checkpoint.save(folder / "listener.safetensors", model, KIND, net.config)

    listening.train(net, recipe, taught, out / "listening", crew, keep, resume, heldout)


def gathered(lines: Sequence[Line], whole: Samples, ends: Sequence[int]) -> Voices:
    """Utterances at the beginning of all sound, and which of them have one voice."""
    alike: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        alike.setdefault(line.voice, []).append(i)
    spans = list(zip([0, *ends], ends[: len(lines)], strict=False))
    return Voices(torch.from_numpy(whole), spans, [alike[line.voice] for line in lines])


def recorded(lines: Sequence[Line], parts: Sequence[Samples], rate: int) -> dict[str, Sound]:
    """The first seconds of each voice that has a name of its own, and enough of them.

    Raises ModelError for a name that cannot be one in a file of weights.
    """
    voices: dict[str, Sound] = {}
    for line, part in zip(lines, parts, strict=False):
        if line.name:
            known = voices.get(line.name, np.zeros(0, np.float32))
            if len(known) < HEARD * rate:
                voices[line.name] = np.concatenate([known, heard(part)])
    if dotted := [name for name in voices if "." in name]:
        raise ModelError(f"a voice is named {dotted[0]!r}, expected no dot: rename it in the manifest")
    return {name: sound for name, sound in sorted(voices.items()) if len(sound) >= lite.SHORTEST * rate}


def convert(model: ConvertLite, told: Sequence[tuple[Line, Samples]], folder: Path) -> None:
    """Write what held-out voices sound like now, each in another voice."""
    folder.mkdir(parents=True, exist_ok=True)
    rate = model.config.listener.rate
    for (line, part), voice in zip(told, model.voices, strict=False):
        made = lite.convert(model, heard(part), Request(voice=voice))
        with Writer(folder / f"{line.path.stem}-{voice}.flac", rate=rate, channels=1) as writer:
            writer.put(Chunk(made[:, None].clip(-1, 1), 0, rate, last=True))


def heard(part: Samples) -> Sound:
    """16-bit samples as a model hears them."""
    return part.astype(np.float32) / np.float32(32767)
