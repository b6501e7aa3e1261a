"""Sound and pictures in chunks: verbs, resampling, codecs, containers. Never imports torch."""

from riverrun.media.chunk import Chunk, crossfade, cut, join, ramp
from riverrun.media.errors import CorruptMedia, MediaError, UnsupportedMedia

__all__ = [
    "Chunk",
    "CorruptMedia",
    "MediaError",
    "UnsupportedMedia",
    "crossfade",
    "cut",
    "join",
    "ramp",
]
