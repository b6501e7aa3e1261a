"""Fixtures of the page's tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.media import Chunk, Writer, read

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def stored(file: Path, sound: NDArray[np.floating[Any]], rate: int) -> Path:
    """As Chromium takes it for a microphone."""
    with Writer(file, rate=rate, channels=1, codec="pcm_s16le") as writer:
        writer.put(Chunk(sound, 0, rate))
    return file


@pytest.fixture(scope="package")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample with a third of its noise, 12 dB below the speech, as the microphone's file."""
    (noisy, rate), (clean, _) = (read(ASSETS / f"sample-{kind}.flac") for kind in ("noisy", "clean"))
    return stored(tmp_path_factory.mktemp("voice") / "voice.wav", clean + (noisy - clean) / 3, rate)


@pytest.fixture(scope="package")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample without noise."""
    return stored(tmp_path_factory.mktemp("clean") / "clean.wav", *read(ASSETS / "sample-clean.flac"))
