"""The bench of the mark: what it costs speech, and whether it is found where it is, and only there."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from riverrun.media import Chunk
from riverrun.media.codecs import Decoder, Encoder
from riverrun.models.evaluation import metrics
from riverrun.models.evaluation.tables import cell, table
from riverrun.models.speech.marking import MARKED, Marker, detect
from riverrun.models.training.corpus import resample

Sound = NDArray[np.float32]
OPUS = 48_000  # Hz, that decoders give
KBPS = (64, 48, 32, 24)
HOP = 0.1  # seconds that are marked at once when that is timed


def opus(sound: Sound, rate: int, kbps: int) -> Sound:
    """What is left of sound after a call at so many kb/s.  # [n], at the same rate"""
    encoder = Encoder("opus", OPUS, bitrate=1000 * kbps)
    packets = encoder.encode(Chunk(resample(sound, rate, OPUS)[:, None], 0, OPUS)) + encoder.flush()
    decoder = Decoder("opus", OPUS, header=encoder.header)
    chunks = [chunk for packet in packets for chunk in decoder.decode(packet)] + decoder.flush()
    return resample(np.concatenate([chunk.data[:, 0] for chunk in chunks]), OPUS, rate)[: len(sound)]


@torch.inference_mode()
def bench(
    recorded: Sequence[tuple[str, Sound]],
    rate: int,
    tell: Callable[[str], object] = lambda _: None,
) -> str:
    """Mark recordings at a rate, judge them, and look for the mark before and after Opus; give the tables."""
    marker = Marker(rate)
    scores: dict[str, list[list[float]]] = {"as it was": [], "marked": []}
    ways = {"as it is": 0} | {f"Opus {kbps} kb/s": kbps for kbps in KBPS}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for name, sound in recorded:
        marked = marker(torch.from_numpy(sound)[None], marker.start(1))[0][0].numpy()
        reference = resample(sound, rate, metrics.RATE)
        for row, heard in zip(scores.values(), (sound, marked), strict=True):
            judged = resample(heard, rate, metrics.RATE)
            row.append([metrics.pesq(judged, reference), metrics.dnsmos(judged, reference)])
        for way, kbps in ways.items():
            pair = [detect(opus(s, rate, kbps) if kbps else s, rate) for s in (marked, sound)]
            found[way].append((pair[0], pair[1]))
        tell(f"{name}: {found['as it is'][-1][0]:.3f} marked, {found['as it is'][-1][1]:.3f} as it was")
    quality = [[name, *(cell(c) for c in zip(*rows, strict=True))] for name, rows in scores.items()]
    lines = table(["", "PESQ", "DNSMOS"], quality)
    lines += table(
        ["heard", "marked, found", "not marked, found", "least of marked", "most of not marked"],
        [[way, *_rates(pairs)] for way, pairs in found.items()],
    )
    seconds = sum(len(sound) for _, sound in recorded) / rate
    lines += [f"{len(recorded)} recordings, {seconds:.0f} s; found from a confidence of {MARKED} on; "
              f"marking takes {_speed(marker, rate):.4f} times real time"]  # fmt: skip
    return "\n".join(lines)


def _rates(pairs: Sequence[tuple[float, float]]) -> list[str]:
    """Shares found and the confidences nearest to the threshold, of pairs of marked and not."""
    marked, plain = np.array(pairs).T
    shares = [f"{np.mean(c >= MARKED):.1%} of {len(c)}" for c in (marked, plain)]
    return [*shares, f"{marked.min():.3f}", f"{plain.max():.3f}"]


def _speed(marker: Marker, rate: int, turns: int = 50) -> float:
    """Seconds of work for a second of sound, chunk by chunk."""
    chunk, state, times = 0.1 * torch.randn(1, int(HOP * rate)), marker.start(1), list[float]()
    for _ in range(turns):
        begun = time.perf_counter()
        _, state = marker(chunk, state)
        times.append(time.perf_counter() - begun)
    return float(np.median(times)) / HOP
