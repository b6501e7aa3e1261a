"""Gain: speech at one loudness, slowly, and nothing done to what is no speech."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from riverrun.media import Chunk
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.rows import gather, present, spread
from riverrun.models.state import State

TARGET = -23.0  # dBFS (RMS) of speech
MOST = 24.0  # dB, up or down
QUIET = -55.0  # dBFS: what is not louder is no speech
ABOVE = 9.0  # dB above the noise, speech is
RISES = 4.0  # dB a second, that the level of noise may be higher than it was last heard
MOVES = 24.0  # dB a second of speech, that the gain may change
MEMORY = 3.0  # seconds of speech that its loudness is the mean of
LEAST = 1e-10  # power that is told from none


@dataclass(frozen=True)
class Request:
    """Whether loudness is evened out. Where it is no more, the gain goes back to one, slowly."""

    on: bool = True


class Gain:
    """An automatic gain as a StreamModel: it waits for nothing, is bounded, and changes along ramps while one speaks.

    Speech is what stands out of the noise, which is the quietest that was heard lately: so loud and soft copies of the
    same sound get the same gain, but for how loud they are.
    """

    request = Request

    def __init__(self, port: Port, device: str | torch.device = "cpu", max_batch: int = 16) -> None:
        self.spec, self.device = Spec(port, (port,), 0, max_batch), torch.device(device)
        self.hop, self.period = port.hop, float(port.hop / port.rate)
        self.ramp = torch.arange(1, self.hop + 1, device=self.device) / self.hop

    def open(self, request: Request) -> State:
        """Before anybody spoke: a gain of one."""
        zeros = torch.zeros(1, device=self.device)
        return {
            "on": torch.full_like(zeros, request.on, dtype=torch.bool), "gain": zeros, "noise": zeros.clone(),
            "loudness": zeros.clone(), "heard": zeros.clone(),
        }  # fmt: skip

    def update(self, state: State, request: Request) -> State:
        """On or off."""
        return {**state, "on": torch.full_like(state["on"], request.on)}

    def close(self, state: State) -> None:
        """Nothing to free."""

    def key(self, state: State) -> Hashable:
        """All sessions fit together."""
        return True

    @torch.inference_mode()
    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """One hop of every session."""
        chunks = present(inputs)
        x = gather(chunks, self.device)
        before, state = state["gain"], self._moved(x.square().mean(1), state)
        first, last = (10 ** (gain[:, None] / 20) for gain in (before, state["gain"]))
        return [(chunk,) for chunk in spread(x * torch.lerp(first, last, self.ramp), chunks)], state

    def _moved(self, power: Tensor, state: State) -> State:
        """The gain in dB at the end of a hop of some mean power.  # [b]"""
        level = decibels(power)
        noise = torch.minimum(state["noise"] + RISES * self.period, level.clamp_min(QUIET - ABOVE))
        speech = level > noise + ABOVE
        heard = (state["heard"] + speech).clamp_max(MEMORY / self.period)
        loudness = torch.lerp(state["loudness"], power, speech / heard.clamp_min(1))
        wanted = (TARGET - decibels(loudness)).clamp(-MOST, MOST)
        wanted = torch.where(state["on"] & (heard > 0), wanted, 0.0)
        most = torch.where(speech | ~state["on"], MOVES * self.period, 0.0)
        gain = state["gain"] + (wanted - state["gain"]).clamp(-most, most)
        return {**state, "gain": gain, "noise": noise, "loudness": loudness, "heard": heard}


def decibels(power: Tensor) -> Tensor:
    """Of full scale."""
    return 10 / math.log(10) * power.clamp_min(LEAST).log()
