"""Sound and pictures in chunks: verbs, resampling, containers. Never imports torch; PyAV only when a file is opened."""

from typing import TYPE_CHECKING, Any

from riverrun.media.chunk import Chunk, crossfade, cut, join, ramp
from riverrun.media.errors import CorruptMedia, MediaError, UnsupportedMedia
from riverrun.media.limits import Limits

if TYPE_CHECKING:
    from riverrun.media.fragments import Fragments
    from riverrun.media.pictures import cover, picture
    from riverrun.media.reader import Packet, Reader, open_media, read
    from riverrun.media.resampling import Resampler
    from riverrun.media.videos import VideoWriter, settings_of, tagged, video
    from riverrun.media.writer import Writer, write

__all__ = [
    "Chunk",
    "CorruptMedia",
    "Fragments",
    "Limits",
    "MediaError",
    "Packet",
    "Reader",
    "Resampler",
    "UnsupportedMedia",
    "VideoWriter",
    "Writer",
    "cover",
    "crossfade",
    "cut",
    "join",
    "open_media",
    "picture",
    "ramp",
    "read",
    "settings_of",
    "tagged",
    "video",
    "write",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module in ("reader", "writer", "resampling", "fragments", "pictures", "videos"):
        if name in __all__ and hasattr(found := import_module(f"riverrun.media.{module}"), name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
