"""The same clip on a GPU, where there is one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from riverrun.models.speech.longcat import LongCat, Precision, load
from riverrun.models.speech.synthesis import Prompt, Settings, synthesise
from riverrun.models.speech.text import tokenizer
from tests.models.speech.conftest import LONGCAT


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("precision", "near"),
    [(Precision(), 1e-2), (Precision("bfloat16", "bfloat16", "float16"), 0.3)],
    ids=["float32", "half"],
)
def test_a_gpu_says_what_the_cpu_says(
    precision: Precision, near: float, longcat: LongCat, letters: Path
) -> None:
    tokens, settings = tokenizer(letters, 97), Settings(steps=4)
    prompt = Prompt(np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32), "Ten letter")
    wanted = synthesise(longcat, tokens, "Hello there", prompt, settings)
    moved = load(LONGCAT / "weights.safetensors", "cuda", precision)
    got = synthesise(moved, tokens, "Hello there", prompt, settings)
    assert np.linalg.norm(got - wanted) < near * np.linalg.norm(wanted)
