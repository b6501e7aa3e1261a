"""How far one sound is from another, by spectra at several resolutions, as hearing weighs them."""

import math

import torch
import torch.nn.functional as F
from einops import einsum
from torch import Tensor, nn

SIZES = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}  # samples a window: mel bands
FLOOR = 5e-4  # a magnitude that is not heard beside speech; logarithms are blunt below it


def stft(x: Tensor, size: int) -> Tensor:
    """Complex Hann spectra at quarter hops; white noise is as large as it is in time.  # [b, t] -> [b, y, t]"""
    window = torch.hann_window(size, device=x.device, dtype=x.dtype)
    spectrum: Tensor = torch.stft(x, size, size // 4, window=window, return_complex=True)
    return spectrum * math.sqrt(8 / 3 / size)


def hearing(hertz: Tensor) -> Tensor:
    """How loud a frequency is heard, 1 at 1 kHz: the A curve of IEC 61672."""
    f = hertz.double().square()
    poles = (f + 20.6**2) * ((f + 107.7**2) * (f + 737.9**2)).sqrt() * (f + 12194**2)
    return (1.2589 * 12194**2 * f.square() / poles).float()


def mel_filters(rate: int, size: int, bands: int) -> Tensor:
    """Triangles of unit sum over bins, evenly apart on the mel scale; one narrower than a bin takes the nearest.

    Shapes: `[bands, size/2 + 1]`. Units: rate in Hz.
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(rise, fall).clamp_min(0)
    nearest = F.one_hot((edges[1:-1] * size / rate).round().long(), size // 2 + 1).double()
    filters = torch.where(filters.sum(1, keepdim=True) > 0, filters, nearest)
    return (filters / filters.sum(1, keepdim=True)).float()


class Spectral(nn.Module):
    """Distances of sounds `[b, t]` in float32: of mel spectra, and of spectra weighed by hearing.

    Both are sums over resolutions. Sources: multi-scale mel of arXiv 2306.06546 (DAC); multi-resolution spectra of
    arXiv 1910.11480 with a perceptual weight as in auraloss.
    """

    def __init__(self, rate: int, shortest: int = min(SIZES)) -> None:
        """Windows are of `shortest` samples or more."""
        super().__init__()
        self.sizes = [size for size in SIZES if size >= shortest]
        for size in self.sizes:
            self.register_buffer(f"mel{size}", mel_filters(rate, size, SIZES[size]), persistent=False)
            curve = hearing(torch.arange(size // 2 + 1) * rate / size)
            self.register_buffer(f"curve{size}", curve[:, None], persistent=False)

    def forward(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [self._distances(x, target, size) for size in self.sizes]
        mel, heard = (torch.stack(part).sum() for part in zip(*pairs, strict=True))
        return mel, heard

    def _distances(self, x: Tensor, target: Tensor, size: int) -> tuple[Tensor, Tensor]:
        a, b = (_magnitude(stft(v, size)) for v in (x, target))
        filters, curve = self.get_buffer(f"mel{size}"), self.get_buffer(f"curve{size}")
        x, y = (einsum(filters, v, "m y, b y t -> b m t").add(FLOOR).log10() for v in (a, b))
        off = torch.linalg.vector_norm((a - b) * curve, dim=(1, 2))
        share = off / torch.linalg.vector_norm(b * curve, dim=(1, 2)).clamp_min(1.0)
        ratio = (((a + FLOOR) / (b + FLOOR)).log10().abs() * curve).mean() / curve.mean()
        return F.l1_loss(x, y), share.mean() + ratio


def _magnitude(spectrum: Tensor) -> Tensor:
    """|x| with a finite slope at 0."""
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-12)
