"""More speech from a teacher: Kokoro-82M, run as ONNX, reads sentences in many voices and mixes of voices.

The teacher is the user's to install: `pip install onnxruntime hibari-tts`, and a folder with the model.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.models.errors import CheckpointError, InvalidRequest

SPOKEN = 24_000  # Hz, what the teacher gives
TOKENS = 508  # a sentence is cut there: its context holds 510 with both ends
HELD_OUT = ("af_kore", "am_eric", "bf_lily", "bm_lewis")  # voices kept for evaluation
Audio = NDArray[np.float32]


def _needed(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as exc:
        raise InvalidRequest(f"the teacher needs {package}: pip install {package}") from exc


@dataclass
class Teacher:
    """Kokoro in a folder: model.int8.onnx, vocab.json and voices_en.npz.

    Raises InvalidRequest if a package is missing, CheckpointError if a file is.
    """

    folder: Path
    threads: int = 1
    voices: dict[str, NDArray[np.float32]] = field(init=False, repr=False)  # name -> [count, 1, 256]

    def __post_init__(self) -> None:
        for name in ("model.int8.onnx", "vocab.json", "voices_en.npz"):
            if not (self.folder / name).is_file():
                raise CheckpointError(f"{self.folder / name} is missing; name the folder of the Kokoro model")
        runtime = _needed("onnxruntime", "onnxruntime")
        g2p = _needed("hibari.g2p", "hibari-tts").G2P
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        model = str(self.folder / "model.int8.onnx")
        self._run = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run
        self._vocab: dict[str, int] = json.loads((self.folder / "vocab.json").read_text("utf-8"))["vocab"]
        with np.load(self.folder / "voices_en.npz") as packs:
            self.voices = {name: packs[name] for name in sorted(packs.files)}
        self._spell = {"a": g2p(), "b": g2p(british=True)}

    def phonemes(self, text: str, mix: dict[str, float]) -> str:
        """What of a text is spoken, in misaki's notation, with the accent of the voice that counts most."""
        sounds = self._spell[max(mix, key=lambda name: mix[name])[0]](text)
        told = sounds if isinstance(sounds, str) else " ".join(sounds)
        return "".join(c for c in told if c in self._vocab)[:TOKENS]

    def speak(self, text: str, mix: dict[str, float], speed: float = 1.0) -> Audio:
        """Read a text in a voice, or in a mix of voices {name: weight}.  # [t] float32 at 24 kHz

        Raises InvalidRequest for an unknown voice.
        """
        for name in mix:
            if name not in self.voices:
                raise InvalidRequest(f"voice is {name!r}, expected one of {', '.join(self.voices)}")
        total = sum(mix.values())
        style = sum(self.voices[name] * np.float32(weight / total) for name, weight in mix.items())
        tokens = [self._vocab[c] for c in self.phonemes(text, mix)]
        row = np.asarray(style)[min(len(tokens), len(np.asarray(style)) - 1)].reshape(1, -1)
        feeds = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": row.astype(np.float32),
            "speed": np.array([speed], np.float32),
        }
        return np.asarray(self._run(None, feeds)[0], np.float32).ravel()


def read_aloud(
    teacher: Teacher,
    sentences: Iterable[str],
    out: Path,
    seed: int = 0,
    held_out: Sequence[str] = HELD_OUT,
) -> int:
    """Write each sentence as a 24 kHz WAV in a random voice or mix, and a manifest.jsonl; return their count.

    The folder is then a source for corpus.build; the manifest has what is said as text and as phonemes. Voices of
    `held_out` are not used. Mixes stay inside one accent (the first letter of a voice's name), where they remain
    intelligible.
    """
    from scipy.io import wavfile

    rng = np.random.default_rng(seed)
    names = [name for name in teacher.voices if name not in held_out]
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    with open(out / "manifest.jsonl", "a", encoding="utf-8") as manifest:
        for text in sentences:
            mix = _mix(rng, names)
            speed = round(float(rng.uniform(0.85, 1.15)), 2)
            sound = teacher.speak(text, mix, speed)
            file = f"t{seed}_{count:06d}.wav"
            wavfile.write(out / file, SPOKEN, np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16))
            told = teacher.phonemes(text, mix)
            row = dict(file=file, split="train", text=text, phonemes=told, voices=mix, speed=speed)
            manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _mix(rng: np.random.Generator, names: Sequence[str]) -> dict[str, float]:
    """One voice, or in two of five cases two or three of the same accent."""
    first = str(rng.choice(names))
    family = [name for name in names if name[0] == first[0] and name != first]
    more = int(rng.integers(1, 3)) if rng.random() < 0.4 else 0
    others = [str(name) for name in rng.permutation(family)[:more]]
    weights = rng.uniform(0.15, 1, 1 + len(others))
    shares = weights / weights.sum()
    return {name: round(float(share), 3) for name, share in zip([first, *others], shares, strict=True)}
