"""One hop of the default restorer: the folded frame step against the plain network, and how many sessions one core
holds by it, batched and one at a time, in one run.

python tests/benchmarks/restoration_step.py [sessions ...]
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import count

import numpy as np
import torch

from riverrun.media import Chunk
from riverrun.models import load
from riverrun.models.restoration.spectrum import to_real
from riverrun.models.restoration.stream import Request, Restoration
from riverrun.models.state import stack
from riverrun.streaming.scheduler import LIMIT, Costs, Load, demand


def milliseconds(call: Callable[[], object], count: int = 200) -> list[float]:
    """Times of `count` calls after a warm-up."""
    times = []
    for _ in range(count + 20):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times[20:])


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    model = load("restore-lite")
    assert isinstance(model, Restoration)
    hop = model.config.spectrum.hop / model.config.spectrum.rate * 1e3
    costs = Costs()
    print(
        f"{'sessions':>8} {'step p50':>9} {'p99':>7} {'real time':>9} {'plain p50':>9} {'plain / folded':>14}"
    )
    for sessions in [int(v) for v in sys.argv[1:]] or [1, 2, 4, 8, 16]:
        state = stack([model.open(Request(seed=i)) for i in range(sessions)])
        chunks = [Chunk(np.random.randn(256, 1).astype(np.float32) * 0.1, 0, 16_000)] * sessions
        step = milliseconds(lambda: model.step(chunks, state))  # noqa: B023
        nets = [net for net in (model.restorer.predictor, model.restorer.flow) if net]
        frames = [
            to_real(*[torch.randn(sessions, 256, 1, dtype=torch.complex64)] * n.config.inputs) for n in nets
        ]
        states = [net.start(sessions) for net in nets]
        calls = [1 if net is model.restorer.predictor else model.config.tableau.stages for net in nets]

        def plain() -> None:
            for net, x, s, n in zip(nets, frames, states, calls, strict=True):  # noqa: B023
                for _ in range(n):
                    net(x, torch.zeros(len(x)) if net.config.timed else None, s)

        slow, fast = statistics.median(milliseconds(plain, 50)), statistics.median(step)
        p99 = step[int(len(step) * 0.99)]
        costs.learn("hop", sessions, fast / 1e3)
        print(
            f"{sessions:8} {fast:6.2f} ms {p99:4.1f} ms {fast / hop:9.3f} {slow:6.2f} ms {slow / fast:14.2f}"
        )
    together, alone = held(costs, hop / 1e3, model.spec.max_batch), held(costs, hop / 1e3, 1)
    print(
        f"sessions in {LIMIT:.0%} of a core, which is what admission gives: {together} batched, {alone} one at a time"
    )


def held(costs: Costs, hop: float, most: int) -> int:
    """How many sessions admission lets in where up to `most` of them step together."""
    return next(n for n in count() if demand({"hop": Load(n + 1, hop, most)}, costs) > LIMIT)


if __name__ == "__main__":
    main()
