"""How alike voices are, by the speaker encoder of Resemblyzer, whose package carries its weights.

Source: Wan et al. 2018, arXiv 1710.10467. It judges, and is part of no model here.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from riverrun.models.evaluation.recordings import Packages
from riverrun.models.training.corpus import trim

Sound = NDArray[np.float32]
Print = NDArray[np.float32]  # of a voice: [256], of length 1
RATE = 16_000
FLOOR = 10 ** (-30 / 20)  # RMS that quieter sound is raised to
HOP, WINDOW, STEP = 160, 160, 77  # samples; frames that are heard at once, and from one time to the next
COVERED = 0.75  # of the last window, or it is left out


class Resemblyzer(nn.Module):
    """A voice in 256 numbers; unlike the package's own, only silence at both ends is cut."""

    def __init__(self, packages: Packages) -> None:
        """Raises ModelError if the package cannot be had."""
        from torchaudio.transforms import MelSpectrogram

        super().__init__()
        self.lstm, self.linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
        weights = torch.load(_weights(packages), map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({k: v for k, v in weights.items() if k.startswith(("lstm", "linear"))})
        self.mel = MelSpectrogram(RATE, 400, hop_length=HOP, n_mels=40, norm="slaney", mel_scale="slaney",
                                  pad_mode="constant")  # fmt: skip
        self.eval()

    @torch.inference_mode()
    def embed(self, sound: Sound) -> Print:
        """Whose voice it is.  # [n] at 16 kHz"""
        sound = trim(sound, below=40.0)
        sound = sound * max(1.0, FLOOR / max(float(np.sqrt(np.mean(sound**2))), 1e-6))
        starts = windows(len(sound))
        padded = np.pad(sound, (0, max(0, (starts[-1] + WINDOW) * HOP - len(sound))))
        mel = self.mel(torch.from_numpy(np.asarray(padded, np.float32))).T
        _, (hidden, _) = self.lstm(torch.stack([mel[at : at + WINDOW] for at in starts]))
        parts = nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)
        return unit(parts.numpy())


def _weights(packages: Packages) -> Path:
    return next(packages.wheel("resemblyzer").rglob("pretrained.pt"))


def windows(samples: int) -> list[int]:
    """The frames at which the windows over a sound begin."""
    frames = math.ceil((samples + 1) / HOP)
    starts = list(range(0, max(1, frames - WINDOW + STEP + 1), STEP))
    covered = (samples - starts[-1] * HOP) / (WINDOW * HOP)
    return starts[:-1] if len(starts) > 1 and covered < COVERED else starts


def unit(prints: Sequence[Print] | Print) -> Print:
    """The mean of prints, at length 1."""
    mean = np.mean(np.asarray(prints), axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)


def nearest(heard: Print, known: Mapping[str, Print]) -> str:
    """The name of the voice that a print is most like."""
    return max(known, key=lambda name: float(heard @ known[name]))
