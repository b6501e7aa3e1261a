"""Chain: filters in a row are one filter."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from riverrun.media import Chunk
from riverrun.models.contract import Outputs, Spec, StreamModel
from riverrun.models.errors import InvalidRequest
from riverrun.models.state import State


class Chain:
    """Filters of one rate and hop in a row as a StreamModel: one latency sum, one key, one state.

    A request is a sequence with one a stage. A stage that takes several steps to answer a hop holds up those after
    it, not the sessions beside it.
    """

    def __init__(self, models: Sequence[StreamModel]) -> None:
        """Raises ValueError unless every stage takes what the one before gives, hop by hop."""
        if not models:
            raise ValueError("no model to chain")
        for before, after in zip(models, models[1:], strict=False):
            if len(before.spec.gives) != 1 or after.spec.takes != before.spec.gives[0]:
                raise ValueError(
                    f"a stage gives {before.spec.gives} and the next takes {after.spec.takes}: chain models of"
                    " equal kind, rate, hop and channels, or run them as sessions one after the other"
                )
        if models[0].spec.takes is None:
            raise ValueError("the first model is a generator: run it as a session and feed the filters from it")
        self.models = list(models)
        self.spec = Spec(
            models[0].spec.takes,
            models[-1].spec.gives,
            sum(model.spec.latency for model in models),
            min(model.spec.max_batch for model in models),
        )
