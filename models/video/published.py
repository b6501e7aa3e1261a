"""Open-Sora's transformers as they are published: configs by their names, weights as they are.

Source: the releases of Open-Sora 1.0 to 2.0 and their config.json; arXiv 2412.20404, arXiv 2503.09642.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from riverrun.models.checkpoint import build, fill, gather, on_meta
from riverrun.models.errors import CheckpointError
from riverrun.models.video.config import V10, V11, V12, V13
from riverrun.models.video.mmdit import Config as MMDiTConfig
from riverrun.models.video.mmdit import MMDiT
from riverrun.models.video.stdit import STDiT
from riverrun.models.video.stdit2 import STDiT2
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.stdit3_v13 import STDiT3V13
from riverrun.models.video.temporal import TemporalConfig, TemporalVae
from riverrun.models.video.vae import PUBLISHED, VideoVae
from riverrun.models.video.vae import Config as VaeConfig

ANEW = "pos_embed"  # begins the names of tables that are worked out from the shape
NOTHING = "y_embedder.y_embedding"  # the caption that says nothing, of which there may be more or fewer rows


@dataclass(frozen=True)
class Version:
    """One network: its shape, how a published config calls what ours does, and what all of them have in common."""

    network: Callable[[Any], nn.Module]
    preset: Any
    names: Mapping[str, str]
    fixed: Mapping[str, Any] = field(default_factory=dict)


STDIT = {
    "width": "hidden_size", "depth": "depth", "heads": "num_heads", "ratio": "mlp_ratio",
    "text": "caption_channels", "tokens": "model_max_length", "latent": "in_channels", "patch": "patch_size",
    "sigma": "pred_sigma",
}  # fmt: skip
LATER = STDIT | {"square": "input_sq_size", "normed": "qk_norm"}
MMDIT = {
    "width": "hidden_size", "heads": "num_heads", "double": "depth", "single": "depth_single_blocks",
    "ratio": "mlp_ratio", "latent": "in_channels", "text": "context_in_dim", "pooled": "vec_in_dim",
    "axes": "axes_dim", "base": "theta", "patch": "patch_size", "known": "cond_embed",
}  # fmt: skip
VERSIONS = {
    "stdit1": Version(STDiT, V10, STDIT | {"space": "space_scale", "time": "time_scale"}),
    "stdit2": Version(STDiT2, V11, LATER),
    "stdit3": Version(STDiT3, V12, LATER, {"skip_y_embedder": False}),
    "stdit3_v13": Version(
        STDiT3V13,
        V13,
        LATER | {"window": "kernel_size", "turned": "use_spatial_rope"},
        {"skip_y_embedder": False},
    ),
    "mmdit": Version(
        MMDiT,
        MMDiTConfig(),
        MMDIT,
        {"fused_qkv": False, "use_liger_rope": True, "guidance_embed": False, "qkv_bias": True},
    ),
}


def parse(told: Mapping[str, Any], version: str) -> Any:
    """The Config of a published config; what it leaves out is as published, what is not of its shape is ignored.

    Raises CheckpointError for what is not of its type, or of a variant that was never published.
    """
    kind = VERSIONS[version]
    other = [f"{k} is {told[k]!r}, expected {v!r}" for k, v in kind.fixed.items() if told.get(k, v) != v]
    values = {ours: told[theirs] for ours, theirs in kind.names.items() if theirs in told}
    if isinstance(patch := values.get("patch"), list):
        if len(patch) != 3 or patch[0] != 1 or patch[1] != patch[2]:
            other.append(f"patch_size is {patch}, expected 1 frame and as many rows as columns")
        values["patch"] = patch[-1:] and patch[-1]
    if isinstance(window := values.get("window"), list):
        if window[2:] != [-1]:
            other.append(f"kernel_size is {window}, expected rows, columns, and -1 for all frames")
        values["window"] = window[:2]
    if other:
        raise CheckpointError(f"{'; '.join(other)}: of {version} only the published variant is known")
    return build(type(kind.preset), asdict(kind.preset) | values)


def assemble(config: Any, version: str, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network of a config with published weights, in float32, for inference.

    Where the weights have fewer rows of the caption that says nothing, its last one is repeated; more are cut.
    Raises CheckpointError for what is missing, unexpected or mis-shaped.
    """
    model = on_meta(lambda: VERSIONS[version].network(config))
    kept = {name: v for name, v in tensors.items() if not name.startswith(ANEW)}
    if (rows := kept.get(NOTHING)) is not None and rows.ndim == 2 and len(rows):
        kept[NOTHING] = rows[torch.arange(config.tokens).clamp_max(len(rows) - 1)]
    fill(model, kept, path)
    return model.eval().requires_grad_(False)


def load(path: Path, version: str = "stdit3", device: str = "cpu", dtype: str = "float32") -> Any:
    """A transformer from its folder, or from a weights file or an index beside its config.json, for inference.

    `dtype` is what it computes in: float32 or bfloat16. Raises CheckpointError for what is missing, unexpected,
    mis-shaped, or of a variant that is not known.
    """
    if version not in VERSIONS or dtype not in ("float32", "bfloat16"):
        raise CheckpointError(
            f"version {version!r} in {dtype!r}, expected one of {', '.join(VERSIONS)} in float32 or bfloat16"
        )
    single = path.suffix in (".safetensors", ".json") and not path.is_dir()
    told = described((path.parent if single else path) / "config.json")
    try:
        config = parse(told, version)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return assemble(config, version, gather(path), path).to(device, getattr(torch, dtype))


VAE = {"group": "micro_frame_size", "batch": "micro_batch_size", "shift": "shift", "scale": "scale"}
TEMPORAL = {
    "latent": "latent_embed_dim", "width": "filters", "multipliers": "channel_multipliers",
    "depth": "num_res_blocks", "halved": "temporal_downsample", "groups": "num_groups",
}  # fmt: skip


def load_vae(
    path: Path, device: str = "cpu", dtype: str = "float32", shape: VaeConfig = PUBLISHED
) -> VideoVae:
    """The video autoencoder of Open-Sora 1.2 from its folder or its weights file, for inference.

    A config.json may change the groups and norms of `shape`.
    Raises CheckpointError for what is missing, unexpected or mis-shaped.
    """
    folder = path if path.is_dir() else path.parent
    told = described(folder / "config.json") if (folder / "config.json").exists() else {}
    named = {ours: told[theirs] for ours, theirs in VAE.items() if theirs in told}
    config = build(VaeConfig, asdict(shape) | named)
    model = on_meta(lambda: VideoVae(config))
    assert isinstance(model, VideoVae)
    fill(model, gather(path), path)
    return model.eval().requires_grad_(False).to(device, getattr(torch, dtype))


def temporal(told: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> TemporalVae:
    """The autoencoder along time alone, of a published config. Raises CheckpointError."""
    config = build(
        TemporalConfig, {ours: told[theirs] for ours, theirs in TEMPORAL.items() if theirs in told}
    )
    model = on_meta(lambda: TemporalVae(config))
    assert isinstance(model, TemporalVae)
    fill(model, tensors, path)
    return model.eval().requires_grad_(False)


def described(path: Path) -> dict[str, Any]:
    """A config.json. Raises CheckpointError."""
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a config: {error}") from error
    if not isinstance(told, dict):
        raise CheckpointError(f"{path} holds {told!r:.40}, expected an object")
    return told
