"""Fixtures of the page's tests."""

from pathlib import Path

import pytest

from riverrun.media import Chunk, Writer, read

ASSETS = Path(__file__).resolve().parents[2] / "assets"


@pytest.fixture(scope="package")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample with a third of its noise, 12 dB below the speech, as the microphone's file."""
    (noisy, rate), (clean, _) = (read(ASSETS / f"sample-{kind}.flac") for kind in ("noisy", "clean"))
    sound = clean + (noisy - clean) / 3
    file = tmp_path_factory.mktemp("voice") / "voice.wav"
    with Writer(file, rate=rate, channels=1, codec="pcm_s16le") as writer:
        writer.put(Chunk(sound, 0, rate))
    return file
