"""Learn a solver's tableau for a trained flow, the network frozen.

Source: arXiv 2512.19442 (learned Runge-Kutta: loss, optimiser, penalty), the variant that listens with PESQ.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from riverrun.models.restoration.network import Restorer, complex_noise
from riverrun.models.restoration.spectrum import analyse, synthesise
from riverrun.models.restoration.tableau import LearnedTableau
from riverrun.models.restoration.tasks import observe
from riverrun.models.training.loop import agreed, batches, gone, note, precision
from riverrun.models.training.losses import Pesq, level

if TYPE_CHECKING:
    from riverrun.models.training.restoration import Recipe

RATE = 1e-3  # of Adam
LIMIT = 2.0  # of the entries of a, softly
WIDE = 4.0  # the same for enhancement that listens with PESQ
WINDOWS = (320, 512, 640)  # samples, a quarter apart


def log_powers(x: Tensor, size: int) -> Tensor:
    """log10 of the power of quarter-overlapping Hann frames.  # [b, n] -> [b, y, t]"""
    window = torch.hann_window(size, device=x.device)
    spectrum = torch.stft(x, size, size // 4, window=window, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + 1e-7).log10()


class Solver(nn.Module):
    """A whole solve with derivatives to the tableau, and its loss."""

    def __init__(self, model: Restorer, pesq: bool) -> None:
        super().__init__()
        self.model, self.learned = model, LearnedTableau(model.config.tableau)
        self.pesq = Pesq(model.config.spectrum.rate) if pesq else None

    def solve(self, x: Tensor, conditions: tuple[Tensor, ...]) -> Tensor:
        """Carry x(0) to x(1) with the tableau as it now is.  # complex [b, y, t]"""
        a, b, c = self.learned()
        slopes: list[Tensor] = []
        for i in range(len(c)):
            here = x + sum((a[i, j] * k for j, k in enumerate(slopes)), torch.zeros_like(x))
            with precision(x.device, half=True):
                slopes.append(self.model.velocity(here, c[i].expand(len(x)), conditions))
        return x + sum((b[i] * k for i, k in enumerate(slopes)), torch.zeros_like(x))

    def forward(self, noisy: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        config = self.model.config
        with torch.no_grad():
            seen, _ = observe(config, analyse(config.spectrum, noisy)[0])
            with precision(noisy.device, half=True):
                first = self.model.predict(seen)
            x = config.path.begin(first, complex_noise(seen, generator))
        clean = self.solve(x, self.model.conditions(seen, first))
        gain = level(noisy, target)
        heard = synthesise(config.spectrum, clean)[0][:, config.spectrum.latency :] * gain
        wanted = target[:, : heard.shape[1]] * gain
        spectral = [(log_powers(heard, w) - log_powers(wanted, w)).square().mean() for w in WINDOWS]
        judged = (
            0.2 * self.pesq(heard, wanted) if self.pesq else heard.new_zeros(())
        )  # Pesq is half the distance
        limit = WIDE if self.pesq and config.task == "enhance" else LIMIT
        return 0.001 * torch.stack(spectral).mean() + judged + 0.1 * self.learned.stretch(limit)


def fit(model: Restorer, recipe: "Recipe", mixtures: Any, out: Path) -> list[dict[str, float]]:
    """Fit the tableau for the recipe's minutes and put it into the model's config; give the log.

    Raises ValueError if the model has no flow.
    """
    from accelerate import Accelerator

    if model.flow is None:
        raise ValueError("this restorer has no flow whose solver could be learned")
    accelerator = Accelerator()
    out.mkdir(parents=True, exist_ok=True)
    model.eval().requires_grad_(False)
    solver = Solver(model, recipe.pesq).to(accelerator.device)
    ready = accelerator.prepare(solver)
    optimizer = torch.optim.Adam(solver.learned.parameters(), RATE)
    begun, rows, total = time.monotonic(), [], 0.0
    for step, (noisy, target) in enumerate(batches(mixtures, recipe.batch, 0, accelerator), 1):
        progress = agreed(gone(recipe, step - 1, time.monotonic() - begun), accelerator)
        if progress >= 1:
            break
        value = ready(noisy, target, torch.Generator(noisy.device).manual_seed(recipe.seed + step))
        accelerator.backward(value)
        norm = nn.utils.clip_grad_norm_(solver.learned.parameters(), recipe.clip or float("inf"))
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad()
        total += float(value.detach())
        if step % recipe.log_steps == 0 and accelerator.is_main_process:
            rows.append(note(out, step, total / recipe.log_steps, float(norm), progress))
            total = 0.0
    model.config = replace(model.config, tableau=solver.learned.tableau())
    return rows
