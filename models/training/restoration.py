"""Train a restorer: its predictor first, then its flow, on mixtures made as it goes."""

import time
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any, Literal

import torch
from torch import Tensor, nn

from riverrun.models.restoration.network import Restorer
from riverrun.models.restoration.spectrum import analyse
from riverrun.models.restoration.tasks import observe
from riverrun.models.training.loop import agreed, batches, gone, keep, kept, note, precision, schedule
from riverrun.models.training.losses import Pesq, flow_loss, predictor_loss
from riverrun.models.training.optimizer import Optimizer


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train one stage of a restorer: a network, or the solver of a trained flow.

    Units: `minutes` of wall clock (or `steps`, whichever ends first), over which the rate falls from `rate` to 2 %
    of it; `batch` examples a step;
    `clip` is the largest gradient norm (None: no limit). `pesq` adds a listener
    model to the predictor's loss (needs the torch-pesq package).
    """

    stage: Literal["predictor", "flow", "tableau"] = "predictor"
    minutes: float = 60
    steps: int | None = None
    batch: int = 8
    rate: float = 2e-3
    clip: float | None = 1.0
    pesq: bool = True
    seed: int = 0
    save_minutes: float = 5
    log_steps: int = 50


def train(
    model: Restorer, recipe: Recipe, mixtures: Any, out: File, resume: bool = True
) -> list[dict[str, float]]:
    """Train one stage until its minutes are up; give the log, also written to `out`/log.jsonl.

    `mixtures` maps an index to (noisy, clean) arrays `[n]`. `out`/last.pt holds what resuming needs; a resumed
    run goes on from the step it had reached with the minutes it had left.
    """
    if recipe.stage == "tableau":
        from riverrun.models.training.tableau import fit

        return fit(model, recipe, mixtures, out)
    from accelerate import Accelerator

    accelerator = Accelerator()
    out.mkdir(parents=True, exist_ok=True)
    module = getattr(model, recipe.stage)
    if module is None:
        raise ValueError(f"this restorer has no {recipe.stage} to train")
    model.eval().requires_grad_(False)
    module.train().requires_grad_(True)
    model.to(accelerator.device)
    optimizer, step, spent, rows = Optimizer(module, recipe.rate), 0, 0.0, []
    if resume and (saved := kept(out, accelerator.device)):
        prefix = f"{recipe.stage}."  # another stage may have gone on since
        module.load_state_dict(
            {k[len(prefix) :]: v for k, v in saved["model"].items() if k.startswith(prefix)}
        )
        optimizer.load_state_dict(saved["optimizer"])
        step, spent = saved["step"], saved["seconds"]
    ready = accelerator.prepare(Stage(model, recipe))
    begun, saved_at = time.monotonic() - spent, time.monotonic()
    share = recipe.batch * accelerator.num_processes  # examples a step
    total = torch.zeros((), device=accelerator.device)
    for noisy, target in batches(mixtures, recipe.batch, step * share, accelerator):
        progress = agreed(gone(recipe, step, time.monotonic() - begun), accelerator)
        if progress >= 1:
            break
        generator = torch.Generator(noisy.device).manual_seed(
            recipe.seed * 1_000_003 + step + 7_919_000_003 * accelerator.process_index
        )
        value = ready(noisy, target, generator)
        accelerator.backward(value)
        norm = nn.utils.clip_grad_norm_(module.parameters(), recipe.clip or float("inf"))
        if torch.isfinite(norm):
            optimizer.step(recipe.rate * schedule(progress, step))
        module.zero_grad()
        step, total = step + 1, total + value.detach()
        if step % recipe.log_steps == 0 and accelerator.is_main_process:
            rows.append(note(out, step, float(total) / recipe.log_steps, float(norm), progress))
            total.zero_()
        if time.monotonic() - saved_at > 60 * recipe.save_minutes and accelerator.is_main_process:
            saved_at = time.monotonic()
            _save(out, model, optimizer, step, saved_at - begun)
    if accelerator.is_main_process:
        _save(out, model, optimizer, step, time.monotonic() - begun)
    model.eval().requires_grad_(False)
    return rows


class Stage(nn.Module):
    """The loss of one stage as a module, so that several GPUs can share a step."""

    def __init__(self, model: Restorer, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.stage = model, recipe.stage
        self.pesq = Pesq(model.config.spectrum.rate) if recipe.pesq else None

    def forward(self, noisy: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        spectrum = self.model.config.spectrum
        wanted = analyse(spectrum, target)[0]
        seen, _ = observe(self.model.config, analyse(spectrum, noisy)[0])
        if self.stage == "predictor":
            return predictor_loss(self.model, seen, noisy, target, wanted, self.pesq)
        with torch.no_grad(), precision(noisy.device, half=True):
            first = self.model.predict(seen)
        return flow_loss(self.model, seen, first, wanted, generator)


def _save(out: File, model: Restorer, optimizer: Optimizer, step: int, seconds: float) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    keep(out, state)
