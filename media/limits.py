"""How large media may be before they are refused."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds that a file must keep; whoever opens one may pass others.

    Units: `bytes` of the file, `seconds` of sound, rates in Hz, `declared` channels in the header, `channels`
    handed on (more are mixed down), `pixels` of one picture.
    """

    bytes: int = 8 * 2**30
    seconds: float = 24 * 3600
    rate_min: int = 4_000
    rate_max: int = 384_000
    declared: int = 64
    channels: int = 2
    pixels: int = 8192 * 8192


DEFAULT = Limits()
