"""Read and write still pictures of common formats, and bring them to a size. Pillow only when one is."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from riverrun.media.errors import CorruptMedia, UnsupportedMedia
from riverrun.media.writer import part_of, writing

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # that are read; of a moving one, its first picture
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # that are written
MOST = 20_000_000  # pixels
Pixels = NDArray[np.uint8]


def picture(source: str | Path | bytes, most: int = MOST) -> Pixels:
    """A picture as red, green and blue, the way up that its camera noted, over white where it is clear.  # -> [y, x, 3]

    Raises UnsupportedMedia if it is of no known format or has more than `most` pixels, CorruptMedia if it is damaged.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = "the picture" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is a lower one
            opened = Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        with opened:
            if opened.width * opened.height > most:
                raise UnsupportedMedia(_large(name, f"{opened.width} x {opened.height} pixels", most))
            upright = ImageOps.exif_transpose(opened).convert("RGBA")
            ground = Image.new("RGBA", upright.size, "white")
            return np.array(Image.alpha_composite(ground, upright).convert("RGB"))
    except Image.DecompressionBombError as error:
        raise UnsupportedMedia(_large(name, str(error), most)) from error
    except UnidentifiedImageError as error:
        raise UnsupportedMedia(
            f"{name} is no picture that is known, expected one of {', '.join(FORMATS)}"
        ) from error
    except FileNotFoundError as error:
        raise UnsupportedMedia(f"{name}: no such file") from error
    except (OSError, SyntaxError, ValueError, IndexError, EOFError) as error:  # what Pillow raises at damage
        raise CorruptMedia(f"{name} is damaged: {error}") from error


def cover(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """A picture scaled to cover so many rows and columns, cut to its middle.  # [y, x, 3] -> [*size, 3]"""
    from PIL import Image, ImageOps

    rows, columns = size
    return np.array(ImageOps.fit(Image.fromarray(pixels), (columns, rows), Image.Resampling.LANCZOS))


def save(path: str | Path, pixels: Pixels) -> None:
    """Write a picture, whole or not at all; the suffix names the format.  # [y, x, 3]

    Raises UnsupportedMedia for a suffix that is not known, or if it cannot be written.
    """
    from PIL import Image

    path = Path(path)
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise UnsupportedMedia(f"{path} ends in {path.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    part = part_of(path)
    try:
        with writing(path):
            Image.fromarray(pixels).save(part, format=form)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def encoded(pixels: Pixels, form: Literal["png", "webp", "jpeg"] = "png") -> bytes:
    """A picture as a file.  # [y, x, 3]"""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def _large(name: str, what: str, most: int) -> str:
    return f"{name} has {what}, the limit is {most}: make it smaller"
