"""Chain: filters in a row are one filter."""

from collections.abc import Hashable, Sequence
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

    request = tuple

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
            raise ValueError(
                "the first model is a generator: run it as a session and feed the filters from it"
            )
        self.models = list(models)
        self.spec = Spec(
            models[0].spec.takes,
            models[-1].spec.gives,
            sum(model.spec.latency for model in models),
            min(model.spec.max_batch for model in models),
        )

    def open(self, request: Sequence[Any]) -> State:
        """A state a stage. Raises InvalidRequest."""
        self._match(request)
        state: State = {str(i): model.open(request[i]) for i, model in enumerate(self.models)}
        return {**state, "stage": [0]}

    def update(self, state: State, request: Sequence[Any]) -> State:
        """Update every stage, or none. Raises InvalidRequest."""
        self._match(request)
        stages = {str(i): model.update(state[str(i)], request[i]) for i, model in enumerate(self.models)}
        return {**state, **stages}

    def close(self, state: State) -> None:
        """Close every stage."""
        for i, model in enumerate(self.models):
            model.close(state[str(i)])

    def key(self, state: State) -> Hashable:
        """The stage at work, and every stage's key."""
        return state["stage"][0], *(model.key(state[str(i)]) for i, model in enumerate(self.models))

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """Go on from the stage at work until one has no answer yet, or the last one has."""
        state, stage = {**state}, state["stage"][0]
        outputs: Outputs = [(chunk,) for chunk in inputs]
        while stage < len(self.models):
            given = [chunk for (chunk,) in outputs]
            outputs, state[str(stage)] = self.models[stage].step(given, state[str(stage)])
            if outputs[0][0] is None:
                break
            stage += 1
        state["stage"] = [stage % len(self.models)] * len(inputs)
        return outputs, state

    def _match(self, request: Sequence[Any]) -> None:
        if len(request) != len(self.models):
            raise InvalidRequest(
                f"{len(request)} requests, expected one for each of {len(self.models)} stages"
            )
