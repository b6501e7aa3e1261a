"""The published presets are the published ones: front-ends, paths, solvers and networks.

Source: arXiv 2512.19442 (front-ends, noise levels, solvers).
"""

from dataclasses import replace

import numpy as np
import pytest

from riverrun.models.flow import COMPOSITE5, RK38, JointPath
from riverrun.models.restoration.backbone import BackboneConfig
from riverrun.models.restoration.network import Config
from riverrun.models.restoration.presets import PRESETS
from riverrun.models.restoration.spectrum import SpectrumConfig

TABLE = {  # task, size, hop, window, sigma, stages, whether it has a predictor
    "enhance": ("enhance", 512, 256, "root", 0.05, 4, True),
    "enhance-24ms": ("enhance", 256, 128, "root", 0.05, 4, True),
    "dereverb": ("dereverb", 512, 256, "root", 0.35, 5, False),
    "codec": ("codec", 640, 320, "root", 0.35, 5, False),
    "bandwidth": ("bandwidth", 512, 256, "root", None, 5, False),
    "phase": ("phase", 512, 256, "root", 0.25, 5, False),
    "mel": ("mel", 512, 256, "hann", 0.25, 5, False),
}


def test_the_table_has_every_published_preset() -> None:
    assert {f"stream-fm-{name}" for name in TABLE} == {name for name in PRESETS if not name.endswith("lite")}


@pytest.mark.parametrize("name", TABLE)
def test_a_preset_is_the_published_one(name: str) -> None:
    task, size, hop, window, sigma, stages, predicts = TABLE[name]
    config = PRESETS[f"stream-fm-{name}"]
    assert config.task == task and config.head == "direct" and config.phase == 0
    front = config.spectrum
    assert (front.rate, front.size, front.hop, front.window) == (16_000, size, hop, window)
    assert (front.alpha, front.beta, front.bins) == (0.5, 1.0, size // 2)
    if sigma is not None:
        assert (config.path.sigma, config.path.sigma_min) == (sigma, 0.001)
    assert config.tableau.stages == stages
    net = BackboneConfig(
        inputs=3 if predicts else 2, bins=size // 2, width=128, multipliers=(1, 2, 2, 2), blocks=2, patch=1
    )
    assert config.flow == net
    assert config.predictor == (replace(net, inputs=1, timed=False) if predicts else None)


@pytest.mark.parametrize("name", TABLE)
def test_its_solver_is_the_published_one(name: str) -> None:
    tableau = PRESETS[f"stream-fm-{name}"].tableau
    if name.startswith("enhance"):
        assert tableau.b == RK38.b == (1 / 8, 3 / 8, 3 / 8, 1 / 8)
        assert tableau.c == pytest.approx((0, 0.85 / 3, 1.7 / 3, 0.85))
        for row, base in zip(tableau.a, RK38.a, strict=True):
            assert row == pytest.approx([0.85 * v for v in base])
    else:
        assert tableau == COMPOSITE5


def test_bandwidth_noise_follows_the_published_curve() -> None:
    path = PRESETS["stream-fm-bandwidth"].path
    assert isinstance(path.sigma, tuple) and isinstance(path.sigma_min, tuple)
    curve = np.array(path.sigma) / 3
    assert len(curve) == 256 and np.allclose(path.sigma_min, curve * 0.001)
    hertz = np.arange(256) * 31.25
    assert curve[0] == pytest.approx(0.006, abs=1e-4)
    assert np.allclose(curve[(hertz >= 250) & (hertz <= 1900)], 0.02, atol=1e-4)
    assert curve[hertz == 2000] == pytest.approx(0.076, abs=1e-4) and curve.max() <= 0.079
    above = curve[hertz >= 2500]
    assert above.min() >= 0.054 and above.max() <= 0.065
    assert curve.mean() == pytest.approx(0.049, abs=0.003)


FLOW = BackboneConfig(inputs=2)
PREDICTOR = BackboneConfig(inputs=1, timed=False)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"task": "karaoke"}, "task is 'karaoke'"),
        ({"head": "nonsense"}, "head is 'nonsense'"),
        ({"phase": -1, "task": "mel"}, "phase is -1"),
        ({"flow": replace(FLOW, bins=128)}, "flow has .*128"),
        ({"flow": replace(FLOW, inputs=3)}, "flow has"),
        ({"flow": replace(FLOW, timed=False)}, "flow has"),
        ({"predictor": PREDICTOR}, "flow has"),  # which must then see its estimate too
        ({"flow": None, "predictor": replace(PREDICTOR, bins=512)}, "predictor has"),
        ({"flow": None, "predictor": PREDICTOR, "head": "mask"}, "predictor has"),
        ({"path": JointPath((0.1, 0.2))}, "sigma has 2 values"),
        ({"path": JointPath(0.1, (0.1,) * 255)}, "sigma_min has 255"),
        ({"spectrum": SpectrumConfig(size=640, hop=320)}, "flow has"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(bad: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(Config("enhance", flow=FLOW), **bad)  # type: ignore[arg-type]
