"""Which latent frames of a video are known, changed or made: Open-Sora's mask strategies.

"0;0,1,0,-1,1" is two steps: the first frame of reference 0 becomes the first, that of reference 1 the last. A step is
up to six numbers: loop, reference, where in the reference, where in the video, how many, and how much is changed, from
0 (nothing) to 1. What is left out is 0,0,0,0,1,0. Places are latent frames; from the end if negative.
Source: arXiv 2412.20404 (Open-Sora), image and video conditioning.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from riverrun.models.errors import InvalidRequest


@dataclass(frozen=True)
class Step:
    """Frames of a reference that are put into a video, in latent frames."""

    loop: int = 0
    reference: int = 0
    start: int = 0
    target: int = 0
    length: int = 1
    edit: float = 0.0


def parse(text: str) -> list[Step]:
    """The steps of a strategy; none of an empty one. Raises InvalidRequest for what is not a step."""
    return [_step(part) for part in text.split(";")] if text.strip() else []


def _step(text: str) -> Step:
    values = [part.strip() for part in text.split(",")]
    try:
        whole, edit = [int(value) for value in values[:5]], [float(value) for value in values[5:]]
        step = Step(*whole, *edit)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(
            f"mask strategy {text!r}, expected up to six numbers: loop,reference,start,target,length,edit"
        ) from error
    if min(step.loop, step.reference) < 0 or step.length < 1 or not 0 <= step.edit <= 1:
        raise InvalidRequest(
            f"mask strategy {text!r}: loop and reference are at least 0, length at least 1, edit from 0 to 1"
        )
    return step


def usual(lengths: Sequence[int], carried: int, edit: float = 0.0) -> list[Step]:
    """What becomes of references of which nothing is said: the first begins the video, the second ends it.

    A picture becomes the first or the last latent frame; of a video the `carried` frames that come to lie next to what
    is made. With `edit` above 0 a reference alone is changed as a whole. Units: `lengths` in latent frames.
    Raises InvalidRequest for more than two references.
    """
    if len(lengths) > 2:
        raise InvalidRequest(f"there are {len(lengths)} references, expected up to 2, or a mask strategy")
    if len(lengths) == 1 and edit:
        return [Step(length=lengths[0], edit=edit)]
    counts = [min(length, carried) for length in lengths]
    begin = [Step(0, 0, -count, 0, count) for count in counts[:1]]
    end = [Step(0, 1, 0, -count, count) for count in counts[1:]]
    return begin + end


def nearest(place: int, align: int, limit: int) -> int:
    """The multiple of `align` that is nearest to a place, below `limit`; upwards only beyond the middle."""
    whole, rest = divmod(place, align)
    return (whole + (rest > align / 2 and whole < limit // align - 1)) * align


def apply(
    steps: Sequence[Step], references: Sequence[Tensor], z: Tensor, loop: int = 0, align: int | None = None
) -> tuple[Tensor, Tensor]:
    """Put references into a video where the steps of a loop say so, and give how much of each frame is to be made.

    With `align` frames come from and go to whole groups of as many latent frames.
    Shapes: references `[c, n, y, x]`, z `[c, f, y, x]` -> z, mask `[f]`.
    Raises InvalidRequest for a reference or a place that is not there, or one of another size.
    """
    z, mask = z.clone(), torch.ones(z.shape[1], device=z.device)
    for step in steps:
        if step.loop != loop:
            continue
        if step.reference >= len(references):
            raise InvalidRequest(f"mask strategy: reference {step.reference}, there are {len(references)}")
        held = references[step.reference].to(z)
        if held.shape[2:] != z.shape[2:]:
            found, wanted = (" x ".join(map(str, x.shape[2:])) for x in (held, z))
            raise InvalidRequest(
                f"mask strategy: reference {step.reference} is {found} latents, expected {wanted}"
            )
        start = _place("start", step.start, held.shape[1], align)
        target = _place("target", step.target, z.shape[1], align)
        length = min(step.length, held.shape[1] - start, z.shape[1] - target)
        z[:, target : target + length] = held[:, start : start + length]
        mask[target : target + length] = step.edit
    return z, mask


def _place(name: str, place: int, limit: int, align: int | None) -> int:
    found = place + limit if place < 0 else place
    if not 0 <= found < limit:
        raise InvalidRequest(f"mask strategy: {name} {place}, expected {-limit} to {limit - 1} latent frames")
    return nearest(found, align, limit) if align else found


def continuation(loop: int, reference: int, length: int, edit: float = 0.0) -> Step:
    """How a video goes on: with the last `length` latent frames of what came before, kept as a reference.

    Raises InvalidRequest for a loop before which nothing came.
    """
    if loop < 1:
        raise InvalidRequest(f"loop is {loop}, expected at least 1: nothing comes before the first")
    return Step(loop, reference, -length, 0, length, edit)


def total(frames: int, loops: int, length: int, group: int, latents: int) -> int:
    """How many frames loops make, each later one without the `length` latent frames that it began with."""
    return frames + (loops - 1) * (frames - math.ceil(group * length / latents))
