"""The bench of what shows: how fast by stage, what caching saves and costs, how captions of the world are followed."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from riverrun.models.evaluation import clips
from riverrun.models.evaluation.clips import STAGES, Clip
from riverrun.models.evaluation.finding import Finder
from riverrun.models.evaluation.following import KINDS, SPAN, Drift, Followed, Told, drift, follow, told
from riverrun.models.evaluation.resemblance import Frames, perceptual, psnr, ssim
from riverrun.models.evaluation.tables import cell, table
from riverrun.models.training.world.captions import vocabulary
from riverrun.models.training.world.render import Renderer
from riverrun.models.training.world.sprites import Bank
from riverrun.models.video import config as shapes
from riverrun.models.video.caching import KINDS as ATTENTION
from riverrun.models.video.caching import PAB246, Caching, teacache
from riverrun.models.video.lite import Config, ShowLiteNet

PLAIN = Caching()
COMPUTED = "all computed"
OTHERS = ", another caption's"
SPEED = ("", "steps", "text ms", "denoise s", "VAE s", "keep s", "MP4 s", "s a clip", "frames/s",
         "first picture s", "peak MB")  # fmt: skip
CACHED = ("", "s a clip", "speed-up", "of denoising", "evaluations left out",
          "attention taken over: spatial, temporal, cross", "PSNR", "SSIM")  # fmt: skip
MOVES = ("", "change from picture to picture", "PSNR between them", "change at chunk borders / elsewhere")
DRIFTED = ("after s", "mean of latents", "spread of latents", "colors %", "colors of the drawn scene %")


@dataclass(frozen=True)
class Plan:
    """What is measured: clips of `frames` of a prompt, by numbers of `steps`; caching at the most of them, of `deltas`.

    Of models of the world, `scenes` are told to them, too. A stream of `drift` seconds is compared with its beginning.
    """

    prompt: str = "a red star moves to the left"
    frames: int = 27
    steps: tuple[int, ...] = (2, 4, 8, 30)
    deltas: tuple[float, ...] = (0.05, 0.1, 0.2)
    scenes: int = 24
    drift: float = 60.0


@dataclass(frozen=True)
class Speed:
    """One clip. `against` the same one computed in full: PSNR, SSIM, and LPIPS where it can be had.

    Units: `stages`, `first` and `elapsed` s; `peak` bytes.
    """

    form: str  # streamed or whole
    setting: str
    steps: int
    frames: int
    stages: dict[str, float]
    elapsed: float
    first: float
    peak: int
    counts: dict[str, int]
    against: dict[str, float]


@dataclass(frozen=True)
class Bench:
    """All that was measured. `followed` is by system; `colors` are those of the drawn scene, as those of `drifts`."""

    name: str
    device: str
    clock: str
    speeds: list[Speed]
    followed: dict[str, list[Followed]]
    drifts: list[Drift]
    colors: list[float]

    def table(self) -> str:
        """All in Markdown, and how to read it."""
        return "\n\n".join(filter(None, (self.fast(), self.cached(), self.right(), self.lasting())))

    def fast(self) -> str:
        """How long clips take."""
        plain = [s for s in self.speeds if s.setting == COMPUTED]
        note = (
            f"{self.name}, {plain[0].frames} frames on {self.device}; {self.clock}. Streamed, a chunk sees those "
            "before it and is shown as soon as it is made; whole, all frames see each other and are denoised at once. "
            "Peak: of the GPU's memory a clip, or of this process until then."
        )
        return "\n".join([*table(SPEED, map(_speed, plain)), note])

    def cached(self) -> str:
        """What caching saves and costs."""
        found = [s for s in self.speeds if s.setting != COMPUTED]
        if not found:
            return ""
        most = found[0].steps
        full = {s.form: s for s in self.speeds if s.setting == COMPUTED and s.steps == most}
        head = (*CACHED, "LPIPS") if "LPIPS" in found[0].against else CACHED
        note = (
            f"At {most} steps, against the clip of which all is computed, in this run. Pyramid attention broadcast "
            f"takes over spatial, temporal and cross attention for {PAB246.reach} evaluations, TeaCache all blocks."
        )
        return "\n".join([*table(head, (_cached(s, full[s.form]) for s in found)), note])

    def right(self) -> str:
        """How captions are followed, and how the clips move."""
        if not self.followed:
            return ""
        count = len(self.followed["drawn"])
        moving = {name: rows for name, rows in self.followed.items() if not name.endswith(OTHERS)}
        lines = [
            *table(("", *KINDS, "all"), (_followed(*row) for row in self.followed.items())),
            f"% of attributes that are right by what is read from the pixels of {count} clips of held-out scenes, with "
            "95 % bootstrap intervals over clips. Drawn: the reader's own figure; another caption's: chance.\n",
            *table(MOVES, (_moves(*row) for row in moving.items())),
            "Changes in levels of 255, PSNR in dB.",
        ]
        return "\n".join(lines)

    def lasting(self) -> str:
        """What becomes of a stream."""
        if not self.drifts:
            return ""
        drawn = [*self.colors, *[None] * (len(self.drifts) - len(self.colors))]
        note = (
            f"{SPAN:g} s that end then, beside the first {SPAN:g} s of one stream: latents by channel, in deviations "
            "of the first; pixels that would need another color."
        )
        return "\n".join([*table(DRIFTED, map(_drift, self.drifts, drawn)), note])

    def document(self) -> dict[str, Any]:
        """All figures, clip by clip."""
        return asdict(self)


def bench(
    name: str, net: ShowLiteNet, plan: Plan, bank: Bank | None = None, tell: Callable[[str], object] = print
) -> Bench:
    """Judge a model; with the sprites of the world, also how it follows captions. Raises InvalidRequest."""
    place, config = clips.device(net), net.config
    device = torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
    clock = "processor time, one thread" if clips.alone(place) else "wall clock"
    result = Bench(name, device, clock, speeds(net, plan, tell), {}, [], [])
    scenes = told(bank, plan.scenes, plan.frames, config.size[0], config.rate) if bank and plan.scenes else []
    if bank and scenes:
        result.followed.update(following(net, plan, scenes, Finder(bank, config.size[0]), tell))
    if plan.drift:
        tell(f"streaming {plan.drift:g} s")
        prompt, frames = scenes[0].caption if scenes else plan.prompt, round(plan.drift * config.rate)
        clip = clips.streamed(net, config.caching, prompt, frames, config.steps)
        result.drifts.extend(drift(clip.frames, clip.latents, config.rate))
        if bank and scenes:
            drawn = Renderer(scenes[0].scene, bank, config.size[0]).frames(
                i / config.rate for i in range(frames)
            )
            result.colors.extend(one.colors for one in drift(drawn, clip.latents, config.rate))
    return result


def of_world(config: Config) -> bool:
    """Whether a model is of the procedural world, whose captions its words are of."""
    return config.words == vocabulary() and config.size[0] == config.size[1]


def settings(config: Config, deltas: Sequence[float]) -> dict[str, Caching]:
    """What is compared with computing all; the published polynomial is of the published network alone."""
    made = {"pyramid attention broadcast": PAB246} if deltas else {}
    for delta in deltas:
        made[f"TeaCache {delta:g}"] = teacache(delta) if config.dit == shapes.V12 else Caching(delta)
    return made


def speeds(net: ShowLiteNet, plan: Plan, tell: Callable[[str], object]) -> list[Speed]:
    """How long clips take, streamed and whole."""
    found, lpips = list[Speed](), perceptual()
    for form, make in (("streamed", clips.streamed), ("whole", clips.whole)):
        make(net, PLAIN, plan.prompt, plan.frames, 1)  # warm up
        for steps in sorted(plan.steps):
            tell(f"{form}, {steps} steps")
            full = make(net, PLAIN, plan.prompt, plan.frames, steps)
            found.append(_speed_of(form, COMPUTED, steps, full, {}))
        for name, setting in settings(net.config, plan.deltas).items():
            tell(f"{form}, {steps} steps, {name}")
            clip = make(net, setting, plan.prompt, plan.frames, steps)
            pair = clip.frames, full.frames
            against = {"PSNR": psnr(*pair), "SSIM": ssim(*pair)} | ({"LPIPS": lpips(*pair)} if lpips else {})
            found.append(_speed_of(form, name, steps, clip, against))
    return found


def _speed_of(form: str, setting: str, steps: int, clip: Clip, against: dict[str, float]) -> Speed:
    return Speed(
        form,
        setting,
        steps,
        len(clip.frames),
        clip.stages,
        clip.elapsed,
        clip.first,
        clip.peak,
        clip.counts,
        against,
    )


def following(
    net: ShowLiteNet, plan: Plan, scenes: Sequence[Told], finder: Finder, tell: Callable[[str], object]
) -> dict[str, list[Followed]]:
    """How captions are followed by numbers of steps, beside the scenes as drawn."""
    rate, hop, found = float(net.config.rate), net.config.vae.group, dict[str, list[Followed]]()
    tell(f"reading {len(scenes)} drawn scenes")
    found["drawn"] = follow(scenes, None, finder, rate, hop)["own"]
    for steps in sorted(plan.steps):
        tell(f"following {len(scenes)} captions, {steps} steps")

        def show(caption: str, frames: int, seed: int, steps: int = steps) -> Frames:
            return clips.streamed(net, PLAIN, caption, frames, steps, seed).frames

        for name, rows in follow(scenes, show, finder, rate, hop).items():
            found[f"{steps} steps" + (OTHERS if name == "shuffled" else "")] = rows
    return found


def _speed(s: Speed) -> list[str]:
    text, *others = (s.stages[name] for name in STAGES)
    figures = [
        *(f"{t:.2f}" for t in others),
        f"{s.elapsed:.2f}",
        f"{s.frames / s.elapsed:.1f}",
        f"{s.first:.2f}",
    ]
    return [s.form, str(s.steps), f"{1e3 * text:.0f}", *figures, f"{s.peak / 2**20:.0f}"]


def _cached(s: Speed, full: Speed) -> list[str]:
    """A row beside the clip of which all was computed."""
    evaluations = s.counts["evaluations"]
    taken = [str(s.counts[kind]) for kind in ATTENTION]
    return [
        f"{s.form}, {s.setting}",
        f"{s.elapsed:.2f}",
        f"{full.elapsed / s.elapsed:.2f}",
        f"{full.stages['denoise'] / s.stages['denoise']:.2f}",
        f"{s.counts['blocks']} of {evaluations}",
        f"{', '.join(taken)} of {evaluations}",
        *(f"{value:.{3 if name != 'PSNR' else 1}f}" for name, value in s.against.items()),
    ]


def _followed(name: str, rows: Sequence[Followed]) -> list[str]:
    def share(kind: str | None) -> str:
        marks = [[m.right for m in row.marks if kind in (None, m.attribute)] for row in rows]
        seen = [some for some in marks if some]
        return cell([100.0 * sum(some) for some in seen], [float(len(some)) for some in seen], 0)

    return [name, *map(share, (*KINDS, None))]


def _moves(name: str, rows: Sequence[Followed]) -> list[str]:
    return [
        name,
        cell([r.change for r in rows]),
        cell([r.alike for r in rows], digits=1),
        cell([r.seam for r in rows if r.seam is not None]),
    ]


def _drift(one: Drift, drawn: float | None) -> list[str]:
    shown = "" if drawn is None else f"{100 * drawn:.0f}"
    return [f"{one.seconds:g}", f"{one.mean:.2f}", f"{one.spread:.2f}", f"{100 * one.colors:.0f}", shown]
