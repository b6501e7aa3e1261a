"""The front-end: causal complex STFT with power-compressed magnitudes, and its inverse.

Source: arXiv 2512.19442 (front-end and compression).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Tensor

Window = Literal["root", "hann"]
TINY = 1e-12  # keeps powers of a zero magnitude and their derivatives finite


@dataclass(frozen=True)
class SpectrumConfig:
    """Frames of `size` samples every `hop`; magnitudes are raised to `alpha` and scaled by `beta`.

    Units: samples at `rate`. `window` "root" is the square root of Hann for analysis and synthesis; "hann" is
    plain Hann for analysis (as 16 kHz vocoders compute mels). The Nyquist bin is dropped: `bins` = size / 2.
    Raises ValueError for values that make no front-end.
    """

    rate: int = 16_000
    size: int = 512
    hop: int = 256
    window: Window = "root"
    alpha: float = 0.5
    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.rate < 1 or self.hop < 1:
            raise ValueError(f"rate is {self.rate} and hop is {self.hop}, expected at least 1")
        if self.size % self.hop or self.size < 2 * self.hop or self.size % 2:
            raise ValueError(
                f"size {self.size} must be even and at least two whole hops of {self.hop} samples"
            )
        if self.window not in get_args(Window):
            raise ValueError(f"window is {self.window!r}, expected one of {', '.join(get_args(Window))}")
        if not 0 < self.alpha <= 1 or not 0 < self.beta < float("inf"):
            raise ValueError(f"alpha is {self.alpha} and beta {self.beta}, expected (0, 1] and above 0")

    @property
    def bins(self) -> int:
        return self.size // 2

    @property
    def latency(self) -> int:
        """Samples beyond its own hop that an output sample waits for."""
        return self.size - self.hop


@lru_cache
@torch.inference_mode(False)  # what a stream makes first, training uses later
def windows(size: int, hop: int, kind: str, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Analysis window, and the synthesis window that makes overlap-add exact.  # two of [size]"""
    analysis = torch.hann_window(size, dtype=torch.float64)
    if kind == "root":
        analysis = analysis.sqrt()
    power = rearrange(analysis.square(), "(r h) -> r h", h=hop).sum(0).repeat(size // hop)
    return analysis.to(device, dtype), (analysis / power).to(device, dtype)


def _windows(config: SpectrumConfig, like: Tensor) -> tuple[Tensor, Tensor]:
    real = like.real if like.is_complex() else like
    return windows(config.size, config.hop, config.window, str(real.device), real.dtype)


def analyse(config: SpectrumConfig, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Frame, window, transform and compress: frame t sees the `size` samples that end with hop t.

    Shapes: x `[b, n]` with n a multiple of hop, past `[b, size - hop]` -> complex `[b, bins, t]`, past.
    """
    joined = torch.cat([x.new_zeros(len(x), config.latency) if past is None else past, x], dim=1)
    frames = joined.unfold(1, config.size, config.hop) * _windows(config, x)[0]
    spectrum = rearrange(torch.fft.rfft(frames)[..., :-1], "b t y -> b y t") / config.size**0.5
    return compress(config, spectrum), joined[:, joined.shape[1] - config.latency :].clone()


def synthesise(config: SpectrumConfig, spectrum: Tensor, tail: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Expand, transform back and overlap-add; what comes out starts `latency` samples before the first hop.

    Shapes: complex `[b, bins, t]`, tail `[b, size - hop]` -> `[b, t hop]`, tail.
    """
    spectrum = rearrange(expand(config, spectrum) * config.size**0.5, "b y t -> b t y")
    full = torch.cat([spectrum, torch.zeros_like(spectrum[..., :1])], dim=2)
    frames = torch.fft.irfft(full, n=config.size) * _windows(config, spectrum)[1]
    parts = rearrange(frames, "b t (r h) -> r b t h", h=config.hop)
    out = frames.new_zeros(len(frames), parts.shape[2] + len(parts) - 1, config.hop)
    for r, part in enumerate(parts):
        out[:, r : r + part.shape[1]] += part
    if tail is not None:
        out[:, : len(parts) - 1] += rearrange(tail, "b (r h) -> b r h", h=config.hop)
    done, rest = out.split([parts.shape[2], len(parts) - 1], dim=1)
    return rearrange(done, "b t h -> b (t h)"), rearrange(rest, "b r h -> b (r h)").clone()


def compress(config: SpectrumConfig, x: Tensor) -> Tensor:
    """Raise magnitudes to the power alpha, phases kept.  # complex, any shape"""
    power = x.real.square() + x.imag.square() + TINY
    return x * (config.beta * power ** ((config.alpha - 1) / 2))


def expand(config: SpectrumConfig, x: Tensor) -> Tensor:
    """Undo `compress`.  # complex, any shape"""
    power = (x.real.square() + x.imag.square()) / config.beta**2 + TINY
    return x / config.beta * power ** ((1 / config.alpha - 1) / 2)


def to_real(*spectra: Tensor) -> Tensor:
    """Stack complex spectra as channels: all real parts, then all imaginary.  # [b, y, t] -> [b, 2 n, y, t]"""
    return torch.stack([*(s.real for s in spectra), *(s.imag for s in spectra)], dim=1)


def to_complex(x: Tensor) -> Tensor:
    """Undo `to_real`.  # [b, 2 n, y, t] -> [b, n, y, t]"""
    real, imag = x.chunk(2, dim=1)
    return torch.complex(real, imag)
