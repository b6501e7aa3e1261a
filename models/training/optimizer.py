"""What moves weights down their gradients: Muon for matrices, AdamW for the rest."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def native(device: torch.device) -> bool:
    """Whether bfloat16 is fast: a CPU without AVX-512 takes ten times as long to multiply in it as in float32."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"


class Muon(torch.optim.Muon):
    """The same in float32 where bfloat16, in which it makes its steps orthogonal, is not fast; states are alike."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        if native(self.param_groups[0]["params"][0].device):
            return super().step(closure)  # type: ignore[no-untyped-call]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                kept = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                kept.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(
                    p.grad.lerp(kept, group["momentum"]), group["ns_coefficients"], group["ns_steps"]
                )
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-0.2 * group["lr"] * max(p.shape) ** 0.5)


def orthogonal(x: Tensor, factors: Sequence[float], steps: int) -> Tensor:
    """A matrix whose singular values are all brought near 1, by Newton-Schulz iterations."""
    a, b, c = factors
    y = x.T if x.shape[0] > x.shape[1] else x
    y = y / y.norm().clamp_min(1e-7)
    for _ in range(steps):
        gram = y @ y.T
        y = torch.addmm(y, torch.addmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.T if x.shape[0] > x.shape[1] else y


class Optimizer:
    """Muon for weight matrices (convolutions as matrices), AdamW for everything else, embeddings among it.

    Sources: Jordan et al. 2024 (Muon); rate matched to AdamW's as in arXiv 2502.16982.
    """

    def __init__(self, module: nn.Module, rate: float) -> None:
        rows = {part.weight for part in module.modules() if isinstance(part, nn.Embedding)}
        large = (p for p in module.parameters() if p.ndim > 1 and min(p.shape[0], p[0].numel()) >= 8)
        self.matrices = [p for p in large if p not in rows]
        chosen = set(self.matrices)
        others = [p for p in module.parameters() if p not in chosen]
        self.flat = [nn.Parameter(p.detach().view(len(p), -1)) for p in self.matrices]  # same storage
        self.parts: list[torch.optim.Optimizer] = [
            Muon(self.flat, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
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
