"""A model that speaks, in this thread: requests in, sound out as it is made."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from riverrun.media import Chunk
from riverrun.models.contract import StreamModel
from riverrun.models.errors import InvalidRequest

R = TypeVar("R")


@torch.inference_mode()
def talk(model: StreamModel, request: R, more: Iterable[R] = ()) -> Iterator[Chunk]:
    """Say a request, and what follows it, which is asked for when the rest depends on that.

    Raises InvalidRequest, also if nothing that follows is the end.
    """
    state, later = model.open(request), iter(more)
    while True:
        if model.key(state) is None:
            following = next(later, None)
            if following is None:
                raise InvalidRequest("the text has no end: the last of what is said has to say so")
            state = model.update(state, following)
            continue
        ((made, *_),), state = model.step([None], state)
        if made is not None:
            yield made
            if made.last:
                return
