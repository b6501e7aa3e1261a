"""A small pool of made-up voices: harmonic tones with vowels and pauses, in two folders and two formats."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import wavfile

from riverrun.models.training.corpus import RATE, Source, build


def voice(f0: float, seconds: float, seed: int, rate: int = RATE) -> NDArray[np.float32]:
    """Syllables at 4 a second whose pitch and formants move."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    pitch = f0 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t + seed))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    orders = np.arange(1, int(7500 / f0))
    sound = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in orders)
    syllables = np.clip(np.sin(2 * np.pi * 2 * t + seed), 0, 1) ** 0.5
    hiss = 0.05 * rng.standard_normal(len(t))
    return np.asarray(0.1 * (sound + hiss) * syllables, np.float32)


def save(path: Path, sound: NDArray[np.float32], rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain/: two voices in sub-folders, and files that must be skipped. listed/: a manifest, at 24 kHz."""
    root = tmp_path_factory.mktemp("sources")
    for name, f0 in (("low", 110.0), ("high", 210.0)):
        for i in range(3):
            save(root / "plain" / name / f"{i}.wav", voice(f0, 1.5 + i, i))
    save(root / "plain" / "low" / "beep.wav", voice(400, 2, 9))
    save(root / "plain" / "low" / "short.wav", voice(110, 0.3, 9))
    save(root / "plain" / "low" / "silent.wav", np.zeros(RATE, np.float32))
    (root / "plain" / "low" / "broken.ogg").write_bytes(b"this is no audio at all")
    rows = []
    for i, split in enumerate(("train", "train", "heldout")):
        save(root / "listed" / f"{i}.wav", voice(150, 2, 20 + i, 24_000), 24_000)
        rows.append(
            {"file": f"{i}.wav", "split": split, "voices": {"ann": 0.5, "bob": 0.5} if i else {"ann": 1}}
        )
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "listed" / "manifest.jsonl").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def pool(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech of both folders, textures of one."""
    out = tmp_path_factory.mktemp("pool")
    plain = Source(folders / "plain", weight=0.7, licence="CC0-1.0", skip=("beep",))
    build([plain, Source(folders / "listed", weight=0.3)], out)
    build([folders / "plain" / "high"], out, name="textures", least=0.1)
    return out
