"""A small recipe runs, learns, resumes, and leaves weights that load."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riverrun.models import load
from riverrun.models.flow import euler
from riverrun.models.restoration import stream
from riverrun.models.restoration.backbone import parts
from riverrun.models.restoration.network import Restorer
from riverrun.models.restoration.presets import PRESETS
from riverrun.models.restoration.stream import Restoration
from riverrun.models.training.loop import schedule
from riverrun.models.training.losses import magnitudes, waveform_loss
from riverrun.models.training.restoration import Recipe, train

SMOKE = Recipe(minutes=5, steps=12, batch=2, rate=3e-3, pesq=False, log_steps=4)


Audio = NDArray[np.float32]


class Tones:
    """Tones in noise, each a pure function of its number."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, i: int) -> tuple[Audio, Audio]:
        rng = np.random.default_rng(i)
        clean = 0.2 * np.sin(2 * np.pi * rng.uniform(200, 2000) * np.arange(4096) / 16_000)
        return (clean + 0.1 * rng.normal(size=4096)).astype(np.float32), clean.astype(np.float32)


def small() -> Restorer:
    config = PRESETS["restore-lite"]
    assert config.predictor and config.flow
    return Restorer(
        replace(
            config,
            predictor=replace(config.predictor, width=8),
            flow=replace(config.flow, width=8),
            tableau=euler(2),
        )
    )


@pytest.mark.parametrize("stage", ["predictor", "flow"])
def test_a_stage_learns_and_leaves_the_other_alone(stage: Any, tmp_path: Path) -> None:
    model = small()
    other = model.flow if stage == "predictor" else model.predictor
    assert other is not None
    before = {k: v.clone() for k, v in other.state_dict().items()}
    rows = train(model, replace(SMOKE, stage=stage), Tones(), tmp_path)
    assert rows[-1]["step"] == 12 and rows[-1]["loss"] < rows[0]["loss"]
    assert all(torch.equal(before[k], v) for k, v in other.state_dict().items())
    stream.save(tmp_path / "it.safetensors", model)
    assert isinstance(load(str(tmp_path / "it.safetensors")), Restoration)


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first, second = small(), small()
    train(first, replace(SMOKE, steps=4), Tones(), tmp_path)
    assert not train(second, replace(SMOKE, steps=4), Tones(), tmp_path), "it was done"
    assert first.predictor is not None and second.predictor is not None
    same = zip(first.predictor.state_dict().values(), second.predictor.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same), "with the weights it had"
    rows = train(second, SMOKE, Tones(), tmp_path)
    assert [row["step"] for row in rows] == [8, 12]


def test_going_on_with_one_stage_keeps_what_another_learned_since(tmp_path: Path) -> None:
    model = small()
    stages: tuple[Any, ...] = ("predictor", "flow")
    for stage in stages:
        train(model, replace(SMOKE, stage=stage, steps=2), Tones(), tmp_path / stage)
    again = small()
    train(again, replace(SMOKE, stage="predictor", steps=4), Tones(), tmp_path / "predictor")
    assert again.predictor is not None
    learned = {k: v.clone() for k, v in again.predictor.state_dict().items()}
    train(again, replace(SMOKE, stage="flow", steps=4), Tones(), tmp_path / "flow")
    assert all(torch.equal(learned[k], v) for k, v in again.predictor.state_dict().items())


def test_a_solver_is_learned_with_the_networks_frozen(tmp_path: Path) -> None:
    model = small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert model.flow is not None
    with torch.no_grad():
        for level in parts(model.flow.ascent):
            level.head.weight.normal_(std=0.05)
            before = {k: v.clone() for k, v in model.state_dict().items()}
    base = model.config.tableau
    train(model, replace(SMOKE, stage="tableau", steps=3), Tones(), tmp_path)
    assert model.config.tableau != base and sum(model.config.tableau.b) == pytest.approx(1)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_missing_stage_is_refused(tmp_path: Path) -> None:
    model = Restorer(replace(small().config, flow=None))
    stages: tuple[Any, ...] = ("flow", "tableau")
    for stage in stages:
        with pytest.raises(ValueError, match="no flow"):
            train(model, replace(SMOKE, stage=stage), Tones(), tmp_path)


def test_the_rate_warms_up_and_falls() -> None:
    rates = [schedule(p, s) for p, s in ((0, 0), (0, 99), (0.5, 500), (1, 900))]
    assert rates == pytest.approx([0.01, 1.0, 0.5, 0.02])


def test_the_waveform_loss_is_zero_only_for_the_clean_speech() -> None:
    noisy, clean = (torch.from_numpy(v)[None] for v in Tones()[3])
    assert float(waveform_loss(clean, clean)) == 0 < float(waveform_loss(noisy, clean))
    assert magnitudes(clean, 512).shape == (1, 257, 17)
