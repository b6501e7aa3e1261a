"""Pieces every training loop shares: optimiser, schedule, batches, log."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


class Optimizer:
    """Muon for weight matrices (convolutions as matrices), AdamW for everything else.

    Sources: Jordan et al. 2024 (Muon); rate matched to AdamW's as in arXiv 2502.16982.
    """

    def __init__(self, module: nn.Module, rate: float) -> None:
        self.matrices = [p for p in module.parameters() if p.ndim > 1 and min(p.shape[0], p[0].numel()) >= 8]
        chosen = set(self.matrices)
        others = [p for p in module.parameters() if p not in chosen]
        self.flat = [nn.Parameter(p.detach().view(len(p), -1)) for p in self.matrices]  # same storage
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(self.flat, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]

    def step(self, rate: float) -> None:
        for flat, matrix in zip(self.flat, self.matrices, strict=True):
            flat.grad = None if matrix.grad is None else matrix.grad.view_as(flat)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def schedule(progress: float, step: int) -> float:
    """Share of the peak rate: 100 warm-up steps, then straight down to 2 % as progress goes 0 to 1."""
    return min(1.0, (step + 1) / 100) * max(0.02, 1 - progress)


def agreed(value: float, accelerator: Any) -> float:
    """The first process's value, for all: clocks differ, and one that stops alone leaves the others waiting."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast

    return float(broadcast(torch.tensor([value], device=accelerator.device)))


def batches(mixtures: Any, batch: int, start: int, accelerator: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches from example `start` on, without end, made by one worker; each process takes its own share."""
    from torch.utils.data import DataLoader

    mine = range(start + accelerator.process_index, 2**62, accelerator.num_processes)
    loader = DataLoader(mixtures, batch, sampler=mine, num_workers=1, prefetch_factor=4)
    for noisy, target in loader:
        yield noisy.to(accelerator.device), target.to(accelerator.device)


def note(out: Path, step: int, value: float, norm: float, progress: float) -> dict[str, float]:
    row = {"step": step, "loss": round(value, 5), "norm": round(norm, 4), "progress": round(progress, 4)}
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    log.info("step %(step)d loss %(loss)g gradient %(norm)g progress %(progress)g", row)
    return row
