"""How models are run: without derivatives, on so many threads, in so much memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
MEMORY = Path("/proc/meminfo")


@contextmanager
def inference(threads: int | None) -> Iterator[None]:
    """No derivatives and so many threads, None: as they are; the caller's settings back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def on(threads: int | None, made: Iterator[T]) -> Iterator[T]:
    """What an iterator gives, made on so many threads; what takes it has its own."""
    while True:
        with inference(threads):
            try:
                one = next(made)
            except StopIteration:
                return
        yield one


def free(device: str) -> int | None:
    """Bytes that can be had on a device now; None where that cannot be told."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if not MEMORY.exists():
        return None
    told = dict(line.split(":") for line in MEMORY.read_text().splitlines())
    return 1024 * int(told["MemAvailable"].split()[0])
