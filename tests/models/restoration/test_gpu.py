"""The same sessions on a GPU, where there is one."""

import numpy as np
import pytest
import torch

from riverrun.models.restoration.presets import PRESETS
from riverrun.models.restoration.stream import Request, Restoration
from tests.models.restoration.test_stream import hops, make, speech


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_gpu_gives_what_the_cpu_gives(preset: str) -> None:
    model = make(preset)
    data = speech(20, model.config.spectrum.hop)
    wanted, _ = hops(model, data, model.open(Request(seed=3)))
    moved = Restoration(model.restorer, "cuda")
    got, _ = hops(moved, data, moved.open(Request(seed=3)))
    assert np.abs(got - wanted).max() < 1e-3
