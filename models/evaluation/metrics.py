"""Judges of speech, and how sure their means are. The judges come with the extra [bench]."""

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]
RATE = 16_000
NAMES = ("PESQ", "ESTOI", "SI-SDR", "DNSMOS", "DistillMOS")


def si_sdr(estimate: Sound, clean: Sound) -> float:
    """Scale-invariant signal-to-distortion ratio in dB. Source: Le Roux et al. 2019, arXiv 1811.02508."""
    heard, wanted = (v.astype(np.float64) for v in (estimate, clean))
    target = wanted * (heard @ wanted) / max(float(wanted @ wanted), 1e-12)
    rest = heard - target
    return float(10 * np.log10(max(float(target @ target), 1e-12) / max(float(rest @ rest), 1e-12)))


def pesq(estimate: Sound, clean: Sound) -> float:
    """Wide-band PESQ; 1.0, the least, where nothing is left to judge."""
    from pesq import NoUtterancesError, pesq

    try:
        return float(pesq(RATE, clean, estimate, "wb"))
    except NoUtterancesError:
        return 1.0


def estoi(estimate: Sound, clean: Sound) -> float:
    """Extended short-time objective intelligibility."""
    from pystoi import stoi

    return float(stoi(clean, estimate, RATE, extended=True))


def dnsmos(estimate: Sound, _: Sound) -> float:
    """DNSMOS P.835, overall."""
    from speechmos import dnsmos

    return float(dnsmos.run(np.clip(estimate, -1, 1), RATE)["ovrl_mos"])


@cache
def _distillmos() -> Any:
    import distillmos

    with redirect_stdout(sys.stderr):  # it tells where its weights are
        return distillmos.ConvTransformerSQAModel().eval()


def distill_mos(estimate: Sound, _: Sound) -> float:
    """DistillMOS, a listener model without a reference."""
    import torch

    with torch.inference_mode():
        return float(_distillmos()(torch.from_numpy(np.asarray(estimate, np.float32))[None]))


def repetition(sound: Sound, rate: int, period: int, above: float = 5000.0) -> float:
    """How much what lies above a frequency repeats a `period` of samples later: 0 in speech, 1 if it is the same.

    A listener hears it as a buzz in what should be noise, and no other metric here does. # Hz
    """
    spectrum = np.fft.rfft(sound.astype(np.float64))
    spectrum[np.fft.rfftfreq(len(sound), 1 / rate) < above] = 0
    high = np.fft.irfft(spectrum, len(sound))
    a, b = high[:-period], high[period:]
    return float(a @ b) / max(math.sqrt(float(a @ a) * float(b @ b)), 1e-12)


JUDGES: dict[str, Callable[[Sound, Sound], float]] = dict(
    zip(NAMES, (pesq, estoi, si_sdr, dnsmos, distill_mos), strict=True)
)


def judge(estimate: Sound, clean: Sound) -> list[float]:
    """Every metric of one result, in the order of NAMES."""
    return [JUDGES[name](estimate, clean) for name in NAMES]


def interval(values: Sequence[float], seed: int = 0, draws: int = 2_000) -> tuple[float, float, float]:
    """Mean, and the ends of its 95 % bootstrap interval."""
    return ratio(values, [1.0] * len(values), seed, draws)


def ratio(
    parts: Sequence[float], wholes: Sequence[float], seed: int = 0, draws: int = 2_000
) -> tuple[float, float, float]:
    """Sum of parts over sum of wholes, item by item, and the ends of its 95 % bootstrap interval over items."""
    part, whole = (np.asarray(v, np.float64) for v in (parts, wholes))
    picked = np.random.default_rng(seed).integers(0, len(part), (draws, len(part)))
    low, high = np.quantile(part[picked].sum(1) / whole[picked].sum(1), [0.025, 0.975])
    return float(part.sum() / whole.sum()), float(low), float(high)
