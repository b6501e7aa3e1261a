"""Layers of a waveform autoencoder: weight-normed convolutions, Snake, and shortcuts without parameters.

Every layer takes `[b, c, t]` and the state its `start` made, and gives both on. A causal layer continues a stream
by any number of samples; any other needs the whole clip at once, since it pads the end with zeros.
Source: arXiv 2603.29339 (LongCat-AudioDiT), Oobleck of stable-audio-tools, DC-AE shortcuts of arXiv 2410.10733.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from riverrun.models.layers.snake import snake
from riverrun.models.state import State

DILATIONS = (1, 3, 9)


def shrink(x: Tensor, d: int, factor: int) -> Tensor:
    """Fold `factor` samples into channels, then average them down to d channels.  # [b, c, t] -> [b, d, t/factor]"""
    folded = rearrange(x, "b c (t f) -> b (c f) t", f=factor)
    return reduce(folded, "b (d n) t -> b d t", "mean", d=d)


def grow(x: Tensor, d: int, factor: int) -> Tensor:
    """Repeat channels, then unfold them into `factor` samples.  # [b, c, t] -> [b, d, t factor]"""
    copied = repeat(x, "b c t -> b (c n) t", n=d * factor // x.shape[1])
    return rearrange(copied, "b (d f) t -> b d (t f)", f=factor)


class Snake(nn.Module):
    """Snake; the logarithms of its frequency and of its size are learned by channel."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(c))
        self.beta = nn.Parameter(torch.zeros(c))

    def forward(self, x: Tensor) -> Tensor:
        return snake(x, self.alpha.exp()[:, None], self.beta.exp()[:, None])


class Conv(nn.Module):
    """A weight-normed convolution that continues from the last `past` samples.

    Zeros come before the first sample and, unless it is causal, as many after the last one. `beside` is a
    shortcut around it, `grow` or `shrink`.
    Shapes: x `[b, c, t]`, past `[b, c, past]` -> y `[b, d, t/stride]`, past.
    """

    weight_g: Tensor
    weight_v: Tensor
    bias: Tensor | None
    folded: Tensor | None

    def __init__(
        self,
        c: int,
        d: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        causal: bool = False,
        bias: bool = True,
        beside: Callable[[Tensor, int, int], Tensor] | None = None,
    ) -> None:
        super().__init__()
        spare = (kernel - 1) * dilation + 1 - stride  # samples an output sees beyond its own
        self.ahead = 0 if causal else spare // 2
        self.past = spare - self.ahead
        self.stride, self.dilation, self.beside = stride, dilation, beside
        _weigh(self, torch.empty(d, c, kernel), c * kernel, d if bias else 0)

    def start(self, batch: int) -> Tensor:
        """Silence before the first sample, in the dtype and on the device of the weights."""
        return self.weight_v.new_zeros(batch, self.weight_v.shape[1], self.past)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([past.to(x.dtype), x], dim=2) if self.past else x
        kept = joined[..., x.shape[2] :]
        if self.ahead:
            joined = F.pad(joined, (0, self.ahead))
        y = F.conv1d(joined, _weight(self), self.bias, self.stride, dilation=self.dilation)
        return y if self.beside is None else y + self.beside(x, y.shape[1], self.stride), kept


class Deconv(nn.Module):
    """A weight-normed transposed convolution of kernel 2 strides that continues from the last frame.

    A causal one gives a frame's samples as that frame comes; any other centres them, half a stride later.
    Shapes: x `[b, c, t]`, past `[b, c, 1]` -> y `[b, d, t stride]`, past.
    """

    weight_g: Tensor
    weight_v: Tensor
    bias: Tensor | None
    folded: Tensor | None

    def __init__(self, c: int, d: int, stride: int, causal: bool = False) -> None:
        super().__init__()
        self.stride, self.late = stride, 0 if causal else (stride + 1) // 2
        _weigh(self, torch.empty(c, d, 2 * stride), 2 * c, d)

    def start(self, batch: int) -> Tensor:
        """Silence before the first frame, in the dtype and on the device of the weights."""
        return self.weight_v.new_zeros(batch, self.weight_v.shape[0], 1)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([past.to(x.dtype), x], dim=2)
        y = F.conv_transpose1d(joined, _weight(self), self.bias, self.stride)
        return y.narrow(2, self.stride + self.late, x.shape[2] * self.stride), joined[..., -1:]


def _weigh(layer: nn.Module, weight: Tensor, fan: int, bias: int) -> None:
    """Give a layer its direction v, its lengths g over all axes but the first, and a bias."""
    nn.init.normal_(weight, std=fan**-0.5)
    layer.weight_v = nn.Parameter(weight)
    layer.weight_g = nn.Parameter(torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True))
    layer.register_parameter("bias", nn.Parameter(torch.zeros(bias)) if bias else None)
    layer.register_buffer("folded", None, persistent=False)


def _weight(layer: Conv | Deconv) -> Tensor:
    return torch._weight_norm(layer.weight_v, layer.weight_g, 0) if layer.folded is None else layer.folded


def fold(module: nn.Module) -> None:
    """Work out the weights of all convolutions once, as inference needs; training must not go on from here."""
    for layer in module.modules():
        if isinstance(layer, Conv | Deconv):
            layer.folded = None
            layer.folded = _weight(layer).detach()


class Stack(nn.Module):
    """Layers one after the other; the state holds what those with a past keep, by number."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def start(self, batch: int) -> State:
        kept = ((str(i), v) for i, v in enumerate(self.layers) if isinstance(v, Conv | Deconv | Stack))
        return {name: layer.start(batch) for name, layer in kept}

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        kept: State = {}
        for i, layer in enumerate(self.layers):
            if (name := str(i)) in state:
                x, kept[name] = layer(x, state[name])
            else:
                x = layer(x)
        return x, kept


class Unit(Stack):
    """A residual unit: Snake, a dilated convolution, Snake, a mix of channels."""

    def __init__(self, c: int, dilation: int, causal: bool) -> None:
        wide, mix = Conv(c, c, 7, dilation=dilation, causal=causal), Conv(c, c, 1)
        nn.init.constant_(mix.weight_g, 0.1)  # many units start near the identity, or sound starts as a roar
        super().__init__([Snake(c), wide, Snake(c), mix])

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.run(x, state)
        return x + y, state


def units(c: int, causal: bool) -> list[Unit]:
    return [Unit(c, dilation, causal) for dilation in DILATIONS]


class Down(Stack):
    """Residual units, then `stride` times fewer samples of d channels, beside the averaging shortcut."""

    def __init__(self, c: int, d: int, stride: int, causal: bool) -> None:
        super().__init__([*units(c, causal), Snake(c), Conv(c, d, 2 * stride, stride, causal=causal)])
        self.d, self.stride = d, stride

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.run(x, state)
        return y + shrink(x, self.d, self.stride), state


class Up(Stack):
    """`stride` times more samples of d channels, beside the duplicating shortcut, then residual units."""

    def __init__(self, c: int, d: int, stride: int, causal: bool) -> None:
        super().__init__([Snake(c), Deconv(c, d, stride, causal), *units(d, causal)])
        self.d, self.stride = d, stride

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.run(x, state)
        return y + grow(x, self.d, self.stride), state
