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

from riverrun.models.noise import noise_rows
from riverrun.models.state import State

OVERLAP = 4  # steps a spectrum
KERNEL = 7  # frames a layer sees
FEW = 4  # frames for which calling the library's convolution takes longer than the sums do
LOUDEST = math.log(100.0)  # of a magnitude


@dataclass(frozen=True)
class FrameConfig:
    """The shape of an autoencoder of short spectra.

    A latent frame of `width` channels is `stride` spectra, each `step` samples after the one before and four steps
    long. `encoder` and `decoder` are channels, layers at the rate of spectra, and layers at the rate of latents.
    With `noise` the decoder says how much of each spectrum is noise, which is drawn anew for every one: without, what
    sounds like noise is made of the same few patterns again and again.
    `scale` is what latents are divided by to be near unit variance. Units: `rate` in Hz. Raises ValueError where
    an end is not three numbers.
    """

    width: int = 32
    step: int = 240
    stride: int = 4
    encoder: tuple[int, ...] = (256, 4, 2)
    decoder: tuple[int, ...] = (320, 6, 2)
    scale: float = 1.0
    rate: int = 24_000
    noise: bool = False

    def __post_init__(self) -> None:
        for end in (self.encoder, self.decoder):
            if len(end) != 3:
                raise ValueError(f"an end is {end}, expected channels, layers of spectra and of latents")

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


def zeros(weight: Tensor, *shape: int) -> Tensor:
    """A state of zeros where a weight is, as precise as that, and at least in float32."""
    return weight.new_zeros(shape, dtype=torch.promote_types(weight.dtype, torch.float32))


class Conv(nn.Module):
    """A convolution over time that continues from the last frames, or one that is centred.

    Shapes: x `[b, t, c]`, past `[b, kernel - 1, c]` -> y `[b, t, d]`, past.
    """

    def __init__(self, c: int, d: int, kernel: int, causal: bool, groups: int = 1) -> None:
        super().__init__()
        self.kernel, self.causal, self.c = kernel, causal, c
        self.run = nn.Conv1d(c, d, kernel, groups=groups)

    def start(self, batch: int) -> Tensor:
        return zeros(self.run.weight, batch, self.kernel - 1, self.c)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        if self.causal:
            joined = torch.cat([past.to(x.dtype), x], dim=1)
        else:
            joined = F.pad(x, (0, 0, self.kernel // 2, self.kernel // 2))
        if self.run.groups == self.c and x.shape[1] <= FEW and self.run.bias is not None:
            y = (joined.unfold(1, self.kernel, 1) * self.run.weight[:, 0]).sum(3) + self.run.bias
        else:
            y = self.run(joined.transpose(1, 2)).transpose(1, 2)
        return y, joined[:, x.shape[1] :].to(past.dtype)


class Layer(nn.Module):
    """ConvNeXt: a convolution of each channel over time, then a network of each frame, beside a shortcut."""

    def __init__(self, c: int, causal: bool) -> None:
        super().__init__()
        self.conv = Conv(c, c, KERNEL, causal, groups=c)
        self.norm = nn.LayerNorm(c, eps=1e-6)
        self.grow, self.shrink = nn.Linear(c, 3 * c), nn.Linear(3 * c, c)
        self.size = nn.Parameter(torch.full((c,), 0.15))

    def start(self, batch: int) -> Tensor:
        return self.conv.start(batch)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        y, past = self.conv(x, past)
        return x + self.size * self.shrink(F.gelu(self.grow(self.norm(y)))), past


class Layers(nn.Module):
    """Layers in a row; the state is the past of each."""

    def __init__(self, c: int, count: int, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(c, causal) for _ in range(count))

    def start(self, batch: int) -> State:
        return {str(i): layer.start(batch) for i, layer in enumerate(self.layers) if isinstance(layer, Layer)}

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        kept: State = {}
        for i, layer in enumerate(self.layers):
            x, kept[str(i)] = layer(x, state[str(i)])
        return x, kept


def spectra(sound: Tensor, step: int) -> Tensor:
    """Complex Hann spectra that start at every step.  # [b, t step] -> [b, t, bins]"""
    size = step * OVERLAP
    frames = F.pad(sound, (0, size - step)).unfold(1, size, step)
    window = torch.hann_window(size, device=sound.device, dtype=sound.dtype)
    spectrum: Tensor = torch.fft.rfft(frames * window) * math.sqrt(8 / 3 / size)
    return spectrum


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
        self.last_norm, self.last = nn.LayerNorm(c), nn.Linear(c, (2 + config.noise) * config.bins)
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
            count, shape = loud.shape[1], (self.config.bins, 2)
            rows = [noise_rows([s] * count, range(at, at + count), shape)
                    for s, at in zip(state["seed"], state["tick"], strict=True)]  # fmt: skip
            spectrum = self.mixed(spectrum, loud, torch.stack(rows).to(loud))
            kept |= {"seed": state["seed"], "tick": [at + count for at in state["tick"]]}
        sound, tail = self.overlap(spectrum, state["tail"])
        return sound[:, None], {**kept, "tail": tail}

    def several(self, z: Tensor, count: int) -> list[Tensor]:
        """Whole clips, with as many draws of their noise by torch's own generator: for training.  # [b, t hop] each"""
        start = self.start(len(z))
        spectrum, loud, _ = self.spectrum(z, start)
        if loud is None:
            return [self.overlap(spectrum, start["tail"])[0]] * count
        draws = (torch.randn(*loud.shape, 2, device=loud.device, dtype=loud.dtype) for _ in range(count))
        return [self.overlap(self.mixed(spectrum, loud, drawn), start["tail"])[0] for drawn in draws]

    def spectrum(self, z: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        """The spectra that are sure, how large noise is in them, and what the layers remember.  # [b, t, bins]"""
        x, first = self.first(z.transpose(1, 2).to(self.last.weight.dtype), state["first"])
        x, slow = self.slow(self.norm(x), state["slow"])
        x = rearrange(self.unfold(x), "b t (n c) -> b (t n) c", n=self.config.stride)
        x, fast = self.fast(x, state["fast"])
        told = self.last(self.last_norm(x)).to(state["tail"].dtype)
        size, phase, *loud = told.split(self.config.bins, dim=2)
        spectrum = torch.polar(size.clamp_max(LOUDEST).exp(), phase)
        kept = {"first": first, "slow": slow, "fast": fast}
        return spectrum, loud[0].clamp_max(LOUDEST).exp() if loud else None, kept

    def mixed(self, spectrum: Tensor, loud: Tensor, drawn: Tensor) -> Tensor:
        """Spectra with standard normal values `[b, t, bins, 2]` that are made as large as noise is in them.

        Where spectra overlap, noise adds up by power, so that it has to be twice as large as what is sure.
        """
        return spectrum + loud * torch.view_as_complex(drawn) * math.sqrt(2)

    def overlap(self, spectrum: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Add what spectra say of each step of sound.  # [b, t, bins] -> [b, t step]"""
        size, count = self.config.size, spectrum.shape[1]
        window = torch.hann_window(size, device=spectrum.device, dtype=tail.dtype)
        frames = torch.fft.irfft(spectrum, size) * (window * math.sqrt(size * 3 / 8) / 1.5)
        joined = torch.cat([tail, frames], dim=1)
        parts = rearrange(joined, "b t (n s) -> b t n s", n=OVERLAP)
        steps = [parts[:, OVERLAP - 1 - i :][:, :count, i] for i in range(OVERLAP)]
        return sum(steps[1:], steps[0]).flatten(1), joined[:, count:]
