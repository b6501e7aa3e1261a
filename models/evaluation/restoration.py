"""The restoration bench: every system on every held-out item, judged, in one run; one table a part."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.models.evaluation.heldout import CONDITIONS, Item, digest
from riverrun.models.evaluation.metrics import NAMES, judge
from riverrun.models.evaluation.peers import System, Timing
from riverrun.models.evaluation.tables import cell, table

Sound = NDArray[np.float32]
Scores = dict[str, list[float]]  # item -> values in the order of NAMES
Tell = Callable[[str], object]
PICTURED = 5  # cases


def score(system: System, items: Sequence[Item], kept: Path | None) -> Scores:
    """Judge a system on every item; `kept` is a file that remembers it for this very set."""
    if kept is not None and kept.exists():
        scores: Scores = json.loads(kept.read_text())
        return scores
    scores = {item.name: judge(system.run(item.noisy), item.clean) for item in items}
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(scores))
    return scores


def bench(
    peers: Sequence[System],
    ours: Sequence[System],
    items: Sequence[Item],
    out: Path,
    kept: Path | None = None,
    tell: Tell = print,
) -> str:
    """Judge all systems; write table.md, scores.json and pictures into `out`; give the table.

    Scores of peers are kept between runs of the same set under `kept`; ours never are.
    """
    key = digest(items)
    scores: dict[str, Scores] = {}
    timings: dict[str, Timing] = {}
    for system in (*peers, *ours):
        tell(f"judging {system.name}")
        file = kept / key / f"{system.name}.json" if kept and system in peers else None
        scores[system.name] = score(system, items, file)
        timings[system.name] = system.timing()
    out.mkdir(parents=True, exist_ok=True)
    text = tables(scores, timings, items)
    (out / "table.md").write_text(text)
    document = {
        "set": key,
        "metrics": NAMES,
        "items": {i.name: {"speaker": i.speaker, "condition": i.condition, "snr": i.snr} for i in items},
        "scores": scores,
        "timings": {name: asdict(timing) for name, timing in timings.items()},
    }
    (out / "scores.json").write_text(json.dumps(document, indent=1, default=str))
    pictures([*peers, *ours], items, out)
    return text


def tables(scores: dict[str, Scores], timings: dict[str, Timing], items: Sequence[Item]) -> str:
    """All tables of one run, in Markdown."""
    damaged = [i for i in items if i.condition != "clean"]
    lines = [f"Held-out set {digest(items)}: {len(items)} items, {len(damaged)} of them damaged.\n"]
    for part in ("real", "synthetic"):
        names = [i.name for i in damaged if i.part == part]
        speakers = {i.speaker for i in damaged if i.part == part}
        lines += [
            f"**{part.capitalize()} speech** ({len(names)} mixtures, {len(speakers)} speakers; 95 % intervals)\n"
        ]
        lines += table(["", *NAMES], [[s, *_cells(scores[s], names)] for s in scores])
    lines += ["**By condition, real speech** (PESQ / DistillMOS)\n"]
    lines += _by_condition(scores, items)
    lines += ["**Clean speech in** (PESQ of what comes out, both parts)\n"]
    clean = [i.name for i in items if i.condition == "clean"]
    lines += table(["", "PESQ"], [[s, _mean(scores[s], clean, 0)] for s in scores])
    lines += ["**Delay and cost** on one core\n"]
    head = ["", "algorithmic ms", "p50 ms a hop", "p99", "hop ms", "total ms", "real-time factor"]
    rows = [
        [
            s,
            f"{t.algorithmic:.0f}",
            f"{t.p50:.2f}",
            f"{t.p99:.2f}",
            f"{t.hop:g}",
            f"{t.total:.0f}",
            f"{t.rtf:.3f}",
        ]
        for s, t in timings.items()
    ]
    return "\n".join(lines + table(head, rows))


def _by_condition(scores: dict[str, Scores], items: Sequence[Item]) -> list[str]:
    kinds = [c for c in CONDITIONS if c != "clean"]
    rows = []
    for system, values in scores.items():
        cells = []
        for kind in kinds:
            names = [i.name for i in items if i.part == "real" and i.condition == kind]
            pair = (np.mean([values[n][k] for n in names]) for k in (0, NAMES.index("DistillMOS")))
            cells.append(" / ".join(f"{v:.2f}" for v in pair) if names else "")
        rows.append([system, *cells])
    return table(["", *kinds], rows)


def _cells(scores: Scores, names: Sequence[str]) -> list[str]:
    return [_mean(scores, names, k) for k in range(len(NAMES))]


def _mean(scores: Scores, names: Sequence[str], k: int) -> str:
    return cell([scores[name][k] for name in names])


def pictures(systems: Sequence[System], items: Sequence[Item], out: Path) -> None:
    """Spectrograms of one item a condition: the input, every system, the clean speech."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for kind in [c for c in CONDITIONS if c != "clean"][:PICTURED]:
        item = next((i for i in items if i.condition == kind and i.part == "real"), None)
        if item is None:
            continue
        shown = [*((s.name, s.run(item.noisy)) for s in systems), ("clean", item.clean)]
        figure, axes = pyplot.subplots(len(shown), 1, figsize=(9, 1.7 * len(shown)), sharex=True)
        for axis, (name, sound) in zip(axes, shown, strict=True):
            _spectrogram(axis, sound)
            axis.set_title(name, fontsize=9, loc="left")
        figure.suptitle(f"{item.name}: {kind}, {item.snr:.0f} dB, {item.speaker}", fontsize=10)
        figure.tight_layout()
        figure.savefig(out / f"{kind.replace('+', '-')}.png", dpi=90)
        pyplot.close(figure)


def _spectrogram(axis: Any, sound: Sound) -> None:
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, 256), 512)[::128] * np.hanning(512)
    power = 20 * np.log10(np.abs(np.fft.rfft(frames)).T + 1e-4)
    extent = (0, len(sound) / 16_000, 0, 8)
    axis.imshow(power, origin="lower", aspect="auto", extent=extent, vmin=-50, vmax=30, cmap="magma")
    axis.set_ylabel("kHz", fontsize=7)


def griffin_lim(magnitude: Sound, iterations: int, size: int = 512, hop: int = 256) -> Sound:
    """Phases for magnitudes by alternating projections; Hann windows.  # [y, t] -> [n]

    Source: Griffin and Lim 1984.
    """
    window = np.hanning(size + 1)[:size]
    rng = np.random.default_rng(0)
    spectrum = magnitude * np.exp(2j * np.pi * rng.random(magnitude.shape))
    for i in range(iterations + 1):
        frames = np.fft.irfft(spectrum.T, size) * window
        total, weight = (
            np.zeros(hop * (len(frames) - 1) + size),
            np.full(hop * (len(frames) - 1) + size, 1e-8),
        )
        for t, frame in enumerate(frames):
            total[t * hop : t * hop + size] += frame
            weight[t * hop : t * hop + size] += window**2
        sound = total / weight
        if i < iterations:
            again = np.lib.stride_tricks.sliding_window_view(sound, size)[::hop] * window
            phases = np.fft.rfft(again).T
            spectrum = magnitude * phases / np.maximum(np.abs(phases), 1e-8)
    return np.asarray(sound, np.float32)


class GriffinLim:
    """Mel vocoding by the pseudo-inverse of 80 mel bands and Griffin-Lim, which sees the whole clip."""

    def __init__(self, iterations: int) -> None:
        self.name, self.iterations = f"Griffin-Lim, {iterations}", iterations

    def run(self, x: Sound) -> Sound:
        import torch

        from riverrun.models.restoration.tasks import mel_filters, mel_inverse

        padded = np.pad(x, (256, 768))
        frames = np.lib.stride_tricks.sliding_window_view(padded, 512)[::256] * np.hanning(513)[:512]
        magnitude = torch.from_numpy(np.abs(np.fft.rfft(frames)).T[:-1].astype(np.float32))
        seen = (mel_inverse(16_000, 512) @ (mel_filters(16_000, 512) @ magnitude)).abs().numpy()
        full = np.concatenate([seen, np.zeros((1, seen.shape[1]), np.float32)])
        return griffin_lim(full, self.iterations)[256 : 256 + len(x)]

    def timing(self) -> Timing:
        return Timing(float("inf"), 16, 0, 0)


def bench_vocoding(systems: Sequence[System], items: Sequence[Item], out: Path, tell: Tell = print) -> str:
    """Judge vocoders on the clean speech of a held-out set, which they see as a mel spectrogram only."""
    out.mkdir(parents=True, exist_ok=True)
    scores: dict[str, Scores] = {}
    for system in systems:
        tell(f"judging {system.name}")
        scores[system.name] = {item.name: judge(system.run(item.clean), item.clean) for item in items}
    lines = [f"Clean speech of held-out set {digest(items)}, from 80 mel bands.\n"]
    for part in ("real", "synthetic"):
        names = [i.name for i in items if i.part == part]
        lines += [f"**{part.capitalize()} speech** ({len(names)} clips)\n"]
        lines += table(["", *NAMES], [[s, *_cells(scores[s], names)] for s in scores])
    text = "\n".join(lines)
    (out / "vocoding.md").write_text(text)
    return text
