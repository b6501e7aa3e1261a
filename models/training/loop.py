"""Pieces every training loop shares: optimiser, schedule, batches, log."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


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


class Timed(Protocol):
    """A recipe that says how long: minutes of wall clock, or steps, whichever end first."""

    @property
    def minutes(self) -> float: ...

    @property
    def steps(self) -> int | None: ...


def gone(recipe: Timed, step: int, seconds: float) -> float:
    """Share of the way, 1 or more at the end."""
    return max(seconds / (60 * recipe.minutes), step / recipe.steps if recipe.steps else 0.0)


def schedule(progress: float, step: int) -> float:
    """Share of the peak rate: 100 warm-up steps, then straight down to 2 % as progress goes 0 to 1."""
    return min(1.0, (step + 1) / 100) * max(0.02, 1 - progress)


class Clock:
    """How long a run has taken, in all its parts, and when to log and to save. Units: seconds, minutes."""

    def __init__(self, log_seconds: float, save_minutes: float, spent: float = 0.0) -> None:
        self.begun = time.monotonic() - spent
        self.logged = self.saved = time.monotonic()
        self.log_seconds, self.save_seconds = log_seconds, 60 * save_minutes

    @property
    def spent(self) -> float:
        return time.monotonic() - self.begun

    def logs(self) -> bool:
        """Whether it is time for a line in the log; then it is not for a while."""
        due = time.monotonic() - self.logged > self.log_seconds
        self.logged = time.monotonic() if due else self.logged
        return due

    def saves(self) -> bool:
        """Whether it is time to save; then it is not for a while."""
        due = time.monotonic() - self.saved > self.save_seconds
        self.saved = time.monotonic() if due else self.saved
        return due


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


class Recipe(Timed, Protocol):
    """What `follow` asks of a recipe."""

    @property
    def log_seconds(self) -> float: ...

    @property
    def save_minutes(self) -> float: ...


class Course(Protocol[M]):
    """A model and what changes from step to step: what `follow` asks of it."""

    model: M
    average: AveragedModel

    def state(self) -> dict[str, Any]: ...

    def resume(self, state: dict[str, Any]) -> None: ...


def follow(
    course: Course[M],
    recipe: Recipe,
    draws: Callable[[int], Iterable[T]],
    learn: Callable[[T, float, float], dict[str, Tensor]],
    out: Path,
    device: torch.device,
    save: Callable[[M, Path], None] | None = None,
    resume: bool = False,
) -> list[dict[str, float]]:
    """Train until the recipe says that it is enough; the model ends with averaged weights. Give the log.

    `draws` gives batches without end from a step on; `learn` takes one, a share of the peak rate and the share of the
    way, and tells what was measured. `save` is called with averaged weights each `save_minutes` and at the end.
    """
    out.mkdir(parents=True, exist_ok=True)
    average, step, spent = cast(M, course.average.module), 0, 0.0
    if resume and (saved := kept(out, device)):
        course.resume(saved["course"])
        step, spent = saved["step"], saved["seconds"]
    clock = Clock(recipe.log_seconds, recipe.save_minutes, spent)
    rows, totals = list[dict[str, float]](), dict[str, list[Tensor]]()
    for batch in draws(step):
        if (progress := gone(recipe, step, clock.spent)) >= 1:
            break
        for name, value in learn(batch, schedule(progress, step), progress).items():
            totals.setdefault(name, []).append(value)
        step += 1
        if clock.logs():
            rows.append(means(out, step, clock.spent, totals))
            totals = {}
        if save and clock.saves():
            keep(out, {"course": course.state(), "step": step, "seconds": clock.spent})
            save(average, out)
    if totals:
        rows.append(means(out, step, clock.spent, totals))
        keep(out, {"course": course.state(), "step": step, "seconds": clock.spent})
    course.model.load_state_dict(average.state_dict())
    course.model.eval().requires_grad_(False)
    if save:
        save(course.model, out)
    return rows


def means(out: Path, step: int, seconds: float, totals: dict[str, list[Tensor]]) -> dict[str, float]:
    """Write and give the means of what was measured since the last row."""
    found = {name: round(float(torch.stack(values).mean()), 5) for name, values in totals.items()}
    row = {"step": step, "seconds": round(seconds, 1), **found}
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    log.info(" ".join(f"{name} {value:g}" for name, value in row.items()))
    return row


def keep(out: Path, state: dict[str, Any]) -> None:
    """Write what resuming needs to `out`/last.pt, whole or not at all."""
    torch.save(state, out / "last.tmp")
    (out / "last.tmp").replace(out / "last.pt")


def kept(out: Path, device: torch.device) -> dict[str, Any] | None:
    """What `keep` wrote; None if it did not."""
    if not (out / "last.pt").exists():
        return None
    state: dict[str, Any] = torch.load(out / "last.pt", weights_only=True, map_location=device)
    return state


def note(out: Path, step: int, value: float, norm: float, progress: float) -> dict[str, float]:
    row = {"step": step, "loss": round(value, 5), "norm": round(norm, 4), "progress": round(progress, 4)}
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    log.info("step %(step)d loss %(loss)g gradient %(norm)g progress %(progress)g", row)
    return row
