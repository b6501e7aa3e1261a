"""Batch normalisation over groups of channels inside frequency sub-bands."""

from typing import Any

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn


class SubBandNorm(nn.Module):
    """Normalise `[b, c, y, t]` by statistics shared within (channel group x sub-band).

    Training takes the statistics of the batch; evaluation takes running ones, so a frame never depends on
    another frame and the whole norm is one multiply-add (`affine`).
    Shapes: weight, bias `[c, bands]`; running statistics `[groups, bands]`.
    Raises ValueError if the channels do not divide into groups or the bins into bands.
    Source: arXiv 2512.19442, sub-band grouped batch normalisation.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, c: int, bins: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        groups, bands = divide(c, bins)
        self.groups, self.bands, self.bins = groups, bands, bins
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(c, bands))
        self.bias = nn.Parameter(torch.zeros(c, bands))
        self.register_buffer("running_mean", torch.zeros(groups, bands))
        self.register_buffer("running_var", torch.ones(groups, bands))

    def forward(self, x: Tensor) -> Tensor:
        bands = rearrange(x, "b c (s y) t -> b c s y t", s=self.bands)
        if self.training:
            y, mean, var = _BatchNorm.apply(  # type: ignore[no-untyped-call]
                bands, self.weight, self.bias, self.groups, self.eps
            )
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var, self.momentum)
        else:
            y = _affine(bands, *self.affine(self.running_mean, self.running_var))
        joined: Tensor = rearrange(y, "b c s y t -> b c (s y) t")
        return joined

    def affine(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The norm as x * scale + shift for each (channel, sub-band).  # [g, s] twice -> [c, s] twice"""
        mean, rate = (self.spread(v) for v in (mean, torch.rsqrt(var + self.eps)))
        scale = self.weight * rate
        return scale, self.bias - mean * scale

    def spread(self, v: Tensor) -> Tensor:
        """Give each channel its group's value.  # [g, s] -> [c, s]"""
        return repeat(v, "g s -> (g c) s", c=self.weight.shape[0] // self.groups)

    def per_bin(self) -> tuple[Tensor, Tensor]:
        """The evaluation affine spread over bins, frequency first, as a one-frame step applies it.  # [y, c]"""
        wide = self.bins // self.bands
        scale, shift = self.affine(self.running_mean, self.running_var)
        return repeat(scale, "c s -> (s y) c", y=wide), repeat(shift, "c s -> (s y) c", y=wide)


def divide(c: int, bins: int) -> tuple[int, int]:
    """Into how many channel groups and sub-bands a norm divides. Raises ValueError where that does not go."""
    groups, bands = max(min(c // 4, 32), 1), 4 if bins >= 16 else 1
    if c % groups or bins % bands:
        raise ValueError(f"{c} channels x {bins} bins do not divide into {groups} groups x {bands} bands")
    return groups, bands


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    scale, shift = (v.to(x.dtype)[None, :, :, None, None] for v in (scale, shift))
    return (x * scale).add_(shift)


def _total(x: Tensor) -> Tensor:
    """Sum over batch, bins and time in float32 or wider.  # [b, c, s, y, t] -> [c, s]"""
    return x.flatten(3).sum(3, dtype=torch.promote_types(x.dtype, torch.float32)).sum(0)


class _BatchNorm(torch.autograd.Function):
    """Normalisation by grouped batch statistics, its derivative written out.

    Plain autograd keeps and walks four more tensors of the size of the input; on a CPU that costs more than the
    convolutions do. Gives the output, and the statistics without a derivative.  # x [b, c, s, y, t]
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Any:
        c = x.shape[1] // groups
        count = c * x[:, 0, 0].numel()
        mean, power = (reduce(_total(v), "(g c) s -> g s", "sum", g=groups) / count for v in (x, x.square()))
        var = (power - mean.square()).clamp_min(0)
        centre, rate = (repeat(v, "g s -> (g c) s", c=c) for v in (mean, torch.rsqrt(var + eps)))
        scale = weight * rate
        ctx.save_for_backward(x, weight, centre, rate)
        ctx.groups, ctx.count = groups, count
        ctx.mark_non_differentiable(mean, var)
        return _affine(x, scale, bias - centre * scale), mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, centre, rate = ctx.saved_tensors
        dy, c = grads[0], x.shape[1] // ctx.groups
        dbias = _total(dy)
        dweight = rate * (_total(dy * x) - centre * dbias)
        flat, slope = (
            repeat(reduce(weight * v, "(g c) s -> g s", "sum", g=ctx.groups), "g s -> (g c) s", c=c)
            / ctx.count
            for v in (dbias, dweight)
        )
        tilt = -rate.square() * slope
        dx = _affine(dy, rate * weight, -rate * flat - tilt * centre)
        return dx.add_(x * tilt.to(x.dtype)[None, :, :, None, None]), dweight, dbias, None, None
