"""What a listener learns from: labels that lie where the sound is, told as late as it tells them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riverrun.models.speech.aligner import PHONES, Span
from riverrun.models.training.alignments import Timing
from riverrun.models.training.listening import (
    UNKNOWN,
    WARPS,
    Clips,
    Course,
    Heard,
    Recipe,
    clips,
    labels,
    losses,
    pitches,
)  # fmt: skip
from riverrun.models.training.loop import Alone
from riverrun.models.voice.listener import Listener, ListenerConfig

pytest.importorskip("pyworld")

CONFIG = ListenerConfig(16, 1, 20, 4, pitch_width=16, pitch_layers=1)
RECIPE = Recipe(minutes=5, batch=4, frames=100)


def hum(hertz: float, seconds: float, rate: int = 24_000) -> NDArray[np.int16]:
    """All harmonics below 4 kHz of a pitch, 16-bit."""
    t = np.arange(round(seconds * rate)) / rate
    sound = sum(np.cos(2 * np.pi * hertz * k * t) / k for k in range(1, int(4_000 / hertz)))
    return np.round(6_000 * np.asarray(sound)).astype(np.int16)


def timing(*spans: tuple[str, int, int], seconds: float = 0.01) -> Timing:
    return Timing("a.wav", tuple(Span(*span) for span in spans), 0.9, seconds)


@pytest.mark.parametrize("hertz", [80.0, 155.0, 410.0])
def test_a_known_pitch_is_the_label_of_its_frames(hertz: float) -> None:
    sound = np.concatenate([np.zeros(12_000, np.int16), hum(hertz, 0.5), np.zeros(12_100, np.int16)])
    found = pitches(sound, CONFIG)
    assert len(found) == 151 and found.dtype == np.float32
    octaves = np.log2(hertz / CONFIG.lowest)
    assert np.abs(found[55:95] - octaves).max() < 0.01, "half a second in, for half a second"
    assert (found[:45] == -1).all() and (found[105:] == -1).all(), "silence has none"


def test_a_pitch_that_glides_is_that_of_the_middle_of_each_frame() -> None:
    rate, seconds = 24_000, 1.0
    t = np.arange(int(rate * seconds)) / rate
    cycles = np.cumsum(120 * 2**t) / rate  # an octave a second
    sound = sum(np.cos(2 * np.pi * k * cycles) / k for k in range(1, 12))
    found = pitches(np.round(6_000 * np.asarray(sound)).astype(np.int16), CONFIG)
    wanted = np.log2(120 / CONFIG.lowest) + (np.arange(100) + 0.5) * CONFIG.hop / rate
    assert np.abs(found - wanted)[10:90].max() < 0.004, "half a frame would be 0.005 off"


def test_labels_are_pauses_but_where_a_sound_is_and_unknown_where_a_mark_takes_time() -> None:
    found = labels(timing(("ˈ", 3, 3), ("s", 3, 5), ("ː", 5, 6), (" ", 6, 8), ("ɪ", 8, 9)), 12, 0.01)
    s, i = (PHONES.index(symbol) + 1 for symbol in "sɪ")
    assert found.tolist() == [0, 0, 0, s, s, UNKNOWN, 0, 0, i, 0, 0, 0]
    coarse = labels(timing(("s", 2, 3), seconds=0.02), 8, 0.01)
    assert coarse.tolist() == [0, 0, 0, 0, s, s, 0, 0], "timings may have other frames"


def corpus(folder: Path, *parts: NDArray[np.int16]) -> Clips:
    return clips(parts, [timing(("s", 2, 4)) for _ in parts], CONFIG, folder / "pitch")


def test_each_utterance_begins_with_a_frame(tmp_path: Path) -> None:
    found = corpus(tmp_path, hum(100, 0.2)[:-100], hum(200, 0.3))
    assert len(found.phones) == len(found.pitch) == 50 and len(found.sound) == 50 * CONFIG.hop
    assert np.flatnonzero(found.phones).tolist() == [2, 3, 22, 23]
    lows, highs = found.pitch[5:15], found.pitch[25:45]
    assert torch.allclose(highs.mean() - lows.mean(), torch.tensor(1.0), atol=0.02)
    assert (found.sound[20 * CONFIG.hop - 100 : 20 * CONFIG.hop] == 0).all()


def test_pitch_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = corpus(tmp_path, hum(100, 0.2), hum(200, 0.3))
    monkeypatch.setattr("riverrun.models.training.listening.pitches", None)
    assert torch.equal(corpus(tmp_path, hum(100, 0.2), hum(200, 0.3)).pitch, first.pitch)
    with pytest.raises(TypeError):
        corpus(tmp_path, hum(100, 0.2), hum(200, 0.4))


def test_labels_come_as_late_as_a_listener_tells_them() -> None:
    """A clip whose 40th frame alone is loud, a phoneme and pitched, beside one that begins elsewhere."""
    frames, at, hop = 101, 40, CONFIG.hop
    sound = torch.zeros(frames * hop, dtype=torch.int16)
    sound[at * hop : (at + 1) * hop] = 8_000
    phones, pitch = torch.zeros(frames, dtype=torch.long), torch.full((frames,), -1.0)
    phones[at], pitch[at] = 7, 1.0
    _, low, named, heard = Heard(Clips(sound, phones, pitch), CONFIG, RECIPE, 0).draw()
    for row in range(RECIPE.batch):
        assert named[row].argmax() == at + CONFIG.late and (named[row, : CONFIG.late] == UNKNOWN).all()
        assert heard[row].argmax() == at + CONFIG.late_pitch and (heard[row, : CONFIG.late_pitch] == -2).all()
        loud = low[row].std(1)
        assert at <= loud[:90].argmax() <= at + 3, "a spectrum is of the last four hops"


def test_pitch_moves_with_the_sound() -> None:
    """Harmonics lie where the label says, by whatever the clip was moved."""
    hertz, count = 200.0, 110
    sound = torch.from_numpy(hum(hertz, count * CONFIG.hop / 24_000))
    octaves = torch.full((count,), float(np.log2(hertz / CONFIG.lowest)))
    recipe = replace(RECIPE, batch=24, quiet=(90.0, 95.0))
    clip = Clips(sound, torch.zeros(count, dtype=torch.long), octaves)
    _, low, _, pitch = Heard(clip, CONFIG, recipe, 3).draw()
    told = CONFIG.lowest * 2 ** pitch[:, 50]
    assert len(told.unique()) > 8 and told.min() < 180 and told.max() > 220
    width = CONFIG.rate / CONFIG.size
    for row, moved in zip(low[:, 50], told, strict=True):
        first = row[: int(1.5 * moved / width)].argmax() * width
        assert abs(first - moved) < width, "the lowest peak is the fundamental"


def test_pitch_out_of_reach_is_not_judged() -> None:
    heard = Heard(Clips(*(torch.zeros(9),) * 3), CONFIG, RECIPE, 0)
    seen, top = torch.rand(len(WARPS), 1, CONFIG.bins), (CONFIG.classes - 1) / CONFIG.octave
    for pitch, lost in ((0.0, range(8)), (top, range(9, 17))):
        _, moved = heard._moved(seen, torch.full((len(WARPS), 1), pitch), torch.tensor(WARPS))
        assert [i for i, value in enumerate(moved[:, 0]) if value == -2] == list(lost)
    _, none = heard._moved(seen, torch.full((len(WARPS), 1), -1.0), torch.tensor(WARPS))
    assert (none == -1).all()


def test_a_listener_learns_and_is_the_same_from_one_seed() -> None:
    sound = np.concatenate([hum(hertz, 0.5) for hertz in (110, 220, 330)])
    phones = torch.arange(3).repeat_interleave(50) + 1
    clip = Clips(torch.from_numpy(sound), phones, torch.from_numpy(pitches(sound, CONFIG)))
    course = Course(Listener(CONFIG), replace(RECIPE, frames=60, rate=1e-2), Alone(torch.device("cpu")))
    drawn = Heard(clip, CONFIG, replace(RECIPE, frames=60), 0).draw()
    again = Heard(clip, CONFIG, replace(RECIPE, frames=60), 0).draw()
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    rows = [course.step(drawn, 1.0) for _ in range(40)]
    assert rows[-1]["phones"] < 0.5 * rows[0]["phones"] and rows[-1]["pitch"] < 0.9 * rows[0]["pitch"]


def test_frames_that_nobody_knows_do_not_count() -> None:
    model = Listener(CONFIG).eval()
    bands, low = torch.randn(2, 10, 20), torch.randn(2, 10, CONFIG.low)
    phones, pitch = torch.randint(0, 9, (2, 10)), torch.rand(2, 10)
    phones[:, :4], pitch[:, :4] = UNKNOWN, -2.0
    seen = losses(model, bands, low, phones, pitch)
    short = [part[:, 4:] for part in (phones, pitch)]
    named = model.content.name(model.content(bands, model.content.start(2))[0])[:, 4:]
    wanted = torch.nn.functional.cross_entropy(named.flatten(0, 1), short[0].flatten())
    assert torch.allclose(seen["phones"], wanted, atol=1e-5) and seen["pitch"].isfinite()
