"""How many bytes tensors hold at once while something runs, whatever the device."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """Counts the storage of what operators give, until it is let go of."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0  # bytes
        self.known = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if (name := storage._cdata) not in self.known | given:
                    self.known.add(name)
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self.gone, name, storage.nbytes())
        return made

    def gone(self, name: int, size: int) -> None:
        self.known.discard(name)
        self.now -= size


def peak(run: Callable[[], Any]) -> int:
    """The most bytes held at once by what a call makes."""
    with torch.inference_mode(), Held() as held:
        run()
    most: int = held.peak
    return most
