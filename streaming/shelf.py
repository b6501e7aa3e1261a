"""Shelf: the models of an engine, loaded when first wanted, least recently used out first under a memory budget."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from riverrun.models.contract import Presets, Spec, StreamModel
from riverrun.models.errors import InvalidRequest

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Copy:
    """One instance of a model: a lane has its own, since a model is stepped by one thread."""

    model: StreamModel
    size: int  # bytes
    users: int = 0


class Shelf:
    """Any thread may use it; loading blocks the caller, and nobody who wants what is there."""

    def __init__(self, budget: int | None = None) -> None:
        """`budget` is in bytes of weights and buffers; models that somebody uses stay, whatever it says."""
        self.budget = budget
        self.fixed: dict[str, StreamModel] = {}
        self.loaders: dict[str, Callable[[], StreamModel]] = {}
        self.kinds: dict[str, tuple[Spec, type[Any]]] = {}  # of models that were loaded once
        self._copies: dict[tuple[str, str], Copy] = {}  # by name and lane, least recently used first
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def add(self, name: str, model: StreamModel) -> None:
        """Make an instance available; it stays, and one lane alone may use it."""
        self.fixed[name], self.kinds[name] = model, (model.spec, model.request)

    def offer(self, name: str, load: Callable[[], StreamModel]) -> None:
        """Make a model available that `load` makes an instance of whenever one is wanted."""
        self.loaders[name] = load

    def settle(self, name: str, preset: str) -> None:
        """Have a model of one of its presets from now on. Those that are in use stay as they are: call it first."""
        if name in self.fixed:
            return self.add(name, cast(Presets, self.fixed[name]).at(preset))
        load = self.loaders[name]
        self.loaders[name] = lambda: cast(Presets, load()).at(preset)
        with self._lock:
            for (held, _), copy in self._copies.items():
                if held == name:
                    copy.model = cast(Presets, copy.model).at(preset)
                    self.kinds[name] = (copy.model.spec, copy.model.request)

    @property
    def names(self) -> list[str]:
        """All models, loaded or not."""
        return [*self.fixed, *self.loaders]

    def kind(self, name: str) -> tuple[Spec, type[Any]]:
        """What a model takes and gives, and the class of its requests; loads it if it never was.

        Raises InvalidRequest, ModelError.
        """
        if name not in self.kinds:
            self.give_back(self.take(name, ""))
        return self.kinds[name]

    def take(self, name: str, lane: str) -> StreamModel:
        """A lane's instance of a model, in use until it is given back. Raises InvalidRequest, ModelError."""
        if name in self.fixed:
            return self.fixed[name]
        if name not in self.loaders:
            raise InvalidRequest(f"model is {name!r}, expected one of {', '.join(self.names) or 'none'}")
        if (found := self._use(name, lane)) is not None:
            return found
        with self._loading:
            if (found := self._use(name, lane)) is not None:  # loaded while this waited
                return found
            model = self.loaders[name]()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()  # a lane's own stream does not wait for copies that this thread began
            log.info("model %s is loaded for lane %s", name, lane or "any")
            with self._lock:
                self.kinds[name] = (model.spec, model.request)
                self._copies[name, lane] = Copy(model, footprint(model), 1)
                self._trim()
            return model

    def give_back(self, model: StreamModel) -> None:
        """Say that a session uses its model no more."""
        with self._lock:
            for copy in self._copies.values():
                copy.users -= copy.model is model
            self._trim()

    def loaded(self) -> Mapping[str, int]:
        """Bytes of what is in memory, by name and lane."""
        with self._lock:
            return {
                f"{name}/{lane}" if lane else name: copy.size for (name, lane), copy in self._copies.items()
            }

    def _use(self, name: str, lane: str) -> StreamModel | None:
        with self._lock:
            key = next((k for k in ((name, lane), (name, "")) if k in self._copies), None)
            if key is None:
                return None
            copy = self._copies.pop(key)
            self._copies[name, lane] = (
                copy  # the one used last is last; what was loaded for any lane is this one's
            )
            copy.users += 1
            return copy.model

    def _trim(self) -> None:
        if self.budget is None:
            return
        total = sum(copy.size for copy in self._copies.values())
        for key, copy in list(self._copies.items()):
            if total <= self.budget:
                return
            if not copy.users:
                del self._copies[key]
                total -= copy.size
                log.info("model %s is unloaded from lane %s: %d bytes are the budget", *key, self.budget)


def footprint(model: object) -> int:
    """Bytes of all tensors that an object holds, however deep; a storage that is shared counts once."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    todo: list[object] = [model]
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, str | bytes | int | float | type):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, list | tuple | set):
            todo += value
        else:
            todo += getattr(value, "__dict__", {}).values()
    return sum(storages.values())
