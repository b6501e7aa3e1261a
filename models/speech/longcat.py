"""LongCat-AudioDiT: text encoder, transformer and waveform autoencoder of one published checkpoint.

Source: arXiv 2603.29339; `load` takes the published folders as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.checkpoint import build, fill, gather, on_meta
from riverrun.models.errors import CheckpointError
from riverrun.models.speech.dit import Dit, DitConfig
from riverrun.models.speech.text import TextConfig, TextEncoder
from riverrun.models.speech.vae import WaveConfig, WaveVae
from riverrun.models.speech.wave import fold


@dataclass(frozen=True)
class Config:
    """The three parts of a checkpoint, and the longest clip it was made for.

    Units: `limit` in seconds. Raises ValueError where the parts do not fit each other.
    """

    dit: DitConfig = DitConfig()
    vae: WaveConfig = WaveConfig()
    text: TextConfig = TextConfig()
    limit: float = 30.0

    def __post_init__(self) -> None:
        found, wanted = (self.dit.latent, self.dit.text), (self.vae.width, self.text.width)
        if found != wanted:
            raise ValueError(f"the transformer takes latents and text of {found} channels, and gets {wanted}")
        if not 0 < self.limit < float("inf"):
            raise ValueError(f"limit is {self.limit} s, expected a positive number")


@dataclass(frozen=True)
class Precision:
    """What each part computes in. Flow state, guidance and the time embedding are float32 in any case.

    The transformer and the text encoder overflow in float16; the autoencoder does not, and is published in it.
    """

    dit: Literal["float32", "bfloat16"] = "float32"
    text: Literal["float32", "bfloat16"] = "float32"
    vae: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        for name, half in (("dit", "bfloat16"), ("text", "bfloat16"), ("vae", "float16")):
            if (value := getattr(self, name)) not in ("float32", half):
                raise ValueError(f"precision of {name} is {value!r}, expected 'float32' or {half!r}")


def halved(device: str) -> Precision:
    """All that can be in half precision; on a CPU not the autoencoder, which float16 slows down there."""
    return Precision("bfloat16", "bfloat16", "float32" if device == "cpu" else "float16")


class LongCat(nn.Module):
    """The three networks of one Config, in the precision they were given. Latents are `[b, t, c]`, float32."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.text_encoder, self.transformer = TextEncoder(config.text), Dit(config.dit)
        self.vae = WaveVae(config.vae)

    @property
    def device(self) -> torch.device:
        return self.transformer.proj_out.weight.device

    def listen(self, sound: Tensor, eps: Tensor) -> Tensor:
        """Latents of a prompt, drawn by standard normal `eps`.  # [b, n], [b, frames + SILENCE, c] -> [b, t, c]"""
        dtype = next(self.vae.parameters()).dtype
        sound, eps = rearrange(sound, "b n -> b 1 n").to(dtype), rearrange(eps, "b t c -> b c t").to(dtype)
        latents = self.vae.prompt(sound, eps)
        return rearrange(latents.float(), "b c t -> b t c")

    def speak(self, latents: Tensor) -> Tensor:
        """Sound of latents.  # [b, t, c] -> [b, t hop], float32"""
        dtype = next(self.vae.parameters()).dtype
        sound, _ = self.vae.decode(rearrange(latents, "b t c -> b c t").to(dtype))
        return rearrange(sound.float(), "b 1 n -> b n")


def load(path: Path, device: str = "cpu", precision: Precision | None = None) -> LongCat:
    """A checkpoint from its folder, or from a weights file or an index beside its config.json, for inference.

    Raises CheckpointError for what is missing, unexpected, mis-shaped, or of a kind this model is not.
    """
    precision = precision or Precision()
    single = path.suffix in (".safetensors", ".json") and not path.is_dir()
    config = parse((path.parent if single else path) / "config.json")
    model = on_meta(lambda: LongCat(config))
    assert isinstance(model, LongCat)
    model.transformer.cast(getattr(torch, precision.dit))
    model.text_encoder.to(getattr(torch, precision.text))
    fill(model, published(gather(path)), path)
    model.eval().requires_grad_(False)
    fold(model.vae)
    model.vae.to(getattr(torch, precision.vae))
    return model.to(device)


def published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names of our modules: the published ones, but for an alias and a buffer nobody needs."""
    shared, words = "text_encoder.shared.weight", "text_encoder.encoder.embed_tokens.weight"
    kept = {k: v for k, v in tensors.items() if k != shared and not k.endswith(".inv_freq")}
    if shared in tensors and words not in kept:
        kept[words] = tensors[shared]
    return kept


DIT = {
    "width": "dit_dim", "depth": "dit_depth", "heads": "dit_heads", "ratio": "dit_ff_mult",
    "text": "dit_text_dim", "latent": "latent_dim", "skip": "repa_dit_layer", "eps": "dit_eps",
}  # fmt: skip
VAE = {
    "channels": "channels", "multipliers": "c_mults", "strides": "strides", "width": "latent_dim",
    "scale": "scale", "rate": "sample_rate",
}  # fmt: skip
TEXT = {
    "width": "d_model", "inner": "d_ff", "layers": "num_layers", "heads": "num_heads", "head": "d_kv",
    "vocabulary": "vocab_size", "buckets": "relative_attention_num_buckets",
    "reach": "relative_attention_max_distance", "eps": "layer_norm_epsilon",
}  # fmt: skip
FIXED = {
    "dit_adaln_type": "global", "dit_adaln_use_text_cond": True, "dit_bias": True, "dit_cross_attn": True,
    "dit_cross_attn_norm": False, "dit_long_skip": True, "dit_qk_norm": True, "dit_text_conv": True,
    "dit_use_latent_condition": True, "text_add_embed": True, "text_norm_feat": True,
}  # fmt: skip
FIXED_VAE = {
    "in_channels": 1, "use_snake": True, "final_tanh": False, "downsample_shortcut": "averaging",
    "out_shortcut": "averaging", "upsample_shortcut": "duplicating", "in_shortcut": "duplicating",
}  # fmt: skip


def parse(path: Path) -> Config:
    """The Config of a published config.json; what it leaves out is as in the 1B model.

    Raises CheckpointError for what is not there, not of its type, or of a variant that was never published.
    """
    try:
        told = json.loads(path.read_bytes())
        vae, text = told.get("vae_config") or {}, told.get("text_encoder_config") or {}
        parts = {"dit": _renamed(told, DIT), "vae": _renamed(vae, VAE), "text": _renamed(text, TEXT)}
        other = [*_other(told, FIXED), *_other(vae, FIXED_VAE)]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} is not the config of a LongCat-AudioDiT: {error}") from error
    if other:
        raise CheckpointError(
            f"{path}: {', '.join(other)}: of this model only the published variant is known"
        )
    try:
        config = build(Config, {**parts, **_renamed(told, {"limit": "max_wav_duration"})})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    for name, value in (("latent_hop", config.vae.hop), ("sampling_rate", config.vae.rate)):
        if told.get(name, value) != value:
            raise CheckpointError(f"{path}: {name} is {told[name]}, and the autoencoder's is {value}")
    return config


def _renamed(told: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: told[theirs] for ours, theirs in names.items() if theirs in told}


def _other(told: Mapping[str, Any], fixed: Mapping[str, Any]) -> list[str]:
    return [f"{k} is {told[k]!r}, expected {v!r}" for k, v in fixed.items() if told.get(k, v) != v]
