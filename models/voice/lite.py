"""ConvertLite: live speech in another voice, as a StreamModel: a hop in, a hop out, a fixed number of frames later.

Whose voice it is is a name the model knows, or a recording, which is heard some seconds a hop while what comes out is
still from before the first sample.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from riverrun.media import Chunk, ramp
from riverrun.models import checkpoint, recording
from riverrun.models.contract import PITCHES, Outputs, Port, Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.rows import gather, present, spread
from riverrun.models.speech.marking import Marker
from riverrun.models.state import State, row, stack
from riverrun.models.voice.listener import STRIDE, power, pressed
from riverrun.models.voice.network import Converter, ConverterConfig

KIND = "voice"  # of a checkpoint
LISTENS = 16  # tokens of a recording that are heard with a hop
HEARD = 64  # tokens of a recording that a voice is taken from, the first ones
SHORTEST = 0.5  # seconds of a recording
QUIET = 10 ** (-50 / 20)  # of full scale: a recording that is nowhere louder is silent
SURE = 0.3, 0.7  # of a pitch, from which on it counts, and counts in full
MEMORY = 1_000  # frames with a pitch over which a speaker's mean is taken
OCTAVE = 12.0  # semitones
HALF = 1.5  # seconds, by which voices are told apart
ALIKE = 0.88  # what the halves of a recording are at least, if one person speaks in it: see the README
CLONES = 32  # voices out of recordings that are remembered


@dataclass(frozen=True)
class Request:
    """What a session asks for.

    `voice` is one the model knows, or else `recording` is whose voice it is, at the model's rate: see recording.py.
    Without either a session begins in the model's first voice, and an update leaves it in the one it has.
    `pitch` is how many semitones above that voice's own it is to be. `bypass` lets the input through, with the same
    delay; a change fades over one hop. `mark` is whether it carries the mark of generated speech, as far as the first
    request of a session says. Equal `seed` and input give equal output.
    """

    voice: str = ""
    recording: str = ""
    pitch: float = 0.0
    bypass: bool = False
    seed: int = 0
    mark: bool = True

    def __post_init__(self) -> None:
        if not PITCHES[0] <= self.pitch <= PITCHES[1]:
            raise InvalidRequest(
                f"pitch is {self.pitch}, expected {PITCHES[0]:g} to {PITCHES[1]:g} semitones"
            )
        if not -(2**63) <= self.seed < 2**63:
            raise InvalidRequest(f"seed is {self.seed}, expected a 64-bit signed integer")
        if self.voice and self.recording:
            raise InvalidRequest(f"voice is {self.voice!r} and there is a recording, expected one of both")


@dataclass(frozen=True)
class Known:
    """A voice: tokens of its recording `[n, c]`, and its mean pitch in octaves above the lowest."""

    tokens: Tensor
    pitch: float


class ConvertLite:
    """A converter as a StreamModel. `voices` are those it knows by name."""

    request = Request

    def __init__(
        self, net: Converter, voices: Mapping[str, Known], device: str = "cpu", max_batch: int = 8
    ) -> None:
        self.net = net.to(device).eval().requires_grad_(False)
        self.config, self.device, self.voices = net.config, torch.device(device), dict(voices)
        heard = self.config.listener
        self.hop, self.token = STRIDE * heard.hop, STRIDE * heard.hop * self.config.pool  # samples
        port = Port("audio", heard.rate, self.hop)
        names = tuple(sorted(voices))
        self.spec = Spec(
            port, (port,), self.config.latency, max_batch, voices=names, converts=True, discerns=True
        )
        self.fade = torch.from_numpy(ramp(self.hop)).to(device)
        self.marker = Marker(heard.rate).to(device)
        self.clones: OrderedDict[str, Known] = OrderedDict()  # out of recordings, by their contents
        self.heard: dict[str, State] = {}

    # The contract

    def open(self, request: Request) -> State:
        """As StreamModel.open. Raises InvalidRequest."""
        net, zeros = self.net.start(1), self.fade.new_zeros
        net["synthesis"]["seed"] = [request.seed]
        aim = torch.tensor([_mix(request)], device=self.device)
        state: State = {
            "tick": [0], "seed": [request.seed], "listener": self.net.listener.start(1), "net": net,
            "source": zeros(1, 2), "dry": zeros(1, self.spec.latency), "mix": aim, "aim": aim.clone(),
            "marked": [request.mark], "mark": self.marker.start(1),
            "voice": [""], "tokens": zeros(1, HEARD, self.config.hearing), "count": [0], "own": zeros(1),
            **self._listening(),
        }  # fmt: skip
        return self._asked(state, request)

    def update(self, state: State, request: Request) -> State:
        """Another voice as soon as it is heard, another pitch or bypass at once. Raises InvalidRequest."""
        if request.seed != state["seed"][0]:
            raise InvalidRequest(f"seed is {request.seed}; a running session keeps {state['seed'][0]}")
        return self._asked({**state, "aim": torch.full_like(state["aim"], _mix(request))}, request)

    def close(self, state: State) -> None:
        """Nothing is held outside the state."""

    def key(self, state: State) -> Hashable:
        """Sessions whose voice is still being heard do not hold up the others, nor do those that only just began."""
        return bool(state["unheard"][0]), self._early(state)

    @torch.inference_mode()
    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """Convert one hop of every session."""
        chunks = present(inputs)
        x = gather(chunks, self.device)
        if state["unheard"][0]:
            state = stack([self._listen(row(state, i)) for i in range(len(chunks))])
        heard, listener = self.net.listener(x, state["listener"])
        source = _followed(state["source"], heard[2])
        state = {**state, "listener": listener, "source": source}
        wet = torch.zeros_like(x)
        if not self._early(state):
            wet, state["net"] = self._said(heard, state)
        wet, state["mark"] = self.marker.some(wet, state["marked"], state["mark"])
        dry = torch.cat([state["dry"], x], dim=1)
        mix = torch.lerp(state["mix"][:, None], state["aim"][:, None], self.fade)
        made = torch.lerp(dry[:, : self.hop], wet, mix)
        state |= {
            "dry": dry[:, self.hop :],
            "mix": state["aim"].clone(),
            "tick": [at + 1 for at in state["tick"]],
        }
        return [(chunk,) for chunk in spread(made, chunks, self.spec.latency)], state

    @torch.inference_mode()
    def voice(self, sound: NDArray[np.float32]) -> Known:
        """A voice out of a recording at the model's rate, its first ten seconds.  # [n]. Raises InvalidRequest."""
        *_, state = self._listened(sound)
        return self.clones[state["voice"][0]]

    @torch.inference_mode()
    def several(self, sound: NDArray[np.float32]) -> Iterator[bool]:
        """As Discerns.several: whether the halves of a recording's first ten seconds are less alike than one person's.

        Of under three seconds it is not said, as too little is heard. Raises InvalidRequest as `voice` does.
        """
        for state in self._listened(sound):
            yield False
            tokens = state["tokens"][:, : state["count"][0]]
        if tokens.shape[1] < 2 * HALF * self.config.listener.rate / self.token:
            return
        first, second = (
            self.net.voice.sum_up(half, torch.ones_like(half[..., 0], dtype=torch.bool))
            for half in tokens.tensor_split(2, dim=1)
        )
        yield bool(torch.cosine_similarity(first, second) < ALIKE)

    # The pieces

    def _listened(self, sound: NDArray[np.float32]) -> Iterator[State]:
        """A session in the voice of a recording, after each piece that it has heard of it.  # [n]"""
        state = self.open(Request(recording=recording.recorded(sound)))
        while state["unheard"][0]:
            state = self._listen(state)
            yield state

    def _early(self, state: State) -> bool:
        """Whether what is told is still of frames before the first."""
        return bool(state["tick"][0] * STRIDE < self.config.listener.late)

    def _said(self, heard: tuple[Tensor, Tensor, Tensor], state: State) -> tuple[Tensor, State]:
        """What was heard, at the pitch that is wanted, in each row's voice."""
        content, tone, pitch = heard
        semitones = torch.tensor(state["semitones"], device=self.device)
        sums = state["source"]
        shift = state["own"] + semitones / OCTAVE - sums[:, 0] / sums[:, 1].clamp_min(1)
        moved = (tone[..., 1:2] + shift[:, None, None]).clamp_min(0)
        tone = torch.cat([tone[..., :1], moved, tone[..., 2:]], dim=2)
        wanted = (pitch[..., 1] + shift[:, None]).clamp_min(0)
        said: tuple[Tensor, State] = self.net(content, tone, wanted, self._turns(state), state["net"])
        return said

    def _asked(self, state: State, request: Request) -> State:
        """Note whose voice is wanted, and how high; have it heard where it is a recording's."""
        state = {**state, "semitones": [request.pitch]}
        if request.recording:
            voice = recording.named(request.recording)
            if voice == state["wanted"][0]:
                return state
            if voice == state["voice"][0]:
                return {**state, **self._listening()}
            sound, rate = recording.sound(request.recording, HEARD * self.token), self.config.listener.rate
            if len(sound) < SHORTEST * rate:
                raise InvalidRequest(
                    f"recording has {len(sound) / rate:.2f} s, expected {SHORTEST} s or more of speech"
                )
            if np.abs(sound).max() < QUIET:
                raise InvalidRequest(
                    f"recording is silent for {len(sound) / rate:.1f} s: let it begin with speech"
                )
            return {**state, **self._listening(), "wanted": [voice], "unheard": [recording.recorded(sound)]}
        begun = state["voice"][0] or state["wanted"][0] or not self.spec.voices
        if begun and not request.voice:
            return state
        voice = request.voice or self.spec.voices[0]
        if voice not in self.voices:
            names = ", ".join(self.spec.voices) or "none: send a recording"
            raise InvalidRequest(f"voice is {voice!r}, expected one of {names}")
        return self._taken(state, voice, self.voices[voice])

    def _listening(self) -> State:
        """Nothing of a recording is heard yet, nor is one to be."""
        net, zeros = self.net, self.fade.new_zeros
        past = {"sound": net.listener.spectra.start(1), "voice": net.voice.start(1),
                "pitch": net.listener.pitch.start(1)}  # fmt: skip
        return {"wanted": [""], "unheard": [""], "at": [0], "hearing": past,
                "found": zeros(1, HEARD, self.config.hearing), "pitches": zeros(1, 2)}  # fmt: skip

    def _taken(self, state: State, voice: str, known: Known) -> State:
        """Go on in a voice."""
        tokens = torch.zeros_like(state["tokens"])
        tokens[0, : len(known.tokens)] = known.tokens
        own = torch.full_like(state["own"], known.pitch)
        return {**state, **self._listening(), "voice": [voice], "tokens": tokens, "count": [len(known.tokens)],
                "own": own}  # fmt: skip

    def _listen(self, state: State) -> State:
        """Hear the next seconds of a recording, which takes as many hops if it is known; then go on in its voice."""
        sound, at, voice = recording.sound(state["unheard"][0]), state["at"][0], state["wanted"][0]
        whole = max(1, round(len(sound) / self.token))
        count = min(LISTENS, whole - at)
        if voice not in self.clones:
            state = self._hear(sound[at * self.token : (at + count) * self.token], count, state)
        state = {**state, "at": [at + count]}
        if at + count < whole:
            return state
        if voice not in self.clones:
            octaves, frames = state["pitches"][0].tolist()
            self._keep(voice, Known(state["found"][0, :whole].clone(), octaves / max(1.0, frames)))
        return self._taken(state, voice, self.clones[voice])

    def _hear(self, sound: NDArray[np.float32], count: int, state: State) -> State:
        """The next `count` tokens of a recording, and the pitches."""
        piece = torch.zeros(1, count * self.token, device=self.device)
        piece[0, : len(sound)] = torch.from_numpy(sound)
        past, listener = state["hearing"], self.net.listener
        spectrum, heard = listener.spectra(piece, past["sound"])
        seen = power(spectrum)
        found, voice = self.net.voice(pressed(seen @ listener.filters), past["voice"])
        told, pitch = listener.pitch(listener.lows(seen), past["pitch"])
        at = state["at"][0]
        state["found"][0, at : at + count] = found[0]
        pitches = _summed(state["pitches"], listener.pitch.read(told))
        return {**state, "hearing": {"sound": heard, "voice": voice, "pitch": pitch}, "pitches": pitches}

    def _keep(self, voice: str, known: Known) -> None:
        """Remember a voice out of a recording, and forget the one that was heard first."""
        self.clones[voice] = known
        while len(self.clones) > CLONES:
            self.heard.pop(self.clones.popitem(last=False)[0], None)

    def _turns(self, state: State) -> State:
        """What layers need of each row's voice, which may have been heard in another process."""
        for i, name in enumerate(state["voice"]):
            count, tokens = state["count"][i], state["tokens"][i : i + 1]
            if name and name not in self.voices and name not in self.clones:
                self._keep(name, Known(tokens[0, :count].clone(), float(state["own"][i])))
            if name not in self.heard:
                here = torch.arange(HEARD, device=self.device)[None] < max(1, count)
                self.heard[name] = self.net.hear(tokens, here)
        return stack([self.heard[name] for name in state["voice"]])


def _followed(source: Tensor, pitch: Tensor) -> Tensor:
    """The sum and number of pitches of who speaks, of which old ones fade.  # [b, 2], [b, t, 2]"""
    total = _summed(source, pitch)
    return total * (MEMORY / total[:, 1:].clamp_min(MEMORY))


def _mix(request: Request) -> float:
    return 0.0 if request.bypass else 1.0


def _summed(before: Tensor, pitch: Tensor) -> Tensor:
    """The sum and number of pitches that are sure, and of these.  # [b, 2], [b, t, 2]"""
    sure = ((pitch[..., 0] - SURE[0]) / (SURE[1] - SURE[0])).clamp(0, 1)
    return before + torch.stack([(pitch[..., 1] * sure).sum(1), sure.sum(1)], dim=1)


def convert(model: ConvertLite, sound: NDArray[np.float32], request: Request) -> NDArray[np.float32]:
    """A whole clip at the model's rate, hop by hop.  # [n] -> [n]"""
    late, hop, rate = model.spec.latency, model.hop, model.config.listener.rate
    whole = np.pad(sound, (0, late + -(len(sound) + late) % hop))
    state, made = model.open(request), []
    for at in range(0, len(whole), hop):
        outputs, state = model.step([Chunk(whole[at : at + hop, None], at, rate)], state)
        made += [chunk.data[:, 0] for (chunk,) in outputs if chunk is not None]
    return np.concatenate(made)[late : late + len(sound)]


def save(
    path: Path, net: Converter, voices: Mapping[str, Known], notes: Mapping[str, str] | None = None
) -> None:
    """Write a network and voices, whole or not at all."""
    kept = nn.Module()
    for name, voice in voices.items():
        pitch = voice.tokens.new_full((1, voice.tokens.shape[1]), voice.pitch)
        kept.register_buffer(name, torch.cat([voice.tokens, pitch]))
    checkpoint.save(path, nn.ModuleDict({"net": net, "voices": kept}), KIND, net.config, notes)


def load(path: Path, device: str = "cpu") -> ConvertLite:
    """What `save` wrote, ready to convert. Raises CheckpointError if it does not fit."""
    header, tensors = checkpoint.read(path)
    config = checkpoint.config(header, KIND, ConverterConfig, path)
    net = Converter(config)
    weights = {k.removeprefix("net."): v for k, v in tensors.items() if not k.startswith("voices.")}
    kept = {k.removeprefix("voices."): v.float() for k, v in tensors.items() if k.startswith("voices.")}
    checkpoint.fill(net, weights, path)
    return ConvertLite(
        net, {name: Known(rows[:-1], float(rows[-1, 0])) for name, rows in kept.items()}, device
    )
