"""SpeakLite: speech of text, chunk by chunk, as a StreamModel: each piece of work is one forward of one network.

    listen: some seconds of a recording, until it is heard
    plan: read symbols, time them until a chunk is covered ── flow: an evaluation, `steps` times ── say: keep, decode
     └── nothing to do until there is more text, or its end

It gives sound, and when each symbol ends. Of a text only the symbols are kept that are to be said or seen, so that it
may be of any length.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from riverrun.media import Chunk, join
from riverrun.models import checkpoint, recording
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.layers.convnext import KERNEL
from riverrun.models.noise import noise_rows
from riverrun.models.speech.chunks import ChunkConfig, ChunkDit, duration, placed
from riverrun.models.speech.frames import FrameConfig
from riverrun.models.speech.guards import PAUSES, poor
from riverrun.models.speech.marking import Marker
from riverrun.models.speech.reading.phonemes import Alphabet
from riverrun.models.speech.reading.script import SPEEDS
from riverrun.models.speech.talk import talk
from riverrun.models.speech.vae import WaveVae
from riverrun.models.state import State

KIND = "speech"  # of a checkpoint
AHEAD = 64  # symbols that are planned at once
STEPS = range(1, 65)
SILENCE = 30.0  # seconds that a pause may have
HEARD = 10.0  # seconds of a recording that a voice is taken from, the first ones
LISTENS = 2.5  # seconds that are heard in one piece of work
AROUND = 24  # latent frames to either side that an encoder's frame depends on, or more
OTHER = 0x5DEECE66D  # makes another seed of one
CLONES = 32  # voices out of recordings that are remembered


@dataclass(frozen=True)
class Said:
    """What is to be said: symbols of the model's alphabet, whether they are all, by whom, how fast.

    After the symbols comes a silence of `pause` seconds, if any. With `flush` what came is said without waiting for
    what follows, though how that begins would be heard in it. `speed` 1.1 gives a tenth less time to the same text.
    Fewer `steps` are faster. `recording` is whose voice it is instead of a name, at the model's rate: see recording.py.
    """

    symbols: str = ""
    end: bool = True
    pause: float = 0.0
    flush: bool = False
    voice: str = ""
    speed: float = 1.0
    seed: int = 0
    steps: int = 8
    recording: str = ""
    mark: bool = True
    """Whether it carries the mark of generated speech, as far as the first request of a session says."""


class SpeakLiteNet(nn.Module):
    """The two networks: latents of text, sound of latents. Raises ValueError where they do not fit."""

    def __init__(self, chunks: ChunkConfig, frames: FrameConfig) -> None:
        super().__init__()
        if chunks.latent != frames.width:
            raise ValueError(f"latents have {chunks.latent} and {frames.width} channels, expected as many")
        self.dit, self.vae = ChunkDit(chunks), WaveVae(frames)


class SpeakLite:
    """A generator of speech. `voices` are latents `[t, c]` by name; what is worked out of them is kept."""

    request = Said

    def __init__(
        self, net: SpeakLiteNet, voices: Mapping[str, Tensor], alphabet: str = "", max_batch: int = 8
    ) -> None:
        """`alphabet` says what the symbols are, from number 1 on. Raises ValueError if it has too many."""
        self.net, self.voices = net, dict(voices)
        self.config, frames = net.dit.config, net.vae.config
        self.hop = self.config.chunk * frames.hop
        self.rate = Fraction(frames.rate, frames.hop)  # of latent frames
        ports = Port("audio", frames.rate, self.hop), Port("times", self.rate, 1)
        self.spec = Spec(None, ports, 0, max_batch, alphabet, tuple(sorted(voices)))
        self.symbols = Alphabet(alphabet)
        if self.symbols.size > self.config.symbols:
            raise ValueError(f"alphabet has {len(alphabet)} symbols, the network {self.config.symbols - 1}")
        self.most = math.ceil(HEARD * self.rate)  # frames of a recording
        self.quiet, self.marker = self._silence(), Marker(frames.rate)
        self.clones: OrderedDict[str, Tensor] = OrderedDict()  # latents of recordings, by their contents
        self.reach = self.config.reach + KERNEL // 2  # symbols to either side that timing sees
        self.heard: dict[str, State] = {}

    @torch.inference_mode()
    def _silence(self) -> Tensor:
        """What latents are where nothing is heard.  # [c]"""
        mean, _ = self.net.vae.hear(np.zeros(self.net.vae.config.rate, np.float32))
        middle: Tensor = mean[0, :, mean.shape[2] // 2]
        return middle

    # The contract

    def open(self, request: Said) -> State:
        """As StreamModel.open. Raises InvalidRequest."""
        self._check(request)
        if request.voice and request.voice not in self.voices:
            raise InvalidRequest(
                f"voice is {request.voice!r}, expected one of {', '.join(sorted(self.voices)) or 'none'}"
            )
        chunk, c = self.config.chunk, self.config.latent
        weight = self.net.dit.proj_out.weight
        voice, unheard = request.voice, self._recording(request)
        if unheard:
            voice = recording.named(unheard)
        known = self.clones.get(voice)
        prompt, count = weight.new_zeros(1, self.most, c), 0 if known is None else len(known)
        prompt[0, :count] = prompt[0, :0] if known is None else known
        unheard = unheard if known is None else ""
        decoder = self.net.vae.start(1)
        if "seed" in decoder:
            decoder["seed"] = [request.seed]
        return {
            **self._added(request), "begun": [0.0], "ends": [[]], "over": [request.end], "flushed": [0],
            "voice": [voice], "unheard": [unheard], "prompt": prompt, "prompted": [count], "timed": [0],
            "seed": [request.seed], "steps": [request.steps],
            "marked": [request.mark], "mark": self.marker.start(1),
            "phase": [0], "again": [0], "frame": [0], "x": weight.new_zeros(1, chunk, c),
            "last": weight.new_zeros(1, chunk, c), "spoken": weight.new_zeros(1, chunk, dtype=torch.bool),
            "said": weight.new_zeros(1, chunk, self.config.width), "past": self.net.dit.start(1), "decoder": decoder,
        }  # fmt: skip

    def update(self, state: State, request: Said) -> State:
        """Add symbols, or say that there are no more. Raises InvalidRequest."""
        if state["over"][0]:
            raise InvalidRequest("the text has ended, expected no more: open another session")
        self._check(request)
        added = {name: [[*state[name][0], *more[0]]] for name, more in self._added(request).items()}
        flushed = len(added["symbols"][0]) if request.flush else state["flushed"][0]
        return {**state, **added, "over": [request.end], "flushed": [flushed]}

    def close(self, state: State) -> None:
        """Nothing is held outside the state."""

    def key(self, state: State) -> Hashable:
        """As StreamModel.key."""
        phase = state["phase"][0]
        if state["unheard"][0]:
            return "listen", len(state["unheard"][0])
        if phase:
            return "flow" if phase <= state["steps"][0] else "say", phase, state["steps"][0]
        planned = state["over"][0] or len(state["ends"][0]) < self._ready(state, 0)
        return "plan" if planned or self._covered(state) or self._due(state, 0) else None

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """As StreamModel.step."""
        phase = state["phase"][0]
        if state["unheard"][0]:
            return self._listen(state)
        if not phase:
            return self._plan(state)
        steps = state["steps"][0]
        if phase > steps:
            return self._say(state)
        start, stop = (phase - 1) / steps, phase / steps
        time = torch.full((len(inputs), 1), start, device=state["x"].device)
        velocity = self.net.dit(state["x"], time, state["said"], self._voices(state), state["past"])
        state["x"] = state["x"] + (stop - start) * velocity
        state["phase"] = [phase + 1] * len(inputs)
        if phase == steps:
            self._guard(state)
        return [(None, None)] * len(inputs), state

    # The pieces

    def _listen(self, state: State) -> tuple[Outputs, State]:
        """Hear the next seconds of each recording, and what lies around them, so that seams are not heard."""
        hop, vae = self.net.vae.config.hop, self.net.vae
        rows, count = range(len(state["unheard"])), math.ceil(LISTENS * self.rate)
        for i in rows:
            known = self.clones.get(state["voice"][i])
            if known is not None:
                state["prompt"][i, : len(known)], state["prompted"][i], state["unheard"][i] = (
                    known,
                    len(known),
                    "",
                )
                continue
            sound = recording.sound(state["unheard"][i])
            start, whole = state["prompted"][i], vae.frames(len(sound))
            stop, first = min(start + count, whole), max(0, start - AROUND)
            mean, _ = vae.hear(sound[first * hop : (stop + AROUND) * hop])
            state["prompt"][i, start:stop] = mean[0].T[start - first : stop - first]
            state["prompted"][i] = stop
            if stop == whole:
                state["unheard"][i] = ""
                self._keep(state["voice"][i], state["prompt"][i, :stop].clone())
        return [(None, None)] * len(rows), state

    def _keep(self, voice: str, latents: Tensor) -> None:
        """Remember a voice out of a recording, and forget the one that was not used for longest."""
        self.clones[voice] = latents
        self.clones.move_to_end(voice)
        while len(self.clones) > CLONES:
            self.heard.pop(self.clones.popitem(last=False)[0], None)

    def _plan(self, state: State) -> tuple[Outputs, State]:
        """Time what is ready of each text; begin a chunk where that covers one."""
        rows = range(len(state["symbols"]))
        firsts = [self._first(state, i) for i in rows]
        width = AHEAD + 2 * self.reach
        windows = [state["symbols"][i][max(0, at) : at + width] for i, at in zip(rows, firsts, strict=True)]
        lead = [[0] * max(0, -at) for at in firsts]
        device = state["x"].device
        table = torch.tensor(
            [(a + w + [0] * width)[:width] for a, w in zip(lead, windows, strict=True)], device=device
        )
        features = self.net.dit.reader(table)
        times = self.net.dit.reader.durations(table, features, self._voices(state)["mean"])
        outputs: Outputs = []
        for i in rows:
            timed = self._time(state, i, firsts[i], times[i])
            over = self._begin(state, i, firsts[i], features[i : i + 1])
            told = self._timing(state, i, timed, last=over is not None)
            outputs.append((over, told if over or timed else None))
        return outputs, state

    def _guard(self, state: State) -> None:
        """Have chunks that are no speech drawn again, once."""
        for i, again in enumerate(state["again"]):
            if not again and poor(
                state["x"][i], state["last"][i], state["spoken"][i], self.quiet.to(state["x"])
            ):
                state["again"][i], state["phase"][i] = 1, 1
                self._draw(state, i, state["seed"][i] ^ OTHER)

    def _draw(self, state: State, i: int, seed: int) -> None:
        """Begin a chunk with noise."""
        chunk, frame = self.config.chunk, state["frame"][i]
        noise = noise_rows([seed] * chunk, range(frame, frame + chunk), (self.config.latent,))
        state["x"][i] = noise.to(state["x"])

    def _timing(self, state: State, i: int, ends: list[float], last: bool) -> Chunk:
        """When symbols end, in latent frames; those that were timed before are counted."""
        first = state["timed"][i]
        state["timed"][i] += len(ends)
        return Chunk(np.array(ends, np.float32)[:, None], first, self.rate, last=last)

    def _time(self, state: State, i: int, first: int, times: Tensor) -> list[float]:
        """Let ready symbols of a row's window end when their durations say; give those ends."""
        ends, at = state["ends"][i], len(state["ends"][i])
        stop = min(self._ready(state, i), first + self.reach + AHEAD)
        paces, fixed = (
            torch.tensor(state[name][i][at:stop], device=times.device) for name in ("paces", "fixed")
        )
        spans = duration(times[at - first : max(stop, at) - first]) / paces
        spans = torch.where(fixed > 0, fixed, spans)
        last = ends[-1] if ends else state["begun"][i]
        timed = [round(last + float(total), 4) for total in spans.cumsum(0)]
        ends += timed
        return timed

    def _begin(self, state: State, i: int, first: int, features: Tensor) -> Chunk | None:
        """Set a row's next chunk up, if its text covers one; give the end if there is nothing more."""
        ends, frame, chunk = state["ends"][i], state["frame"][i], self.config.chunk
        complete = self._complete(state, i)
        if complete and frame >= self._total(ends):
            rate = self.spec.gives[0].rate
            return Chunk(torch.zeros(0, 1).numpy(), self._samples(frame), rate, last=True)
        if not complete and (not ends or ends[-1] < frame + chunk):
            if not self._due(state, i):
                return None
            ends[-1] = float(frame + chunk)
        known = torch.tensor([end - frame for end in ends], device=features.device)
        known[-1] = known[-1].clamp_min(chunk)  # the last symbol lasts to the end of its chunk
        owner, share, length = (part[None] for part in placed(known, 0, chunk, state["begun"][i] - frame))
        state["said"][i] = self.net.dit.reader.spread(features, owner - first, share, length)[0]
        state["spoken"][i] = self._audible(state["symbols"][i])[owner[0]] & (owner[0] >= 0)
        self._draw(state, i, state["seed"][i])
        state["phase"][i], state["again"][i] = 1, 0
        return None

    def _say(self, state: State) -> tuple[Outputs, State]:
        """Remember the finished chunks, and decode them."""
        clean = torch.ones(len(state["x"]), 1, device=state["x"].device)
        args = state["x"], clean, state["said"], self._voices(state)
        state["past"] = self.net.dit.after(*args, state["past"])
        latents = rearrange(state["x"], "b t c -> b c t")
        sound, state["decoder"] = self.net.vae.decode(latents, state["decoder"])
        said, state["mark"] = self.marker.some(sound[:, 0].float().cpu(), state["marked"], state["mark"])
        outputs: Outputs = []
        for i, row in enumerate(said):
            frame = state["frame"][i]
            state["frame"][i], state["phase"][i] = frame + self.config.chunk, 0
            state["last"][i] = state["x"][i]
            last = self._complete(state, i) and state["frame"][i] >= self._total(state["ends"][i])
            left = self._total(state["ends"][i]) - frame if last else self.config.chunk
            data = row[: self._samples(left), None].numpy().copy()
            made = Chunk(data, self._samples(frame), self.spec.gives[0].rate, last=last)
            outputs.append((made, self._timing(state, i, [], last=True) if last else None))
            self._forget(state, i)
        return outputs, state

    def _forget(self, state: State, i: int) -> None:
        """Drop the symbols that nothing is said of any more, nor with."""
        past = max(0, self._first(state, i))
        if past:
            state["begun"][i] = state["ends"][i][past - 1]
            for name in ("ends", "symbols", "paces", "fixed"):
                state[name][i] = state[name][i][past:]
            state["flushed"][i] = max(0, state["flushed"][i] - past)

    # What a state tells

    def _audible(self, symbols: list[int]) -> Tensor:
        """Which symbols are heard.  # -> [n]"""
        return torch.tensor([c not in PAUSES for c in self.symbols.decode(symbols)])

    def _check(self, request: Said) -> None:
        if not 0 <= request.pause <= SILENCE:
            raise InvalidRequest(f"pause is {request.pause}, expected 0 to {SILENCE} s")
        if not SPEEDS[0] <= request.speed <= SPEEDS[1]:
            raise InvalidRequest(f"speed is {request.speed}, expected {SPEEDS[0]} to {SPEEDS[1]}")
        if request.steps not in STEPS:
            raise InvalidRequest(f"steps is {request.steps}, expected {STEPS.start} to {STEPS.stop - 1}")

    def _added(self, request: Said) -> State:
        """What a request adds to be said: symbols, how fast each, and the frames of those that last so long."""
        symbols = self.symbols.encode(request.symbols)
        fixed = [0.0] * len(symbols)
        if request.pause:
            symbols, fixed = symbols + self.symbols.encode(" "), [*fixed, float(request.pause * self.rate)]
        return {"symbols": [symbols], "paces": [[request.speed] * len(symbols)], "fixed": [fixed]}

    def _recording(self, request: Said) -> str:
        """The beginning of a request's recording. Raises InvalidRequest."""
        if not request.recording:
            return ""
        if request.voice:
            raise InvalidRequest(f"voice is {request.voice!r} and there is a recording, expected one of both")
        sound = recording.sound(request.recording, round(HEARD * self.spec.gives[0].rate))
        if len(sound) < self.net.vae.config.hop:
            raise InvalidRequest(
                f"recording has {len(sound)} samples, expected {self.net.vae.config.hop} or more"
            )
        return recording.recorded(sound)

    def _voices(self, state: State) -> State:
        """What blocks need of each row's voice."""
        prompts = zip(state["prompt"], state["prompted"], strict=True)
        rows = [self._voice(name, *told) for name, told in zip(state["voice"], prompts, strict=True)]
        most = max(row["here"].shape[1] for row in rows)
        return {
            "keys": torch.cat([_longer(row["keys"], 3, most) for row in rows]),
            "values": torch.cat([_longer(row["values"], 3, most) for row in rows]),
            "here": torch.cat([_longer(row["here"], 1, most) for row in rows]),
            "mean": torch.cat([row["mean"] for row in rows]),
        }

    def _voice(self, name: str, prompt: Tensor, count: int) -> State:
        """A voice by name, or out of a recording, which may have been heard in another process."""
        if name not in self.heard:
            weight = self.net.dit.proj_out.weight
            latents = self.voices.get(name, torch.zeros(1, self.config.latent))
            if count:
                self._keep(name, prompt[:count].clone())
                latents = prompt[:count]
            here = torch.full((1, len(latents)), bool(name), device=weight.device)
            self.heard[name] = self.net.dit.hear(latents[None].to(weight), here)
        return self.heard[name]

    def _complete(self, state: State, i: int) -> bool:
        """Whether all of a text is timed."""
        return bool(state["over"][i]) and len(state["ends"][i]) == len(state["symbols"][i])

    def _ready(self, state: State, i: int) -> int:
        """How many symbols may be timed: those with enough after them."""
        count = len(state["symbols"][i])
        return count if state["over"][i] else max(0, count - self.reach, state["flushed"][i])

    def _due(self, state: State, i: int) -> bool:
        """Whether what is timed is to be said now, though it fills no chunk."""
        ends, count = state["ends"][i], len(state["symbols"][i])
        return bool(ends) and len(ends) == count <= state["flushed"][i] and ends[-1] > state["frame"][i]

    def _covered(self, state: State) -> bool:
        ends = state["ends"][0]
        return bool(ends) and ends[-1] >= state["frame"][0] + self.config.chunk

    def _first(self, state: State, i: int) -> int:
        """The symbol at which a row's window begins: `reach` before the one that is said at its next frame."""
        ends, frame = state["ends"][i], state["frame"][i]
        said = next((k for k, end in enumerate(ends) if end > frame + 0.5), len(ends))
        return said - self.reach

    def _total(self, ends: list[float]) -> int:
        return math.ceil(ends[-1]) if ends else 0

    def _samples(self, frames: int) -> int:
        return frames * self.net.vae.config.hop


def speak(model: SpeakLite, request: Said) -> NDArray[np.float32]:
    """All that a request says.  # [n]. Raises InvalidRequest."""
    return join(list(talk(model, request))).data[:, 0]


@dataclass(frozen=True)
class Config:
    """What a file of weights holds: the shapes of the networks, and the symbols from number 1 on."""

    chunks: ChunkConfig
    frames: FrameConfig
    alphabet: str


def save(
    path: Path,
    net: SpeakLiteNet,
    voices: Mapping[str, Tensor],
    alphabet: str,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write networks and voices, whole or not at all."""
    frames = net.vae.config
    assert isinstance(frames, FrameConfig)
    kept = nn.Module()
    for name, latents in voices.items():
        kept.register_buffer(name, latents)
    config = Config(net.dit.config, frames, alphabet)
    checkpoint.save(path, nn.ModuleDict({"net": net, "voices": kept}), KIND, config, notes)


def read(path: Path) -> tuple[Config, dict[str, Tensor], dict[str, Tensor]]:
    """What `save` wrote: the config, the tensors of the networks, and of the voices. Raises CheckpointError."""
    header, tensors = checkpoint.read(path)
    config = checkpoint.config(header, KIND, Config, path)
    weights = {k.removeprefix("net."): v for k, v in tensors.items() if not k.startswith("voices.")}
    voices = {k.removeprefix("voices."): v.float() for k, v in tensors.items() if k.startswith("voices.")}
    return config, weights, voices


def load(path: Path, device: str = "cpu", half: bool = False) -> SpeakLite:
    """What `save` wrote, ready to speak; with `half`, blocks and decoder compute in bfloat16, states stay float32.

    Raises CheckpointError if it does not fit.
    """
    config, weights, voices = read(path)
    net = SpeakLiteNet(config.chunks, config.frames)
    checkpoint.fill(net, weights, path)
    if half:
        net.dit.cast(torch.bfloat16)
        net.vae.decoder.to(torch.bfloat16)
    return SpeakLite(net.to(device).eval().requires_grad_(False), voices, config.alphabet)


def _longer(x: Tensor, dim: int, length: int) -> Tensor:
    """Padded with nothing to a length."""
    shape = list(x.shape)
    shape[dim] = length - shape[dim]
    return torch.cat([x, x.new_zeros(shape)], dim)
