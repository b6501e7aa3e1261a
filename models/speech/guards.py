"""What is no speech among the chunks that a model draws: they ran away, say the last one again, or say nothing."""

import torch
from torch import Tensor

from riverrun.models.speech.reading.phonemes import MARKS

PAUSES = frozenset(MARKS + '…"()“”')
"""Symbols that may be silent."""
LARGEST = 8.0  # of a latent; of 200,000 frames of a corpus, the largest was 5.5
ALIKE = 0.985  # correlation of a chunk with the one before; of two that are spoken, at most 0.979
QUIET = 0.35  # mean distance from silence; of silences, 0.1 to 0.3, of speech, 0.8 to 1.3


def poor(x: Tensor, last: Tensor, spoken: Tensor, quiet: Tensor) -> bool:
    """Whether a chunk is to be drawn again.

    Shapes: x and last `[t, c]`, the chunk and the one before; spoken `[t]`, where symbols are heard; quiet `[c]`, what
    silence is.
    """
    if not bool(x.isfinite().all()) or float(x.abs().max()) > LARGEST:
        return True
    if not bool(spoken.any()):
        return False
    apart = (x - quiet).abs().mean(1)
    if float(spoken.float().mean()) >= 0.5 and float(apart[spoken].max()) < QUIET:
        return True
    both = torch.stack([x.flatten(), last.flatten()])
    still = float((last - quiet).abs().mean()) < QUIET
    return not still and bool(spoken.all()) and float(torch.corrcoef(both)[0, 1]) > ALIKE
