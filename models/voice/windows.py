"""X-VC by windows: each hop converts the window around it anew and keeps what is new of it, faded into what was.

    past ................ hop  smooth future      a window of the source
                         |---|                    what is given of it
                             |---|                what the next one fades in over

Nothing is carried from window to window but the end of what was made, and the codes of frames that the next window
has at another place. Source: arXiv 2604.12456 (X-VC), its streaming inference.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from riverrun.media import Chunk
from riverrun.models import recording
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.rows import gather, present
from riverrun.models.speech.marking import Marker
from riverrun.models.state import State, stack
from riverrun.models.voice import xvc
from riverrun.models.voice.features import FRAME, RATE, TOKEN, prepare
from riverrun.models.voice.xvc import XVc

MS = RATE // 1000  # samples
SHORTEST = RATE // 2  # samples of a recording whose voice is wanted
LONGEST = 30 * RATE  # samples that the networks take at once
BUCKET = 256  # frames that recordings are filled up to multiples of


@dataclass(frozen=True)
class Windows:
    """Windows of `window` ms that begin `hop` ms after one another, of which `future` and `smooth` lie ahead.

    A longer window costs more and hears more of what was said before; it does not change the latency, which is
    hop + smooth + future. Raises ValueError for windows that the networks cannot take.
    """

    window: int = 2400
    hop: int = 120
    future: int = 100
    smooth: int = 20

    def __post_init__(self) -> None:
        token, most = TOKEN // MS, LONGEST // MS
        if self.window % token or not 0 < self.window <= most:
            raise ValueError(f"window is {self.window} ms, expected a multiple of {token} up to {most}")
        if self.hop < 1 or self.future < 0 or not 0 <= self.smooth <= self.hop:
            raise ValueError(
                f"hop, future and smooth are {self.hop}, {self.future} and {self.smooth} ms,"
                " expected a hop, no less than 0, and 0 to a hop"
            )
        if self.history < 0:
            raise ValueError(
                f"window is {self.window} ms, expected {self.latency} or more:"
                f" hop {self.hop}, smooth {self.smooth} and future {self.future}"
            )

    @property
    def latency(self) -> int:
        """How long the oldest sample of a hop waits, in ms."""
        return self.hop + self.smooth + self.future

    @property
    def history(self) -> int:
        """What a window has before its hop, in ms."""
        return self.window - self.latency

    @property
    def frames(self) -> int:
        return self.window * MS // FRAME

    def kept(self, seen: int) -> slice:
        """The frames that the hop and what fades need, where sound depends on `seen` frames to either side."""
        start = self.history * MS // FRAME - seen
        stop = -(-(self.history + self.hop + self.smooth) * MS // FRAME) + seen
        return slice(max(0, start), min(stop, self.frames))

    def given(self, seen: int) -> slice:
        """The samples of the kept frames that are the hop and what fades."""
        start = self.history * MS - self.kept(seen).start * FRAME
        return slice(start, start + (self.hop + self.smooth) * MS)

    def moved(self, heard: int) -> int:
        """The frames by which windows differ; 0 if not by whole ones, or so many that codes are not worth keeping."""
        frames, rest = divmod(self.hop * MS, FRAME)
        return 0 if rest or frames + 4 * heard >= self.frames else frames


PRESETS = {
    "default": Windows(),  # as published, for a GPU
    "light": Windows(hop=240),
    "quick": Windows(hop=60),
    "cpu": Windows(640, hop=240),
}
WHOLE = Windows(24_000, hop=20_000, future=2_000)  # of recordings longer than the networks take at once


def recoded(net: XVc, sound: Tensor, before: Tensor, moved: int) -> Tensor:
    """The codes of windows that are `moved` frames later than those that had the codes `before`.

    Frames are encoded anew only where one of the two windows ended within their reach.
    Shapes: `[b, n]`, `[b, n / 320]` -> `[b, n / 320]`.
    """
    heard = net.config.codec.heard
    left = net.codes(sound[:, : 2 * heard * FRAME])[:, :heard]
    right = net.codes(sound[:, -(moved + 2 * heard) * FRAME :])[:, heard:]
    middle = before[:, moved + heard : before.shape[1] - heard]
    return torch.cat([left, middle, right], dim=1)


def fades(smooth: int, device: torch.device) -> Tensor:
    """A fade-in whose ends are 0 and 1.  # [smooth samples]"""
    at = torch.arange(smooth, device=device, dtype=torch.float64) / max(1, smooth - 1)
    return (0.5 - 0.5 * (math.pi * at).cos()).float()


def faded(made: Tensor, tail: Tensor, first: Tensor, hop: int) -> tuple[Tensor, Tensor]:
    """What is given of the hops made, and the tails that the next ones fade in over.

    Shapes: made `[b, hop + smooth]`, tail `[b, smooth]`, first `[b]`, true where there is no hop before -> `[b, hop]`,
    `[b, smooth]`.
    """
    hops, after = made.split([hop, tail.shape[1]], dim=1)
    weight = fades(tail.shape[1], made.device)
    head = torch.lerp(tail, hops[:, : len(weight)], torch.where(first[:, None], 1.0, weight))
    return torch.cat([head, hops[:, len(weight) :]], dim=1), after


def by_windows(net: XVc, sound: Tensor, told: State, windows: Windows) -> Tensor:
    """A recording of any length as a stream would have it, every window in full.  # [n] -> [n]"""
    hop, smooth, size = (ms * MS for ms in (windows.hop, windows.smooth, windows.window))
    count = -(-len(sound) // hop)
    before, after = windows.history * MS, count * hop - len(sound) + (windows.smooth + windows.future) * MS
    padded = F.pad(sound, (before, after)).unfold(0, size, hop)
    kept = slice(before, before + hop + smooth)
    at_once = padded.split(max(1, LONGEST // size))
    made = torch.cat([net(part, _alike(told, len(part)))[:, kept] for part in at_once])
    tails = torch.cat([made.new_zeros(1, smooth), made[:-1, hop:]])
    first = torch.arange(count, device=sound.device) == 0
    return faded(made, tails, first, hop)[0].flatten()[: len(sound)]


def _alike(told: State, count: int) -> State:
    return {name: value.expand(count, *value.shape[1:]) for name, value in told.items()}


def convert(net: XVc, sound: Tensor, told: State) -> Tensor:
    """A prepared recording of any length, at once where the networks can take it so.  # [n] -> [n]"""
    if not len(sound):
        return sound
    if len(sound) > LONGEST:
        return by_windows(net, sound, told, WHOLE)
    padded = F.pad(sound, (0, -len(sound) % TOKEN))
    made: Tensor = net(padded[None], told)[0, : len(sound)]
    return made


@dataclass(frozen=True)
class Request:
    """What a session asks for.

    `recording` is whose voice it is to be, half a second to 30 s of it at 16 kHz, as recording.py writes it; an
    update without one keeps the voice. `mark` is whether it carries the mark of generated speech, as far as the first
    request of a session says. What else converters may be asked for, this one is not: a `voice` by name, another
    `pitch`, a `seed`. Raises InvalidRequest for those.
    """

    recording: str = ""
    mark: bool = True
    voice: str = ""
    pitch: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.voice:
            raise InvalidRequest(f"voice is {self.voice!r}, and X-VC knows none by name: give a recording")
        if self.pitch:
            raise InvalidRequest(f"pitch is {self.pitch:g}, and X-VC cannot move it: leave it out")
        if self.seed:
            raise InvalidRequest(f"seed is {self.seed}, and X-VC draws nothing at random: leave it out")


class Conversion:
    """X-VC as a StreamModel. Sound is taken as loud as it is: what it learned from had the level of features.py.

    Sessions share windows whose recordings are about as long. Exact, and saved all the same: frames of the encoder
    that windows have in common, frames of the decoder that nothing is given of, and what depends on the recording.
    """

    request = Request
    presets = tuple(PRESETS)

    def __init__(self, net: XVc, windows: Windows | None = None, max_batch: int = 8) -> None:
        self.net, self.windows = net, windows or Windows()
        seen, self.moved = net.config.codec.seen, self.windows.moved(net.config.codec.heard)
        self.kept, self.given = self.windows.kept(seen), self.windows.given(seen)
        self.hop = math.gcd(self.windows.hop, self.windows.latency - self.windows.hop) * MS  # samples
        self.period = self.windows.hop * MS  # samples
        port = Port("audio", RATE, self.hop)
        self.spec = Spec(port, (port,), self.windows.latency * MS - self.hop, max_batch, converts=True)
        self.marker = Marker(RATE).to(net.device)

    def at(self, preset: str) -> "Conversion":
        """The same networks by the windows of a preset."""
        return Conversion(self.net, PRESETS[preset], self.spec.max_batch)

    # The contract

    def open(self, request: Request) -> State:
        """As StreamModel.open. Raises InvalidRequest for a recording that is too short or too long."""
        windows, device = self.windows, self.net.device
        sizes = {"past": windows.window, "tail": windows.smooth, "held": windows.hop}
        return {
            **{name: torch.zeros(1, ms * MS, device=device) for name, ms in sizes.items()},
            "tick": [0], "pts": [0], "coded": [False],
            "codes": torch.zeros(1, windows.frames, dtype=torch.long, device=device),
            "marked": [request.mark], "mark": self.marker.start(1), **self._unheard(request),
        }  # fmt: skip

    def update(self, state: State, request: Request) -> State:
        """Go on in another voice, which the next window fades into. Raises InvalidRequest."""
        if not request.recording or state["voice"] == [recording.named(request.recording)]:
            return state
        return {k: v for k, v in state.items() if k not in ("told", "here")} | self._unheard(request)

    def close(self, state: State) -> None:
        """Nothing is held outside the state."""

    def key(self, state: State) -> Hashable:
        """What a step would do, and how long the recordings are."""
        phase = "hold"
        if state["unheard"][0]:
            phase = "listen"
        elif self._due(state, 0):
            phase = "window" if state["coded"][0] or not self.moved else "first"
        return phase, filled(state["frames"][0])

    @torch.inference_mode()
    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """Hear the recordings, or convert a window of every session, or give more of the last one."""
        state = self._take(inputs, {**state})
        if state["unheard"][0]:
            told = [self._hear(unheard) for unheard in state["unheard"]]
            return [(None,)] * len(inputs), {**state, **stack(told), "unheard": [""] * len(inputs)}
        if self._due(state, 0):
            state |= self._convert(state)
        return self._give(state)

    @torch.inference_mode()
    def whole(self, data: NDArray[np.float32], request: Request) -> NDArray[np.float32]:
        """The same of a whole recording, every window in full.  # [t, 1] -> [t, 1]"""
        sound = torch.from_numpy(data[:, 0]).to(self.net.device)
        made = by_windows(self.net, sound, self.net.hear(self._recording(request.recording)), self.windows)
        if request.mark:
            made = self.marker(made[None], self.marker.start(1))[0][0]
        return made[:, None].cpu().numpy()

    # The pieces

    def _unheard(self, request: Request) -> State:
        """A recording that is still to be heard. Raises InvalidRequest."""
        samples = len(recording.sound(request.recording))
        if not SHORTEST <= samples <= LONGEST:
            raise InvalidRequest(
                f"recording has {samples / RATE:g} s, expected {SHORTEST / RATE:g} to {LONGEST / RATE:g}"
            )
        frames = 1 + -(-samples // TOKEN) * TOKEN // FRAME
        return {
            "voice": [recording.named(request.recording)],
            "unheard": [request.recording],
            "frames": [frames],
        }

    def _recording(self, unheard: str) -> Tensor:
        sound = torch.from_numpy(prepare(recording.sound(unheard).astype(np.float64)))
        return sound[None].to(self.net.device)

    def _hear(self, unheard: str) -> State:
        """What windows need of a recording, filled up so that others of about its length fit beside it."""
        told = self.net.hear(self._recording(unheard))
        count = told["c"].shape[1]
        more = filled(count) - count
        here = torch.ones(1, count, dtype=torch.bool, device=self.net.device)
        wide = {name: F.pad(told[name], (0, 0, 0, more)) for name in ("c", "q", "k", "v")}
        return {"told": told | wide, "here": F.pad(here, (0, more))}

    def _take(self, inputs: Sequence[Chunk | None], state: State) -> State:
        """Move windows on by the hops that came."""
        rows = [i for i, chunk in enumerate(inputs) if chunk is not None]
        if rows:
            past = state["past"].clone()
            past[rows] = torch.cat([past[rows, self.hop :], gather(present(inputs), self.net.device)], dim=1)
            state["past"] = past
            state["pts"] = [
                chunk.pts if chunk else pts for chunk, pts in zip(inputs, state["pts"], strict=True)
            ]
        return state

    def _start(self, state: State, row: int) -> int:
        """Where the next output of a session is, from the first sample on."""
        return int(state["tick"][row] * self.hop - self.spec.latency)

    def _due(self, state: State, row: int) -> bool:
        """Whether a window is complete."""
        start = self._start(state, row)
        return start >= 0 and start % self.period == 0

    def _convert(self, state: State) -> State:
        """The next hop of every session."""
        sound = state["past"]
        if self.moved and state["coded"][0]:
            codes = recoded(self.net, sound, state["codes"], self.moved)
        else:
            codes = self.net.codes(sound)
        made = self.net(sound, state["told"], state["here"], codes, self.kept)[:, self.given]
        first = torch.tensor([self._start(state, i) == 0 for i in range(len(sound))], device=sound.device)
        held, tail = faded(made, state["tail"], first, self.period)
        return {"held": held, "tail": tail, "codes": codes, "coded": [True] * len(sound)}

    def _give(self, state: State) -> tuple[Outputs, State]:
        """The part of each session's last hop whose turn it is; before the first there is silence."""
        starts = [self._start(state, i) for i in range(len(state["held"]))]
        at = [start % self.period for start in starts]
        sound = torch.stack([held[i : i + self.hop] for held, i in zip(state["held"], at, strict=True)])
        sound, mark = self.marker.some(sound, state["marked"], state["mark"])
        data = sound[:, :, None].cpu().numpy()
        outputs: Outputs = [(Chunk(row, pts - self.spec.latency, RATE),)
                            for row, pts in zip(data, state["pts"], strict=True)]  # fmt: skip
        return outputs, {**state, "mark": mark, "tick": [tick + 1 for tick in state["tick"]]}


def filled(frames: int) -> int:
    """Frames that a recording is filled up to."""
    return -(-frames // BUCKET) * BUCKET


def load(path: Path, device: str = "cpu", windows: Windows | None = None) -> Conversion:
    """Published weights as a StreamModel. Raises CheckpointError as xvc.load does."""
    return Conversion(xvc.load(path, device), windows)
