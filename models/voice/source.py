"""Sound made of pulses at a pitch and of noise, both shaped by spectra: a source and its filters.

Sources: Fant 1960 (source and filter); arXiv 2001.04643 (DDSP: harmonics and filtered noise under a network);
arXiv 2306.00814 (Vocos: a network at the rate of spectra, and an inverse transform).
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.layers.spectra import LOUDEST, OVERLAP, Spectra, drawn, draws, mixed, overlapped
from riverrun.models.state import State

STEPS = 512  # pitches an octave


class Pulses(nn.Module):
    """All harmonics of a pitch below half the rate, in cosine phase and of power 1, without a break.

    Pitches are taken in steps of two cents, or else the last bits of what a network says would add up in the phase.
    Shapes: pitch `[b, t]`, in octaves above `lowest` Hz, reached at the end of each hop -> sound `[b, t hop]`.
    """

    def __init__(self, rate: int, hop: int, lowest: float) -> None:
        super().__init__()
        self.rate, self.hop, self.lowest = rate, hop, lowest
        share = torch.arange(1, hop + 1, dtype=torch.float64) / hop
        self.register_buffer("share", share, persistent=False)
        self.share: Tensor

    def start(self, batch: int) -> State:
        """Before the first hop; a pitch below 0 is taken for the one that comes first."""
        last = self.share.new_full((batch, 1), -1.0)
        return {"last": last, "phase": self.share.new_zeros(batch, 1)}

    def forward(self, pitch: Tensor, state: State) -> tuple[Tensor, State]:
        pitch, last = (pitch.double() * STEPS).round() / STEPS, state["last"]
        last = torch.where(last < 0, pitch[:, :1], last)
        before = torch.cat([last, pitch[:, :-1]], dim=1)[..., None]
        octaves = rearrange(torch.lerp(before, pitch[..., None], self.share), "b t s -> b (t s)")
        cycles = self.lowest / self.rate * octaves.exp2()  # a sample
        phase = state["phase"] + cycles.cumsum(1)
        sound = self._harmonics(phase * (2 * math.pi), 0.5 / cycles)
        return sound.float(), {"last": pitch[:, -1:], "phase": phase[:, -1:].remainder(1.0)}

    def _harmonics(self, phase: Tensor, count: Tensor) -> Tensor:
        """The sum of cosines of 1 to `count` times a phase, in closed form (Dirichlet's kernel).

        Of a count that is not whole, the harmonic after the last is there in part, so that none comes or goes at once.
        """
        whole, half = count.floor(), (phase / 2).sin()
        near = half.abs() < 1e-5
        kernel = ((whole + 0.5) * phase).sin() / torch.where(near, 1.0, half)
        full = torch.where(near, whole, (kernel - 1) / 2)
        return (full + (count - whole) * ((whole + 1) * phase).cos()) * (2 / count).sqrt()


class Synthesis(nn.Module):
    """Filters of pulses and loudness of noise, both by bins, to sound; a spectrum spans the four hops it begins.

    Shapes: told `[b, t, 3 bins]`: logarithm of size and phase of the filter, logarithm of noise; pulses `[b, t hop]`,
    which are three hops ahead -> `[b, t hop]`. The state has each session's `seed` and its `tick`, in spectra.
    """

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.spectra = Spectra(hop)

    def start(self, batch: int) -> State:
        """Silence before the first hop."""
        past = self.spectra.start(batch)
        tail = past.new_zeros(batch, OVERLAP - 1, self.spectra.size)
        return {"past": past, "tail": tail, "seed": [0] * batch, "tick": [0] * batch}

    def forward(self, told: Tensor, pulses: Tensor, state: State) -> tuple[Tensor, State]:
        sure, loud, past = self.filtered(told, pulses, state["past"])
        values, ticks = drawn(state["seed"], state["tick"], loud)
        sound, tail = overlapped(mixed(sure, loud, values), state["tail"])
        return sound, {"past": past, "tail": tail, "seed": state["seed"], "tick": ticks}

    def several(self, told: Tensor, pulses: Tensor, count: int) -> list[Tensor]:
        """Whole clips, with as many draws of their noise: for training.  # [b, t hop] each"""
        start = self.start(len(told))
        sure, loud, _ = self.filtered(told, pulses, start["past"])
        return draws(sure, loud, start["tail"], count)

    def filtered(self, told: Tensor, pulses: Tensor, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spectra of filtered pulses, how large noise is in them, and the pulses that are seen again."""
        size, phase, loud = told.float().chunk(3, dim=2)
        source, past = self.spectra(pulses, past)
        filters = torch.polar(size.clamp_max(LOUDEST).exp(), phase)
        return source * filters, loud.clamp_max(LOUDEST).exp(), past
