"""How long the optimiser takes for a step of speak-lite's transformer, beside torch's own Muon in bfloat16.

python -m tests.benchmarks.optimizer_step
"""

import time

import torch

from riverrun.models.speech.chunks import ChunkConfig, ChunkDit
from riverrun.models.training.optimizer import Muon, Optimizer, native

TURNS = 3


def seconds(plain: bool) -> float:
    """Of a step, the quickest of some."""
    model = ChunkDit(ChunkConfig(depth=6))
    optimizer = Optimizer(model, 1e-3)
    if plain:
        optimizer.parts[0] = torch.optim.Muon(optimizer.flat, lr=1e-3, adjust_lr_fn="match_rms_adamw")
    assert plain != isinstance(optimizer.parts[0], Muon)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    taken = []
    for _ in range(TURNS):
        begun = time.perf_counter()
        optimizer.step(1e-3)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def main() -> None:
    """Print both and their ratio."""
    torch.set_num_threads(1)
    ours, plain = seconds(plain=False), seconds(plain=True)
    manner = "bfloat16" if native(torch.device("cpu")) else "float32"
    print(
        f"{torch.backends.cpu.get_cpu_capability()}: ours in {manner} {ours:.2f} s, torch's {plain:.2f} s a step,"
    )
    print(f"{plain / ours:.1f} times as long")


if __name__ == "__main__":
    main()
