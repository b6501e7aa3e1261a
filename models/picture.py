"""A picture inside a request, whose values are JSON: its size, and red, green and blue of every pixel in base64."""

import base64
import binascii
import re

import numpy as np
from numpy.typing import NDArray

from riverrun.models.errors import InvalidRequest

MOST = 1 << 24  # pixels
FORM = re.compile(r"(\d{1,5})x(\d{1,5}):(.*)", re.DOTALL)


def pictured(pixels: NDArray[np.uint8]) -> str:
    """A picture as a request holds it.  # [y, x, 3]"""
    y, x, _ = pixels.shape
    return f"{y}x{x}:{base64.b64encode(pixels.tobytes()).decode()}"


def pixels(picture: str) -> NDArray[np.uint8]:
    """What `pictured` was given. Raises InvalidRequest.  # -> [y, x, 3]"""
    form = FORM.fullmatch(picture)
    if not form:
        raise InvalidRequest(f"picture begins with {picture[:20]!r}, expected ROWSxCOLUMNS: and base64")
    y, x = int(form[1]), int(form[2])
    if not 0 < y * x <= MOST:
        raise InvalidRequest(f"picture has {y} x {x} pixels, expected 1 to {MOST}: make it smaller")
    try:
        data = base64.b64decode(form[3], validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"picture is no base64: {error}") from error
    if len(data) != 3 * y * x:
        raise InvalidRequest(f"picture has {len(data)} bytes, expected {3 * y * x} of {y} x {x} pixels")
    return np.frombuffer(data, np.uint8).reshape(y, x, 3)
