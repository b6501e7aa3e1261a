"""What X-VC hears: sound brought to one level, and three kinds of mel spectrum.

Source: arXiv 2604.12456 (X-VC); arXiv 2212.04356 (Whisper) for the log mel; Kaldi for the filter banks.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum
from numpy.typing import NDArray
from torch import Tensor, nn

RATE = 16_000  # Hz, of all sound here
FRAME = 320  # samples a latent frame, 20 ms
TOKEN = 1_280  # samples a semantic token, 80 ms
LEVEL, QUIET, FLOOR = 0.2, 0.1, 0.01  # aimed at; a peak that is raised first; what is too quiet to count
CUTOFF, QUALITY = 40, 0.707  # Hz and Q of the high-pass
BANDS = 128
LEAST = 400  # samples that filter banks can be made of

Sound = NDArray[np.float64]


def prepare(sound: Sound) -> NDArray[np.float32]:
    """A whole recording as the model takes it: its level, no rumble, filled up to whole tokens.  # [n]

    All in float64, and float32 at the very end, as the reference does it.
    """
    made = highpass(level(np.asarray(sound, np.float64)))
    return np.pad(made, (0, -len(made) % TOKEN)).astype(np.float32)


def level(sound: Sound) -> Sound:
    """Bring the loud parts of a recording, its 90th to 99th percentile, to an amplitude of 0.2.  # [n]

    A quiet one is raised before, and then by what it was before that: as published, and what the model is used to.
    """
    sizes = np.sort(np.abs(sound))
    if not len(sizes):
        return sound
    if sizes[-1] < QUIET:
        sound = sound / max(sizes[-1], 1e-3) * QUIET
    heard = sizes[sizes > FLOOR]
    if len(heard) <= 10:
        return sound
    loud = heard[int(0.9 * len(heard)) : int(0.99 * len(heard))].mean()
    sound = sound * np.clip(LEVEL / loud, 0.1, 10)
    return np.asarray(sound / max(1.0, np.abs(sound).max()))


def highpass(sound: Sound) -> Sound:
    """Take out what is below 40 Hz, and clip to [-1, 1].  # [n]"""
    from scipy.signal import lfilter

    return np.asarray(lfilter(*biquad(), sound)).clip(-1, 1)


def biquad(rate: float = RATE) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The high-pass at a rate: what its input is weighted with, and its output.

    Source: R. Bristow-Johnson, Cookbook formulae for audio EQ biquad filter coefficients.
    """
    w = 2 * math.pi * CUTOFF / rate
    cos, alpha = math.cos(w), math.sin(w) / (2 * QUALITY)
    return ((1 + cos) / 2, -(1 + cos), (1 + cos) / 2), (1 + alpha, -2 * cos, 1 - alpha)


def log_mel(sound: Tensor) -> Tensor:
    """Whisper's features of whole windows, each against its own loudest value.  # [b, n] -> [b, 128, n / 160]"""
    window, filters = _whisper(str(sound.device))
    spectrum = torch.stft(sound, 400, 160, window=window, return_complex=True)[..., :-1]
    power = spectrum.real.square() + spectrum.imag.square()
    mel = einsum(power, filters, "b y t, y m -> b m t").clamp_min(1e-10).log10()
    return (mel.maximum(mel.amax((1, 2), keepdim=True) - 8) + 4) / 4


@lru_cache
@torch.inference_mode(False)
def _whisper(device: str) -> tuple[Tensor, Tensor]:
    """Window and mel filters.  # [400], [201, 128]"""
    return torch.hann_window(400).to(device), torch.from_numpy(triangles(201, BANDS)).float().to(device)


def triangles(bins: int, bands: int) -> Sound:
    """Mel filters of equal area up to half the rate, linear below 1 kHz and logarithmic above.  # [bins, bands]

    In float64: in float32 their edges are off by more than published features are.
    Source: M. Slaney, Auditory Toolbox, 1998.
    """
    linear, step = (
        200 / 3,
        math.log(6.4) / 27,
    )  # Hz a mel below 1 kHz, and the logarithm of a mel's ratio above
    knee = 1000 / linear
    top = knee + math.log(RATE / 2 / 1000) / step
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < knee, linear * mels, 1000 * np.exp(step * (mels - knee)))
    gaps, slopes = np.diff(edges), edges - np.linspace(0, RATE / 2, bins)[:, None]
    rising, falling = -slopes[:, :-2] / gaps[:-1], slopes[:, 2:] / gaps[1:]
    area = 2 / (edges[2:] - edges[:-2])
    return np.asarray(np.minimum(rising, falling).clip(0) * area)


class Mel(nn.Module):
    """Mel spectrum in decibels, 80 dB deep; window and filters are the checkpoint's.

    Shapes: `[b, n]` -> `[b, 128, 1 + n / 320]`; n is above 512.
    The reference takes the loudest value of a whole batch; here each row has its own, and is what it is alone.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, size: int = 1024, length: int = 640, bands: int = BANDS) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.zeros(length))
        self.register_buffer("filters", torch.zeros(size // 2 + 1, bands))

    def forward(self, sound: Tensor) -> Tensor:
        length = len(self.window)
        spectrum = torch.stft(sound, self.size, FRAME, length, self.window, return_complex=True).abs()
        mel = einsum(spectrum, self.filters, "b y t, y m -> b m t") + 1e-9
        loudness = 20 * mel.clamp_min(1e-10).log10()
        return loudness.maximum(loudness.amax((1, 2), keepdim=True) - 80)


def banks(sound: Tensor, bands: int = 80) -> Tensor:
    """Kaldi's filter banks, 10 ms apart, less their mean over time; sound is in [-1, 1].  # [b, n] -> [b, t, 80]

    t is 1 + (n - 400) / 160. Raises ValueError if there is not one whole frame.
    """
    from torchaudio.compliance.kaldi import fbank

    if sound.shape[1] < LEAST:
        raise ValueError(f"sound of {sound.shape[1]} samples, expected {LEAST} or more")
    rows = torch.stack([fbank(row[None], num_mel_bins=bands, sample_frequency=RATE) for row in sound])
    return rows - rows.mean(1, keepdim=True)


def whole(sound: Tensor) -> Tensor:
    """Sound filled up with zeros to whole tokens.  # [..., n] -> [..., n up to a multiple of 1280]"""
    return F.pad(sound, (0, -sound.shape[-1] % TOKEN))
