"""The two ends of a small autoencoder that works on short spectra, so that no layer runs at the rate of samples.

Every layer takes `[b, t, c]` and the state its `start` made, and gives both on. The decoder is causal.
Source: arXiv 2306.00814 (Vocos): ConvNeXt layers, magnitudes and phases, inverse STFT.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.convnext import Conv, Layers, zeros
from riverrun.models.layers.spectra import LOUDEST, OVERLAP, drawn, draws, mixed, overlapped, spectra
from riverrun.models.state import State


@dataclass(frozen=True)
class FrameConfig:
    """The shape of an autoencoder of short spectra.

    A latent frame of `width` channels is `stride` spectra, each `step` samples after the one before and four steps
    long. `encoder` and `decoder` are channels, layers at the rate of spectra, and layers at the rate of latents.
    With `noise` the decoder says how much of each spectrum is noise, which is drawn anew for every one: without, what
    sounds like noise is made of the same few patterns again and again. Below `noise_from` all of it is sure.
    `scale` is what latents are divided by to be near unit variance. Units: `rate` and `noise_from` in Hz. Raises
    ValueError where an end is not three numbers, or noise would begin above all there is.
    """

    width: int = 32
    step: int = 240
    stride: int = 4
    encoder: tuple[int, ...] = (256, 4, 2)
    decoder: tuple[int, ...] = (320, 6, 2)
    scale: float = 1.0
    rate: int = 24_000
    noise: bool = False
    noise_from: float = 0.0

    def __post_init__(self) -> None:
        for end in (self.encoder, self.decoder):
            if len(end) != 3:
                raise ValueError(f"an end is {end}, expected channels, layers of spectra and of latents")
        if not 0 <= self.noise_from < self.rate / 2:
            raise ValueError(
                f"noise is from {self.noise_from} Hz on, expected 0 or more and below {self.rate / 2}"
            )

    @property
    def hop(self) -> int:
        """Samples a latent frame."""
        return self.step * self.stride

    @property
    def size(self) -> int:
        """Samples a spectrum."""
        return self.step * OVERLAP

    @property
    def bins(self) -> int:
        return self.size // 2 + 1

    @property
    def noisy(self) -> int:
        """Bins, the highest ones, in which noise is."""
        return self.bins - math.ceil(self.noise_from * self.size / self.rate) if self.noise else 0


class FrameEncoder(nn.Module):
    """Sound to the mean and the raw spread of latents, whole clips only.  # [b, 1, t hop] -> [b, 2 width, t]"""

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        c, fast, slow = config.encoder
        self.config = config
        self.first, self.norm = nn.Linear(3 * config.bins, c), nn.LayerNorm(c)
        self.fast, self.slow = Layers(c, fast, False), Layers(c, slow, False)
        self.fold = nn.Linear(config.stride * c, c)
        self.last_norm, self.last = nn.LayerNorm(c), nn.Linear(c, 2 * config.width)
        nn.init.constant_(self.last.bias[config.width :], -2.0)

    def forward(self, sound: Tensor) -> Tensor:
        spectrum = spectra(sound[:, 0], self.config.step)
        size = (spectrum.real.square() + spectrum.imag.square() + 1e-7).sqrt()
        pressed = size**-0.7
        seen = [(size.log() + 4) / 3, spectrum.real * pressed * 2, spectrum.imag * pressed * 2]
        x = self.norm(self.first(torch.cat(seen, dim=2)))
        x, _ = self.fast(x, self.fast.start(len(x)))
        x = self.fold(rearrange(x, "b (t n) c -> b t (n c)", n=self.config.stride))
        x, _ = self.slow(x, self.slow.start(len(x)))
        told: Tensor = self.last(self.last_norm(x))
        return told.transpose(1, 2)


class FrameDecoder(nn.Module):
    """Latents to sound, frame by frame; it looks at no later frame.  # [b, width, t] -> [b, 1, t hop]

    Where it draws noise, the state has the `seed` and the `tick`, in spectra, of each session. Layers may compute in
    bfloat16; the state, the spectra and the sound are float32.
    """

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        c, fast, slow = config.decoder
        self.config = config
        self.first, self.norm = Conv(config.width, c, 3, True), nn.LayerNorm(c)
        self.slow, self.fast = Layers(c, slow, True), Layers(c, fast, True)
        self.unfold = nn.Linear(c, config.stride * c)
        self.last_norm, self.last = nn.LayerNorm(c), nn.Linear(c, 2 * config.bins + config.noisy)
        nn.init.constant_(self.last.bias[: config.bins], -4.0)
        nn.init.constant_(self.last.bias[2 * config.bins :], -6.0)

    def start(self, batch: int) -> State:
        """Silence before the first frame."""
        late = OVERLAP - 1
        state: State = {
            "first": self.first.start(batch),
            "slow": self.slow.start(batch),
            "fast": self.fast.start(batch),
            "tail": zeros(self.last.weight, batch, late, self.config.size),
        }
        return {**state, "seed": [0] * batch, "tick": [0] * batch} if self.config.noise else state

    def forward(self, z: Tensor, state: State) -> tuple[Tensor, State]:
        spectrum, loud, kept = self.spectrum(z, state)
        if loud is not None:
            values, ticks = drawn(state["seed"], state["tick"], loud)
            spectrum = mixed(spectrum, loud, values)
            kept |= {"seed": state["seed"], "tick": ticks}
        sound, tail = overlapped(spectrum, state["tail"])
        return sound[:, None], {**kept, "tail": tail}

    def several(self, z: Tensor, count: int) -> list[Tensor]:
        """Whole clips, with as many draws of their noise by torch's own generator: for training.  # [b, t hop] each"""
        start = self.start(len(z))
        spectrum, loud, _ = self.spectrum(z, start)
        if loud is None:
            return [overlapped(spectrum, start["tail"])[0]] * count
        return draws(spectrum, loud, start["tail"], count)

    def spectrum(self, z: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        """The spectra that are sure, how large noise is in them, and what the layers remember.  # [b, t, bins]"""
        x, first = self.first(z.transpose(1, 2).to(self.last.weight.dtype), state["first"])
        x, slow = self.slow(self.norm(x), state["slow"])
        x = rearrange(self.unfold(x), "b t (n c) -> b (t n) c", n=self.config.stride)
        x, fast = self.fast(x, state["fast"])
        told = self.last(self.last_norm(x)).to(state["tail"].dtype)
        bins, noisy = self.config.bins, self.config.noisy
        size, phase, loud = told.split([bins, bins, noisy], dim=2)
        spectrum = torch.polar(size.clamp_max(LOUDEST).exp(), phase)
        kept = {"first": first, "slow": slow, "fast": fast}
        noise = F.pad(loud.clamp_max(LOUDEST).exp(), (bins - noisy, 0)) if noisy else None
        return spectrum, noise, kept
