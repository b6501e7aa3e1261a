"""A recording inside a request, whose values are JSON: mono 16-bit sound in base64."""

import base64
import binascii
import hashlib

import numpy as np
from numpy.typing import NDArray

from riverrun.models.errors import InvalidRequest

FULL = 32767
SEVERAL = "{} seems to be of more than one person, and the voice between them: let one speak alone"


def recorded(sound: NDArray[np.float32]) -> str:
    """Sound as a request holds it.  # [n]"""
    return base64.b64encode((sound.clip(-1, 1) * FULL).round().astype("<i2").tobytes()).decode()


def sound(recording: str, limit: int | None = None) -> NDArray[np.float32]:
    """What `recorded` was given, its first samples. Raises InvalidRequest.  # -> [n]"""
    try:
        data = base64.b64decode(recording, validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"recording is no base64: {error}") from error
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2")[:limit].astype(np.float32) / np.float32(FULL)


def named(recording: str) -> str:
    """A name for whose voice a recording has: the same for the same sound, and none that a model would give a voice."""
    return f"recording {hashlib.sha256(recording.encode()).hexdigest()}"
