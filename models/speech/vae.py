"""The waveform autoencoder of speech: sound to latent frames and back.

Source: arXiv 2603.29339 (LongCat-AudioDiT), Wav-VAE; module names as published. A small one has the ends of frames.py.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from riverrun.models import checkpoint
from riverrun.models.speech.frames import FrameConfig, FrameDecoder, FrameEncoder
from riverrun.models.speech.wave import Conv, Down, Snake, Stack, Up, grow, shrink
from riverrun.models.state import State

KIND = "autoencoder"  # of a checkpoint
SILENCE = 3  # frames of silence an encoder sees after a prompt, as published


@dataclass(frozen=True)
class WaveConfig:
    """The shape of a waveform autoencoder.

    `multipliers` of `channels` and `strides` in encoder order; `width` channels a latent frame, `scale` what they
    are divided by to be near unit variance. `causal` is of the decoder: it then streams frame by frame.
    Units: `rate` in Hz. Raises ValueError where a shortcut could not divide its channels.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 16)
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    width: int = 64
    scale: float = 0.71
    rate: int = 24_000
    causal: bool = False

    def __post_init__(self) -> None:
        if len(self.multipliers) != len(self.strides):
            raise ValueError(f"{len(self.multipliers)} multipliers and {len(self.strides)} strides")
        for (c, d), stride in zip(self.levels, self.strides, strict=True):
            if c * stride % d:
                raise ValueError(f"{c} channels do not become {d} at stride {stride}")
        if self.top % (2 * self.width):
            raise ValueError(f"{self.top} channels do not divide into {2 * self.width}")

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Channels into and out of each level of the encoder."""
        out = [self.channels * m for m in self.multipliers]
        return list(zip([self.channels, *out[:-1]], out, strict=True))

    @property
    def top(self) -> int:
        """Channels at the rate of the latents."""
        return self.channels * self.multipliers[-1]

    @property
    def hop(self) -> int:
        """Samples a latent frame."""
        return math.prod(self.strides)


class Encoder(Stack):
    """Sound to the mean and the raw spread of latents, whole clips only.  # [b, 1, t hop] -> [b, 2 width, t]"""

    def __init__(self, config: WaveConfig) -> None:
        downs = [Down(c, d, s, False) for (c, d), s in zip(config.levels, config.strides, strict=True)]
        last = Conv(config.top, 2 * config.width, 3, beside=shrink)
        super().__init__([Conv(1, config.channels, 7), *downs, last])

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, self.start(len(x)))[0]


class Decoder(Stack):
    """Latents to sound; a causal one continues a stream.  # [b, width, t] -> [b, 1, t hop]"""

    def __init__(self, config: WaveConfig) -> None:
        causal = config.causal
        first = Conv(config.width, config.top, 7, causal=causal, beside=grow)
        levels = list(zip(config.levels, config.strides, strict=True))[::-1]
        ups = [Up(c, d, s, causal) for (d, c), s in levels]
        last = Conv(config.channels, 1, 7, causal=causal, bias=False)
        nn.init.constant_(last.weight_g, 0.02)  # speech-like in level before anything is learned
        super().__init__([first, *ups, Snake(config.channels), last])

    def forward(self, z: Tensor, state: State) -> tuple[Tensor, State]:
        return self.run(z, state)


class WaveVae(nn.Module):
    """Encoder, bottleneck and decoder of one config. Latents are `[b, width, t]`, near unit variance."""

    encoder: Encoder | FrameEncoder
    decoder: Decoder | FrameDecoder

    def __init__(self, config: WaveConfig | FrameConfig) -> None:
        super().__init__()
        self.config = config
        if isinstance(config, FrameConfig):
            self.encoder, self.decoder = FrameEncoder(config), FrameDecoder(config)
        else:
            self.encoder, self.decoder = Encoder(config), Decoder(config)

    def posterior(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread of the latents of whole frames, before scaling.  # [b, 1, t hop] -> [b, width, t] twice"""
        return spread(self.encoder(sound))

    def hear(self, sound: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """The posterior of a recording of any length, its end filled up with silence.  # [n] -> [1, width, t] twice"""
        padded = np.pad(sound, (0, -len(sound) % self.config.hop))
        return self.posterior(torch.from_numpy(padded)[None, None].to(next(self.parameters())))

    def encode(self, sound: Tensor, eps: Tensor) -> Tensor:
        """Latents of whole frames, drawn by standard normal `eps`.  # [b, 1, t hop], [b, width, t] -> [b, width, t]"""
        mean, sigma = self.posterior(sound)
        return (mean + sigma * eps) / self.config.scale

    def frames(self, samples: int) -> int:
        """How many frames a prompt of so many samples becomes."""
        return -(-samples // self.config.hop)

    def prompt(self, sound: Tensor, eps: Tensor) -> Tensor:
        """Latents of a prompt of any length, whose end is heard to be silence, not an edge.

        Shapes: sound `[b, 1, n]`, eps `[b, width, frames(n) + SILENCE]` -> `[b, width, frames(n)]`.
        """
        count = self.frames(sound.shape[2])
        padded = F.pad(sound, (0, (count + SILENCE) * self.config.hop - sound.shape[2]))
        return self.encode(padded, eps)[..., :count]

    def start(self, batch: int) -> State:
        """The state of a decoder before the first frame."""
        return self.decoder.start(batch)

    def decode(self, latents: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Sound of latents, and a causal decoder's state to go on from.  # [b, width, t] -> [b, 1, t hop]"""
        state = self.start(len(latents)) if state is None else state
        sound, state = self.decoder(latents * self.config.scale, state)
        return sound, state


def load(path: Path, device: str = "cpu") -> WaveVae:
    """The small autoencoder in a file made by training. Raises CheckpointError if it does not fit."""
    header, tensors = checkpoint.read(path)
    model = WaveVae(checkpoint.config(header, KIND, FrameConfig, path))
    checkpoint.fill(model, tensors, path)
    return model.to(device).eval().requires_grad_(False)


def spread(raw: Tensor) -> tuple[Tensor, Tensor]:
    """What an encoder puts out as mean and standard deviation.  # [b, 2 c, t] -> [b, c, t] twice"""
    mean, scale = raw.chunk(2, dim=1)
    return mean, F.softplus(scale) + 1e-4
