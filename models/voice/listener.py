"""What is said in live sound, how high, and how loud: heard causally, and told some frames later.

Content passes a neck of few channels that was learned from phonemes, so that little of who speaks gets through.
Sources: arXiv 2604.12456 (X-VC: content tokens beside acoustics); arXiv 2306.00814 (ConvNeXt layers on spectra).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.convnext import Layers
from riverrun.models.layers.spectra import OVERLAP, Spectra
from riverrun.models.speech.aligner import PHONES
from riverrun.models.state import State

FLOOR = 1e-7  # power that is not heard
STRIDE = 2  # frames that layers work on at once
SHARP = 4.0  # power of how likely a pitch is, with which it counts


@dataclass(frozen=True)
class ListenerConfig:
    """The shape of what listens.

    Content is told `late` frames after the frame that it is of, pitch `late_pitch` frames after: what comes after
    a frame tells much about it. `content` are the channels of the neck, `noise` is what is added to them in training.
    `width` and `layers` are those of content, `pitch_width` and `pitch_layers` those of pitch, which is heard in the
    lowest `low` bins and told in `classes` steps from `lowest` on. Units: `rate` in Hz, `hop` in samples a frame,
    `lowest` in Hz, `octave` in steps.
    """

    width: int = 256
    layers: int = 6
    bands: int = 80
    content: int = 24
    noise: float = 0.2
    late: int = 8
    pitch_width: int = 128
    pitch_layers: int = 4
    late_pitch: int = 7
    low: int = 96
    classes: int = 84
    lowest: float = 52.0
    octave: int = 24
    rate: int = 24_000
    hop: int = 240

    @property
    def size(self) -> int:
        """Samples a spectrum."""
        return self.hop * OVERLAP

    @property
    def bins(self) -> int:
        return self.size // 2 + 1

    @property
    def phones(self) -> int:
        """What a frame may be: a pause or a sound."""
        return len(PHONES) + 1


def power(spectrum: Tensor) -> Tensor:
    """Squared magnitudes."""
    return spectrum.real.square() + spectrum.imag.square()


def pressed(power: Tensor) -> Tensor:
    """Logarithms of power, about zero mean and unit variance for speech."""
    return ((power + FLOOR).log() + 9) / 4


def mel(config: ListenerConfig, warp: float = 1.0) -> Tensor:
    """Bands of a spectrum whose frequencies are `warp` times as high.  # [bins, bands]"""
    from torchaudio.functional import melscale_fbanks

    top = config.rate / 2
    filters: Tensor = melscale_fbanks(config.bins, 0.0, top, config.bands, config.rate)
    if warp == 1.0:
        return filters
    places = torch.arange(config.bins) * warp
    low = places.floor().long().clamp_max(config.bins - 1)
    share = (places - low)[:, None].clamp(0, 1)
    return torch.lerp(filters[low], filters[(low + 1).clamp_max(config.bins - 1)], share)


class Content(nn.Module):
    """Bands of pairs of frames to the neck, and to phonemes.  # [b, t, bands] -> [b, t / 2, content]"""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        c, self.noise = config.width, config.noise
        self.first, self.norm = nn.Linear(STRIDE * config.bands, c), nn.LayerNorm(c)
        self.layers = Layers(c, config.layers, causal=True)
        self.last_norm, self.neck = nn.LayerNorm(c), nn.Linear(c, config.content)
        self.even = nn.LayerNorm(config.content, elementwise_affine=False)
        self.grow = nn.Linear(config.content, c)
        self.phones = nn.Linear(c, STRIDE * config.phones)

    def start(self, batch: int) -> State:
        return self.layers.start(batch)

    def forward(self, bands: Tensor, state: State) -> tuple[Tensor, State]:
        x = self.norm(self.first(rearrange(bands, "b (t n) m -> b t (n m)", n=STRIDE)))
        x, state = self.layers(x, state)
        return self.even(self.neck(self.last_norm(x)).float()), state

    def name(self, content: Tensor) -> Tensor:
        """Scores of phonemes, frame by frame.  # [b, t / 2, content] -> [b, t, phones]"""
        if self.training:
            content = content + self.noise * torch.randn_like(content)
        told: Tensor = self.phones(F.gelu(self.grow(content)))
        return rearrange(told, "b t (n k) -> b (t n) k", n=STRIDE)


class Pitch(nn.Module):
    """Low bins of pairs of frames to scores: of no pitch, then of each.  # [b, t, low] -> [b, t, classes + 1]"""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        c, self.config = config.pitch_width, config
        self.first, self.norm = nn.Linear(STRIDE * config.low, c), nn.LayerNorm(c)
        self.layers = Layers(c, config.pitch_layers, causal=True)
        self.last_norm, self.last = nn.LayerNorm(c), nn.Linear(c, STRIDE * (config.classes + 1))

    def start(self, batch: int) -> State:
        return self.layers.start(batch)

    def forward(self, low: Tensor, state: State) -> tuple[Tensor, State]:
        x = self.norm(self.first(rearrange(low, "b (t n) m -> b t (n m)", n=STRIDE)))
        x, state = self.layers(x, state)
        told = self.last(self.last_norm(x)).float()
        return rearrange(told, "b t (n k) -> b (t n) k", n=STRIDE), state

    def read(self, told: Tensor) -> Tensor:
        """How sure it is that a frame has a pitch, and which, in octaves.  # [b, t, classes + 1] -> [b, t, 2]"""
        likely = (SHARP * told[..., 1:]).softmax(-1)
        step = likely @ torch.arange(likely.shape[-1], device=told.device, dtype=told.dtype)
        return torch.stack([1 - told.softmax(-1)[..., 0], step / self.config.octave], dim=-1)


class Listener(nn.Module):
    """Sound to what is said, how high and how loud, all of the same frames.

    Shapes: `[b, t hop]` -> content `[b, t / 2, content]` and tone `[b, t, 4]`: voiced 0 to 1, octaves above `lowest`,
    and loudness of the two spectra around a frame, all of them of frames `late` before those that were heard; pitch
    `[b, t, 2]`, the first two of these, as many frames further on as it is known earlier.
    """

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.config = config
        self.spectra = Spectra(config.hop)
        self.content, self.pitch = Content(config), Pitch(config)
        self.register_buffer("filters", mel(config), persistent=False)
        self.filters: Tensor

    def start(self, batch: int) -> State:
        """Before the first sample: silence."""
        wait, held = self.config.late - self.config.late_pitch, self.config.late - 1
        zeros = self.filters.new_zeros
        return {
            "past": self.spectra.start(batch), "content": self.content.start(batch), "pitch": self.pitch.start(batch),
            "told": zeros(batch, wait, 2), "loud": zeros(batch, held, 1),
        }  # fmt: skip

    def forward(
        self, sound: Tensor, state: State, filters: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor, Tensor], State]:
        """`filters` are other bands for content, `[b, bins, bands]`: as if formants were elsewhere."""
        spectrum, past = self.spectra(sound, state["past"])
        seen = power(spectrum)
        bands = pressed(seen @ (self.filters if filters is None else filters))
        content, contents = self.content(bands, state["content"])
        told, pitches = self.pitch(self.lows(seen), state["pitch"])
        pitch, count = self.pitch.read(told), told.shape[1]
        held = torch.cat([state["told"], pitch], dim=1)
        loud = torch.cat([state["loud"], pressed(seen.mean(2, keepdim=True))], dim=1)
        tone = torch.cat([held[:, :count], loud[:, :count], loud[:, 1 : count + 1]], dim=2)
        kept = {
            "past": past,
            "content": contents,
            "pitch": pitches,
            "told": held[:, count:],
            "loud": loud[:, count:],
        }
        return (content, tone, pitch), kept

    def lows(self, seen: Tensor) -> Tensor:
        """The bins that pitch is heard in, whatever their level."""
        low = pressed(seen[..., : self.config.low])
        shifted: Tensor = low - low.mean(-1, keepdim=True)
        return shifted
