"""X-VC: the networks of one published checkpoint, from sound and a recording of who is wanted to sound.

    sound ─┬─ tokens ─ adapter ─┐
           └─ encoder ─ codes ──┴─ prenet ─ converter ─ decoder ─ sound
    recording ── speaker, mel ────────────────┘

Source: arXiv 2604.12456; `load` takes weights by their published names, strictly.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from riverrun.models import checkpoint
from riverrun.models.checkpoint import build, fill, on_meta
from riverrun.models.errors import CheckpointError
from riverrun.models.state import State
from riverrun.models.voice.codec import CodecConfig, Decoder, Encoder, Quantizer
from riverrun.models.voice.converter import ALL, Converter, ConverterConfig
from riverrun.models.voice.features import BANDS, FRAME, TOKEN, Mel, banks
from riverrun.models.voice.speaker import SpeakerConfig, SpeakerEncoder
from riverrun.models.voice.tokenizer import Tokenizer, TokenizerConfig
from riverrun.models.voice.vocos import Vocos, VocosConfig

KIND = "x-vc"  # of a checkpoint that was imported


@dataclass(frozen=True)
class Config:
    """The parts of a checkpoint, as released unless said otherwise. Raises ValueError where they do not fit."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    adapter: VocosConfig = VocosConfig(1280, 1024, ratios=(2, 2))
    codec: CodecConfig = CodecConfig()
    prenet: VocosConfig = VocosConfig(2048, 1024, width=768)
    converter: ConverterConfig = ConverterConfig()
    speaker: SpeakerConfig = SpeakerConfig()
    mel: tuple[int, ...] = field(default=(1024, 640, BANDS))  # size, length and bands of the recording's mel

    def __post_init__(self) -> None:
        latent = self.codec.latent
        joined = {
            "adapter": ((self.adapter.taken, self.adapter.given), (self.tokenizer.width, latent)),
            "prenet": ((self.prenet.taken, self.prenet.given), (2 * latent, latent)),
            "converter": (
                (self.converter.latent, self.converter.bands, self.converter.speaker),
                (latent, self.mel[-1], self.speaker.width),
            ),
            "codec": (self.codec.hop, FRAME),
        }
        for name, (found, wanted) in joined.items():
            if found != wanted:
                raise ValueError(f"{name} has channels or a hop of {found}, and the others want {wanted}")


class XVc(nn.Module):
    """The networks of one Config. Sound is `[b, n]` at 16 kHz, n a multiple of 1280 and 30 s at most."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.semantic_encoder, self.semantic_adapter = Tokenizer(config.tokenizer), Vocos(config.adapter)
        self.acoustic_encoder, self.acoustic_quantizer = Encoder(config.codec), Quantizer(config.codec)
        self.prenet, self.acoustic_converter = Vocos(config.prenet), Converter(config.converter)
        self.acoustic_decoder = Decoder(config.codec)
        self.speaker_encoder, self.mel_extractor = SpeakerEncoder(config.speaker), Mel(*config.mel)

    @property
    def device(self) -> torch.device:
        return self.mel_extractor.window.device

    def hear(self, recording: Tensor) -> State:
        """What windows need of recordings of equal length.  # [b, n]"""
        speaker = self.speaker_encoder(banks(recording, self.config.speaker.banks))
        return self.acoustic_converter.read(self.mel_extractor(recording), speaker)

    def codes(self, sound: Tensor) -> Tensor:
        """Acoustic codes.  # [b, n] -> [b, n / 320]"""
        return self.acoustic_quantizer.encode(self.acoustic_encoder(rearrange(sound, "b n -> b 1 n")))

    def frames(self, sound: Tensor, codes: Tensor) -> Tensor:
        """What is said and how it sounds, as one.  # [b, n], [b, n / 320] -> [b, latent, n / 320]"""
        tokens = self.semantic_encoder.embed(self.semantic_encoder(sound))
        said = self.semantic_adapter(rearrange(tokens, "b n d -> b d n"))
        joined: Tensor = self.prenet(torch.cat([said, self.acoustic_quantizer.decode(codes)], dim=1))
        return joined

    def forward(
        self,
        sound: Tensor,
        told: State,
        here: Tensor | None = None,
        codes: Tensor | None = None,
        kept: slice = ALL,
    ) -> Tensor:
        """Sound in the voice that `hear` told of.

        `here` is true for frames of recordings that there are; `codes` saves the encoder where they are known. Only
        the `kept` frames are converted to the end and decoded: exact where sound sees none beyond (CodecConfig.seen).
        Shapes: `[b, n]` -> `[b, 320 kept]`. Raises ValueError for parts of tokens.
        """
        if sound.shape[1] % TOKEN:
            raise ValueError(f"sound of {sound.shape[1]} samples, expected a multiple of {TOKEN}")
        frames = self.frames(sound, self.codes(sound) if codes is None else codes)
        made: Tensor = self.acoustic_decoder(self.acoustic_converter(frames, told, here, kept))
        return made[:, 0]


def load(path: Path, device: str = "cpu") -> XVc:
    """Weights by their published names, for inference: what `riverrun weights import` made, or beside a config.json.

    Raises CheckpointError for what is missing, unexpected or mis-shaped.
    """
    header, tensors = checkpoint.read(path)
    if checkpoint.KIND in header:
        config = checkpoint.config(header, KIND, Config, path)
    else:
        config = parse(path.parent / "config.json")
    return assemble(config, tensors, path).to(device)


def assemble(config: Config, tensors: Mapping[str, Tensor], path: Path) -> XVc:
    """The networks with tensors of published names, for inference. Raises CheckpointError as `load` does."""
    model = on_meta(lambda: XVc(config))
    assert isinstance(model, XVc)
    fill(model, published(tensors), path)
    return model.eval().requires_grad_(False)


UNUSED = (  # what is trained with, and nothing else
    "speaker_predictor.",
    "semantic_decoder.",
    "acoustic_quantizer.cluster_size",
    "semantic_encoder.encoder.ema_count",
    "semantic_encoder.encoder.ema_weight",
)
RENAMED = {  # the first that fits
    **{f"speaker_encoder.model.layer{i}_downsample.": f"speaker_encoder.downs.{i - 1}." for i in (1, 2, 3)},
    **{f"speaker_encoder.model.layer{i}.": f"speaker_encoder.levels.{i - 1}." for i in (1, 2, 3, 4)},
    **{f"speaker_encoder.model.fuse_mode{n}.": f"speaker_encoder.fusions.{i}."
       for i, n in enumerate(("12", "123", "1234"))},
    "semantic_encoder.encoder.": "semantic_encoder.",
    "speaker_encoder.model.": "speaker_encoder.",
    "mel_extractor.mel_extractor.spectrogram.window": "mel_extractor.window",
    "mel_extractor.mel_extractor.mel_scale.fb": "mel_extractor.filters",
}  # fmt: skip
LENGTH, DIRECTION = (f".parametrizations.weight.original{i}" for i in (0, 1))


def unused(name: str) -> bool:
    """Whether a published tensor is of no use but in training."""
    return name.startswith(UNUSED) or name.endswith(".num_batches_tracked")


def published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors by the names of our modules, less those that only training needs; weight norm worked out."""
    made = {}
    for name, value in tensors.items():
        if unused(name):
            continue
        old = next((old for old in RENAMED if name.startswith(old)), "")
        name = RENAMED.get(old, "") + name[len(old) :]
        if name.endswith(DIRECTION):
            twin = name.removesuffix(DIRECTION)
            length = tensors.get(twin + LENGTH)
            if length is None or length.shape != (len(value), *[1] * (value.ndim - 1)):
                raise CheckpointError(f"{twin + LENGTH} is missing, or not one length a row of {name}")
            axes = tuple(range(1, value.ndim))
            value = value * (length / torch.linalg.vector_norm(value, dim=axes, keepdim=True))
            name = twin + ".weight"
        elif name.endswith(LENGTH) and name.removesuffix(LENGTH) + DIRECTION in tensors:
            continue
        if name in made:
            raise CheckpointError(f"{name} is there twice, with weight norm and without")
        made[name] = value
    return made


def parse(path: Path) -> Config:
    """The Config in a config.json of published names. Raises CheckpointError for another variant of the model."""
    try:
        told = json.loads(path.read_bytes())
        other = [
            f"{part}.{k} is {told[part][k]!r}, expected {v!r}"
            for part, fixed in FIXED.items()
            for k, v in {**fixed, **_same(told, part)}.items()
            if told[part].get(k, v) != v
        ]
        parts = {ours: {name: told[part][key] for name, (part, key) in fields.items() if key in told[part]}
                 for ours, fields in NAMES.items()}  # fmt: skip
        mel = told["mel_extractor"]
        sizes = [mel["n_fft"], mel["win_length"], mel["num_mels"]]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not the config of an X-VC: {error!r}") from error
    if other:
        raise CheckpointError(f"{path}: {', '.join(other)}: only the published variant is known")
    try:
        return build(Config, {**parts, "mel": sizes})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _same(told: Any, part: str) -> dict[str, Any]:
    """What has to be as something else in a config is."""
    return {"pooling_position": told[part]["quantize_position"]} if part == SEMANTIC else {}


VOCOS = {
    "taken": "input_channels", "given": "out_channels", "width": "vocos_dim", "inner": "vocos_intermediate_dim",
    "blocks": "vocos_num_layers", "ratios": "sample_ratios", "condition": "condition_dim",
    "tanh": "use_tanh_at_final",
}  # fmt: skip
SEMANTIC, CODEC, CONVERTER = "semantic_encoder", "acoustic_quantizer", "acoustic_converter"
NAMES = {
    "tokenizer": {
        "width": (SEMANTIC, "d_model"), "heads": (SEMANTIC, "encoder_attention_heads"),
        "inner": (SEMANTIC, "encoder_ffn_dim"), "layers": (SEMANTIC, "quantize_position"),
        "positions": (SEMANTIC, "max_source_positions"), "block": (SEMANTIC, "quantize_causal_block_size"),
        "pool": (SEMANTIC, "pooling_kernel_size"), "codes": (SEMANTIC, "quantize_vocab_size"),
    },
    "adapter": {k: ("semantic_adapter", v) for k, v in VOCOS.items()},
    "codec": {
        "encoder": ("acoustic_encoder", "encoder_dim"), "strides": ("acoustic_encoder", "encoder_rates"),
        "latent": ("acoustic_encoder", "latent_dim"), "codes": (CODEC, "codebook_size"),
        "code": (CODEC, "codebook_dim"), "decoder": ("acoustic_decoder", "channels"),
        "rates": ("acoustic_decoder", "rates"), "kernels": ("acoustic_decoder", "kernel_sizes"),
    },
    "prenet": {k: ("prenet", v) for k, v in VOCOS.items()},
    "converter": {
        "latent": (CONVERTER, "in_channels_x"), "bands": (CONVERTER, "in_channels_c"),
        "speaker": (CONVERTER, "condition_dim"), "width": (CONVERTER, "dim"), "depth": (CONVERTER, "depth"),
        "heads": (CONVERTER, "heads"), "ratio": (CONVERTER, "ff_mult"),
    },
    "speaker": {
        "banks": ("speaker_encoder", "feat_dim"), "width": ("speaker_encoder", "embedding_size"),
        "channels": ("speaker_encoder", "m_channels"), "blocks": ("speaker_encoder", "num_blocks"),
    },
}  # fmt: skip
FIXED: dict[str, dict[str, Any]] = {
    SEMANTIC: {
        "num_mel_bins": BANDS, "pooling_type": "avg", "quantize_encoder_only": True, "quantize_causal_encoder": False,
        "encoder_causal_attention": False, "encoder_causal_convolution": True,
    },
    CODEC: {"use_l2_normlize": True},
    CONVERTER: {"position_agnostic": False, "convert": "after_prenet"},
    "mel_extractor": {"sample_rate": 16_000, "hop_length": FRAME},
}  # fmt: skip
