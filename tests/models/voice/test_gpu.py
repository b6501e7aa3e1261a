"""The same voice on a GPU, where there is one."""

import copy

import numpy as np
import pytest
import torch

from riverrun.models.voice.windows import Conversion
from riverrun.models.voice.xvc import XVc
from tests.models.voice.test_windows import SHORT, run, voice


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_converts_as_the_cpu_does(net: XVc) -> None:
    """But for codes that are as near to one frame as to another."""
    sound = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    models = [Conversion(part, SHORT) for part in (net, copy.deepcopy(net).cuda())]
    wanted, got = (run(model, sound, model.open(voice(0, 1.0))) for model in models)
    assert np.linalg.norm(got - wanted) < 0.05 * np.linalg.norm(wanted)
