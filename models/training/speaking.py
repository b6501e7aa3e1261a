"""Train what speaks from folders of timed speech: the autoencoder, latents of the corpus, then the transformer."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from riverrun.media import Chunk, Writer
from riverrun.models import checkpoint
from riverrun.models.errors import ModelError
from riverrun.models.speech import lite
from riverrun.models.speech import vae as autoencoder
from riverrun.models.speech.chunks import ChunkConfig, ChunkDit
from riverrun.models.speech.frames import FrameConfig
from riverrun.models.speech.lite import SpeakLite, SpeakLiteNet
from riverrun.models.speech.reading.phonemes import PHONEMES
from riverrun.models.speech.vae import WaveVae
from riverrun.models.training import chunks, plans, speech
from riverrun.models.training.chunks import Recipe as ChunkRecipe
from riverrun.models.training.chunks import Utterance
from riverrun.models.training.loop import Crew
from riverrun.models.training.speech import Recipe as SoundRecipe
from riverrun.models.training.utterances import Line, Samples, parted, planned, sound

log = logging.getLogger(__name__)
PAUSE = " "  # at both ends of an utterance: the silence there
PROMPT = 250  # latent frames of a voice that are kept with the weights
SAMPLES = 3  # held-out sentences that are said whenever weights are written
HELDOUT = 32  # held-out clips whose losses are measured then


@dataclass(frozen=True)
class Plan:
    """What a config file says; paths are taken from the folder of the file.

    `speech` are folders with a manifest, `timings` is what `riverrun train alignments` wrote for each of them;
    `out` gets the sound, the latents, the logs, what resuming needs, samples, and at last speak.safetensors.
    `weights`, such a file or the autoencoder's alone, is what a run begins with. An autoencoder with 0 minutes stays
    as it is there.
    """

    speech: tuple[str, ...]
    timings: tuple[str, ...]
    out: str
    frames: FrameConfig = FrameConfig()
    chunks: ChunkConfig = ChunkConfig()
    autoencoder: SoundRecipe = SoundRecipe()
    transformer: ChunkRecipe = ChunkRecipe()
    weights: str | None = None
    seed: int = 0


def read(config: Path) -> Plan:
    """Parse a config file. Raises ModelError if it is missing, no TOML, or has unknown or missing keys."""
    plan = planned(Plan, config)
    if plan.chunks.symbols < PHONEMES.size:
        raise ModelError(f"{config}: symbols is {plan.chunks.symbols}, and the alphabet has {PHONEMES.size}")
    return plan


def shorten(plan: Plan, minutes: float) -> Plan:
    """The same with other minutes for all of it, shared out as before."""
    return plans.shortened(plan, ("autoencoder", "transformer"), minutes)


def run(plan: Plan, base: Path, crew: Crew, fresh: bool = False) -> Path:
    """Do what is not done yet of a plan; give the path of the weights.

    All of a crew work in one folder. Raises ModelError where there is no speech, or `weights` do not fit.
    """
    out = base / plan.out
    out.mkdir(parents=True, exist_ok=True)
    lines, count = parted(plan, base)
    net = begun(plan, base)
    with crew.main_process_first():
        whole, ends = sound(lines, plan.frames.rate, out / "sound")

    def keep(vae: WaveVae, folder: Path) -> None:
        checkpoint.save(folder / "last.safetensors", vae, autoencoder.KIND, plan.frames)

    if plan.autoencoder.minutes:
        pcm = torch.from_numpy(whole[: ends[count - 1]])
        speech.train(net.vae, plan.autoencoder, pcm, out / "autoencoder", crew, keep, resume=not fresh)
    net.vae.to(crew.device).eval().requires_grad_(False)
    with crew.main_process_first():
        made = latents(net.vae, np.split(whole, ends[:-1]), out / "latents")
    pace = plan.frames.rate / plan.frames.hop
    clips = [utterance(line, torch.from_numpy(part), pace) for line, part in zip(lines, made, strict=True)]
    taught, told, heldout = clips[:count], lines[count:][:SAMPLES], clips[count:][:HELDOUT]
    voices = prompts(clips, lines)

    def save(dit: ChunkDit, folder: Path) -> None:
        net.dit = dit
        lite.save(out / "speak.safetensors", net, voices, PHONEMES.symbols)
        say(net, voices, told, folder / "samples")

    chunks.train(net.dit, plan.transformer, taught, out / "transformer", crew, save, not fresh, heldout)
    crew.wait_for_everyone()
    return out / "speak.safetensors"


def begun(plan: Plan, base: Path) -> SpeakLiteNet:
    """The networks as a run begins. Raises ModelError if its weights do not fit, or it needs some and has none."""
    net = SpeakLiteNet(plan.chunks, plan.frames)
    path = plans.beginning(plan.weights, base, plan.autoencoder.minutes, "the autoencoder")
    if path is None:
        return net
    header, tensors = checkpoint.read(path)
    if header.get(checkpoint.KIND) == autoencoder.KIND:
        checkpoint.fill(net.vae, tensors, path)
        return net
    config, weights, _ = lite.read(path)
    if not PHONEMES.symbols.startswith(config.alphabet):
        raise ModelError(f"{path} is of the alphabet {config.alphabet!r}, expected {PHONEMES.symbols!r}")
    checkpoint.fill(net, weights, path)
    return net


@torch.inference_mode()
def latents(vae: WaveVae, parts: Sequence[Samples], path: Path) -> list[NDArray[np.float16]]:
    """Mean and spread of each frame of clips, worked out once and kept for this autoencoder.  # [t, 2 c] each"""
    file, stamp, key = path.with_suffix(".npy"), path.with_suffix(".json"), _digest(vae)
    counts = [vae.frames(len(part)) for part in parts]
    if not stamp.exists() or json.loads(stamp.read_text()) != {"weights": key, "frames": sum(counts)}:
        rows = []
        for part in parts:
            both = torch.cat(vae.hear(part.astype(np.float32) / np.float32(32767)), 1)
            rows.append(rearrange(both, "1 c t -> t c").half().cpu().numpy())
        np.save(file, np.concatenate(rows))
        stamp.write_text(json.dumps({"weights": key, "frames": sum(counts)}))
    return np.split(np.load(file), np.cumsum(counts)[:-1])


def _digest(vae: WaveVae) -> str:
    import hashlib

    whole = hashlib.sha256()
    for value in vae.encoder.state_dict().values():
        whole.update(value.cpu().numpy().tobytes())
    return whole.hexdigest()


def utterance(line: Line, made: Tensor, rate: float) -> Utterance:
    """A clip with its symbols, and the silence at both ends as a pause. Units: latent frames a second."""
    timing = line.timing
    frames = [(span.start * timing.seconds * rate, span.end * timing.seconds * rate) for span in timing.spans]
    ends = [frames[0][0], *(end for _, end in frames), max(float(len(made)), frames[-1][1])]
    return Utterance(made, torch.tensor(PHONEMES.encode(symbols(line))), torch.tensor(ends), line.voice)


def symbols(line: Line) -> str:
    """What is said, between two pauses."""
    return PAUSE + "".join(span.symbol for span in line.timing.spans) + PAUSE


def prompts(clips: list[Utterance], lines: list[Line]) -> dict[str, Tensor]:
    """The means of some seconds of each voice that has a name of its own, held-out ones left out."""
    voices: dict[str, Tensor] = {}
    for clip, line in zip(clips, lines, strict=True):
        if line.split != "train" or not line.name:
            continue
        known = voices.get(line.name, clip.latents[:0])
        if len(known) < PROMPT:
            voices[line.name] = torch.cat([known, clip.latents])[:PROMPT]
    return {name: both.chunk(2, dim=1)[0].float() for name, both in voices.items()}


def say(net: SpeakLiteNet, voices: dict[str, Tensor], told: list[Line], folder: Path) -> None:
    """Write what held-out sentences sound like now, each in another voice."""
    folder.mkdir(parents=True, exist_ok=True)
    training, rate = net.dit.training, net.vae.config.rate
    speaker = SpeakLite(net.eval(), voices, PHONEMES.symbols)
    for line, voice in zip(told, sorted(voices) or [""], strict=False):
        said = lite.speak(speaker, lite.Said(symbols(line), voice=voice))
        with Writer(folder / f"{line.path.stem}-{voice}.flac", rate=rate, channels=1) as writer:
            writer.put(Chunk(said[:, None].clip(-1, 1), 0, rate, last=True))
    net.dit.train(training)
