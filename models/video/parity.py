"""Recordings of Open-Sora beside what these modules compute: transformers, samplers, autoencoders."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from riverrun.models.checkpoint import read
from riverrun.models.errors import CheckpointError
from riverrun.models.parity import Pair
from riverrun.models.video.embedding import padded, turn_pairs
from riverrun.models.video.published import assemble, described, parse, temporal
from riverrun.models.video.resolutions import FRAMES, RESOLUTIONS, shift_frames
from riverrun.models.video.rflow import by_frame, grid, guided, losses, mixed, ratio, sample, shifted
from riverrun.models.video.stdit2 import Shape

Tensors = dict[str, Tensor]
Ours = Mapping[str, Callable[[], Tensor]]
"""How each recorded tensor is computed, by name."""
HALF = 5e-2  # relative L2 of what was recorded in bfloat16, which rounds differently on every machine


@dataclass(frozen=True)
class Recording:
    """What a folder holds beside the outputs."""

    folder: Path
    config: Any
    notes: Any
    weights: Tensors
    given: Tensors

    def model(self, version: str, **changes: Any) -> Any:
        """The transformer of the weights."""
        return assemble(replace(parse(self.config, version), **changes), version, self.weights, self.folder)

    def size(self, case: str = "") -> tuple[float, float]:
        """Height and width in pixels: those of the first row count for all."""
        return float(self.given[f"{case}height"][0]), float(self.given[f"{case}width"][0])


def recorded(folder: Path) -> Iterator[Pair]:
    """Every tensor in outputs.safetensors of a folder, with ours.

    Raises CheckpointError for missing files, inputs, or recorded tensors that nothing here computes.
    """
    told = described(folder / "config.json")
    weights, given, theirs = (
        read(folder / f"{name}.safetensors")[1] for name in ("weights", "inputs", "outputs")
    )
    try:
        recording = Recording(folder, told["config"], told.get("notes") or {}, weights, given)
        ours = CASES[told["kind"].removeprefix("opensora.")](recording)
        if left := sorted(set(theirs) - set(ours)):
            raise CheckpointError(f"{folder}: no code here computes {', '.join(left[:5])}")
        for name, value in theirs.items():
            yield Pair(name, ours[name](), value, HALF if "bf16" in name else None)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: the recording lacks {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def _rows(value: Tensor, count: int) -> Tensor:
    """As many rows as there are in a batch, the block of those given repeated."""
    return value.repeat(count // len(value), *[1] * (value.ndim - 1))


def _of(given: Tensors, case: str) -> list[str]:
    """The names of a case's inputs."""
    return [name for name in given if name.startswith(f"{case}.")]


def _stdit1(recording: Recording) -> Ours:
    model, given = recording.model("stdit1"), recording.given
    caption = model.read(given["y"][:, 0], given["mask"])
    return {"out": lambda: model(given["x"], given["timestep"], caption)}


def _stdit2(recording: Recording) -> Ours:
    model, given = recording.model("stdit2"), recording.given
    caption = model.read(given["y"][:, 0], given["mask"])
    shape = Shape(*(given[name] for name in ("height", "width", "ar", "num_frames", "fps")))
    run = partial(model, given["x"], given["timestep"], caption, shape)
    return {"plain": run, "xmask": lambda: run(given["x_mask"].bool())}


def _stdit3(recording: Recording) -> Ours:
    model, given = recording.model("stdit3"), recording.given
    half = recording.model("stdit3", legacy=True).to(torch.bfloat16)
    patch, size = model.config.patch, recording.size("a.")
    x = padded(given["a.x"], patch)
    h, w = (n // patch for n in x.shape[3:])

    def run(case: str, masked: bool = True, net: Any = model, known: bool = False) -> Tensor:
        """One forward, with the inputs of a case where it has its own and else of the first."""
        own = {name.partition(".")[2]: given[name] for start in ("a", case) for name in _of(given, start)}
        latents, mask = own["x"], _rows(own["mask"], len(own["x"])) if masked else None
        caption, noisy = net.read(own["y"][:, 0], mask), own["x_mask"].bool() if known else None
        at = float(own["height"][0]), float(own["width"][0])
        made: Tensor = net(latents, own["timestep"], caption, _rows(own["fps"], len(latents)), at, noisy)[0]
        return made

    return {
        "a_plain": lambda: run("a"),
        "b_xmask": lambda: run("b", known=True),
        "c_nomask_text": lambda: run("c", masked=False),
        "d_image": lambda: run("d"),
        "e_cfg": lambda: run("e"),
        "f_bf16": lambda: run("f", net=half),
        f"f_bf16_pos_emb_{h}x{w}": lambda: half.places(h, w, size).to(torch.bfloat16)[None],
        f"pos_emb_{h}x{w}": lambda: model.places(h, w, size)[None],
        "t_emb": lambda: model.t_embedder(given["a.timestep"]),
        "fps_emb": lambda: model.fps_embedder(given["a.fps"]),
        "x_emb": lambda: model.x_embedder(x).flatten(1, 2),
        "rope_q": lambda: turn_pairs(given["rope_q"], model.rope(torch.arange(given["rope_q"].shape[2]))),
    }


def _stdit3_v13(recording: Recording) -> Ours:
    model, given = recording.model("stdit3_v13"), recording.given
    caption = model.read(given["y"][:, 0], given["mask"])
    return {"plain": lambda: model(given["x"], given["timestep"], caption, given["fps"], recording.size())}


def _mmdit(recording: Recording) -> Ours:
    model, given = recording.model("mmdit"), recording.given
    inputs = [given[name] for name in ("img", "timesteps", "txt", "y_vec")]
    return {"out": lambda: model(*inputs, given["img_ids"][0], given.get("cond"))}


def _rflow(recording: Recording) -> Ours:
    """Runs of the sampler with the draws that were recorded, shifted times, and losses."""
    model, given, notes = recording.model("stdit3"), recording.given, recording.notes
    z, captions = given["z"], given["y"][:, 0]
    mask, args = _rows(given["text_mask"], len(z)), {k: v[0] for k, v in notes["args"].items()}
    caption, without = (
        model.read(captions, mask, torch.full((len(z),), dropped)) for dropped in (False, True)
    )
    size, fps = (args["height"], args["width"]), torch.full((len(z),), args["fps"])
    velocity = guided(model, caption, without, fps, size, notes["cfg_scale"] - 1)
    times = grid(notes["steps"], ratio(size, shift_frames(int(args["num_frames"]))))

    def run(mask: Tensor | None) -> Tensor:
        return sample(velocity, z, times, lambda step: given["noise_per_step"][step], mask)

    runs = {name: partial(run, value) for name, value in given.items() if name.startswith("mask")}
    return {
        "plain": partial(run, None),
        **runs,
        "train_loss": lambda: _loss(model, recording, None),
        "train_loss_mask": lambda: _loss(model, recording, given["train_mask"].bool()),
        **_shifts(given["tt_base"]),
    }


def _loss(model: Any, recording: Recording, noisy: Tensor | None) -> Tensor:
    given = recording.given
    data, noise, time = (given[f"train_{name}"] for name in ("x0", "noise", "t"))
    caption = model.read(given["train.y"][:, 0], given["train.mask"])
    x = mixed(data, noise, time)
    held = x if noisy is None else torch.where(by_frame(noisy), x, data)
    told = model(held, time, caption, given["train.fps"], recording.size("train."), noisy)[0]
    return losses(told[:, : data.shape[1]], data, noise, noisy)


def _shifts(times: Tensor) -> Ours:
    """Of every landscape size and frame count, by the names they were recorded with."""
    return {
        f"tt_{name}{count}": partial(shifted, times, ratio(sizes["9:16"], shift_frames(count)))
        for name, sizes in RESOLUTIONS.items()
        for count in (1, *FRAMES.values())
    }


def _temporal(recording: Recording) -> Ours:
    model = temporal(recording.config, recording.weights, recording.folder)
    encode = cache(model.encode)  # a mean is recorded, and its variance, and what is made of it
    made: dict[str, Callable[[], Tensor]] = {}
    for name, x in recording.given.items():
        count = name.removeprefix("x")
        made[f"mean{count}"] = lambda x=x: encode(x)[0]  # type: ignore[misc]
        made[f"logvar{count}"] = lambda x=x: encode(x)[1]  # type: ignore[misc]
        made[f"dec{count}"] = lambda x=x: model.decode(encode(x)[0], x.shape[2])  # type: ignore[misc]
    return made


CASES: dict[str, Callable[[Recording], Ours]] = {
    "stdit1": _stdit1,
    "stdit2": _stdit2,
    "stdit3": _stdit3,
    "stdit3_v13": _stdit3_v13,
    "mmdit": _mmdit,
    "rflow": _rflow,
    "vae_temporal": _temporal,
}
