"""Errors of media input and output.

MediaError                 anything wrong with a file, a stream or a codec
├── UnsupportedMedia       well-formed, but not something we take: no audio, unknown format, over a limit
└── CorruptMedia           damaged: truncated, not decodable, NaN or infinite samples
"""


class MediaError(Exception):
    """A file, stream or codec is not usable; the message names the value, the limit and the way out."""


class UnsupportedMedia(MediaError):
    """The media is well-formed, but has no audio, an unknown format, or exceeds a limit."""


class CorruptMedia(MediaError):
    """The media is damaged: empty, truncated, not decodable, or holds NaN or infinite samples."""
