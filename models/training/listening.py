"""Train what listens in voice conversion: phonemes and pitch of every frame, whoever speaks and however loud."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from riverrun.models.layers.spectra import Spectra
from riverrun.models.speech.aligner import MARKS, PHONES
from riverrun.models.training.alignments import Timing
from riverrun.models.training.loop import OTHER, Crew, descend, follow, precision, restore, shared, states
from riverrun.models.training.optimizer import Optimizer
from riverrun.models.training.pitch import contour
from riverrun.models.voice.listener import Listener, ListenerConfig, mel, power, pressed

WARPS = tuple(2 ** (i / 24) for i in range(-8, 9))  # by how much formants and pitch are moved: 26 % at most
UNKNOWN = -100  # label of a frame whose phoneme nobody knows
LEVELS = (-24.0, 12.0)  # dB that clips are made louder
NARROW, CUTS = 0.35, (3_400.0, 11_000.0)  # share of clips that lose what lies above a frequency, in Hz
CHECKED = 32  # crops of held-out speech that are listened to whenever weights are written
Batch = tuple[Tensor, Tensor, Tensor, Tensor]
PARTS = ("model", "average", "learning")  # of a course, that are saved


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train what listens.

    Units: `minutes` of wall clock (or `steps`, whichever ends first); `batch` crops of `frames` a step and process;
    every second clip gets noise, at a distance of `quiet` dB or more.
    """

    minutes: float = 20
    steps: int | None = None
    batch: int = 16
    frames: int = 320
    rate: float = 2e-3
    quiet: tuple[float, float] = (8.0, 50.0)
    half: bool = False
    ema: float = 0.99
    seed: int = 0
    save_minutes: float = 2
    log_seconds: float = 20


@dataclass(frozen=True)
class Clips:
    """Sound in a row, 16-bit `[n]`, and what each frame of it is: a phoneme, and its pitch in octaves (below 0: none).

    Each utterance begins with a frame; what is left at its end counts as none.
    """

    sound: Tensor
    phones: Tensor
    pitch: Tensor

    def crop(self, frame: int, count: int, hop: int) -> tuple[Tensor, Tensor, Tensor]:
        stop = frame + count
        return self.sound[frame * hop : stop * hop], self.phones[frame:stop], self.pitch[frame:stop]


def labels(timing: Timing, frames: int, seconds: float) -> NDArray[np.int64]:
    """The phoneme of every frame of an utterance: 0 is a pause.  # [frames]"""
    found = np.zeros(frames, np.int64)
    for span in timing.spans:
        if span.symbol in PHONES:
            start, end = (round(at * timing.seconds / seconds) for at in (span.start, span.end))
            found[start:end] = PHONES.index(span.symbol) + 1
        elif span.symbol in MARKS and span.end > span.start:
            found[span.start : span.end] = UNKNOWN
    return found


def pitches(sound: NDArray[np.int16], config: ListenerConfig) -> NDArray[np.float32]:
    """Octaves above the lowest pitch at the middle of every frame; -1 where there is none.  # [n] -> [ceil(n / hop)]

    Raises ModelError without the package pyworld.
    """
    period = 1000 * config.hop / config.rate
    hertz = contour(sound.astype(np.float64) / 32768, config.rate, config.lowest, period / 2)
    count = -(-len(sound) // config.hop)
    middles = np.zeros(count)
    found = hertz[1::2][:count]  # every second one is of the middle of a frame
    middles[: len(found)] = found
    octaves = np.log2(np.maximum(middles, 1e-3) / config.lowest)
    top = (config.classes - 1) / config.octave
    return np.where((octaves >= 0) & (octaves <= top), octaves, -1.0).astype(np.float32)


def narrowed(seen: Tensor, config: ListenerConfig, generator: torch.Generator) -> Tensor:
    """Power as telephones and other rates leave it: of some clips nothing above a frequency.  # [b, t, bins]"""
    drawn = torch.rand(2, len(seen), 1, 1, generator=generator).to(seen.device)
    cut = CUTS[0] + (CUTS[1] - CUTS[0]) * drawn[1] + config.rate * (drawn[0] >= NARROW)
    hertz = torch.arange(seen.shape[2], device=seen.device) * config.rate / config.size
    return seen * (hertz < cut)


def clips(
    parts: Sequence[NDArray[np.int16]], timings: Sequence[Timing], config: ListenerConfig, path: Path
) -> Clips:
    """Utterances with what their frames are; pitches are measured once and kept at `path`."""
    counts = [-(-len(part) // config.hop) for part in parts]
    stamp, key = path.with_suffix(".json"), [len(parts), sum(counts), config.lowest, config.octave]
    if not stamp.exists() or json.loads(stamp.read_text()) != key:
        np.save(path.with_suffix(".npy"), np.concatenate([pitches(part, config) for part in parts]))
        stamp.write_text(json.dumps(key))
    pitch = np.load(path.with_suffix(".npy"))
    padded = [
        np.pad(part, (0, count * config.hop - len(part))) for part, count in zip(parts, counts, strict=True)
    ]
    seconds = config.hop / config.rate
    named = [labels(timing, count, seconds) for timing, count in zip(timings, counts, strict=True)]
    sound, phones = (torch.from_numpy(np.concatenate(part)) for part in (padded, named))
    return Clips(sound, phones, torch.from_numpy(pitch))


class Heard:
    """Random crops as spectra in another level, in noise, and of other formants and pitch, with what they are."""

    def __init__(self, clips: Clips, config: ListenerConfig, recipe: Recipe, seed: int) -> None:
        self.clips, self.config, self.recipe, self.spectra = clips, config, recipe, Spectra(config.hop)
        self.generator = torch.Generator().manual_seed(seed)
        self.filters = torch.stack([mel(config, warp) for warp in WARPS])

    def draw(self) -> Batch:
        """Bands, low bins, and phonemes and pitches told late as a listener tells them."""
        config, batch, count = self.config, self.recipe.batch, self.recipe.frames
        last = len(self.clips.phones) - count
        starts = torch.randint(last, (batch,), generator=self.generator).tolist()
        rows = [self.clips.crop(start, count, config.hop) for start in starts]
        sound, phones, pitch = (torch.stack(part) for part in zip(*rows, strict=True))
        gain = 10 ** ((self._uniform(batch, 1) * (LEVELS[1] - LEVELS[0]) + LEVELS[0]) / 20) / 32768
        spectrum, _ = self.spectra(sound.float() * gain, self.spectra.start(batch))
        seen = narrowed(self._noisy(power(spectrum)), config, self.generator)
        which = torch.randint(len(WARPS), (batch,), generator=self.generator)
        bands = pressed(seen @ self.filters[which]) + self._tilt(batch)
        low, pitch = self._moved(seen, pitch, torch.tensor(WARPS)[which])
        late, late_pitch = config.late, config.late_pitch
        phones = F.pad(phones, (late, 0), value=UNKNOWN)[:, :count]
        pitch = F.pad(pitch, (late_pitch, 0), value=-2.0)[:, :count]
        return bands, low, phones, pitch

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)

    def _noisy(self, seen: Tensor) -> Tensor:
        """Coloured noise beside every second clip."""
        batch, level = len(seen), seen.mean((1, 2), keepdim=True)
        low, high = self.recipe.quiet
        far = low + (high - low) * self._uniform(batch, 1, 1)
        slope = (torch.arange(1, seen.shape[2] + 1) / 100) ** -(2 * self._uniform(batch, 1, 1) - 0.5)
        shape = slope / slope.mean(2, keepdim=True) * 10 ** (-far / 10) * (self._uniform(batch, 1, 1) < 0.5)
        drawn = -self._uniform(*seen.shape).clamp_min(1e-6).log()
        return seen + level * shape * drawn

    def _tilt(self, batch: int) -> Tensor:
        """A microphone's colour: slow curves over the bands, some dB.  # [b, 1, bands]"""
        at = torch.linspace(0, torch.pi, self.config.bands)
        waves = torch.stack([(at * k).cos() for k in (1, 2, 3, 4)])
        drawn = torch.randn(batch, 1, 4, generator=self.generator)
        return drawn * torch.tensor([0.3, 0.2, 0.15, 0.1]) @ waves

    def _moved(self, seen: Tensor, pitch: Tensor, warp: Tensor) -> tuple[Tensor, Tensor]:
        """Low bins as they would be if all frequencies were `warp` times as high, and the pitch then."""
        places = torch.arange(self.config.low) / warp[:, None]
        first = places.floor().long()
        index = first[:, None].expand(-1, seen.shape[1], -1)
        share = (places - first)[:, None]
        low = pressed(torch.lerp(seen.gather(2, index), seen.gather(2, index + 1), share))
        moved = pitch + warp.log2()[:, None]
        top = (self.config.classes - 1) / self.config.octave
        moved = torch.where(pitch < 0, pitch, torch.where((moved < 0) | (moved > top), -2.0, moved))
        return low - low.mean(-1, keepdim=True), moved


class Course:
    """A listener and what changes as it learns."""

    def __init__(self, model: Listener, recipe: Recipe, crew: Crew) -> None:
        self.model, self.recipe, self.crew = shared(model.to(crew.device), crew).train(), recipe, crew
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        self.learning = Optimizer(self.model, recipe.rate)

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return states(self, *PARTS)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        restore(self, state, *PARTS)

    def step(self, drawn: Batch, rate: float) -> dict[str, Tensor]:
        """Learn from one batch at a share of the peak rate; give what was measured."""
        bands, low, phones, pitch = (part.to(self.crew.device) for part in drawn)
        seen = losses(self.model, bands, low, phones, pitch, self.recipe.half)
        loss, peak = seen["phones"] + 0.5 * seen["pitch"], self.recipe.rate
        seen["norm"] = descend(loss, self.model, self.learning, peak * rate, self.crew, most=3.0)
        self.average.update_parameters(self.model)
        return {name: value.detach() for name, value in seen.items()}


def losses(
    model: Listener, bands: Tensor, low: Tensor, phones: Tensor, pitch: Tensor, half: bool = False
) -> dict[str, Tensor]:
    """How wrong a listener is about each frame, and the share of phonemes, and of pitches within a quarter tone."""
    batch, config = len(bands), model.config
    with precision(bands.device, half):
        content, _ = model.content(bands, model.content.start(batch))
        named = model.content.name(content)
        told, _ = model.pitch(low, model.pitch.start(batch))
    named, told = named.float(), told.float()
    wrong = F.cross_entropy(named.flatten(0, 1), phones.flatten(), ignore_index=UNKNOWN)
    known, voiced = phones != UNKNOWN, pitch >= 0
    step = (pitch * config.octave).clamp_min(0)
    first = step.floor().long()
    log = told.log_softmax(-1)
    pick = log.gather(2, torch.stack([first + 1, (first + 2).clamp_max(config.classes)], dim=2))
    share = step - first
    voice = -(pick[..., 0] * (1 - share) + pick[..., 1] * share)
    silent = -log[..., 0]
    off = torch.where(voiced, voice, silent)[pitch > -1.5].mean()
    with torch.no_grad():
        right = (named.argmax(-1) == phones)[known].float().mean()
        close = ((told[..., 1:].argmax(-1) - step).abs() <= 1)[voiced].float().mean()
        sure = ((told.argmax(-1) > 0) == voiced)[pitch > -1.5].float().mean()
    return {"phones": wrong, "pitch": off, "right": right, "close": close, "voiced": sure}


def checked(
    clips: Clips, recipe: Recipe, config: ListenerConfig, crew: Crew
) -> Callable[[Listener], dict[str, Tensor]]:
    """What measures a listener on the same crops of speech each time, as `losses` does."""
    crops = Heard(clips, config, replace(recipe, batch=CHECKED), recipe.seed).draw()
    bands, low, phones, pitch = (part.to(crew.device) for part in crops)

    @torch.inference_mode()
    def check(model: Listener) -> dict[str, Tensor]:
        seen = losses(model.eval(), bands, low, phones, pitch, recipe.half)
        return {f"heldout_{name}": value for name, value in seen.items()}

    return check


def train(
    model: Listener,
    recipe: Recipe,
    clips: Clips,
    out: Path,
    crew: Crew,
    save: Callable[[Listener, Path], None] | None = None,
    resume: bool = False,
    heldout: Clips | None = None,
) -> list[dict[str, float]]:
    """Train until the minutes are up; `model` ends with averaged weights. Give the log, also in `out`/log.jsonl.

    `save` is called each `save_minutes` and at the end, when `out`/last.pt gets what resuming needs: with `resume`, a
    run goes on from there with the minutes it had left. How well `heldout` clips are heard is measured as often.
    """
    torch.manual_seed(recipe.seed)
    course = Course(model, recipe, crew)

    def draws(step: int) -> Iterator[Batch]:
        heard = Heard(clips, model.config, recipe, recipe.seed + step + OTHER * crew.process_index)
        while True:
            yield heard.draw()

    def learn(drawn: Batch, rate: float, _: float) -> dict[str, Tensor]:
        return course.step(drawn, rate)

    check = checked(heldout, recipe, model.config, crew) if heldout else None
    return follow(course, recipe, draws, learn, out, crew, save, resume, check)
