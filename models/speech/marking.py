"""The mark of generated speech: put in by a fixed filter as the speech streams, found by a network in any recording.

Both are of the pretrained implicit Perth net (perth.py). Its encoder answers whatever it hears, loud or soft, voice or
noise, by nearly the same gains: up or down by 1.8 dB, below 2 kHz. So the mark is a filter, and of minimum phase it
waits for no sample. It is no secret: who has the net can take it out, or put it into the recording of a person.
"""

import pickle
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from riverrun.media import Resampler
from riverrun.media.reader import Source, open_media
from riverrun.models import checkpoint
from riverrun.models.errors import CheckpointError
from riverrun.models.speech import perth
from riverrun.models.state import State

GAINS = "mark-perth.safetensors"  # what `PerthNet.gains` gives, so that marking needs no package
BINS, WIDTH = 128, 15.625  # that the net sees, from 0 Hz on, and how wide one is in Hz
LOWEST, SPAN = -180.0, 195.0  # dB: the magnitude that is 0 to the net, and how much more is 1
SIZE = 2048  # samples of a frame the net was trained with: magnitudes are those of a sum over as many
LOUD = 0.8  # to the net, is speech
LENGTH = 0.064  # seconds, of the filter, and of the net's own frames
RATE, FRAME, HOP = 8_000, 512, 80  # Hz, samples, samples: the mark is looked for in frames of these
LEVEL = 15.0  # of the loudest frame, to which what is heard is brought
QUIET = 3e-3  # of the power of the loudest frame: what lies below tells nothing
WINDOW, STRIDE = 5 * RATE, 5 * RATE // 2  # samples that are heard at once, and between two beginnings of such
LEAST = 50  # frames that are not quiet, of a window that tells anything: half a second
MARKED = 0.8  # confidence from which on a recording counts as marked

Sound = NDArray[np.float32]


class Stack(nn.ModuleList):
    """Convolutions over frames.  # [b, c, t] -> [b, d, t]"""

    def __init__(self, outputs: int, width: int = 256, depth: int = 5, kernel: int = 7) -> None:
        inner = (nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(depth))
        super().__init__([nn.Conv1d(BINS, width, 1), *inner, nn.Conv1d(width, outputs, 1)])

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self
        for conv in inner:
            x = F.leaky_relu(conv(x))
        made: Tensor = last(x)
        return made


class PerthNet(nn.Module):
    """An encoder, which says how to change magnitudes, and a decoder, which hears whether they were changed."""

    PACES = {"slow_layers": 1.25, "normal_layers": 1.0, "fast_layers": 0.75}  # frames for one of the input's

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"layers": Stack(BINS)})
        self.decoder = nn.ModuleDict({name: Stack(2) for name in self.PACES})

    def gains(self) -> Tensor:
        """What the encoder does to each bin of steady sound, in dB.  # [128]"""
        steady = torch.full((1, BINS, 64), LOUD)
        change: Tensor = self.encoder["layers"](steady)[0, :, 32]
        return SPAN * change

    def hear(self, levels: Tensor, mask: Tensor) -> Tensor:
        """About 1 where the frames that count are marked, and about 0 where not.  # [b, 128, t], [b, t] -> [b]"""
        weights, votes = [], []
        for name, pace in self.PACES.items():
            size = int(pace * levels.shape[2])
            paced = F.interpolate(levels, size=size, mode="linear", align_corners=True)
            counted = F.interpolate(mask[:, None], size=size)
            mean = (self.decoder[name](paced) * counted).sum(2) / counted.sum(2)
            weights.append(mean[:, 0])
            votes.append(mean[:, 1])
        return (torch.stack(weights).softmax(0) * torch.stack(votes)).sum(0)


@cache
def net() -> PerthNet:
    """The pretrained net. Raises CheckpointError if its weights are not here, or do not fit."""
    path = perth.weights()
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["model"]
    except (OSError, EOFError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} cannot be read: install {perth.PACKAGE} 1.0 again") from error
    made = PerthNet()
    kept = {key.replace(".conv.", "."): v for key, v in weights.items() if not key.startswith("ap.")}
    checkpoint.fill(made, kept, path)
    return made.eval().requires_grad_(False)


@cache
def taps(rate: int) -> Sound:
    """The filter that marks sound of a rate in Hz, all of its energy as early as can be.  # [n]"""
    from scipy.signal import firwin2, minimum_phase

    gains = 10 ** (load_file(str(files("riverrun.assets") / GAINS))["gains"].double().numpy() / 20)
    count = 2 * round(LENGTH * rate / 2) + 1
    freqs = [*(WIDTH * np.arange(BINS + 1)), rate / 2]
    even = firwin2(count, freqs, [*gains, 1, 1], nfreqs=1 + (1 << 14), window="hann", fs=rate)
    return np.asarray(minimum_phase(even, half=False, n_fft=1 << 15), np.float32)


class Marker(nn.Module):
    """Marks sound of a rate as it streams, without delay: a sample depends on none that follows.

    Shapes: sound `[b, n]`, with any n -> `[b, n]`.
    """

    change: Tensor

    def __init__(self, rate: int) -> None:
        super().__init__()
        change = torch.from_numpy(taps(rate)).clone()
        change[0] -= 1
        self.register_buffer("change", change, persistent=False)  # what is added to a sample, newest first

    def start(self, batch: int) -> State:
        """Silence before the first sample."""
        return {"past": self.change.new_zeros(batch, len(self.change) - 1)}

    def forward(self, sound: Tensor, state: State) -> tuple[Tensor, State]:
        """Continue streams by any number of samples."""
        from torchaudio.functional import fftconvolve

        joined = torch.cat([state["past"], sound.to(self.change)], dim=1)
        added = fftconvolve(joined, self.change[None], mode="valid")
        return sound + added.to(sound), {"past": joined[:, sound.shape[1] :].clone()}

    def some(self, sound: Tensor, asked: list[bool], state: State) -> tuple[Tensor, State]:
        """The same of those streams that are asked for; of all, the state goes on.  # asked [b]"""
        marked, state = self(sound, state)
        return torch.where(torch.tensor(asked, device=sound.device)[:, None], marked, sound), state


@dataclass(frozen=True)
class Finding:
    """Whether a recording, or five seconds of it, is marked, how sure that is (0 to 1), and how many seconds it has."""

    marked: bool
    confidence: float
    seconds: float


class Detector:
    """Looks for the mark in a recording of any length as it is read, five seconds at once.

    Raises CheckpointError if the weights are not here.
    """

    def __init__(self, rate: int) -> None:
        self.net, self.rate, self.ticks, self.confidence = net(), rate, 0, 0.0
        self.resampler = Resampler(rate, RATE)
        self.left = np.zeros(0, np.float32)  # that further windows begin with
        self.heard = 0  # samples of it that a window held

    def push(self, sound: Sound) -> None:
        """Hear the next samples.  # [t, c]"""
        self.ticks += len(sound)
        self._add(self.resampler.push(sound.mean(axis=1, keepdims=True)))

    def finish(self) -> Finding:
        """Hear the rest; say what was found."""
        self._add(self.resampler.flush())
        if len(self.left) > self.heard:
            self._hear(self.left)
        return Finding(self.confidence >= MARKED, self.confidence, self.ticks / self.rate)

    def _add(self, sound: Sound) -> None:
        self.left = np.concatenate([self.left, sound[:, 0]])
        while len(self.left) >= WINDOW:
            self._hear(self.left[:WINDOW])
            self.left, self.heard = self.left[STRIDE:], WINDOW - STRIDE

    def _hear(self, window: Sound) -> None:
        self.confidence = max(self.confidence, hear(self.net, window))


@torch.inference_mode()
def hear(net: PerthNet, window: Sound) -> float:
    """How sure it is that a window at RATE is marked; 0 where too little sounds to tell.  # [n]"""
    frames = torch.from_numpy(np.pad(window, FRAME // 2)).unfold(0, FRAME, HOP)
    spectra = torch.fft.rfft(frames * torch.hann_window(FRAME)).abs()
    power = spectra.square().sum(1)
    mask = power > QUIET * power.max()
    if mask.sum() < LEAST:
        return 0.0
    scale = SIZE / FRAME * LEVEL / power.max().sqrt()
    levels = (20 * (spectra[:, :BINS] * scale).clamp_min(1e-9).log10() - LOWEST) / SPAN
    answer = net.hear(rearrange(levels, "t y -> 1 y t"), mask[None].float())
    return float(answer.clamp(0, 1))


def detect(sound: Sound, rate: int) -> float:
    """How sure it is that a recording, or five seconds of it, is marked, from 0 to 1.  # [t] or [t, c]

    Raises CheckpointError if the weights are not here.
    """
    detector = Detector(rate)
    detector.push(sound if sound.ndim == 2 else sound[:, None])
    return detector.finish().confidence


def examine(source: Source) -> Finding:
    """Look for the mark in a file, however long. Raises MediaError, CheckpointError."""
    with open_media(source) as reader:
        detector = Detector(reader.audio.rate)
        for chunk in reader.chunks():
            detector.push(chunk.data)
        return detector.finish()
