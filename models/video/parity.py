"""Recordings of Open-Sora beside what these modules compute: transformers, samplers, autoencoders."""

from collections.abc import Callable, Iterator
from dataclasses import replace
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
from riverrun.models.video.rflow import grid, guided, losses, mixed, ratio, sample, shifted
from riverrun.models.video.stdit2 import Shape

Tensors = dict[str, Tensor]
HALF = 5e-2  # relative L2 of what was recorded in bfloat16, which rounds differently on every machine


def recorded(folder: Path) -> Iterator[Pair]:
    """Every tensor in outputs.safetensors of a folder, with ours.

    Raises CheckpointError for missing files, inputs, or recorded tensors that nothing here computes.
    """
    told = described(folder / "config.json")
    kind = str(told["kind"]).removeprefix("opensora.")
    weights, given, theirs = (
        read(folder / f"{name}.safetensors")[1] for name in ("weights", "inputs", "outputs")
    )
    try:
        config = told["config"]
        ours = CASES[kind](config, weights, given, folder, told.get("notes") or {})
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: the recording lacks {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    if left := sorted(set(theirs) - set(ours)):
        raise CheckpointError(f"{folder}: no code here computes {', '.join(left[:5])}")
    for name, value in theirs.items():
        yield Pair(name, ours[name], value, HALF if "bf16" in name else None)


def _size(given: Tensors, case: str = "") -> tuple[float, float]:
    """Height and width in pixels: those of the first row count for all."""
    return float(given[f"{case}height"][0]), float(given[f"{case}width"][0])


def _rows(value: Tensor, count: int) -> Tensor:
    """As many rows as there are in a batch, the block of those given repeated."""
    return value.repeat(count // len(value), *[1] * (value.ndim - 1))


def _stdit3(config: Any, weights: Tensors, given: Tensors, folder: Path, notes: Any) -> Tensors:
    shape = parse(config, "stdit3")
    model: Any = assemble(shape, "stdit3", weights, folder)

    def case(name: str, masked: bool = True, noisy: Tensor | None = None, net: Any = model) -> Tensor:
        """One forward, with the inputs of a case where it has its own and else of the first."""

        def one(key: str) -> Tensor:
            return given.get(f"{name}.{key}", given.get(f"a.{key}"))  # type: ignore[return-value]

        latents = one("x")
        captions, mask = one("y")[:, 0], _rows(one("mask"), len(latents)) if masked else None
        size = _size({"height": one("height"), "width": one("width")})
        fps = _rows(one("fps"), len(latents))
        y: Tensor = net(latents, one("timestep"), net.read(captions, mask), fps, size, noisy)[0]
        return y

    half: Any = assemble(replace(shape, legacy=True), "stdit3", weights, folder).to(torch.bfloat16)
    x = padded(given["a.x"], shape.patch)
    h, w = (n // shape.patch for n in x.shape[3:])
    return {
        "a_plain": case("a"),
        "b_xmask": case("b", noisy=given["b.x_mask"].bool()),
        "c_nomask_text": case("c", masked=False),
        "d_image": case("d"),
        "e_cfg": case("e"),
        "f_bf16": case("f", net=half),
        f"f_bf16_pos_emb_{h}x{w}": half.places(h, w, _size(given, "a.")).to(torch.bfloat16)[None],
        f"pos_emb_{h}x{w}": model.places(h, w, _size(given, "a."))[None],
        "t_emb": model.t_embedder(given["a.timestep"]),
        "fps_emb": model.fps_embedder(given["a.fps"]),
        "x_emb": model.x_embedder(x).flatten(1, 2),
        "rope_q": turn_pairs(given["rope_q"], model.rope(torch.arange(given["rope_q"].shape[2]))),
    }


def _rflow(config: Any, weights: Tensors, given: Tensors, folder: Path, notes: Any) -> Tensors:
    """Runs of the sampler with the draws that were recorded, shifted times, and losses."""
    shape = parse(config, "stdit3")
    model: Any = assemble(shape, "stdit3", weights, folder)
    z, mask = given["z"], _rows(given["text_mask"], len(given["z"]))
    captions, args = given["y"][:, 0], {k: torch.tensor(v) for k, v in notes["args"].items()}
    caption, without = (
        model.read(captions, mask, torch.full((len(z),), dropped)) for dropped in (False, True)
    )
    size, fps = _size(args), _rows(args["fps"], len(z))
    velocity = guided(model, caption, without, fps, size, notes["cfg_scale"] - 1)
    times = grid(notes["steps"], ratio(size, shift_frames(int(args["num_frames"][0]))))

    def run(mask: Tensor | None) -> Tensor:
        return sample(velocity, z, times, lambda step: given["noise_per_step"][step], mask)

    made = {"plain": run(None)} | {name: run(given[name]) for name in ("mask0", "mask_edit")}
    return made | _training(model, given) | _shifts(given["tt_base"])


def _training(model: Any, given: Tensors) -> Tensors:
    data, noise, time = (given[f"train_{name}"] for name in ("x0", "noise", "t"))
    caption = model.read(given["train.y"][:, 0], given["train.mask"])
    noisy, made = given["train_mask"].bool(), Tensors()
    x = mixed(data, noise, time)
    for name, known in (("train_loss", None), ("train_loss_mask", noisy)):
        held = x if known is None else torch.where(known[:, None, :, None, None], x, data)
        told = model(held, time, caption, given["train.fps"], _size(given, "train."), known)[0]
        made[name] = losses(told[:, : data.shape[1]], data, noise, known)
    return made


def _shifts(times: Tensor) -> Tensors:
    """Of every landscape size and frame count, by the names they were recorded with."""
    sizes, counts = [RESOLUTIONS[name]["9:16"] for name in RESOLUTIONS], (1, *FRAMES.values())
    return {
        f"tt_{name}{count}": shifted(times, ratio(size, shift_frames(count)))
        for name, size in zip(RESOLUTIONS, sizes, strict=True)
        for count in counts
    }


def _stdit1(config: Any, weights: Tensors, given: Tensors, folder: Path, notes: Any) -> Tensors:
    model: Any = assemble(parse(config, "stdit1"), "stdit1", weights, folder)
    caption = model.read(given["y"][:, 0], given["mask"])
    return {"out": model(given["x"], given["timestep"], caption)}


def _stdit2(config: Any, weights: Tensors, given: Tensors, folder: Path, notes: Any) -> Tensors:
    model: Any = assemble(parse(config, "stdit2"), "stdit2", weights, folder)
    caption = model.read(given["y"][:, 0], given["mask"])
    shape = Shape(*(given[name] for name in ("height", "width", "ar", "num_frames", "fps")))
    masks = {"plain": None, "xmask": given["x_mask"].bool()}
    return {name: model(given["x"], given["timestep"], caption, shape, m) for name, m in masks.items()}


def _stdit3_v13(config: Any, weights: Tensors, given: Tensors, folder: Path, notes: Any) -> Tensors:
    model: Any = assemble(parse(config, "stdit3_v13"), "stdit3_v13", weights, folder)
    caption = model.read(given["y"][:, 0], given["mask"])
    return {"plain": model(given["x"], given["timestep"], caption, given["fps"], _size(given))}


def _mmdit(config: Any, weights: Tensors, given: Tensors, folder: Path, notes: Any) -> Tensors:
    model: Any = assemble(parse(config, "mmdit"), "mmdit", weights, folder)
    inputs = (given[name] for name in ("img", "timesteps", "txt", "y_vec"))
    return {"out": model(*inputs, given["img_ids"][0], given.get("cond"))}


def _temporal(config: Any, weights: Tensors, given: Tensors, folder: Path, notes: Any) -> Tensors:
    model = temporal(config, weights, folder)
    made = Tensors()
    for name, x in given.items():
        count = name.removeprefix("x")
        mean, spread = model.encode(x)
        made |= {
            f"mean{count}": mean,
            f"logvar{count}": spread,
            f"dec{count}": model.decode(mean, x.shape[2]),
        }
    return made


CASES: dict[str, Callable[[Any, Tensors, Tensors, Path, Any], Tensors]] = {
    "stdit3": _stdit3,
    "stdit1": _stdit1,
    "stdit2": _stdit2,
    "stdit3_v13": _stdit3_v13,
    "mmdit": _mmdit,
    "rflow": _rflow,
    "vae_temporal": _temporal,
}
