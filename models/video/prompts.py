"""Prompts as Open-Sora reads them: options at the end, a text for each loop, scores, and cleaning.

    |0| a calm sea |2| a storm {"reference_path": "sea.png", "mask_strategy": "0"}

Source: arXiv 2412.20404 (Open-Sora), conditioning by scores; cleaning is that of PixArt-α, in diffusers.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from riverrun.models.errors import InvalidRequest, ModelError

OPTIONS = ("reference_path", "mask_strategy")
CAMERA = ("pan right", "pan left", "tilt up", "tilt down", "zoom in", "zoom out", "static")
AESTHETIC = {4.0: "terrible", 4.5: "very poor", 5.0: "poor", 5.5: "fair", 6.0: "good", 6.5: "very good"}
MOTION = {0.5: "very low", 2.0: "low", 5.0: "fair", 10.0: "high", 20.0: "very high"}


@dataclass(frozen=True)
class Prompt:
    """A text, paths of references, and a mask strategy for them."""

    text: str
    references: tuple[str, ...] = ()
    strategy: str = ""


def options(prompt: str) -> Prompt:
    """A prompt and the JSON object at its end, if there is one. Raises InvalidRequest for what that must not hold."""
    text, brace, rest = prompt.partition("{")
    if not brace:
        return Prompt(prompt.strip())
    try:
        told = json.loads(brace + rest)
    except ValueError as error:
        raise InvalidRequest(f"prompt ends in {brace + rest!r:.60}, which is not JSON: {error}") from error
    if other := sorted(set(told) - set(OPTIONS)):
        raise InvalidRequest(f"prompt has options {', '.join(other)}, expected {' or '.join(OPTIONS)}")
    if wrong := [name for name, value in told.items() if not isinstance(value, str)]:
        raise InvalidRequest(f"{wrong[0]} in the prompt is {told[wrong[0]]!r:.40}, expected a text")
    paths = told.get("reference_path", "")
    return Prompt(text.strip(), tuple(paths.split(";")) if paths else (), told.get("mask_strategy", ""))


def segments(text: str) -> tuple[list[str], list[int]]:
    """The texts of a prompt and the loop from which each counts. Raises InvalidRequest where loops do not rise."""
    if not text.startswith("|0|"):
        return [text], [0]
    parts = re.split(r"\|(\d+)\|", text)[1:]
    texts, loops = [part.strip() for part in parts[1::2]], [int(part) for part in parts[::2]]
    if loops != sorted(set(loops)):
        raise InvalidRequest(f"prompt names loops {loops}, expected rising ones")
    return texts, loops


def joined(texts: Sequence[str], loops: Sequence[int]) -> str:
    """Texts and their loops as one prompt."""
    return "".join(f"|{loop}|{text}" for text, loop in zip(texts, loops, strict=True))


def at(text: str, loop: int) -> str:
    """What a prompt says in a loop."""
    texts, loops = segments(text)
    return texts[sum(start <= loop for start in loops) - 1]


def scored(
    text: str, aesthetic: float | None = None, motion: float | None = None, camera: str | None = None
) -> str:
    """A text with the scores that Open-Sora 1.2 was trained on, unless it names them.

    Raises InvalidRequest for a camera that moves in a way that is not known.
    """
    if camera is not None and camera not in CAMERA:
        raise InvalidRequest(f"camera motion is {camera!r}, expected one of {', '.join(CAMERA)}")
    said = [
        f"aesthetic score: {aesthetic:.1f}." if aesthetic is not None else "",
        f"motion score: {motion:.1f}." if motion is not None else "",
        f"camera motion: {camera}." if camera is not None else "",
    ]
    return " ".join([text, *(part for part in said if part and part.partition(":")[0] not in text)])


def described(text: str, aesthetic: float | None = None, motion: float | None = None) -> str:
    """A text with the words for scores that Open-Sora 1.3 was trained on, unless it has them."""
    said = [
        f"The aesthetic score is {_word(aesthetic, AESTHETIC, 'excellent')}."
        if aesthetic is not None
        else "",
        f"The motion strength is {_word(motion, MOTION, 'extremely high')}." if motion is not None else "",
    ]
    return " ".join([text, *(part for part in said if part and part.partition(" is")[0] not in text)])


def _word(value: float, words: dict[float, str], best: str) -> str:
    return next((word for limit, word in words.items() if value < limit), best)


def paced(text: str, fps: int | None = None, motion: int | None = None) -> str:
    """A text with the rate and the motion that Open-Sora 2.0 was trained on, as a sentence each.

    Raises InvalidRequest for a motion outside 1 to 15.
    """
    if motion is not None and not 1 <= motion <= 15:
        raise InvalidRequest(f"motion score is {motion}, expected 1 to 15")
    text = text if text.endswith(".") else f"{text}."
    said = [f"{fps} FPS." if fps is not None else "", f"{motion} motion score." if motion is not None else ""]
    return " ".join([text, *filter(None, said)])


def cleaned(text: str) -> str:
    """A text in plain lower case, cleaned twice as published; what is not Latin script goes.

    Raises ModelError where what cleans it is not installed.
    """
    clean = _cleaner()
    return str(clean(clean(text)))


def _cleaner() -> Any:
    try:
        import bs4  # noqa: F401
        import ftfy  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "cleaning prompts needs ftfy and beautifulsoup4: pip install 'riverrun[video]'"
        ) from error
    from diffusers import PixArtAlphaPipeline

    return lambda text: PixArtAlphaPipeline._clean_caption(PixArtAlphaPipeline, text)  # needs no weights
