"""Read a still picture of any common format, and bring it to a size. Pillow only when one is read."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from riverrun.media.errors import CorruptMedia, UnsupportedMedia

FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
)  # that are looked for; of a moving one, its first picture counts
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


def _large(name: str, what: str, most: int) -> str:
    return f"{name} has {what}, the limit is {most}: make it smaller"
