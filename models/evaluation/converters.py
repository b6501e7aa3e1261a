"""What changes voices, as the bench of conversion sees it: nothing, a vocoder that moves pitch, and ours."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from riverrun.models.recording import recorded
from riverrun.models.training.pitch import contour, world
from riverrun.models.voice import lite
from riverrun.models.voice.lite import ConvertLite, Request

Sound = NDArray[np.float32]
LOWEST, PERIOD = 45.0, 5.0  # Hz; ms
FORMANTS = 0.3  # power of how pitches differ with which formants do: women's and men's by 1.7 and 1.17


class System(Protocol):
    """Anything that changes a voice. `rate` in Hz; `latency` in ms, algorithmic, None for what hears all of it first.

    `made` is false for what is no system and takes no time; `own` is true for what is given the source's own voice.
    """

    name: str
    rate: int
    made: bool
    own: bool

    @property
    def latency(self) -> float | None: ...

    def convert(self, sound: Sound, recording: Sound) -> Sound:
        """What was said, in the voice of a recording, sample for sample.  # [n], [m] -> [n]"""
        ...


class Recorded:
    """What was said as it was said."""

    name, rate, latency, made, own = "source", 24_000, None, False, True

    def convert(self, sound: Sound, recording: Sound) -> Sound:
        return sound


class World:
    """Pitch moved to the mean of the other voice, formants as far as they differ between men and women.

    Sources: Morise et al. 2016 (WORLD), by the pyworld package; Peterson and Barney 1952 (pitch and formants).
    """

    name, rate, latency, made, own = "WORLD, pitch and formants moved", 24_000, None, True, False

    def convert(self, sound: Sound, recording: Sound) -> Sound:
        """Raises ModelError without the package pyworld."""
        vocoder, heard = world(), sound.astype(np.float64)
        hertz = contour(heard, self.rate, LOWEST, PERIOD)
        wanted = contour(recording.astype(np.float64), self.rate, LOWEST, PERIOD)
        told = (hertz > 0).any() and (wanted > 0).any()
        ratio = float(np.exp(_mean(wanted) - _mean(hertz))) if told else 1.0
        times = np.arange(len(hertz)) * PERIOD / 1000
        envelope = vocoder.cheaptrick(heard, hertz, times, self.rate)
        noise = vocoder.d4c(heard, hertz, times, self.rate)
        places = np.arange(envelope.shape[1])
        moved = np.stack([np.interp(places / ratio**FORMANTS, places, row) for row in envelope])
        made = vocoder.synthesize(hertz * ratio, moved, noise, self.rate, PERIOD)
        return np.pad(made, (0, max(0, len(sound) - len(made))))[: len(sound)].astype(np.float32)


class Streamed:
    """A small converter hop by hop, as it is served; the whole clip at once would be the same."""

    made = True

    def __init__(self, name: str, model: ConvertLite, own: bool = False) -> None:
        self.name, self.model, self.own = f"{name}, {'in the own voice' if own else 'streamed'}", model, own
        self.rate = model.config.listener.rate
        self.latency = (model.hop + model.spec.latency) / self.rate * 1e3

    def convert(self, sound: Sound, recording: Sound) -> Sound:
        return lite.convert(self.model, sound, Request(recording=recorded(recording)))


def follows(made: Sound, source: Sound, rate: int) -> float | None:
    """Correlation of the logarithm of two pitches where both have one; None where that is nowhere for long."""
    a, b = (contour(sound.astype(np.float64), rate, LOWEST, PERIOD) for sound in (made, source))
    both = (a > 0) & (b > 0)
    if both.sum() < 20 or min(np.ptp(a[both]), np.ptp(b[both])) == 0:
        return None
    return float(np.corrcoef(np.log(a[both]), np.log(b[both]))[0, 1])


def _mean(hertz: NDArray[np.float64]) -> float:
    """Of the logarithms of a pitch."""
    return float(np.log(hertz[hertz > 0]).mean())
