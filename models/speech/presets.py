"""Published shapes of speech models. Their weights are the publisher's to give; `load` takes the folders as they are.

Source: arXiv 2603.29339 and the releases it names.
"""

from dataclasses import dataclass

from riverrun.models.speech.dit import DitConfig
from riverrun.models.speech.longcat import Config


@dataclass(frozen=True)
class Published:
    """A published checkpoint: its shape, how many values it holds, and where its publisher keeps it."""

    config: Config
    parameters: int
    source: str
    licence: str


LONGCAT_1B = Config()
LONGCAT_3B = Config(DitConfig(width=2560, depth=32, heads=32, ratio=3.6), limit=60.0)

PRESETS = {
    "longcat-audiodit-1b": Published(LONGCAT_1B, 1_419_923_649, "meituan-longcat/LongCat-AudioDiT-1B", "MIT"),
    "longcat-audiodit-3.5b": Published(
        LONGCAT_3B, 3_833_985_217, "meituan-longcat/LongCat-AudioDiT-3.5B", "MIT"
    ),
}
