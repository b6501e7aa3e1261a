"""The bench of an autoencoder of speech: what of a recording is left when it has been latents."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riverrun.models.errors import ModelError
from riverrun.models.evaluation import metrics
from riverrun.models.evaluation.metrics import NAMES, repetition
from riverrun.models.evaluation.tables import cell, table
from riverrun.models.speech.vae import WaveVae
from riverrun.models.training.corpus import Source, clips, decode, resample

Sound = NDArray[np.float32]
WINDOW = 8  # latent frames that are decoded at once when that is timed
SHORT = 1.5  # seconds: shorter files say little


def recordings(folder: Path, count: int, rate: int, seed: int = 0) -> Iterator[tuple[str, Sound]]:
    """Some files of a folder, by name: with a manifest, those of its split "heldout".

    Raises ModelError if there is none, UnsupportedMedia if there is no such folder.
    """
    files = [clip.path for clip in clips(Source(folder), "heldout")]
    found = 0
    for i in np.random.default_rng(seed).permutation(len(files)):
        if found == count:
            return
        sound = decode(files[i], rate)
        if len(sound) > SHORT * rate:
            found += 1
            yield files[i].name, sound
    if not found:
        raise ModelError(f"{folder} has no recording of {SHORT} s or more to judge by")


@torch.inference_mode()
def bench(
    model: WaveVae,
    recorded: Sequence[tuple[str, Sound]],
    judge: Callable[[Sound, Sound], list[float]] = metrics.judge,
) -> str:
    """Judge a causal autoencoder on recordings at its rate, by mean and by drawn latents; give the table.

    Repetition is that of what lies above 5 kHz after a latent frame: a buzz that the others do not hear.
    """
    config = model.config
    systems: dict[str, list[list[float]]] = {"recorded": [], "mean": [], "drawn": []}
    nats: list[float] = []
    for i, (_, sound) in enumerate(recorded):
        mean, spread = model.hear(sound)
        nats.append(float(0.5 * (mean**2 + spread**2 - 1 - 2 * spread.log()).sum(1).mean()))
        torch.manual_seed(i)
        made = {"mean": mean, "drawn": mean + spread * torch.randn_like(spread)}
        heard = {"recorded": sound, **{name: _decoded(model, z)[: len(sound)] for name, z in made.items()}}
        clean = resample(sound, config.rate, metrics.RATE)
        for name, result in heard.items():
            scores = judge(resample(result, config.rate, metrics.RATE)[: len(clean)], clean)
            systems[name].append([*scores, repetition(result, config.rate, config.hop)])
    rows = [
        [name, *(cell(column) for column in zip(*scores, strict=True))] for name, scores in systems.items()
    ]
    lines = table(["", *NAMES, "repetition"], rows)
    length = config.hop / config.rate * 1000
    lines += [f"{len(recorded)} recordings; {np.mean(nats):.0f} nats a frame of {length:g} ms; "
              f"decoding at {_speed(model, mean):.3f} times real time"]  # fmt: skip
    return "\n".join(lines)


def _decoded(model: WaveVae, latents: Tensor) -> Sound:
    sound: Sound = model.decode(latents / model.config.scale)[0][0, 0].numpy()
    return sound


def _speed(model: WaveVae, latents: Tensor, turns: int = 20) -> float:
    """Seconds of work for a second of sound, window by window."""
    state, times, config = model.start(1), list[float](), model.config
    window = latents[..., : min(WINDOW, latents.shape[2])]
    for _ in range(turns):
        begun = time.perf_counter()
        _, state = model.decode(window, state)
        times.append(time.perf_counter() - begun)
    return float(np.median(times)) / (window.shape[2] * config.hop / config.rate)
