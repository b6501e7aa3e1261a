"""The bench on made-up recordings: judges, intervals, the held-out set, tables, what is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from riverrun.models.evaluation import restoration as table
from riverrun.models.evaluation.heldout import CONDITIONS, Item, build, digest, level, mix
from riverrun.models.evaluation.metrics import NAMES, interval, si_sdr
from riverrun.models.evaluation.peers import Timing, timed

Sound = NDArray[np.float32]


def voice(seed: int, seconds: float = 2.5) -> Sound:
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 16_000)) / 16_000
    tone = np.sin(2 * np.pi * (120 + 60 * seed % 200) * t) + 0.3 * np.sin(2 * np.pi * 1_900 * t)
    swell = np.clip(np.sin(2 * np.pi * 3 * t + seed), 0, 1)
    return np.asarray(0.2 * tone * swell + 0.001 * rng.normal(size=len(t)), np.float32)


def small(seed: int = 2026) -> list[Item]:
    rng = np.random.default_rng(0)
    speech = {"real": {"a": [voice(1)], "b": [voice(2)]}, "synthetic": {"c": [voice(3)]}}
    room = np.zeros(4_000, np.float32)
    room[50], room[900] = 1.0, 0.4
    noise = rng.normal(size=9_000).astype(np.float32) * 0.1
    return build(speech, [noise], [room], {"real": 12, "synthetic": 6}, seed)


class Attenuated:
    """A system that makes things quieter, and counts how often it is asked."""

    name = "quiet"

    def __init__(self) -> None:
        self.asked = 0

    def run(self, x: Sound) -> Sound:
        self.asked += 1
        return x * np.float32(0.5)

    def timing(self) -> Timing:
        return Timing(32, 16, 2, 4)


def test_si_sdr_is_what_it_says() -> None:
    clean = voice(1)
    noise = np.random.default_rng(0).normal(size=len(clean)).astype(np.float32)
    noise -= clean * (noise @ clean) / (clean @ clean)
    noise *= np.sqrt((clean @ clean) / (noise @ noise) / 10)
    assert si_sdr(clean + noise, clean) == pytest.approx(10, abs=0.01)
    assert si_sdr(3 * (clean + noise), clean) == pytest.approx(10, abs=0.01)


def test_an_interval_holds_the_mean_and_shrinks_with_more() -> None:
    rng = np.random.default_rng(1)
    few, many = interval(list(rng.normal(2, 1, 20))), interval(list(rng.normal(2, 1, 2_000)))
    assert few[1] < few[0] < few[2] and many[2] - many[1] < (few[2] - few[1]) / 3
    assert interval([1.0, 2.0]) == interval([1.0, 2.0])


def test_the_set_is_fixed_by_its_seed_and_covers_every_condition() -> None:
    items = small()
    assert digest(items) == digest(small()) != digest(small(seed=1))
    assert {(i.part, i.condition) for i in items} == {
        (p, c) for p in ("real", "synthetic") for c in CONDITIONS
    }
    assert len({i.name for i in items}) == len(items) == 18
    for item in items:
        assert item.noisy.shape == item.clean.shape and np.abs(item.noisy).max() <= 0.96
        assert (item.condition == "clean") == np.array_equal(item.noisy, item.clean)


def test_noise_lies_at_its_snr() -> None:
    clean, noise = voice(1), np.random.default_rng(0).normal(size=40_000).astype(np.float32)
    noisy, clean, snr = mix(np.random.default_rng(3), clean, "noise", noise, np.ones(1, np.float32))
    assert 20 * np.log10(level(clean) / level(noisy - clean)) == pytest.approx(snr, abs=0.1)


def test_reverberation_delays_nothing() -> None:
    room = np.zeros(3_000, np.float32)
    room[700], room[1_500] = -0.9, 0.3
    noisy, clean, _ = mix(np.random.default_rng(0), voice(2), "reverb", voice(3), room)
    window = clean[8_000:16_000]
    lags = np.correlate(noisy[7_900:16_100], window, "valid")
    assert int(np.argmax(np.abs(lags))) == 100


def test_a_table_holds_every_system_and_what_is_kept_is_not_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "judge", lambda estimate, clean: [1.5, 0.5, si_sdr(estimate, clean), 2.0, 3.0])
    monkeypatch.setattr(table, "pictures", lambda *_: None)
    items, peer, ours = small(), Attenuated(), Attenuated()
    ours.name = "ours"
    for _ in range(2):
        text = table.bench([peer], [ours], items, tmp_path / "out", tmp_path / "kept", lambda _: None)
    assert (peer.asked, ours.asked) == (len(items), 2 * len(items))
    assert text.count("| quiet |") == text.count("| ours |") == 5
    assert all(name in text for name in NAMES) and "| 32 | 2.00 | 4.00 | 16 | 36 | 0.125 |" in text
    kept = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert kept["set"] == digest(items) and len(kept["scores"]["ours"]) == len(items)


def test_griffin_lim_finds_a_sound_with_the_magnitudes() -> None:
    x = voice(1)
    window = np.hanning(513)[:512]
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, 512), 512)[::256] * window
    magnitude = np.abs(np.fft.rfft(frames)).T.astype(np.float32)
    errors = []
    for iterations in (0, 30):
        y = table.griffin_lim(magnitude, iterations)
        again = np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(y, 512)[::256] * window)).T
        errors.append(float(np.square(again - magnitude).mean()))
    assert errors[1] < errors[0] / 4


def test_a_slow_first_call_does_not_count() -> None:
    calls: list[int] = []
    timing = timed(lambda: calls.append(1), hop=16, algorithmic=32, count=50)
    assert len(calls) == 70 and timing.p50 <= timing.p99 and timing.total == 32 + timing.p99
