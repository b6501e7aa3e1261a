"""Pieces every training loop shares: precision, schedule, processes, batches, log."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel

from riverrun.models.errors import ModelError
from riverrun.models.training.optimizer import Optimizer, native

log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")
OTHER = 7_919_000_003  # from the seed of a process to that of the next
PATIENCE = timedelta(hours=12)  # for what the main process does alone, such as decoding a corpus


@contextmanager
def precision(device: torch.device, half: bool) -> Iterator[None]:
    """With `half`, layers compute in bfloat16 where it is fast, and attention as `kernels` says."""
    half = half and native(device)
    with kernels(device, half), torch.autocast(device.type, torch.bfloat16, enabled=half):
        yield


def kernels(device: torch.device, half: bool) -> AbstractContextManager[None]:
    """How attention is computed; what is computed again for derivatives has to find it as it was.

    On CPUs it is spelled out in bfloat16: the fused kernel's way back takes ten times as long in it there.
    """
    spelled = half and device.type == "cpu" and native(device)
    return sdpa_kernel(SDPBackend.MATH) if spelled else nullcontext()


class Timed(Protocol):
    """A recipe that says how long: minutes of wall clock, or steps, whichever end first."""

    @property
    def minutes(self) -> float: ...

    @property
    def steps(self) -> int | None: ...


def gone(recipe: Timed, step: int, seconds: float) -> float:
    """Share of the way, 1 or more at the end."""
    timed = seconds / (60 * recipe.minutes) if recipe.minutes else 1.0
    return max(timed, step / recipe.steps if recipe.steps else 0.0)


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


class Crew(Protocol):
    """Processes that train one model together, seen from one of them: what is asked of accelerate's state."""

    @property
    def device(self) -> torch.device: ...

    @property
    def num_processes(self) -> int: ...

    @property
    def process_index(self) -> int: ...

    @property
    def is_main_process(self) -> bool: ...

    def main_process_first(self) -> AbstractContextManager[None]: ...

    def wait_for_everyone(self) -> None: ...


@dataclass(frozen=True)
class Alone:
    """A crew of one, which needs no accelerate."""

    device: torch.device
    num_processes: int = 1
    process_index: int = 0
    is_main_process: bool = True

    def main_process_first(self) -> AbstractContextManager[None]:
        return nullcontext()

    def wait_for_everyone(self) -> None:
        return


def assemble(device: str | None = None) -> Crew:
    """All processes that a launcher started, each with a device of its own, or this one alone.

    Without `device` it is a GPU if there is one. Raises ModelError for one that several processes cannot share.
    """
    from accelerate import PartialState

    gpu = torch.cuda.is_available()
    # Where there is no GPU, accelerate has to be told so: else it takes each process for one that is alone.
    state = PartialState(cpu=device == "cpu" or not gpu, timeout=PATIENCE)
    if state.num_processes == 1:
        return Alone(torch.device(device or ("cuda" if gpu else "cpu")))
    if device not in (None, state.device.type):
        raise ModelError(
            f"device is {device!r}, and each of {state.num_processes} processes takes its own: leave it out, or say cpu"
        )
    found: Crew = state
    return found


def agreed(value: float, crew: Crew) -> float:
    """The first process's value, for all: clocks differ, and one that stops alone leaves the others waiting."""
    if crew.num_processes == 1:
        return value
    from accelerate.utils import broadcast

    return float(broadcast(torch.tensor([value], device=crew.device)))


def average(values: Sequence[Tensor], crew: Crew) -> None:
    """Make values the mean over all processes, in place; each has as many, of the same shapes.

    Gradients take this way and not DDP's, which averages what was computed through a module's `forward` only: here
    models are called through several methods, and two of them learn in one step.
    """
    if crew.num_processes == 1:
        return
    from accelerate.utils import reduce

    row: Tensor = reduce(torch.cat([value.flatten() for value in values]), "mean")
    for value, part in zip(values, row.split([value.numel() for value in values]), strict=True):
        value.copy_(part.view_as(value))


def gradients(module: nn.Module) -> list[Tensor]:
    """Of all parameters that have one."""
    return [p.grad for p in module.parameters() if p.grad is not None]


def descend(
    loss: Tensor, module: nn.Module, optimizer: Optimizer, rate: float, crew: Crew, most: float = 1.0
) -> Tensor:
    """Take a step down a loss, by the gradients of all processes; give their norm, of which `most` counts at most."""
    loss.backward()
    average(gradients(module), crew)
    norm = nn.utils.clip_grad_norm_(module.parameters(), most)
    optimizer.step(rate)
    module.zero_grad(set_to_none=True)
    return norm


def shared(module: M, crew: Crew) -> M:
    """The module, with the main process's weights in all."""
    if crew.num_processes > 1:
        from accelerate.utils import broadcast

        for value in module.state_dict().values():
            value.copy_(broadcast(value.contiguous()))
    return module


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

    @property
    def seed(self) -> int: ...


class Course(Protocol[M]):
    """A model and what changes from step to step: what `follow` asks of it."""

    model: M
    average: AveragedModel

    def state(self) -> dict[str, Any]: ...

    def resume(self, state: dict[str, Any]) -> None: ...


def states(course: object, *names: str) -> dict[str, Any]:
    """What resuming needs of some parts of a course."""
    return {name: getattr(course, name).state_dict() for name in names}


def restore(course: object, state: Mapping[str, Any], *names: str) -> None:
    """Go on from what `states` gave."""
    for name in names:
        getattr(course, name).load_state_dict(state[name])


def follow(
    course: Course[M],
    recipe: Recipe,
    draws: Callable[[int], Iterable[T]],
    learn: Callable[[T, float, float], dict[str, Tensor]],
    out: Path,
    crew: Crew,
    save: Callable[[M, Path], None] | None = None,
    resume: bool = False,
    check: Callable[[M], dict[str, Tensor]] | None = None,
) -> list[dict[str, float]]:
    """Train until the recipe says that it is enough; the model ends with averaged weights. Give the log.

    `draws` gives batches without end from a step on; `learn` takes one, a share of the peak rate and the share of the
    way, and tells what was measured. `save` is called with averaged weights each `save_minutes` and at the end, and
    `check` measures them for the log. Each process of a crew draws and learns, the main one does everything else.
    """
    out.mkdir(parents=True, exist_ok=True)
    averaged = cast(M, course.average.module)
    first, spent = resumed(course, out, crew.device) if resume else (0, 0.0)
    if crew.process_index:
        torch.manual_seed(recipe.seed + OTHER * crew.process_index)  # the courses have begun alike
    clock, step = Clock(recipe.log_seconds, recipe.save_minutes, spent), first
    rows, totals = list[dict[str, float]](), dict[str, list[Tensor]]()

    def write() -> None:
        if totals:
            rows.append(means(out, step, clock.spent, totals))
            totals.clear()

    def store() -> None:
        keep(out, {"course": course.state(), "step": step, "seconds": clock.spent})
        totals.update({name: [value] for name, value in (check(averaged) if check else {}).items()})
        write()

    for batch in draws(step):
        progress = agreed(gone(recipe, step, clock.spent), crew)
        if progress >= 1:
            break
        seen = learn(batch, schedule(progress, step), progress)
        step += 1
        if not crew.is_main_process:
            continue
        for name, value in seen.items():
            totals.setdefault(name, []).append(value)
        if clock.logs():
            write()
        if save and clock.saves():
            store()
            save(averaged, out)
    if crew.is_main_process and step > first:
        store()
    course.model.load_state_dict(averaged.state_dict())
    shared(course.model, crew).eval().requires_grad_(False)
    if save and crew.is_main_process:
        save(course.model, out)
    return rows


def resumed(course: Course[M], out: Path, device: torch.device) -> tuple[int, float]:
    """Have a course go on from what `keep` wrote, if it did; give its step and seconds, and let go of the rest."""
    if not (saved := kept(out, device)):
        return 0, 0.0
    course.resume(saved["course"])
    return saved["step"], saved["seconds"]


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
    place = (
        device if device.type == "cuda" else torch.device(device.type)
    )  # "cpu:0" is no place to torch.load
    state: dict[str, Any] = torch.load(out / "last.pt", weights_only=True, map_location=place)
    return state


def note(out: Path, step: int, value: float, norm: float, progress: float) -> dict[str, float]:
    row = {"step": step, "loss": round(value, 5), "norm": round(norm, 4), "progress": round(progress, 4)}
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    log.info("step %(step)d loss %(loss)g gradient %(norm)g progress %(progress)g", row)
    return row
