"""The published file of X-VC, a pickle of tensors, turned once into weights that are read strictly and safely."""

import pickle
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from riverrun.models.checkpoint import write
from riverrun.models.errors import CheckpointError
from riverrun.models.voice.xvc import KIND, Config, assemble, unused

PLAIN, AVERAGED = "generator", "ema_generator"  # sections
PREFIX = "ema_model."  # of names in the second
LICENCE = """\
X-VC is published under the MIT licence, and the speaker encoder in it, ERes2Net, under Apache-2.0. The same file holds
the speech tokenizer of GLM-4-Voice, whose licence is its publisher's own, and is no open-source licence:
  - it is free for research and for personal use;
  - commercial use needs a registration with the publisher, Zhipu AI;
  - what is built with it has to say so: "Built with glm-4";
  - it is subject to the law of the People's Republic of China.
The text that counts is with the weights: zai-org/glm-4-voice-tokenizer. Of the recordings X-VC learned from, those of
Emilia are CC BY-NC 4.0."""
SHORT = "MIT, with the tokenizer of GLM-4-Voice under its own licence (Built with glm-4)"


@dataclass(frozen=True)
class Imported:
    """What became of a file: tensors and values kept, and how many tensors of what were left out."""

    tensors: int
    values: int
    left: dict[str, int]


def bring(source: Path, target: Path, config: Config | None = None, averaged: bool = False) -> Imported:
    """Write what converting needs of a published file, by its published names, into a safetensors file.

    `config` is that of the released model unless it is given; `averaged` takes the moving average of the weights
    in place of the last ones. Nothing of the pickle is run but the making of tensors.
    Raises CheckpointError for a pickle that wants more than that, or tensors that do not fit the model.
    """
    section, prefix = (AVERAGED, PREFIX) if averaged else (PLAIN, "")
    held = dict(_tensors(unpickled(source)))
    start = f"{section}.{prefix}"
    chosen = {name.removeprefix(start): value for name, value in held.items() if name.startswith(start)}
    if not chosen:
        sections = sorted({name.split(".")[0] for name in held})
        raise CheckpointError(
            f"{source} has no {start}*, only {', '.join(sections) or 'nothing'}: is it an X-VC?"
        )
    kept = {name: value.float() for name, value in chosen.items() if not unused(name)}
    config = config or Config()
    assemble(config, kept, source)
    write(target, kept, KIND, config, {"licence": SHORT})
    left = Counter(name.split(".")[0] for name in held if not name.startswith(f"{section}."))
    left += Counter(_kind(name) for name in chosen if unused(name))
    return Imported(len(kept), sum(value.numel() for value in kept.values()), dict(left))


def _kind(name: str) -> str:
    """What a tensor that is left out is called with others like it."""
    return name.rpartition(".")[2] if name.endswith("num_batches_tracked") else name.split(".")[0]


def unpickled(path: Path) -> Any:
    """What a pickle of tensors holds, read as it is used. Raises CheckpointError where it is anything else."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is not what torch.save writes, expected the published .pt file")
    try:
        if wanted := torch.serialization.get_unsafe_globals_in_checkpoint(str(path)):
            raise CheckpointError(
                f"{path} was refused and nothing of it run: weights need no {', '.join(sorted(wanted)[:5])}"
            )
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = str(error).split("\n")[0]
        raise CheckpointError(f"{path} cannot be read as tensors alone: {first}") from error


def _tensors(held: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested dicts by their dotted names; step counts and the like are let go."""
    if isinstance(held, Mapping):
        for name, value in held.items():
            yield from _tensors(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(held, Tensor):
        yield prefix, held
