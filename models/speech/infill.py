"""Infill: a published model, which makes whole clips, made to stream.

A chunk is drawn as the end of a clip whose beginning is known: the voice's recording, then what was said last. The
clip's text is what is said in both and the words that follow, which the duration rule places. It is drawn some way
beyond the chunk, since a clip's end sounds like one, and what is beyond is drawn anew with the next.

    listen: the recording ── read: the words of a clip ── flow: an evaluation, steps - 1 times ── say: keep, decode
                              ├── a pause: silence, which is not drawn
                              └── nothing to do until there are more words, or their end

The decoder looks ten frames ahead, which are held back; what it gives is what it would give of the whole. It gives
sound, and when each character ends.
Source: arXiv 2603.29339; in-fill as it is trained there.
"""

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from riverrun.media import Chunk
from riverrun.models import recording
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.errors import CheckpointError, InvalidRequest
from riverrun.models.noise import noise_rows
from riverrun.models.speech import length
from riverrun.models.speech.longcat import LongCat, halved
from riverrun.models.speech.longcat import load as published
from riverrun.models.speech.marking import Marker
from riverrun.models.speech.reading.phonemes import LETTERS
from riverrun.models.speech.reading.script import SPEEDS
from riverrun.models.speech.sampling import Clip, advance, begin, conditioned, grid
from riverrun.models.speech.synthesis import CLONED, FREE, PROMPT
from riverrun.models.speech.text import Tokens, normalise, tokenizer
from riverrun.models.speech.vae import SILENCE
from riverrun.models.state import State

AHEAD = 10  # latent frames to either side that a frame's sound depends on: 9.2, as measured
CHUNK, TAIL, PAST = 12, 8, 48  # frames that are kept of a draw, drawn beyond them, and known before them
SLOWEST = 1.5  # times the usual pace that a slow recording makes of it
LONGEST = 30.0  # seconds that a pause may have
STEPS = range(2, 101)
WORD = re.compile(r"\S+")
TOKENIZER = "tokenizer"  # the folder of it beside a checkpoint's config


@dataclass(frozen=True)
class Told:
    """A text, or more of it, whether it is all, and how it is said.

    `symbols` are its characters, whatever they are; white space ends a word, and so do a pause, a flush and the end.
    After them comes a silence of `pause` seconds, if any. With `flush` what came is said without waiting for what
    follows. `recording` is whose voice it is, as recording.py holds it, and `transcript` what is said in it; without,
    the seed picks one, and no `voice` is known by name. `mark` is of generated speech, as far as the first request of a
    session says.
    """

    symbols: str = ""
    end: bool = True
    pause: float = 0.0
    flush: bool = False
    voice: str = ""
    recording: str = ""
    transcript: str = ""
    speed: float = 1.0
    seed: int = 0
    steps: int = 16
    mark: bool = True


class Plan(NamedTuple):
    """Up to which frame to go on now, whether all of that is kept, and whether it is a silence."""

    until: int
    whole: bool
    silent: bool = False


class Infill:
    """A generator of speech by a LongCat, for a session at a time: clips are as long as their words.

    States count in latent frames: `words` that are said or seen, each with where it begins and ends; `silences` from
    where to where; `flushes`, after which nothing is waited for; `end`, where the next word begins.
    """

    request = Told

    def __init__(
        self, model: LongCat, tokens: Tokens, chunk: int = CHUNK, tail: int = TAIL, past: int = PAST
    ) -> None:
        """Units: latent frames. Raises ValueError where a chunk would not fit into the longest clip."""
        self.model, self.tokens = model, tokens
        self.chunk, self.tail, self.past = chunk, tail, past
        vae = model.config.vae
        self.hop, self.rate, self.marker = vae.hop, vae.rate, Marker(vae.rate)
        self.most = length.frames(model.config.limit, vae.rate, vae.hop)
        if chunk < 1 or min(tail, past) < 0 or past + 2 * chunk + tail >= self.most:
            raise ValueError(f"{past} frames, {chunk} and {tail} do not fit into a clip of {self.most}")
        self.frames = Fraction(vae.rate, vae.hop)  # a second
        ports = Port("audio", vae.rate, chunk * vae.hop), Port("times", self.frames, 1)
        self.spec = Spec(None, ports, max_batch=1, symbols=LETTERS.symbols, transcribed=True)
        self.quiet = self._silence()

    @torch.inference_mode()
    def _silence(self) -> Tensor:
        """The latent frame of a silence.  # [1, 1, c]"""
        vae = self.model.vae
        mean, _ = vae.hear(np.zeros(self.rate, np.float32))
        middle = mean.shape[2] // 2
        return mean[:, None, :, middle].float() / self.model.config.vae.scale

    # The contract

    def open(self, request: Told) -> State:
        """As StreamModel.open. Raises InvalidRequest."""
        self._check(request)
        width, device = self.model.config.vae.width, self.model.device
        if bool(request.recording) != bool(request.transcript.strip()):
            raise InvalidRequest(
                "continuing a voice needs a recording and what is said in it, expected both or none"
            )
        samples = len(recording.sound(request.recording))
        if (heard := self.model.vae.frames(samples)) > self.most - self.past - 2 * self.chunk - self.tail:
            raise InvalidRequest(
                f"the recording takes {samples / self.rate:.1f} s, and no clip has room for it"
            )
        none = torch.zeros(1, 0, width, device=device)
        state = {
            "words": [[]], "silences": [[]], "flushes": [[]], "end": [0.0], "rest": [""], "over": [False],
            "times": [[]], "timed": [0], "seed": [request.seed], "steps": [request.steps],
            "recording": [request.recording], "transcript": [normalise(request.transcript)],
            "pace": [self._pace(request, samples) if samples else 1.0],
            "phase": [0], "prompt": none, "past": none.clone(), "first": [0], "made": [0], "given": [0], "until": [0],
            "whole": [False], "x": none.clone(), "heard": [heard],
            "marked": [request.mark], "mark": self.marker.start(1),
        }  # fmt: skip
        return {**state, **self._added(state, request)}

    def update(self, state: State, request: Told) -> State:
        """Add text, or say that there is no more; speed is of what is added. Raises InvalidRequest."""
        if state["over"][0]:
            raise InvalidRequest("the text has ended, expected no more: open another session")
        self._check(request)
        return {**state, **self._added(state, request)}

    def close(self, state: State) -> None:
        """Nothing is held outside the state."""

    def key(self, state: State) -> Hashable:
        """As StreamModel.key."""
        if state["recording"][0]:
            return "listen"
        if state["phase"][0]:
            return "flow" if state["phase"][0] < state["steps"][0] else "say", state["x"].shape
        return "read" if self._plan(state) is not None else None

    @torch.inference_mode()
    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """As StreamModel.step."""
        kind = self.key(state)
        if kind == "listen":
            return self._listen(state)
        if kind == "read":
            return self._read(state)
        if isinstance(kind, tuple) and kind[0] == "say":
            return self._say(state)
        steps, phase = state["steps"][0], state["phase"][0]
        clip = self._clip(state)
        guidance = CLONED if state["heard"][0] else FREE
        velocity = conditioned(self.model.transformer, clip, state["text"], state["tokens"], guidance)
        times = grid(steps)
        before = state.get("guidance") or guidance.start(clip.noise)
        state["x"], _, state["guidance"] = advance(
            velocity, clip, state["x"], times[phase - 1], times[phase], before
        )
        state["phase"] = [phase + 1]
        return [(None, None)], state

    # The pieces

    def _listen(self, state: State) -> tuple[Outputs, State]:
        """Hear the recording."""
        sound = torch.from_numpy(recording.sound(state["recording"][0]))[None].to(self.model.device)
        eps = self._noise(state, range(PROMPT, PROMPT + state["heard"][0] + SILENCE))
        return [(None, None)], {**state, "prompt": self.model.listen(sound, eps), "recording": [""]}

    def _plan(self, state: State) -> Plan | None:
        """What comes next; None if that needs more words. It depends on the words alone, not on when they came."""
        made, end = state["made"][0], math.floor(state["end"][0])
        silent = next((until for since, until in state["silences"][0] if since <= made < until), None)
        if silent is not None:
            return Plan(min(silent, made + self.chunk), whole=True, silent=True)
        stops = [*state["flushes"][0], *(since for since, _ in state["silences"][0])]
        stop = min((frame for frame in stops if frame > made), default=None)
        wanted = made + self.chunk + self.tail
        if stop is not None and stop < wanted:
            return Plan(stop, whole=True)
        ends = (math.floor(until) for _, _, until in state["words"][0] if until >= wanted)
        if (enough := next(ends, None)) is not None:
            return Plan(min(enough, wanted + self.chunk, stop or enough), whole=False)
        return Plan(max(end, made), whole=True) if state["over"][0] else None

    def _read(self, state: State) -> tuple[Outputs, State]:
        """Begin a clip: what is known, the words of all of it, noise where it is to be drawn."""
        plan = self._plan(state)
        assert plan is not None
        state["until"], state["whole"] = [plan.until], [plan.whole]
        if plan.silent or plan.until <= state["made"][0]:
            return self._sound(state, self.quiet.expand(-1, plan.until - state["made"][0], -1))
        start = self._start(state)
        words = [word for word, begun, end in state["words"][0] if end > start and begun < plan.until]
        text = " ".join([state["transcript"][0], *words]).strip()
        ids, here = (v.to(self.model.device) for v in self.tokens([text]))
        state["text"], state["tokens"] = self.model.text_encoder(ids, here), here
        state["x"] = self._clip(state).noise
        state["phase"] = [1]
        return [(None, self._timing(state))], state

    def _say(self, state: State) -> tuple[Outputs, State]:
        """Keep a chunk of what was drawn, and decode what has enough after it."""
        drawn = self._clip(state).hold(state["x"], 1.0)[:, state["heard"][0] :]
        fresh = drawn[:, state["made"][0] - self._start(state) :]
        state["phase"] = [0]
        for name in ("text", "tokens", "guidance"):
            state.pop(name, None)
        return self._sound(state, fresh if state["whole"][0] else fresh[:, : self.chunk])

    def _sound(self, state: State, fresh: Tensor) -> tuple[Outputs, State]:
        """Take more frames; give the sound of those that have enough after them, or nothing more.  # [1, t, c]"""
        state["past"] = torch.cat([state["past"], fresh], dim=1)
        made, given, first = state["made"][0] + fresh.shape[1], state["given"][0], state["first"][0]
        state["made"] = [made]
        last = state["over"][0] and made >= math.floor(state["end"][0])
        flushed = made in state["flushes"][0]
        stop = made if last or flushed else max(given, made - AHEAD)
        begun = max(first, given - AHEAD)
        if stop > given:
            window = state["past"][:, begun - first : min(stop + AHEAD, made) - first]
            if flushed:  # what follows, if anything, is a silence
                window = torch.cat([window, self.quiet.expand(-1, AHEAD, -1)], 1)
            sound = self.model.speak(window)[0, (given - begun) * self.hop : (stop - begun) * self.hop]
            plain = sound.float().cpu()[None]
            marked, state["mark"] = self.marker.some(plain, state["marked"], state["mark"])
            data = marked[0].numpy()[:, None].copy()
        else:
            data = torch.zeros(0, 1).numpy()
        state["given"] = [stop]
        self._forget(state)
        told = self._timing(state, last)
        if not len(data) and not last:
            return [(None, told)], state
        return [(Chunk(data, given * self.hop, self.rate, last=last), told)], state

    def _timing(self, state: State, last: bool = False) -> Chunk | None:
        """When characters end that were not told of, in frames."""
        ends, first = state["times"][0], state["timed"][0]
        if not ends and not last:
            return None
        state["times"], state["timed"] = [[]], [first + len(ends)]
        return Chunk(np.array(ends, np.float32).reshape(-1, 1), first, self.frames, last=last)

    def _forget(self, state: State) -> None:
        """Drop the latents and the words that no draw and no decoding looks back to."""
        needed = min(state["made"][0] - self.past, state["given"][0] - AHEAD)
        spare = max(0, needed - state["first"][0])
        state["past"], state["first"] = state["past"][:, spare:], [state["first"][0] + spare]
        state["words"] = [[word for word in state["words"][0] if word[2] > state["first"][0]]]
        state["silences"] = [[one for one in state["silences"][0] if one[1] > state["made"][0]]]
        state["flushes"] = [[frame for frame in state["flushes"][0] if frame >= state["made"][0]]]

    # What a request adds

    def _added(self, state: State, request: Told) -> State:
        """What a request changes: words with their places, the ends of characters, silences, flushes."""
        text, pause = state["rest"][0] + request.symbols, round(request.pause * self.frames)
        cut = len(text)
        if not (request.end or request.flush or request.pause):
            cut = max((i for i, c in enumerate(text) if c.isspace()), default=-1) + 1
        told = self._placed(state, text[:cut], request.speed)
        end = told["end"][0]
        if request.flush or request.pause:
            end = math.floor(end)
        if pause:
            if told["flushes"][0][-1:] == [end]:
                pause = max(pause, AHEAD)
            told["silences"][0].append([end, end + pause])
            end += pause
        if request.pause:
            told["times"][0].append(end)
        if request.flush and end and told["flushes"][0][-1:] != [end]:
            told["flushes"][0].append(end)
        return {**told, "end": [end], "rest": [text[cut:]], "over": [request.end]}

    def _placed(self, state: State, text: str, speed: float) -> State:
        """Words after those that a state has.

        Where it was flushed, a silence comes before the next: the decoder has looked ahead into one.
        """
        told = {name: [list(state[name][0])] for name in ("words", "times", "silences", "flushes")}
        words, times, silences, flushes = (values[0] for values in told.values())
        end, at = state["end"][0], 0
        for found in WORD.finditer(text):
            times += [end] * (found.start() - at)
            at = found.end()
            if word := normalise(found[0]).strip():
                if flushes[-1:] == [end]:
                    silences.append([end, end + AHEAD])
                    end += AHEAD
                words.append([word, end, end + self._frames(state, word, speed)])
            begun, end = end, words[-1][2] if word else end
            times += [begun + (end - begun) * (i + 1) / len(found[0]) for i in range(len(found[0]))]
        times += [end] * (len(text) - at)
        return {**told, "end": [end]}

    # What a state tells

    def _clip(self, state: State) -> Clip:
        """The clip that is drawn: the recording, what was said last, and what is not known."""
        start, made, heard = self._start(state), state["made"][0], state["heard"][0]
        known = torch.cat(
            [state["prompt"], state["past"][:, start - state["first"][0] : made - state["first"][0]]], 1
        )
        noise = self._noise(state, [*range(-heard, 0), *range(start, state["until"][0])])
        return begin(noise, known if known.shape[1] else None)

    def _start(self, state: State) -> int:
        """The first frame of what was said that a clip knows: where a word begins."""
        made: int = state["made"][0]
        earliest = max(state["first"][0], made - self.past)
        begins = (math.ceil(begun) for _, begun, _ in state["words"][0])
        return min(made, next((begun for begun in begins if begun >= earliest), made))

    def _frames(self, state: State, word: str, speed: float) -> float:
        pace: float = state["pace"][0] / speed
        return length.seconds(word, self.model.config.limit) * pace * self.rate / self.hop

    def _pace(self, request: Told, samples: int) -> float:
        """How much slower than usual the recording is."""
        usual = length.seconds(normalise(request.transcript), self.model.config.limit)
        return min(max(samples / self.rate / usual, 1.0), SLOWEST) if usual else 1.0

    def _noise(self, state: State, ticks: Sequence[int]) -> Tensor:
        made = noise_rows([state["seed"][0]] * len(ticks), ticks, (self.model.config.vae.width,))
        return made[None].to(self.model.device)

    def _check(self, request: Told) -> None:
        if request.steps not in STEPS:
            raise InvalidRequest(f"steps is {request.steps}, expected {STEPS.start} to {STEPS.stop - 1}")
        if not SPEEDS[0] <= request.speed <= SPEEDS[1]:
            raise InvalidRequest(f"speed is {request.speed}, expected {SPEEDS[0]} to {SPEEDS[1]}")
        if not 0 <= request.pause <= LONGEST:
            raise InvalidRequest(f"pause is {request.pause}, expected 0 to {LONGEST:g} s")
        if request.voice:
            raise InvalidRequest(
                f"voice is {request.voice!r}, and this model knows none by name: give a recording and its transcript"
            )


def load(path: Path, device: str = "cpu", half: bool | None = None, tokens: Path | None = None) -> Infill:
    """A published checkpoint, in its folder or a file there, ready to speak.

    `tokens` is the folder of its tokenizer, which is looked for beside the config where it is not named, in a folder
    "tokenizer" or loose. `half` is half precision; if that is not said, a GPU has it and a CPU does not.
    Raises CheckpointError.
    """
    folder = path if path.is_dir() else path.parent
    half = device != "cpu" if half is None else half
    tokens = tokens or _tokenizer(folder)
    model = published(path, device, halved(device) if half else None)
    return Infill(model, tokenizer(tokens, model.config.text.vocabulary))


def _tokenizer(folder: Path) -> Path:
    beside = folder / TOKENIZER
    for place in (beside, folder):
        if (place / "tokenizer_config.json").exists():
            return place
    raise CheckpointError(f"{folder} holds no tokenizer: put that of google/umt5-base into {beside}")
