"""A Runge-Kutta tableau that can be learned for a frozen network.

Source: arXiv 2512.19442 (learned Runge-Kutta), parametrisation with nodes up to c_max and weights from b_min.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from riverrun.models.flow import Tableau

C_MAX, B_MIN = 0.85, 0.05


def clipped(base: Tableau, c_max: float = C_MAX) -> Tableau:
    """The tableau with its nodes shrunk so that none lies beyond c_max; rows of a still add up to their node."""
    shrink = min(1.0, c_max / max(base.c))
    return Tableau(
        tuple(tuple(v * shrink for v in row) for row in base.a), base.b, tuple(c * shrink for c in base.c)
    )


class LearnedTableau(nn.Module):
    """Unconstrained numbers that always make a valid explicit tableau of q stages.

    Nodes rise from 0 and end at or below c_max; weights are at least b_min and add to 1; each row of a adds up
    to its node. Raises ValueError if the base method's nodes do not rise.
    """

    def __init__(self, base: Tableau, c_max: float = C_MAX, b_min: float = B_MIN) -> None:
        super().__init__()
        base, q = clipped(base, c_max), base.stages
        gaps = torch.tensor(base.c).diff()
        if q < 2 or gaps.min() <= 0:
            raise ValueError(f"nodes are {base.c}, expected at least two that rise")
        self.c_max, self.b_min = c_max, b_min
        weights = ((torch.tensor(base.b) - b_min) / (1 - q * b_min)).clamp_min(1e-3)
        self.nodes = nn.Parameter(torch.logit(gaps))
        self.weights = nn.Parameter(weights.log())
        rows = torch.zeros(q, q)
        for i, row in enumerate(base.a):
            rows[i, :i] = torch.tensor(row)
        self.rows = nn.Parameter(rows)

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """a `[q, q]`, b `[q]`, c `[q]`, with derivatives."""
        c = torch.cat([self.nodes.new_zeros(1), torch.sigmoid(self.nodes).cumsum(0)])
        c = c * (self.c_max / c[-1]).clamp(max=1.0)
        b = (1 - len(c) * self.b_min) * torch.softmax(self.weights, 0) + self.b_min
        rows = self.rows.tril(-1)
        a = rows * rearrange(c / (rows.sum(1) + 1e-8), "q -> q 1")
        return a, b, c

    def tableau(self) -> Tableau:
        """The tableau as plain numbers, for a checkpoint."""
        with torch.no_grad():
            a, b, c = (v.double() for v in self())
        rows = tuple(tuple(float(v) for v in a[i, :i]) for i in range(len(c)))
        nodes = tuple(sum(row) for row in rows)
        return Tableau(rows, tuple(float(v) for v in b / b.sum()), nodes)

    def stretch(self, limit: float) -> Tensor:
        """Sum of squared excess of a beyond [-limit, limit], the penalty that keeps it tame."""
        a: Tensor = self()[0]
        return (a.abs() - limit).clamp_min(0).square().sum()
