"""A chunk of the default model that speaks, in float32 and in half precision, alone and in batches, in one run: how
long it takes, and how far the sound is from that in float32. Times are of the processor, so that what else runs on a
machine shows little in them.

python tests/benchmarks/speech_step.py [rows ...]
"""

import sys
import time
from collections.abc import Iterator

import numpy as np
import torch

from riverrun.media import Chunk
from riverrun.models.evaluation.lines import HARVARD
from riverrun.models.registry import MODELS
from riverrun.models.speech.lite import Said, SpeakLite, load, speak
from riverrun.models.speech.reading.script import Script
from riverrun.models.state import stack

CHUNKS = 24  # that are timed


def timed(model: SpeakLite, symbols: str, rows: int) -> Iterator[float]:
    """The seconds that chunk after chunk takes, for sessions that say the same in step."""
    state = stack([model.open(Said(symbols, seed=i)) for i in range(rows)])
    while True:
        start = time.thread_time()
        made: Chunk | None = None
        while made is None:
            outputs, state = model.step([None] * rows, state)
            made = outputs[0][0]
        yield time.thread_time() - start


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    whole, half = (load(MODELS["speak-lite"].path, half=half) for half in (False, True))
    lines = [line.symbols for line in Script(whole.symbols.symbols).whole(" ".join(HARVARD))]
    chunk = whole.hop / float(whole.spec.gives[0].rate)
    print("| rows in a step | float32, ms | half precision | ratio | real-time factor of a row |")
    print("|---:|---:|---:|---:|---:|")
    for rows in [int(value) for value in sys.argv[1:]] or [1, 2, 4, 8]:
        runs = [timed(model, "".join(lines), rows) for model in (whole, half)]
        for run in runs:
            next(run)  # warm up
        took = np.array([[next(run) for run in runs] for _ in range(CHUNKS)])  # in turn: machines slow down
        first, second = np.median(took, axis=0)
        ratio = np.median(took[:, 1] / took[:, 0])
        print(
            f"| {rows} | {1e3 * first:.1f} | {1e3 * second:.1f} | {ratio:.2f} | {first / chunk / rows:.3f} |",
            flush=True,
        )
    apart = []
    for seed, symbols in enumerate(lines[:8]):
        wanted, got = (speak(model, Said(symbols, seed=seed, mark=False)) for model in (whole, half))
        if len(wanted) == len(got):
            apart.append(20 * np.log10(np.linalg.norm(got - wanted) / np.linalg.norm(wanted)))
    print(
        f"{len(apart)} of 8 sentences are as long; what differs in them is at {np.median(apart):.0f} dB (median)"
    )


if __name__ == "__main__":
    main()
