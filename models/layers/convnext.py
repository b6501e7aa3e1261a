"""ConvNeXt over time, in streams: each frame with the last ones, or whole clips centred.

Layers take `[b, t, c]` and the state that their `start` made, and give both on. Source: arXiv 2201.03545.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riverrun.models.state import State

KERNEL = 7  # frames a layer sees
FEW = 4  # frames for which calling the library's convolution takes longer than the sums do


def zeros(weight: Tensor, *shape: int) -> Tensor:
    """A state of zeros where a weight is, as precise as that, and at least in float32."""
    return weight.new_zeros(shape, dtype=torch.promote_types(weight.dtype, torch.float32))


class Conv(nn.Module):
    """A convolution over time that continues from the last frames, or one that is centred.

    Shapes: x `[b, t, c]`, past `[b, kernel - 1, c]` -> y `[b, t, d]`, past.
    """

    def __init__(self, c: int, d: int, kernel: int, causal: bool, groups: int = 1) -> None:
        super().__init__()
        self.kernel, self.causal, self.c = kernel, causal, c
        self.run = nn.Conv1d(c, d, kernel, groups=groups)

    def start(self, batch: int) -> Tensor:
        return zeros(self.run.weight, batch, self.kernel - 1, self.c)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        if self.causal:
            joined = torch.cat([past.to(x.dtype), x], dim=1)
        else:
            joined = F.pad(x, (0, 0, self.kernel // 2, self.kernel // 2))
        if self.run.groups == self.c and x.shape[1] <= FEW and self.run.bias is not None:
            y = (joined.unfold(1, self.kernel, 1) * self.run.weight[:, 0]).sum(3) + self.run.bias
        else:
            y = self.run(joined.transpose(1, 2)).transpose(1, 2)
        return y, joined[:, x.shape[1] :].to(past.dtype)


class Layer(nn.Module):
    """ConvNeXt: a convolution of each channel over time, then a network of each frame, beside a shortcut."""

    def __init__(self, c: int, causal: bool) -> None:
        super().__init__()
        self.conv = Conv(c, c, KERNEL, causal, groups=c)
        self.norm = nn.LayerNorm(c, eps=1e-6)
        self.grow, self.shrink = nn.Linear(c, 3 * c), nn.Linear(3 * c, c)
        self.size = nn.Parameter(torch.full((c,), 0.15))

    def start(self, batch: int) -> Tensor:
        return self.conv.start(batch)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        y, past = self.conv(x, past)
        return x + self.size * self.shrink(F.gelu(self.grow(self.norm(y)))), past


class Layers(nn.Module):
    """Layers in a row; the state is the past of each."""

    def __init__(self, c: int, count: int, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(c, causal) for _ in range(count))

    def start(self, batch: int) -> State:
        return {str(i): layer.start(batch) for i, layer in enumerate(self.layers) if isinstance(layer, Layer)}

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        kept: State = {}
        for i, layer in enumerate(self.layers):
            x, kept[str(i)] = layer(x, state[str(i)])
        return x, kept
