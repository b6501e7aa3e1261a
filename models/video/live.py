"""Open-Sora 1.2 live: published weights as a StreamModel, whose pieces of work are one evaluation of the network each.

    loop  begin ── see ── flow, `steps` times ── show, group by group
            └── another clip, whose first group is the last of the one before, known ──┘
    fifo  begin ── see ── flow, `steps` times ── slide, window by window ── show, a group
                      the clip to begin with       └── another group ── begin ──┘

Begin takes the prompt that waits, reads it and draws noise; see is for sessions with a first picture. A prompt counts
from the next clip of a loop on, and in fifo from the next group on, little by little: see fifo.py. What is shown is
never changed any more, and what a session holds is as much after an hour as in the beginning.
With caching, an evaluation of a clip takes over what hardly changed since those before it, and a clip nothing of
the one before. Not in fifo: there each iteration has the same times, and other frames at them, so that no feature is of
where it was; what is the same in all evaluations, keys and values of the caption, is worked out once in either mode.
Source: arXiv 2412.20404 (Open-Sora) on known frames; arXiv 2405.11473 (FIFO-Diffusion).
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from riverrun.media import Chunk
from riverrun.models import inference, reel
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.noise import noise_rows
from riverrun.models.shown import Shown
from riverrun.models.state import State, stack
from riverrun.models.video import caching, clips, fifo, resolutions, rflow, vae
from riverrun.models.video.clips import OpenSora, Request
from riverrun.models.video.fifo import Diagonal, Queue
from riverrun.models.video.pixels import to_pictures, to_pixels
from riverrun.models.video.rflow import NOISE, Frames, Guided
from riverrun.models.video.text import Kept, Reader, Remembering

MODES = ("loop", "fifo")
MOST = 4  # sessions in a forward
READ = 256  # prompts whose features are remembered
SHAPE = "9:16"  # of a resolution that is named


class LiveOpenSora:
    """A generator of pictures. Its presets are resolutions, alone or with caching, such as "480p-teacache-slow"."""

    request = Shown
    presets = *resolutions.NAMES, *map("-".join, product(resolutions.NAMES, caching.NAMED))

    def __init__(
        self, parts: OpenSora, usual: Request, free: int | None = None, keep: Reader | None = None
    ) -> None:
        """All sessions are as `usual` says, but for prompt, seed and steps. `free` bytes are left beside the weights.

        Where those are enough, prompts are read by `keep`, whose encoder stays. Raises InvalidRequest where they are
        too few, or a clip is of no whole groups.
        """
        self.loaded = parts, free, keep
        config, side = parts.vae.config, parts.vae.config.spatial.factor
        if usual.frames % config.group:
            raise InvalidRequest(
                f"frames is {usual.frames}, expected whole groups: a multiple of {config.group}"
            )
        rest = replace(parts, reading=0).plan(usual).more
        if keep and (free is None or parts.reading + rest <= free):
            free = None if free is None else free - parts.reading
            parts = replace(parts, reader=keep, reading=0)
        parts = replace(parts, reader=Remembering(parts.reader, READ))
        self.parts, self.usual, self.hop = parts, usual, config.group
        self.split, self.latent = parts.plan(usual, free).split, parts.shape(usual)
        self.groups, self.device = self.latent[1] // config.latents, parts.like.device
        rate = Fraction(usual.fps).limit_denominator(1001)
        self.rate = int(rate) if rate.denominator == 1 else rate
        size = usual.size[0] // side * side, usual.size[1] // side * side
        ports = Port("video", self.rate, self.hop, size=size), Port("times", self.rate, 1)
        batch = parts.together(usual, free, MOST)
        modes = MODES[:1] if usual.caching.kept else MODES
        self.spec = Spec(None, ports, 0, batch, shows=True, modes=modes)
        self.branches = clips.branches(usual)
        self.carried = usual.carried // config.latents  # groups that a clip goes on from
        self.period = max(1, self.groups - self.carried) * self.hop  # ticks of a clip but for those
        self.words: OrderedDict[str, tuple[State, State]] = OrderedDict()  # what `plan` counts: of a forward

    def at(self, preset: str) -> "LiveOpenSora":
        """As Presets.at."""
        name, _, setting = preset.partition("-")
        usual = replace(self.usual, size=resolutions.size(name, SHAPE))
        if setting:
            usual = replace(usual, caching=caching.named(setting))
        parts, free, keep = self.loaded
        return LiveOpenSora(parts, usual, free, keep)

    # The contract

    def open(self, request: Shown) -> State:
        """As StreamModel.open. Raises InvalidRequest."""
        if request.mode in MODES and request.mode not in self.spec.modes:
            raise InvalidRequest(
                f"mode is {request.mode} with caching, expected loop, or no caching: the frames of a queue move each"
                " time, and nothing of one evaluation fits the next"
            )
        mode = reel.mode(request, self.spec)
        steps = self._steps(request, mode)
        if mode == "loop":
            self.parts.shape(replace(self.usual, loops=2))
        if request.picture:
            reel.first(request.picture, self.spec.gives[0].size)
        blank = torch.zeros(1, *self.latent, device=self.device)
        none = blank[:, :, :0]
        return {
            **reel.opened(request, self._asked(request.prompt)), "prompt": [""], "text": [""],
            "picture": [request.picture], "mode": [mode], "steps": [steps], "phase": ["begin"], "at": [0],
            "turn": [0], "slid": [0], "x": blank, "noisy": torch.ones(1, self.latent[1], device=self.device),
            "past": none, "moved": none, "made": none, "cache": caching.start(blank, self.branches),
        }  # fmt: skip

    def update(self, state: State, request: Shown) -> State:
        """Another prompt from the next clip or group on, another end, or both. Raises InvalidRequest."""
        return reel.updated(state, request, self._asked)

    def close(self, state: State) -> None:
        """Nothing is held outside the state."""

    def key(self, state: State) -> Hashable:
        """As StreamModel.key."""
        plan = tuple(state["cache"]["plan"][0])
        return *(state[name][0] for name in ("mode", "steps", "phase", "at")), plan

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """As StreamModel.step."""
        phase = state["phase"][0]
        if phase == "begin":
            return self._begin(state), state
        if phase == "show":
            return self._show(state), state
        {"see": self._see, "flow": self._flow, "slide": self._slide}[phase](state)
        return [(None, None) for _ in inputs], state

    # The pieces

    def _begin(self, state: State) -> Outputs:
        """Take the prompts that wait, read them, and begin a clip; in fifo that is one only."""
        outputs: Outputs = []
        for i, turn in enumerate(state["turn"]):
            prompt, begun = reel.told(state, i, self.rate)
            state["prompt"][i] = prompt or state["prompt"][i]
            state["text"][i] = replace(self.usual, prompt=state["prompt"][i]).text(turn)
            outputs.append((None, begun))
        self._read(state["text"])
        if state["mode"][0] == "fifo" and state["at"][0]:
            self._go(state, "slide")
            return outputs
        self._draw(state)
        state["phase"] = ["see" if picture else "flow" for picture in state["picture"]]
        state["at"] = [0] * len(state["at"])
        return outputs

    def _draw(self, state: State) -> None:
        """Noise, and before it what the clip goes on from."""
        seeds = list(map(clips.seed_of, state["seed"], state["turn"]))
        x = rflow.draws(seeds, self.latent)(rflow.START).to(state["x"])
        known = self.usual.carried if state["at"][0] else 0
        x[:, :, :known] = state["x"][:, :, self.latent[1] - known :]
        state["x"], state["noisy"] = x, torch.ones_like(state["noisy"])
        state["noisy"][:, :known] = 0

    def _see(self, state: State) -> None:
        """Code the first pictures, each the first latent of a clip."""
        for i, picture in enumerate(state["picture"]):
            frame = torch.from_numpy(reel.first(picture, self.spec.gives[0].size))[None, None]
            seen = to_pixels(frame).to(self.parts.like)
            state["x"][i, :, :1] = self.parts.vae.encode(seen, vae.draws(state["seed"][i]))[0]
            state["noisy"][i, 0], state["picture"][i] = 0, ""
        self._go(state, "flow")

    def _flow(self, state: State) -> None:
        """One evaluation of clips, and a step of Euler's."""
        steps, at, x = state["steps"][0], state["at"][0], state["x"]
        if not at:
            self._plan(state)  # which takes nothing over, and looks at what the next one is compared with
        time, until = self.parts.times(replace(self.usual, steps=steps))[at : at + 2]
        state["x"], _, state["cache"] = caching.advance(
            self.usual.caching, state["cache"], self._velocity(state), x, time, until, Frames.of(state["noisy"]),
            lambda: x, self.branches,
        )  # fmt: skip
        if at + 1 < steps:
            self._go(state, "flow", at + 1)
            return self._plan(state)
        state["cache"] = caching.over(state["cache"], x, self.branches)
        if state["mode"][0] == "fifo":
            return self._queue(state)
        state["phase"] = ["show"] * len(x)
        state["at"] = [self.carried if turn else 0 for turn in state["turn"]]

    def _plan(self, state: State) -> None:
        """Decide what the next evaluation of clips takes over."""
        steps, at, x = state["steps"][0], state["at"][0], state["x"]
        time = self.parts.times(replace(self.usual, steps=steps))[at]
        noisy = NOISE * state["noisy"] >= time
        now, fps = x.new_full((len(x),), time), self.parts.fps(self.usual, len(x))
        look = partial(self.parts.net.look, x, now, fps, self.usual.size, noisy)
        state["cache"] = caching.decide(
            self.usual.caching, state["cache"], look, time, noisy, at + 1 == steps
        )

    def _queue(self, state: State) -> None:
        """Fill queues with clips; then they are moved until the first group is there."""
        cut = self._cut(state)
        one = self.latent[0], 1, *self.latent[2:]
        queue = fifo.start(state["x"], cut, self._times(cut)[0], rflow.draws(state["seed"], one))
        state["x"], state["past"] = queue
        self._go(state, "slide", -cut.late * cut.windows)

    def _slide(self, state: State) -> None:
        """One evaluation of a window of queues; after the last one a frame leaves, and noise comes."""
        cut, at = self._cut(state), state["at"][0]
        turn, window = divmod(at, cut.windows)
        queue = Queue(state["x"], state["past"])
        moved = fifo.moved(self._velocity(state), queue, *self._times(cut), cut, window)
        state["moved"] = torch.cat([state["moved"], moved], dim=2)
        if window + 1 == cut.windows:
            ticks = [cut.slots + slid for slid in state["slid"]]
            noise = noise_rows(state["seed"], ticks, (self.latent[0], 1, *self.latent[2:]))
            head, queue = fifo.shift(queue, state["moved"], noise)
            (state["x"], state["past"]), state["moved"] = queue, head[:, :, :0]
            state["slid"] = [slid + 1 for slid in state["slid"]]
            if turn >= 0:
                state["made"] = torch.cat([state["made"], head], dim=2)
        if at + 1 < self.parts.vae.config.latents * cut.windows:
            return self._go(state, "slide", at + 1)
        self._go(state, "show")

    def _show(self, state: State) -> Outputs:
        """Decode one group of each."""
        at, latents, endless = state["at"][0], self.parts.vae.config.latents, state["mode"][0] == "fifo"
        z = state["made"] if endless else state["x"][:, :, at * latents : (at + 1) * latents]
        rows = z.to(self.parts.like).split(1)  # one after the other, for which memory is planned
        made = torch.cat([to_pictures(self.parts.vae.group(row, self.hop)) for row in rows]).cpu().numpy()
        if endless or at + 1 == self.groups:
            state["made"], state["turn"] = state["made"][:, :, :0], [turn + 1 for turn in state["turn"]]
            self._go(state, "begin", 1)
        else:
            self._go(state, "show", at + 1)
        return [reel.given(state, i, row, self.rate) for i, row in enumerate(made)]

    def _go(self, state: State, phase: str, at: int = 0) -> None:
        """What all do next: its name, and its number; that of begin is 0 in the beginning only."""
        state["phase"], state["at"] = [phase] * len(state["phase"]), [at] * len(state["at"])

    # What a state tells

    def _asked(self, prompt: str) -> str:
        replace(self.usual, prompt=prompt)  # checks it
        return prompt

    def _steps(self, request: Shown, mode: str) -> int:
        """Evaluations of a clip; those of a frame in fifo, whose windows each have as many as frames."""
        window = self.latent[1] if mode == "fifo" else 1
        if not request.steps:
            return -(-self.usual.steps // window) * window
        replace(self.usual, steps=request.steps)  # checks it
        if request.steps % window:
            raise InvalidRequest(f"steps is {request.steps}, expected a multiple of {window} in mode fifo")
        return request.steps

    def _cut(self, state: State) -> Diagonal:
        return Diagonal(self.latent[1], state["steps"][0] // self.latent[1])

    def _times(self, cut: Diagonal) -> tuple[Tensor, Tensor]:
        return fifo.times(cut, rflow.ratio(self.usual.size, cut.window))

    def _velocity(self, state: State) -> Guided:
        self._read(state["text"])
        led, unled = map(stack, zip(*(self.words[text] for text in state["text"]), strict=True))
        return self.parts.velocity(self.usual, (led, unled), self.split)

    def _read(self, texts: Sequence[str]) -> None:
        """Have what the network needs of texts, and forget others beyond as many as step together."""
        if fresh := [text for text in dict.fromkeys(texts) if text not in self.words]:
            self.words |= self.parts.read(fresh, self.usual.negative)
        for text in texts:
            self.words.move_to_end(text)
        while len(self.words) > self.spec.max_batch:
            self.words.popitem(last=False)


def load(path: Path, device: str = "cpu") -> LiveOpenSora:
    """Open-Sora 1.2 from a folder as clips.load takes it, in half precision on a GPU.

    Raises CheckpointError, and InvalidRequest where there is too little memory.
    """
    parts = clips.load(path, device, "float32" if device == "cpu" else "bfloat16")
    keep = Kept(path / "text_encoder", parts.net.config.tokens, device)
    return LiveOpenSora(parts, usual(parts), inference.free(device), keep)


def usual(parts: OpenSora) -> Request:
    """Three groups of latents of 240p, of which one goes on in the next clip."""
    config = parts.vae.config
    return Request("-", 3 * config.group, carried=config.latents)
