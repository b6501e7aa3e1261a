"""What a converter learns from: crops of one utterance, and frames that are compared with what was said in them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from riverrun.models.training.converting import Course, Pairs, Recipe, Voices
from riverrun.models.training.loop import Alone
from riverrun.models.voice.listener import ListenerConfig
from riverrun.models.voice.network import Converter, ConverterConfig

CPU = Alone(torch.device("cpu"))
CONFIG = ConverterConfig(
    ListenerConfig(16, 1, 20, 4, pitch_width=16, pitch_layers=1), 16, 2, 1, (1,), 2, 16, 1, vector=8
)
RECIPE = Recipe(minutes=5, batch=3, frames=40, heard=64)
HOP = CONFIG.listener.hop


def levels(*counts: int) -> Voices:
    """Utterances of so many samples, each of one value, the first and the last by one voice."""
    parts = [torch.full((count,), 1_000 * i, dtype=torch.int16) for i, count in enumerate(counts, 1)]
    ends = np.cumsum(counts).tolist()
    last = len(counts) - 1
    alike = [[0, last] if i in (0, last) else [i] for i in range(len(counts))]
    return Voices(torch.cat(parts), list(zip([0, *ends[:-1]], ends, strict=True)), alike)


@pytest.mark.parametrize("length", [10, 500, 900])
def test_a_crop_never_runs_into_the_next_utterance(length: int) -> None:
    voices, generator = levels(500, 300, 700), torch.Generator().manual_seed(0)
    for which, count in enumerate((500, 300, 700)):
        for _ in range(20):
            part = voices.crop(which, length, generator) * 32768
            assert len(part) == length and set(part.unique().tolist()) <= {0, 1_000 * (which + 1)}
            assert (part != 0).sum() == min(length, count), "what is there is used, and silence after it"
            assert part[0] != 0


def test_what_is_heard_of_a_voice_is_of_that_voice_alone() -> None:
    """Two voices whose tones differ: nothing of one is in what goes with the other, at any pace."""
    t = torch.arange(60_000) / 24_000
    tones = [(6_000 * torch.sin(2 * torch.pi * f * t)).short() for f in (3_000, 300, 3_000)]
    spans = [(i * 60_000, (i + 1) * 60_000) for i in range(3)]
    voices = Voices(torch.cat(tones), spans, [[0, 2], [1], [0, 2]])
    pairs, seen = Pairs(voices, Converter(CONFIG), RECIPE, 0), set[bool]()
    for _ in range(6):
        said, heard, *filters = pairs.draw()
        assert said.shape == (3, (40 + CONFIG.listener.late) * HOP) and heard.shape == (3, 64 * HOP)
        assert all(part.shape == (3, CONFIG.listener.bins, CONFIG.listener.bands) for part in filters)
        for one, other in zip(said, heard, strict=True):
            high = [pitch(part) > 2_000 for part in (one, other)]
            assert high[0] == high[1]
            seen.add(high[0])
    assert seen == {True, False}
    again = Pairs(voices, Converter(CONFIG), RECIPE, 0).draw()
    assert all(map(torch.equal, again, Pairs(voices, Converter(CONFIG), RECIPE, 0).draw()))


def pitch(sound: Tensor) -> float:
    return float(torch.fft.rfft(sound).abs().argmax()) * 24_000 / len(sound)


def test_what_is_told_late_is_compared_with_the_frame_that_it_is_of() -> None:
    """Loudness is known without learning: a hop that alone is loud has to be told where the target has it."""
    course = Course(Converter(CONFIG), RECIPE, CPU)
    frames, at = RECIPE.frames, 24
    late = CONFIG.listener.late
    sound = torch.zeros(1, (frames + late) * HOP)
    sound[0, at * HOP : (at + 1) * HOP] = torch.randn(HOP)
    seen = dict[str, Tensor]()

    def spectra(content: Tensor, tone: Tensor, voice: object, state: object) -> tuple[Tensor, None]:
        seen.update(content=content, tone=tone)
        return torch.zeros(1, tone.shape[1], 3 * CONFIG.listener.bins), None

    course.model.spectra = spectra  # type: ignore[assignment]
    filters = course.model.listener.filters[None]
    told, pulses = course._told(sound, sound, filters, filters)
    assert told.shape[1] == frames and seen["content"].shape[1] == frames // 2
    assert pulses.shape == (1, frames * HOP)
    # The spectra around a frame are of four hops each: one has its middle where the frame begins, one where it ends.
    loud = seen["tone"][0, :, 2:]
    around = [(row > row.min() + 1).nonzero()[:, 0].tolist() for row in loud.T]
    assert around == [[at - 1, at, at + 1, at + 2], [at - 2, at - 1, at, at + 1]]


def test_what_is_told_of_a_frame_is_compared_with_the_sound_around_it() -> None:
    """One spectrum that lets pulses through is heard in four hops, in whose middle its frame begins."""
    course = Course(Converter(CONFIG), RECIPE, CPU)
    net, bins, frames, at = course.model, CONFIG.listener.bins, 30, 16
    told = torch.full((1, frames, 3 * bins), -30.0)
    told[:, :, bins : 2 * bins] = 0
    told[:, at, :bins] = 0
    pulses, _ = net.pulses(torch.full((1, frames), 1.5), net.pulses.start(1))
    sound = torch.zeros(1, (frames + CONFIG.listener.late) * HOP)
    sound[:, (at - 2) * HOP : (at + 2) * HOP] = 1.0
    made, _, target = course._made(told, pulses, sound)
    assert made.shape == target.shape
    centres = [
        float((p * torch.arange(p.shape[1])).sum() / p.sum()) for p in (made.square(), target.square())
    ]
    assert abs(centres[0] - centres[1]) < HOP / 2


def test_it_learns_and_leaves_the_listener_alone() -> None:
    t = torch.arange(48_000) / 24_000
    sound = sum(torch.cos(2 * torch.pi * 150 * k * t) / k for k in range(1, 20)) * (2 + torch.sin(20 * t))
    voices = Voices((2_000 * torch.as_tensor(sound)).short(), [(0, 24_000), (24_000, 48_000)], [[0, 1]] * 2)
    course = Course(Converter(CONFIG), replace(RECIPE, rate=1e-2, batch=2), CPU)
    before = {k: v.clone() for k, v in course.model.state_dict().items()}
    drawn = Pairs(voices, course.model, replace(RECIPE, batch=2), 0).draw()
    rows = [course.step(drawn, 1.0) for _ in range(12)]
    assert rows[-1]["mel"] < 0.95 * rows[0]["mel"] and all(row["norm"].isfinite() for row in rows)
    after = course.model.state_dict()
    changed = {k for k, v in before.items() if not torch.equal(v, after[k])}
    assert changed and not [k for k in changed if k.startswith("listener.")]


def test_going_on_keeps_the_listener_that_is_there() -> None:
    old, new = Course(Converter(CONFIG), RECIPE, CPU), Converter(CONFIG)
    heard = {k: v.clone() for k, v in new.listener.state_dict().items()}
    course = Course(new, RECIPE, CPU)
    course.resume(old.state())
    for model in (course.model, course.average.module):
        state = model.state_dict()
        assert all(torch.equal(state[f"listener.{k}"], v) for k, v in heard.items())
        assert torch.equal(state["last.weight"], old.model.last.weight)
