"""The models there are: by name, by task, with their weights in riverrun.assets or in a file a user names."""

import json
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from riverrun.models.errors import CheckpointError, InvalidRequest

if TYPE_CHECKING:
    from riverrun.models.contract import StreamModel


@dataclass(frozen=True)
class Entry:
    """One model. `family` is the module whose `load(path, device)` reads its weights.

    One that is made of several takes a path for each: `parts` are the names of theirs.
    """

    name: str
    family: str
    tasks: tuple[str, ...]
    summary: str
    parts: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Where the embedded weights lie, if they do."""
        folder = Path(str(files("riverrun.assets")))
        return [folder / f"{name}.safetensors" for name in self.parts or (self.name,)]

    @property
    def path(self) -> Path:
        """Where they lie, or the first of them."""
        return self.paths[0]


RESTORATION = "riverrun.models.restoration.stream"
SPEECH = "riverrun.models.speech.lite"
PUBLISHED_SPEECH = "riverrun.models.speech.infill"
VOICE = "riverrun.models.voice.live"
VIDEO = "riverrun.models.video.lite"
KINDS = {  # of checkpoints, which training or `weights import` made
    "restoration": RESTORATION,
    "speech": SPEECH,
    "voice": VOICE,
    "x-vc": VOICE,
    "video": VIDEO,
}
PUBLISHED = {"audiodit": PUBLISHED_SPEECH}  # checkpoints whose config.json says what they are
PUBLISHED_VIDEO = "riverrun.models.video.live"  # a folder of folders, one of which holds a transformer
MODELS = {
    entry.name: entry
    for entry in (
        Entry(
            "restore-lite",
            RESTORATION,
            ("restore", "enhance", "dereverb", "codec", "bandwidth"),
            "noise, reverb, band limits, clipping and codec damage together, 16 kHz",
        ),
        Entry("vocode-lite", RESTORATION, ("mel",), "speech from 80 mel bands, 16 kHz"),
        Entry(
            "speak-lite", SPEECH, ("speak",), "English speech of text, in 24 voices or a recording's, 24 kHz"
        ),
        Entry(
            "convert-lite",
            VOICE,
            ("convert",),
            "live speech in another voice, named or a recording's, 24 kHz",
        ),
        Entry(
            "clean-convert-lite",
            VOICE,
            ("convert",),
            "the same, restored first",
            ("convert-lite", "restore-lite"),
        ),
        Entry(
            "show-lite",
            VIDEO,
            ("show",),
            "moving pictures of a drawn world, which follow a prompt, 96 x 96, 12 a second",
        ),
    )
}
FAMILIES = {
    **dict.fromkeys(("restore", "enhance", "dereverb", "codec", "bandwidth", "phase", "mel"), RESTORATION),
    "speak": SPEECH,
    "convert": VOICE,
    "show": VIDEO,
}
TRAINING = {  # how weights of a family are made
    RESTORATION: "riverrun train restoration CONFIG, with preset stream-fm-{task}",
    SPEECH: "riverrun train speech CONFIG",
    VOICE: "riverrun train voice CONFIG",
    VIDEO: "riverrun train video CONFIG",
}


def names() -> list[str]:
    """Every model that can be loaded by name."""
    return list(MODELS)


def for_task(task: str) -> str:
    """The default model of a task.

    Raises InvalidRequest if the task is unknown, CheckpointError if no weights come with it.
    """
    if task not in FAMILIES:
        raise InvalidRequest(f"task is {task!r}, expected one of {', '.join(FAMILIES)}")
    for entry in MODELS.values():
        if task in entry.tasks:
            return entry.name
    raise CheckpointError(
        f"no weights come with task {task!r} yet: train them ({TRAINING[FAMILIES[task]].format(task=task)})"
        " and name the file with --model FILE.safetensors"
    )


def load(model: str, device: str = "cpu") -> "StreamModel":
    """A model by name, from a .safetensors file made by training or by `weights import`, or as it was published.

    A published one is a folder with a config.json, or the weights there, or a folder of the folders of its parts.
    Raises InvalidRequest if there is neither, CheckpointError if the weights are missing or do not fit.
    """
    if model in MODELS:
        entry = MODELS[model]
        if missing := [path.name for path in entry.paths if not path.exists()]:
            raise CheckpointError(
                f"the weights of {model} are not in this installation ({', '.join(missing)})"
            )
        return _load(entry.family, device, *entry.paths)
    if family := _published(Path(model)):
        return _load(family, device, Path(model))
    if model.endswith(".safetensors"):
        from riverrun.models.checkpoint import KIND, header

        kind = header(Path(model)).get(KIND, "nothing")
        if kind not in KINDS:
            raise CheckpointError(f"{model} says it holds {kind!r}, expected one of {', '.join(KINDS)}")
        return _load(KINDS[kind], device, Path(model))
    if (Path(model) / "transformer").is_dir():
        return _load(PUBLISHED_VIDEO, device, Path(model))
    raise InvalidRequest(
        f"model is {model!r}, expected one of {', '.join(MODELS)}, a .safetensors file, or the folder of a published "
        "checkpoint"
    )


def _published(path: Path) -> str | None:
    """The family of a published checkpoint, if its config.json is of one and its weights say nothing else."""
    from riverrun.models.checkpoint import KIND, header

    try:
        told = json.loads(((path if path.is_dir() else path.parent) / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    known = PUBLISHED.get(told.get("model_type", "")) if isinstance(told, dict) else None
    return None if known and path.suffix == ".safetensors" and KIND in header(path) else known


def _load(family: str, device: str, *paths: Path) -> "StreamModel":
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise InvalidRequest(
            f"device is {device!r}, and that is not to be had here ({reason}): try 'cpu'"
        ) from error
    loaded: StreamModel = import_module(family).load(*paths, device=device)
    return loaded
