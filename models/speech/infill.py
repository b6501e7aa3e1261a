"""Infill: a published model, which makes whole clips, made to stream.

A chunk is drawn as the end of a clip whose beginning is known: the voice's recording, then what was said last. The
clip's text is what is said in both and the words that follow, which the duration rule places. It is drawn some way
beyond the chunk, since a clip's end sounds like one, and what is beyond is drawn anew with the next.

    listen: the recording ── read: the words of a clip ── flow: an evaluation, steps - 1 times ── say: keep, decode
                              └── nothing to do until there are more words, or their end

The decoder looks ten frames ahead, which are held back; what it gives is what it would give of the whole.
Source: arXiv 2603.29339; in-fill as it is trained there.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from riverrun.media import Chunk
from riverrun.models import recording
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.noise import noise_rows
from riverrun.models.speech import length
from riverrun.models.speech.longcat import LongCat
from riverrun.models.speech.marking import Marker
from riverrun.models.speech.sampling import Clip, advance, begin, conditioned, grid
from riverrun.models.speech.synthesis import CLONED, FREE, PROMPT
from riverrun.models.speech.text import Tokens, normalise
from riverrun.models.speech.vae import SILENCE
from riverrun.models.state import State

AHEAD = 10  # latent frames to either side that a frame's sound depends on: 9.2, as measured
CHUNK, TAIL, PAST = 12, 8, 48  # frames that are kept of a draw, drawn beyond them, and known before them
SLOWEST = 1.5  # times the usual pace that a slow recording makes of it


@dataclass(frozen=True)
class Told:
    """A text, or more of it, whether it is all, and how it is said.

    `recording` is whose voice it is, as recording.py holds it, and `transcript` what is said in it; without, the seed
    picks one. With `flush` what came is said without waiting for what follows. `mark` is of generated speech, as far as
    the first request of a session says.
    """

    text: str = ""
    end: bool = True
    flush: bool = False
    recording: str = ""
    transcript: str = ""
    speed: float = 1.0
    seed: int = 0
    steps: int = 16
    mark: bool = True


class Infill:
    """A generator of speech by a LongCat, for a session at a time: clips are as long as their words."""

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
        self.spec = Spec(None, (Port("audio", vae.rate, chunk * vae.hop),), max_batch=1)

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
        return {
            "words": [[]], "ends": [[]], "rest": [request.text], "over": [request.end], "flushed": [request.flush],
            "recording": [request.recording], "transcript": [normalise(request.transcript)],
            "pace": [self._pace(request, samples) if samples else 1.0],
            "speed": [request.speed], "seed": [request.seed], "steps": [request.steps],
            "phase": [0], "prompt": none, "past": none.clone(), "first": [0], "made": [0], "given": [0], "until": [0],
            "x": none.clone(), "heard": [heard], "marked": [request.mark], "mark": self.marker.start(1),
        }  # fmt: skip

    def update(self, state: State, request: Told) -> State:
        """Add text, or say that there is no more; speed is of what follows. Raises InvalidRequest."""
        if state["over"][0]:
            raise InvalidRequest("the text has ended, expected no more: open another session")
        self._check(request)
        told = {"rest": [state["rest"][0] + request.text], "over": [request.end], "flushed": [request.flush]}
        return {**state, **told, "speed": [request.speed]}

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
        return [(None,)], state

    # The pieces

    def _listen(self, state: State) -> tuple[Outputs, State]:
        """Hear the recording."""
        sound = torch.from_numpy(recording.sound(state["recording"][0]))[None].to(self.model.device)
        eps = self._noise(state, range(PROMPT, PROMPT + state["heard"][0] + SILENCE))
        return [(None,)], {**state, "prompt": self.model.listen(sound, eps), "recording": [""]}

    def _plan(self, state: State) -> tuple[int, bool] | None:
        """Up to which frame to draw now, and whether nothing is drawn after it; None if that needs more words.

        It depends on the words alone, not on when they came.
        """
        words, rest = self._split(state)
        ends, made = self._timed(state, words), state["made"][0]
        wanted = made + self.chunk + self.tail
        if (enough := next((math.floor(end) for end in ends if end >= wanted), None)) is not None:
            return min(enough, wanted + self.chunk), False
        last = math.floor(ends[-1]) if ends else 0
        if rest or not (state["over"][0] or (state["flushed"][0] and last > made)):
            return None
        return (
            (max(last, made), True) if state["over"][0] else (last + AHEAD, True)
        )  # a pause, to decode all of it

    def _read(self, state: State) -> tuple[Outputs, State]:
        """Begin a clip: what is known, the words of all of it, noise where it is to be drawn."""
        plan = self._plan(state)
        assert plan is not None
        until, whole = plan
        words, rest = self._split(state)
        state["ends"], state["words"], state["rest"] = [self._timed(state, words)], [words], [rest]
        if whole and not state["over"][0]:
            state["ends"][0][-1] = float(until)
        state["until"], state["whole"] = [until], [whole]
        if until <= state["made"][0]:
            return self._say(state)
        start = self._start(state)
        spoken = [word for word, end, begun in self._placed(state) if end > start and begun < until]
        text = " ".join([state["transcript"][0], *spoken]).strip()
        ids, here = (v.to(self.model.device) for v in self.tokens([text]))
        state["text"], state["tokens"] = self.model.text_encoder(ids, here), here
        state["x"] = self._clip(state).noise
        state["phase"] = [1]
        return [(None,)], state

    def _say(self, state: State) -> tuple[Outputs, State]:
        """Keep a chunk of what was drawn, and decode what has enough after it."""
        made, until, whole = state["made"][0], state["until"][0], state["whole"][0]
        if until > made:
            drawn = self._clip(state).hold(state["x"], 1.0)[:, state["heard"][0] :]
            fresh = drawn[:, made - self._start(state) :]
            kept = fresh if whole else fresh[:, : self.chunk]
            state["past"] = torch.cat([state["past"], kept], dim=1)
            state["made"] = [made + kept.shape[1]]
        state["phase"] = [0]
        for name in ("text", "tokens", "guidance"):
            state.pop(name, None)
        last = bool(whole and state["over"][0])
        stop = state["made"][0] if last else max(state["given"][0], state["made"][0] - AHEAD)
        given, first = state["given"][0], state["first"][0]
        begun = max(first, given - AHEAD)
        if stop > given:
            window = state["past"][:, begun - first : min(stop + AHEAD, state["made"][0]) - first]
            sound = self.model.speak(window)[0, (given - begun) * self.hop : (stop - begun) * self.hop]
            plain = sound.float().cpu()[None]
            marked, state["mark"] = self.marker.some(plain, state["marked"], state["mark"])
            data = marked[0].numpy()[:, None].copy()
        else:
            data = torch.zeros(0, 1).numpy()
        state["given"] = [stop]
        self._forget(state)
        if not len(data) and not last:
            return [(None,)], state
        return [(Chunk(data, given * self.hop, self.rate, last=last),)], state

    def _forget(self, state: State) -> None:
        """Drop the latents and the words that no draw and no decoding looks back to."""
        needed = min(state["made"][0] - self.past, state["given"][0] - AHEAD)
        spare = max(0, needed - state["first"][0])
        state["past"], state["first"] = state["past"][:, spare:], [state["first"][0] + spare]
        count = sum(end <= state["first"][0] for end in state["ends"][0])
        count = max(0, count - 1)  # the end of the word before is the beginning of the first
        state["words"], state["ends"] = [state["words"][0][count:]], [state["ends"][0][count:]]

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
        earliest = max(state["first"][0], state["made"][0] - self.past)
        begins = [math.ceil(begun) for _, _, begun in self._placed(state) if math.ceil(begun) >= earliest]
        return min([*begins, made])

    def _placed(self, state: State) -> Iterator[tuple[str, float, float]]:
        """Each word, where it ends, where it begins."""
        ends = state["ends"][0]
        begins = [max(0.0, ends[0] - self._frames(state, state["words"][0][0])) if ends else 0.0, *ends]
        return zip(state["words"][0], ends, begins, strict=False)

    def _split(self, state: State) -> tuple[list[str], str]:
        """All whole words, and what may be the beginning of one."""
        rest: str = state["rest"][0]
        if state["over"][0] or state["flushed"][0]:
            return [*state["words"][0], *normalise(rest).split()], ""
        cut = max((i for i, c in enumerate(rest) if c.isspace()), default=-1) + 1
        return [*state["words"][0], *normalise(rest[:cut]).split()], rest[cut:]

    def _timed(self, state: State, words: list[str]) -> list[float]:
        """Where each word ends."""
        ends: list[float] = list(state["ends"][0])
        for word in words[len(ends) :]:
            ends.append((ends[-1] if ends else 0.0) + self._frames(state, word))
        return ends

    def _frames(self, state: State, word: str) -> float:
        pace: float = state["pace"][0] / state["speed"][0]
        return length.seconds(word, self.model.config.limit) * pace * self.rate / self.hop

    def _pace(self, request: Told, samples: int) -> float:
        """How much slower than usual the recording is."""
        usual = length.seconds(normalise(request.transcript), self.model.config.limit)
        return min(max(samples / self.rate / usual, 1.0), SLOWEST) if usual else 1.0

    def _noise(self, state: State, ticks: Sequence[int]) -> Tensor:
        made = noise_rows([state["seed"][0]] * len(ticks), ticks, (self.model.config.vae.width,))
        return made[None].to(self.model.device)

    def _check(self, request: Told) -> None:
        if request.steps < 2:
            raise InvalidRequest(f"steps is {request.steps}, expected at least 2")
        if not 0 < request.speed < math.inf:
            raise InvalidRequest(f"speed is {request.speed}, expected a positive number")
