"""ShowLite: pictures of a prompt, chunk by chunk, as a StreamModel: each piece of work is one forward of one network.

    begin: take the prompt that waits, read it, draw noise ── flow: an evaluation, `steps` times ── show: decode, emit
     └────────────────────────────── keep: run over the clean chunk once, and remember it ──────────────────┘

A prompt that comes while a chunk is made counts from the next one on. What is shown is never changed any more.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from riverrun.media import Chunk
from riverrun.models import checkpoint, reel
from riverrun.models.contract import Outputs, Port, Spec
from riverrun.models.errors import InvalidRequest
from riverrun.models.noise import noise_rows
from riverrun.models.shown import Shown
from riverrun.models.state import State
from riverrun.models.video import caching, causal, rflow, stdit3, vae
from riverrun.models.video.caching import BRANCHES, Caching, Reuse
from riverrun.models.video.causal import Window
from riverrun.models.video.pixels import to_pictures, to_pixels
from riverrun.models.video.stdit3 import STDiT3
from riverrun.models.video.timeline import Memory
from riverrun.models.video.vae import VideoVae
from riverrun.models.video.words import Vocabulary, WordEncoder

KIND = "video"  # of a checkpoint
MODES = ("causal",)
STEPS = range(1, 101)
FEWER = 4, 2  # steps a chunk on a machine too slow for more, and on one too slow for these
MOST = 1_000  # characters of a prompt
COMMON = -1  # the number of the noise that all chunks of a stream have in common
READ = 256  # captions whose features are remembered


@dataclass(frozen=True)
class Config:
    """What a file of weights holds beside them.

    Pictures of `size` rows and columns, `rate` a second; the words that are known, at most `most` of a caption, read by
    `depth` layers; `steps` evaluations a chunk, at times of a ratio `shift` as in arXiv 2412.20404, from noise that all
    frames have in common by `alike` of its variance, with `guidance` (1: none, or folded into the weights), and what of
    them is taken over from one to the next.
    """

    dit: stdit3.Config
    vae: vae.Config
    words: tuple[str, ...]
    size: tuple[int, ...] = (96, 96)
    rate: int = 12
    most: int = 48
    depth: int = 2
    steps: int = 8
    shift: float = 1.0
    alike: float = 0.0
    guidance: float = 1.0
    window: Window = field(default_factory=Window)
    caching: Caching = field(default_factory=Caching)


class ShowLiteNet(nn.Module):
    """The three networks: features of words, velocities of latents, pictures of latents."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.text = WordEncoder(
            len(config.words), config.most, config.dit.text, config.depth, config.dit.heads
        )
        self.dit, self.vae = STDiT3(config.dit), VideoVae(config.vae)

    @property
    def latent(self) -> tuple[int, int, int, int]:
        """The shape of a chunk of latents.  # c, f, y, x"""
        height, width = self.config.size
        return self.config.dit.latent, *self.config.vae.size(self.config.vae.group, height, width)

    @property
    def places(self) -> int:
        """Patches of a latent frame."""
        _, _, y, x = self.latent
        return math.ceil(y / self.config.dit.patch) * math.ceil(x / self.config.dit.patch)

    def noise(self, own: Tensor, common: Tensor) -> Tensor:
        """Where chunks begin: things stay where they are if frames begin alike. Source: arXiv 2305.10474, mixed noise.

        Shapes: noise of frames `[b, c, f, y, x]`, of streams `[b, c, 1, y, x]`.
        """
        alike = self.config.alike
        return math.sqrt(1 - alike) * own + math.sqrt(alike) * common

    def read(self, words: Tensor, dropped: Tensor | None = None) -> State:
        """What the blocks need of captions.  # [b, n], [b]"""
        caption: State = self.dit.read(self.text(words), words != 0, dropped)
        return caption

    def velocity(
        self,
        x: Tensor,
        time: Tensor,
        caption: State,
        past: State,
        remember: bool = False,
        reuse: Reuse | None = None,
    ) -> tuple[Tensor, Memory | None]:
        """Towards the data, at a time of 0 (clean) to 1 of every frame.  # [b, c, f, y, x], [b, f]"""
        when = causal.timeline(past, x.shape[2], remember)
        made, fresh = self.dit(x, rflow.NOISE * time, caption, *self.shown(x), timeline=when, reuse=reuse)
        return made[:, : x.shape[1]], fresh

    def look(self, x: Tensor, time: Tensor) -> Tensor:
        """As STDiT3.look, at a time of 0 to 1 of every frame.  # [b, c, f, y, x], [b, f] -> [b, f, s, d]"""
        return self.dit.look(x, rflow.NOISE * time, *self.shown(x))

    def shown(self, x: Tensor) -> tuple[Tensor, tuple[float, float]]:
        """The rate of pictures, a row each, and their size."""
        height, width = self.config.size
        return torch.full((len(x),), float(self.config.rate), device=x.device), (height, width)


def times(steps: int, shift: float) -> list[float]:
    """From 1, noise, to 0, clean: the ends of `steps` evaluations."""
    return [time / rflow.NOISE for time in rflow.grid(steps, shift)]


class ShowLite:
    """A generator of pictures."""

    request = Shown

    def __init__(self, net: ShowLiteNet, max_batch: int = 4, caching: Caching | None = None) -> None:
        """With a `caching` other than that of its config."""
        self.net, self.config, self.caching = net, net.config, caching or net.config.caching
        self.branches = BRANCHES if net.config.guidance != 1 else BRANCHES[:1]
        self.vocabulary = Vocabulary(net.config.words)
        self.hop = net.config.vae.group
        height, width = net.config.size
        ports = (
            Port("video", net.config.rate, self.hop, size=(height, width)),
            Port("times", net.config.rate, 1),
        )
        self.spec = Spec(None, ports, 0, max_batch, shows=True, modes=MODES)
        self.captions: OrderedDict[tuple[int, ...], State] = OrderedDict()  # features, by words
        self.rungs = ("steps", "more steps")

    # The contract

    def open(self, request: Shown) -> State:
        """As StreamModel.open. Raises InvalidRequest."""
        words, shape = self._words(request.prompt), self.net.latent
        reel.mode(request, self.spec)
        if request.steps and request.steps not in STEPS:
            raise InvalidRequest(f"steps is {request.steps}, expected {STEPS.start} to {STEPS.stop - 1}")
        device = self.net.dit.final_layer.linear.weight.device
        given = torch.zeros(1, *self.config.size, 3, dtype=torch.uint8, device=device)
        if request.picture:
            given[0] = torch.from_numpy(reel.first(request.picture, self.spec.gives[0].size)).to(device)
        blank = torch.zeros(1, *shape, device=device)
        return {
            **reel.opened(request, words), "words": [[]], "given": given, "first": [bool(request.picture)],
            "known": torch.zeros(1, shape[0], *shape[2:], device=device),
            "asked": [request.steps or self.config.steps], "light": [0],
            "steps": [request.steps or self.config.steps], "phase": [0], "x": blank,
            "past": causal.start(self.net.dit, 1, self.net.places), "cache": caching.start(blank, self.branches),
        }  # fmt: skip

    def update(self, state: State, request: Shown) -> State:
        """Another prompt from the next chunk on, another end, or both. Raises InvalidRequest."""
        return reel.updated(state, request, self._words)

    def lighten(self, state: State, rung: int) -> State:
        """Make chunks in `FEWER` steps from the next one on, or in all that were asked for again."""
        state = {**state, "light": [rung for _ in state["light"]]}
        return state if state["phase"][0] else {**state, "steps": self._steps(state)}

    def close(self, state: State) -> None:
        """Nothing is held outside the state."""

    def key(self, state: State) -> Hashable:
        """As StreamModel.key."""
        plan = tuple(state["cache"]["plan"][0])
        return state["phase"][0], state["steps"][0], state["past"]["keys"].shape[4], plan

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        """As StreamModel.step."""
        phase, steps = state["phase"][0], state["steps"][0]
        if phase == 0:
            return self._begin(state)
        if phase <= steps:
            return self._flow(state)
        return self._show(state) if phase == steps + 1 else self._keep(state)

    # The pieces

    def _begin(self, state: State) -> tuple[Outputs, State]:
        """Take the prompts that wait, see the first picture, draw noise."""
        outputs: Outputs = []
        for i, frame in enumerate(state["frame"]):
            words, begun = reel.told(state, i, self.config.rate)
            state["words"][i] = words or state["words"][i]
            outputs.append((None, begun))
            if state["first"][i] and not frame:
                state["known"][i] = self._seen(state["given"][i])
        numbers = [frame // self.hop for frame in state["frame"]]
        channels, _, *place = shape = self.net.latent
        common = noise_rows(state["seed"], [COMMON] * len(numbers), (channels, 1, *place))
        state["x"] = self.net.noise(noise_rows(state["seed"], numbers, shape), common).to(state["x"])
        self._plan(state)
        return outputs, self._next(state)

    def _plan(self, state: State) -> None:
        """Decide what the next evaluation of a chunk takes over, and forget all after the last one."""
        steps, done = state["steps"][0], state["phase"][0]
        if done == steps:
            state["cache"] = caching.over(state["cache"], state["x"], self.branches)
            return
        at = times(steps, self.config.shift)[done]
        x, time = self._with_known(state, state["x"], at)
        look, last = partial(self.net.look, x, time), done == steps - 1
        state["cache"] = caching.decide(self.caching, state["cache"], look, rflow.NOISE * at, time > 0, last)

    def _flow(self, state: State) -> tuple[Outputs, State]:
        """One evaluation, and a step of Euler's."""
        steps, count = state["steps"][0], len(state["phase"])
        at = times(steps, self.config.shift)
        now, then = at[state["phase"][0] - 1 : state["phase"][0] + 1]
        x, time = self._with_known(state, state["x"], now)
        velocity = self._guided(state, x, time)
        state["x"] = self._with_known(state, x + (now - then) * velocity, then)[0]
        self._plan(state)
        return [(None, None)] * count, self._next(state)

    def _guided(self, state: State, x: Tensor, time: Tensor) -> Tensor:
        """The velocity of captions, or as far beyond that of none as the config says."""
        caption, past, strength = self._captions(state["words"]), state["past"], self.config.guidance
        if strength != 1:  # rows of both branches
            nothing = self._captions(state["words"], nothing=True)
            caption = {name: torch.cat([value, nothing[name]]) for name, value in caption.items()}
            past = {name: torch.cat([value, value]) for name, value in past.items()}
            x, time = torch.cat([x, x]), torch.cat([time, time])
        made, state["cache"] = caching.evaluate(
            self.caching,
            state["cache"],
            lambda reuse: self.net.velocity(x, time, caption, past, reuse=reuse)[0],
            self.branches,
        )
        if strength == 1:
            return made
        with_, without = made.chunk(2)
        return without + strength * (with_ - without)

    def _show(self, state: State) -> tuple[Outputs, State]:
        """Decode chunks, and cut them where pictures end."""
        made = self.net.vae.group(state["x"].to(self.net.vae.scale), self.hop).float()
        data = to_pictures(made).cpu().numpy()
        outputs: Outputs = [reel.given(state, i, row, self.config.rate) for i, row in enumerate(data)]
        return outputs, self._next(state)

    def _keep(self, state: State) -> tuple[Outputs, State]:
        """Remember chunks that were shown."""
        clean = state["x"].new_zeros(len(state["x"]), state["x"].shape[2])
        caption = self._captions(state["words"])
        _, fresh = self.net.velocity(state["x"], clean, caption, state["past"], remember=True)
        assert fresh is not None
        state["past"] = causal.commit(state["past"], fresh, self.config.window)
        state["phase"], state["steps"] = [0] * len(state["phase"]), self._steps(state)
        return [(None, None)] * len(state["phase"]), state

    def _steps(self, state: State) -> list[int]:
        """How many steps the next chunk of each row takes."""
        rows = zip(state["asked"], state["light"], strict=True)
        return [min(asked, FEWER[light - 1]) if light else asked for asked, light in rows]

    def _next(self, state: State) -> State:
        state["phase"] = [phase + 1 for phase in state["phase"]]
        return state

    # What a state tells

    def _with_known(self, state: State, x: Tensor, time: float) -> tuple[Tensor, Tensor]:
        """Where the first latent of a stream is that of a picture, it stays so, at time 0."""
        times = x.new_full((len(x), x.shape[2]), time)
        for i, (given, frame) in enumerate(zip(state["first"], state["frame"], strict=True)):
            if given and not frame:
                x[i, :, 0], times[i, 0] = state["known"][i], 0.0
        return x, times

    def _seen(self, picture: Tensor) -> Tensor:
        """The latent of a picture, as that of the first frame of a chunk.  # [y, x, 3] -> [c, y, x]"""
        seen: Tensor = self.net.vae.encode(to_pixels(picture[None, None]))[0, :, 0]
        return seen

    def _captions(self, words: list[list[int]], nothing: bool = False) -> State:
        """Features of each row's words, or of as many that say nothing."""
        rows = [self._caption((*row, -1) if nothing else tuple(row)) for row in words]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def _caption(self, words: tuple[int, ...]) -> State:
        if words not in self.captions:
            device = self.net.dit.final_layer.linear.weight.device
            told = [word for word in words if word > 0]
            table = torch.zeros(1, self.config.most, dtype=torch.long, device=device)
            table[0, : len(told)] = torch.tensor(told, device=device)
            dropped = torch.tensor([words[-1] < 0], device=device)
            self.captions[words] = self.net.read(table, dropped)
            while len(self.captions) > READ:
                self.captions.popitem(last=False)
        self.captions.move_to_end(words)
        return self.captions[words]

    def _words(self, prompt: str) -> list[int]:
        if not prompt.strip():
            raise InvalidRequest("prompt is empty, expected what is to be seen")
        if len(prompt) > MOST:
            raise InvalidRequest(f"prompt has {len(prompt)} characters, expected up to {MOST}: shorten it")
        return self.vocabulary.encode(prompt, self.config.most)


def save(path: Path, net: ShowLiteNet, notes: Mapping[str, str] | None = None) -> None:
    """Write networks, whole or not at all."""
    checkpoint.save(path, net, KIND, net.config, notes)


def load(path: Path, device: str = "cpu") -> ShowLite:
    """What `save` wrote, ready to show. Raises CheckpointError if it does not fit."""
    header, tensors = checkpoint.read(path)
    net = ShowLiteNet(checkpoint.config(header, KIND, Config, path))
    checkpoint.fill(net, tensors, path)
    return ShowLite(net.to(device).eval().requires_grad_(False))
