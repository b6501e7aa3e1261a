"""How models are run: without derivatives, on so many threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def inference(threads: int) -> Iterator[None]:
    """No derivatives and so many threads, the caller's settings back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def on(threads: int, made: Iterator[T]) -> Iterator[T]:
    """What an iterator gives, made on so many threads; what takes it has its own."""
    while True:
        with inference(threads):
            try:
                one = next(made)
            except StopIteration:
                return
        yield one
