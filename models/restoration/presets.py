"""Published and default shapes of restorers.

Source: arXiv 2512.19442 (front-ends, noise levels, solvers); the lite shapes are chosen by measurement on a CPU.
"""

from dataclasses import replace

import numpy as np

from riverrun.models.flow import COMPOSITE5, RK38, JointPath, euler
from riverrun.models.restoration.backbone import BackboneConfig
from riverrun.models.restoration.network import Config
from riverrun.models.restoration.spectrum import SpectrumConfig
from riverrun.models.restoration.tableau import clipped

FLOW = BackboneConfig(inputs=2)
PREDICTOR = BackboneConfig(inputs=1, timed=False)


def bandwidth_sigma(bins: int, rate: int = 16_000) -> tuple[float, ...]:
    """Three times the typical error of band-limited speech in each bin, as published pairs show it."""
    knots = [(0, 0.006), (250, 0.02), (1900, 0.02), (2000, 0.076), (2500, 0.06), (8000, 0.06)]
    hertz, sigma = zip(*knots, strict=True)
    return tuple(round(3 * float(s), 5) for s in np.interp(np.arange(bins) * rate / 2 / bins, hertz, sigma))


_BAND = bandwidth_sigma(256)
ENHANCE = Config(
    "enhance", predictor=PREDICTOR, flow=replace(FLOW, inputs=3), path=JointPath(0.05), tableau=clipped(RK38)
)
DEREVERB = Config("dereverb", flow=FLOW, path=JointPath(0.35), tableau=COMPOSITE5)
CODEC = Config(
    "codec",
    SpectrumConfig(size=640, hop=320),
    flow=replace(FLOW, bins=320),
    path=JointPath(0.35),
    tableau=COMPOSITE5,
)
BANDWIDTH = Config("bandwidth", flow=FLOW, path=JointPath(_BAND, tuple(s * 0.001 / 3 for s in _BAND)))
PHASE = Config("phase", flow=FLOW, path=JointPath(0.25))
MEL = Config("mel", SpectrumConfig(window="hann"), flow=FLOW, path=JointPath(0.25))
ENHANCE_24MS = Config(
    "enhance",
    SpectrumConfig(size=256, hop=128),
    predictor=replace(PREDICTOR, bins=128),
    flow=replace(FLOW, inputs=3, bins=128),
    path=JointPath(0.05),
    tableau=clipped(RK38),
)

LITE = BackboneConfig(inputs=1, outputs=2, width=56, multipliers=(1, 1, 2), blocks=1, patch=4, timed=False)
RESTORE_LITE = Config(
    "restore",
    predictor=LITE,
    head="mask",
    flow=replace(LITE, inputs=3, outputs=1, width=24, timed=True),
    path=JointPath(0.05),
    tableau=euler(3),
)
VOCODE_LITE = Config("mel", SpectrumConfig(window="hann"), predictor=LITE, head="mask", phase=16)

PRESETS = {
    "stream-fm-enhance": ENHANCE,
    "stream-fm-enhance-24ms": ENHANCE_24MS,
    "stream-fm-dereverb": DEREVERB,
    "stream-fm-codec": CODEC,
    "stream-fm-bandwidth": BANDWIDTH,
    "stream-fm-phase": PHASE,
    "stream-fm-mel": MEL,
    "restore-lite": RESTORE_LITE,
    "vocode-lite": VOCODE_LITE,
}
