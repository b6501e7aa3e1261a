"""Latents chunk by chunk, each after the clean ones before it: what is remembered are keys and values along time.

A chunk takes some evaluations; when it is shown one more runs over it, clean, whose keys and values later ones see.
What is remembered lies right before a chunk whatever has been forgotten, so that positions never leave the range that
was trained, and a stream may be endless.
Source: arXiv 2412.07772 (CausVid), arXiv 2506.08009 (Self-Forcing), attention sink as in arXiv 2509.22622 (LongLive).
"""

from dataclasses import dataclass

import torch

from riverrun.models.state import State
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.timeline import Memory, Timeline


@dataclass(frozen=True)
class Window:
    """Which earlier latent frames are seen: the `recent` last ones, and the `sink` first ones of the stream."""

    recent: int = 9
    sink: int = 0

    def __post_init__(self) -> None:
        if self.recent < 0 or self.sink < 0:
            raise ValueError(f"window is {self}, expected frames of at least 0")


def start(dit: STDiT3, batch: int, places: int) -> State:
    """What is remembered before the first chunk: nothing. `places` are the patches of a frame."""
    config = dit.config
    shape = batch, config.depth, places, config.heads, 0, config.width // config.heads
    return {name: dit.final_layer.linear.weight.new_zeros(shape) for name in ("keys", "values")}


def timeline(past: State, frames: int, remember: bool = False) -> Timeline:
    """What the next frames see: themselves, and what is remembered."""
    memory = Memory(past["keys"], past["values"])
    positions = torch.arange(memory.frames + frames, device=past["keys"].device)
    return Timeline(positions, None, memory if memory.frames else None, remember)


def commit(past: State, fresh: Memory, window: Window) -> State:
    """Remember frames that were clean, and forget those that leave the window."""
    whole = Memory(past["keys"], past["values"]).then(fresh)
    count = whole.frames
    if count > window.sink + window.recent:
        kept = [*range(window.sink), *range(count - window.recent, count)]
        whole = whole.keep(torch.tensor(kept, device=fresh.keys.device))
    return {"keys": whole.keys, "values": whole.values}
