"""Small models: a filter that looks ahead, a generator of sound that is told its text in pieces, one of pictures."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv1d, pad

from riverrun.media import Chunk
from riverrun.models.contract import Outputs, Port, Spec, StreamModel
from riverrun.models.errors import InvalidRequest
from riverrun.models.noise import noise_rows
from riverrun.models.picture import pixels
from riverrun.models.shown import Shown
from riverrun.models.state import State


@dataclass(frozen=True)
class Loudness:
    """What a Smooth session asks for."""

    gain: float = 1.0


class Smooth:
    """A gain and a weighted mean that reaches `latency` ticks ahead; each hop takes `evaluations` steps."""

    request = Loudness

    def __init__(
        self, rate: int = 16_000, hop: int = 32, latency: int = 20, evaluations: int = 1, max_batch: int = 16
    ) -> None:
        port = Port("audio", rate, hop)
        self.spec = Spec(port, (port,), latency, max_batch)
        self.evaluations = evaluations
        self.weights = torch.from_numpy(np.hanning(2 * latency + 3).astype(np.float32)[1:-1] / (latency + 1))
        self.batches: list[int] = []  # how many shared each step

    def open(self, request: Loudness) -> State:
        past = torch.zeros(1, len(self.weights) - 1)
        hop = torch.zeros(1, self.spec.gives[0].hop)
        return {**self.update({}, request), "past": past, "work": {"hop": hop, "phase": [0], "tick": [0]}}

    def update(self, state: State, request: Loudness) -> State:
        if not 0 <= request.gain <= 4:
            raise InvalidRequest(f"gain is {request.gain}, expected 0 to 4")
        return {**state, "gain": torch.tensor([request.gain])}

    def close(self, state: State) -> None:
        pass

    def key(self, state: State) -> Hashable:
        return int(state["work"]["phase"][0])

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        self.batches.append(len(inputs))
        work = state["work"]
        if work["phase"][0] == 0:
            work["hop"] = torch.from_numpy(np.stack([c.data[:, 0] for c in inputs if c is not None]))
            work["tick"] = [c.pts for c in inputs if c is not None]
        work["phase"] = [(phase + 1) % self.evaluations for phase in work["phase"]]
        if work["phase"][0]:
            return [(None,)] * len(inputs), state
        sound = torch.cat([state["past"], work["hop"]], dim=1)
        state["past"] = sound[:, sound.shape[1] - len(self.weights) + 1 :]
        mean = self._mean(sound) * state["gain"][:, None]
        return [
            (Chunk(row[:, None], tick - self.spec.latency, self.spec.gives[0].rate),)
            for row, tick in zip(mean.numpy(), work["tick"], strict=True)
        ], state

    def whole(self, data: NDArray[np.float32], request: Loudness) -> NDArray[np.float32]:
        sound = pad(torch.from_numpy(data.T.copy()), (self.spec.latency, self.spec.latency))
        return np.asarray((self._mean(sound) * request.gain).numpy().T)

    def _mean(self, sound: Tensor) -> Tensor:
        return conv1d(sound[:, None], self.weights[None, None])[:, 0]


@dataclass(frozen=True)
class Text:
    """What a Teller is told: some text, and whether it was all."""

    text: str
    end: bool = True
    seed: int = 0


class Teller:
    """Says each word as one hop: noise drawn towards a tone in three evaluations."""

    spec = Spec(None, (Port("audio", 24_000, 240),), max_batch=8)
    request = Text
    evaluations = 3

    def __init__(self) -> None:
        self.batches: list[int] = []

    def open(self, request: Text) -> State:
        if not isinstance(request.text, str):
            raise InvalidRequest(f"text is {request.text!r}, expected words")
        state = {"text": [request.text], "end": [request.end], "seed": [request.seed]}
        return {**state, "tick": [0], "phase": [0], "x": torch.zeros(1, self.spec.gives[0].hop)}

    def update(self, state: State, request: Text) -> State:
        if state["end"][0]:
            raise InvalidRequest("the text has ended, expected no more")
        return {**state, "text": [state["text"][0] + request.text], "end": [request.end]}

    def close(self, state: State) -> None:
        pass

    def key(self, state: State) -> Hashable:
        told = " " in state["text"][0].lstrip() or state["end"][0]
        return state["phase"][0] if told else None

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        self.batches.append(len(inputs))
        hop, rate = self.spec.gives[0].hop, self.spec.gives[0].rate
        if state["phase"][0] == 0:
            state["x"] = noise_rows(state["seed"], state["tick"], (hop,))
        words = [text.split(maxsplit=1)[:1] for text in state["text"]]
        pitches = torch.tensor([[float(sum(map(ord, *word))) if word else 0.0] for word in words])
        state["x"] = (state["x"] + 0.5 * torch.sin(pitches * torch.arange(hop) / int(rate) * 3)) / 2
        state["phase"] = [phase + 1 for phase in state["phase"]]
        if state["phase"][0] < self.evaluations:
            return [(None,)] * len(inputs), state
        outputs: Outputs = []
        for i, word in enumerate(words):
            rest = state["text"][i].lstrip()[len("".join(word)) :].lstrip()
            data = state["x"][i, : hop if word else 0, None].numpy().copy()
            outputs.append((Chunk(data, state["tick"][i], rate, last=state["end"][i] and not rest),))
            state["text"][i], state["tick"][i] = rest, state["tick"][i] + len(data)
        state["phase"] = [0] * len(inputs)
        return outputs, state


COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "white": (230, 230, 230)}


class Painter:
    """Shows the colour its prompt names, with a black bar that moves a pixel a frame; a chunk takes `evaluations`."""

    request = Shown
    evaluations = 2
    most = 500  # characters of a prompt

    def __init__(self, size: tuple[int, int] = (32, 48), rate: int = 12, hop: int = 3) -> None:
        self.spec = Spec(None, (Port("video", rate, hop, size=size), Port("times", rate, 1)), shows=True)

    def open(self, request: Shown) -> State:
        self._check(request)
        y, x = self.spec.gives[0].size
        given = torch.zeros(1, y, x, 3, dtype=torch.uint8)
        if request.picture:
            picture = pixels(request.picture)
            if picture.shape[:2] != (y, x):
                raise InvalidRequest(f"picture is {picture.shape[:2]}, expected {(y, x)}")
            given[0] = torch.from_numpy(picture.copy())
        return {
            "prompts": [[request.prompt]], "told": [0], "prompt": [""], "given": given,
            "picture": [bool(request.picture)], "seconds": [request.seconds], "end": [request.end],
            "frame": [0], "phase": [0],
        }  # fmt: skip

    def update(self, state: State, request: Shown) -> State:
        if request.picture:
            raise InvalidRequest("only the first request has a picture")
        prompts = state["prompts"][0]
        if request.prompt:
            self._check(request)
            prompts = [*prompts, request.prompt]
        seconds = request.seconds or state["seconds"][0]
        return {**state, "prompts": [prompts], "seconds": [seconds], "end": [request.end]}

    def close(self, state: State) -> None:
        pass

    def key(self, state: State) -> Hashable:
        return int(state["phase"][0])

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        if state["phase"][0] + 1 < self.evaluations:
            told = [self._begin(state, i) for i in range(len(inputs))]
            state["phase"] = [phase + 1 for phase in state["phase"]]
            return [(None, times) for times in told], state
        state["phase"] = [0] * len(inputs)
        return [self._paint(state, i) for i in range(len(inputs))], state

    def _begin(self, state: State, i: int) -> Chunk | None:
        """Take the last prompt that waits, and tell of all of them when they begin."""
        waiting, told, rate = state["prompts"][i], state["told"][i], self.spec.gives[0].rate
        if not waiting:
            return None
        state["prompt"][i], state["prompts"][i] = waiting[-1], []
        state["told"][i] = told + len(waiting)
        return Chunk(np.full((len(waiting), 1), state["frame"][i], np.float32), told, rate)

    def _paint(self, state: State, i: int) -> tuple[Chunk, Chunk | None]:
        port, frame = self.spec.gives[0], state["frame"][i]
        (y, x), total = port.size, round(state["seconds"][i] * port.rate)
        count = min(port.hop, total - frame) if total else port.hop
        made = np.empty((count, y, x, 3), np.uint8)
        made[:] = next((c for name, c in COLOURS.items() if name in state["prompt"][i]), (128, 128, 128))
        for k in range(count):
            made[k, :, (frame + k) % x] = 0
            if state["picture"][i] and frame + k == 0:
                made[k] = state["given"][i].numpy()
        last = state["end"][i] or (total > 0 and frame + count >= total)
        state["frame"][i] = frame + count
        times = Chunk(np.zeros((0, 1), np.float32), state["told"][i], port.rate, last=True) if last else None
        return Chunk(made, frame, port.rate, last=last), times

    def _check(self, request: Shown) -> None:
        if not request.prompt.strip():
            raise InvalidRequest("prompt is empty, expected what is to be seen")
        if len(request.prompt) > self.most:
            raise InvalidRequest(f"prompt has {len(request.prompt)} characters, expected up to {self.most}")


def stream(
    model: StreamModel, sound: NDArray[np.float32], request: Any, updates: Mapping[int, Any] | None = None
) -> NDArray[np.float32]:
    """What comes of sound in a filter, from its first tick on, if some requests come before some hops.  # [t] -> [t]"""
    takes, late, made = model.spec.takes, model.spec.latency, list[NDArray[np.float32]]()
    assert takes is not None
    whole, state = np.pad(sound, (0, late + -(len(sound) + late) % takes.hop)), model.open(request)
    for hop, at in enumerate(range(0, len(whole), takes.hop)):
        if updates and hop in updates:
            state = model.update(state, updates[hop])
        inputs: list[Chunk | None] = [Chunk(whole[at : at + takes.hop, None], at, takes.rate)]
        while len(made) <= hop:
            ((chunk,),), state = model.step(inputs, state)
            inputs = [None]
            if chunk is not None:
                assert (chunk.pts, len(chunk)) == (at - late, takes.hop)
                made.append(chunk.data[:, 0])
    return np.concatenate(made)[late:][: len(sound)]
