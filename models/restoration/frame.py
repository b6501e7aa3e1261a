"""One frame through a Backbone with as few operations as a CPU allows.

A frame is small, so what counts is the number of calls, not the arithmetic. Against the module it is made from:
- frequency comes first and channels last, `[b y, c]`, so that every convolution is one matrix product over three
  neighbouring bins;
- that product gives the taps of this frame and of two later ones at once; what later frames need is kept in an
  accumulator instead of the inputs, and the bias travels with it;
- a convolution that is decoupled, and wide enough to gain by it, stays so: nine products a channel, then one matrix;
- norm, convolution bias and flow time are one multiply-add, residual scales are inside the weights;
- all buffers exist before the first frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn.functional import silu

from riverrun.models.layers.conv import CausalConv2d, DecoupledConv2d
from riverrun.models.layers.norm import SubBandNorm
from riverrun.models.layers.resample import matrix
from riverrun.models.restoration.backbone import HALF, Backbone, Residual, parts
from riverrun.models.state import State

GAIN = 32  # output channels a kernel from which a decoupled convolution is faster than a dense one


@dataclass
class Buffers:
    """Where one convolution works, for one batch size."""

    inside: Tensor  # [b, y, c], its input between two rows of zeros
    windows: Tensor  # [b, y, 3, c], the same memory: three neighbouring bins
    columns: Tensor  # [b y, 3 c]
    products: Tensor  # [b y, 3 d]: for this frame, the next tap's, the one after

    @classmethod
    def make(cls, b: int, y: int, c: int, d: int, like: Tensor) -> "Buffers":
        padded = like.new_zeros(b, y + 2, c)
        windows = padded.as_strided((b, y, 3, c), ((y + 2) * c, c, c, 1))
        return cls(padded[:, 1:-1], windows, like.new_empty(b * y, 3 * c), like.new_empty(b * y, 3 * d))


@dataclass
class Spread:
    """Where one decoupled convolution works, for one batch size."""

    inside: Tensor  # [b, y, c], its input between two rows of zeros
    padded: Tensor  # [b, y + 2, c], the same memory with them
    spread: Tensor  # [b, y, k, c], what its kernels give
    products: Tensor  # [b y, d]


class FrameConv:
    """A causal 3x3 convolution, one frame at a time; its state is what earlier frames already add to later ones."""

    def __init__(self, name: str, conv: CausalConv2d, bins: int, scale: float, bias: Tensor | None) -> None:
        """`bias` replaces the layer's own (which whoever reads the output may have taken over)."""
        self.names = [f"{name.replace('.', '/')}/{i}" for i in range(conv.dilation[1])]
        self.bins, self.c, self.d = bins, conv.in_channels, conv.out_channels
        self.weight = rearrange(conv.dense().flip(3) * scale, "d c y t -> (y c) (t d)").contiguous()
        self.bias = self.weight.new_zeros(self.d) if bias is None else bias
        self.buffers: dict[int, Buffers] = {}

    def start(self, batch: int) -> State:
        """Accumulators `[b, y, 3 d]`, one per step of dilation; the third part always holds the bias."""
        return {
            name: repeat(self.bias, "d -> b y (3 d)", b=batch, y=self.bins).clone() for name in self.names
        }

    def work(self, batch: int) -> Buffers:
        if batch not in self.buffers:
            self.buffers[batch] = Buffers.make(batch, self.bins, self.c, self.d, self.weight)
        return self.buffers[batch]

    def inside(self, batch: int) -> Tensor:
        """Where its input is to stand.  # [b, y, c]"""
        return self.work(batch).inside

    def __call__(self, batch: int, state: State) -> Tensor:
        """Convolve what stands `inside`; the accumulators move on.  # -> [b y, d]"""
        work = self.work(batch)
        due = state[self.names[0]]
        work.columns.view(work.windows.shape).copy_(work.windows)
        torch.addmm(due.view(-1, 3 * self.d), work.columns, self.weight, out=work.products)
        due.view(-1, 3 * self.d)[:, : 2 * self.d].copy_(work.products[:, self.d :])
        for here, there in zip(self.names, self.names[1:], strict=False):
            state[here], state[there] = state[there], state[here]
        return work.products[:, : self.d]


class FrameDecoupled:
    """A decoupled convolution, one frame at a time; its state is the input frames it looks back on, oldest first.

    A frame of a whole network, against its dense folding, at width 64 and 128: 2.4 and 3.9 times as fast at rank 1,
    1.7 and 2.5 at rank 2, 1.2 and 1.6 at rank 4. Narrow ones and read-outs gain nothing, see `frame_conv`.
    """

    def __init__(
        self, name: str, conv: DecoupledConv2d, bins: int, scale: float, bias: Tensor | None
    ) -> None:
        """`bias` replaces the layer's own (which whoever reads the output may have taken over)."""
        self.ahead = conv.dilation[1]  # frames between two taps
        self.names = [f"{name.replace('.', '/')}/{i}" for i in range(conv.past)]
        self.bins, self.c, self.d, self.rank = bins, conv.in_channels, conv.out_channels, conv.rank
        self.taps = rearrange(conv.kernels, "(c k) 1 y t -> t y k c", k=self.rank).contiguous()
        self.mix = rearrange(conv.mix * scale, "d (c k) 1 1 -> (k c) d", k=self.rank).contiguous()
        self.bias = self.mix.new_zeros(self.d) if bias is None else bias
        self.buffers: dict[int, Spread] = {}

    def start(self, batch: int) -> State:
        """Silence `[b, y + 2, c]`, a frame a name."""
        return {name: self.mix.new_zeros(batch, self.bins + 2, self.c) for name in self.names}

    def work(self, batch: int) -> Spread:
        if batch not in self.buffers:
            padded = self.mix.new_zeros(batch, self.bins + 2, self.c)
            spread = self.mix.new_empty(batch, self.bins, self.rank, self.c)
            products = self.mix.new_empty(batch * self.bins, self.d)
            self.buffers[batch] = Spread(padded[:, 1:-1], padded, spread, products)
        return self.buffers[batch]

    def inside(self, batch: int) -> Tensor:
        """Where its input is to stand.  # [b, y, c]"""
        return self.work(batch).inside

    def __call__(self, batch: int, state: State) -> Tensor:
        """Convolve what stands `inside`; the frames looked back on move on.  # -> [b y, d]"""
        work = self.work(batch)
        oldest, first = state[self.names[0]], True
        for frame, taps in zip((oldest, state[self.names[self.ahead]], work.padded), self.taps, strict=True):
            for i, tap in enumerate(taps):
                here = frame[:, i : i + self.bins, None]
                if first:
                    torch.mul(here, tap, out=work.spread)
                else:
                    work.spread.addcmul_(here, tap)
                first = False
        oldest.copy_(work.padded)
        frames = [state[name] for name in self.names]
        state.update(zip(self.names, [*frames[1:], oldest], strict=True))
        return torch.addmm(self.bias, work.spread.flatten(2).flatten(0, 1), self.mix, out=work.products)


def frame_conv(
    name: str, conv: CausalConv2d, bins: int, scale: float, bias: Tensor | None
) -> FrameConv | FrameDecoupled:
    """Whichever form of a convolution is faster: few kernels for many outputs pay, others are folded dense."""
    if isinstance(conv, DecoupledConv2d) and conv.out_channels >= GAIN * conv.rank:
        return FrameDecoupled(name, conv, bins, scale, bias)
    return FrameConv(name, conv, bins, scale, bias)


class FrameResidual:
    """A Residual block for one frame; `scale` is applied to all it puts out, `extra` added to its bias."""

    def __init__(
        self, name: str, block: Residual, times: Tensor | None, scale: float, extra: Tensor | float
    ) -> None:
        self.through = HALF * scale
        self.skip: Tensor | None = None
        bias = block.conv2.bias * self.through + extra
        if block.skip is not None:
            weight, added = _pointwise(block.skip, self.through)
            bias, self.skip = bias + added, weight
        first = block.norm0.bins
        self.sample = matrix(block.resample, first).to(bias) if block.resample else None
        self.conv1 = frame_conv(f"{name}.conv1", block.conv1, block.norm1.bins, 1.0, None)
        self.conv2 = frame_conv(f"{name}.conv2", block.conv2, block.norm1.bins, HALF * scale, bias)
        self.scale0, self.shift0 = block.norm0.per_bin()
        self.scale1, shift1 = block.norm1.per_bin()
        middle = block.conv1.bias[None] if times is None else block.conv1.bias + block.shift(times)
        self.shifts1 = [shift1 + self.scale1 * v for v in middle]  # one a flow time
        self.outputs: dict[int, list[Tensor]] = {}

    def work(self, b: int) -> list[Tensor]:
        """Own buffers: the block's output, then the activation and the input resampled."""
        if b not in self.outputs:
            y, (y0, c) = self.conv1.bins, self.scale0.shape
            like = self.scale0
            self.outputs[b] = [like.new_empty(b * y, self.conv2.d)]
            if self.sample is not None:
                self.outputs[b] += [like.new_empty(b, y0, c), like.new_empty(b, y, c)]
        return self.outputs[b]

    def __call__(self, x: Tensor, batch: int, state: State, stage: int) -> Tensor:
        """# [b y, c] -> [b y', d]"""
        out, *more = self.work(batch)
        inside1, inside2 = self.conv1.inside(batch), self.conv2.inside(batch)
        rows = _rows(x, batch)
        if self.sample is None:
            silu(torch.addcmul(self.shift0, rows, self.scale0, out=inside1), inplace=True)
        else:
            silu(torch.addcmul(self.shift0, rows, self.scale0, out=more[0]), inplace=True)
            sample = self.sample.expand(batch, -1, -1)
            torch.bmm(sample, more[0], out=inside1)
            x = torch.bmm(sample, rows, out=more[1]).view(-1, x.shape[1])
        middle = _rows(self.conv1(batch, state), batch)
        silu(torch.addcmul(self.shifts1[stage], middle, self.scale1, out=inside2), inplace=True)
        last = self.conv2(batch, state)
        if self.skip is None:
            return torch.add(last, x, alpha=self.through, out=out)
        return torch.addmm(last, x, self.skip, out=out)


class FrameHead:
    """norm, SiLU and the convolution that reads a level out."""

    def __init__(self, name: str, norm: SubBandNorm, conv: CausalConv2d) -> None:
        self.scale, self.shift = norm.per_bin()
        self.conv = frame_conv(name, conv, norm.bins, 1.0, conv.bias)

    def __call__(self, x: Tensor, batch: int, state: State) -> Tensor:
        inside, rows = self.conv.inside(batch), _rows(x, batch)
        silu(torch.addcmul(self.shift, rows, self.scale, out=inside), inplace=True)
        return _rows(self.conv(batch, state), batch)


class FrameStep:
    """A Backbone in evaluation, folded for one frame at a time at fixed flow times.

    Holds working buffers, so one thread may use it at a time; sessions live in the state alone. A call allocates
    nothing once there was one of the same batch size.
    """

    def __init__(self, net: Backbone, times: Sequence[float] = ()) -> None:
        """`times` are the flow times the solver visits, one a stage; none for a predictor."""
        with torch.no_grad():
            self._fold(net, torch.tensor(times).to(net.input.bias) if times else None)

    def _fold(self, net: Backbone, times: Tensor | None) -> None:
        config = net.config
        self.patch, self.inputs = config.patch, config.inputs
        features = net.embed(times) if net.embed is not None and times is not None else None

        def block(name: str, part: Any, scale: float = 1.0, extra: Tensor | float = 0.0) -> FrameResidual:
            return FrameResidual(name, part, features, scale, extra)

        bins = config.bins // config.patch
        self.input = frame_conv("input", net.input, bins, 1.0, net.input.bias)
        self.descent = [
            [block(f"descent.{i}.{j}", part) for j, part in enumerate(parts(group))]
            for i, group in enumerate(net.descent)
        ]
        pyramid = [_pointwise(p, HALF) for p in parts(net.pyramid)]
        self.pyramid = [weight for weight, _ in pyramid]
        self.downs = [block(f"downs.{i}", part, HALF, pyramid[i][1]) for i, part in enumerate(net.downs)]
        self.halve = [matrix("down", bins // 2**i).to(net.input.bias) for i in range(len(net.downs))]
        self.rows: dict[int, list[Tensor]] = {}
        self.middle = [block(f"middle.{i}", part) for i, part in enumerate(net.middle)]
        self.ascent = [
            [block(f"ascent.{i}.blocks.{j}", part) for j, part in enumerate(parts(level.blocks))]
            for i, level in enumerate(parts(net.ascent))
        ]
        self.heads = [
            FrameHead(f"ascent.{i}.head", level.norm, level.head) for i, level in enumerate(parts(net.ascent))
        ]
        self.ups = [block(f"ups.{i}", part) for i, part in enumerate(net.ups)]
        self.double = [matrix("up", level.norm.bins).to(net.input.bias) for level in parts(net.ascent)[:-1]]
        depth = len(net.descent)
        self.aligns = {
            (depth - 1 - int(key.split("-")[0]), int(key.split("-")[1])): _pointwise(
                cast(nn.Conv2d, align), HALF
            )
            for key, align in net.aligns.items()
        }

    def convs(self) -> list[FrameConv | FrameDecoupled]:
        blocks = [
            b for group in (*self.descent, self.downs, self.middle, *self.ascent, self.ups) for b in group
        ]
        return [self.input, *(c for b in blocks for c in (b.conv1, b.conv2)), *(h.conv for h in self.heads)]

    def start(self, batch: int) -> State:
        """The state before the first frame."""
        return {name: value for conv in self.convs() for name, value in conv.start(batch).items()}

    def layout(self, spectrum: Tensor) -> Tensor:
        """A complex frame as the network sees it: bins in groups, real parts before imaginary.

        Shapes: complex `[b, y p]` -> real `[b, y, 2, p]`.
        """
        return rearrange(torch.view_as_real(spectrum), "b (y p) two -> b y two p", p=self.patch)

    def spectrum(self, frame: Tensor) -> Tensor:
        """Undo `layout`.  # real [b, y, 2, p] -> complex [b, y p]"""
        return rearrange(torch.complex(frame[:, :, 0], frame[:, :, 1]), "b y p -> b (y p)")

    def __call__(self, frames: Sequence[Tensor], state: State, stage: int = 0) -> Tensor:
        """Map one frame; the state moves on in place.

        Shapes: each of `frames` `[b, y, 2, p]` -> `[b, y, outputs, 2, p]`, valid until the next call.
        """
        batch = len(frames[0])
        raw = self.input.inside(batch)
        places = raw.view(batch, -1, 2, self.inputs, self.patch)
        for k, frame in enumerate(frames):
            places[:, :, :, k].copy_(frame)
        h = self.input(batch, state)
        skips = [h]
        for i, blocks in enumerate(self.descent):
            for block in blocks:
                h = block(h, batch, state, stage)
                skips.append(h)
            if i < len(self.downs):
                half = self.pyramid_rows(batch)[i]
                raw = torch.bmm(self.halve[i].expand(batch, -1, -1), raw, out=half)
                h = self.downs[i](h, batch, state, stage).addmm_(raw.flatten(0, 1), self.pyramid[i])
        for block in self.middle:
            h = block(h, batch, state, stage)
        return self._ascend(h, skips, batch, state, stage)

    def pyramid_rows(self, b: int) -> list[Tensor]:
        """Where the input pyramid stands, a buffer a level."""
        if b not in self.rows:
            self.rows[b] = [m.new_empty(b, len(m), self.input.c) for m in self.halve]
        return self.rows[b]

    def _ascend(self, h: Tensor, skips: list[Tensor], batch: int, state: State, stage: int) -> Tensor:
        out: Tensor | None = None
        for i, blocks in enumerate(self.ascent):
            for j, block in enumerate(blocks):
                skip = skips.pop()
                if (i, j) in self.aligns:
                    weight, bias = self.aligns[i, j]
                    h = h.addmm_(skip, weight, beta=HALF).add_(bias)
                else:
                    h = h.add_(skip).mul_(HALF)
                h = block(h, batch, state, stage)
            read = self.heads[i](h, batch, state)
            out = read if out is None else read.baddbmm_(self.double[i - 1].expand(batch, -1, -1), out)
            if i < len(self.ups):
                h = self.ups[i](h, batch, state, stage)
        assert out is not None
        return rearrange(out, "b y (two k p) -> b y k two p", two=2, p=self.patch)


def _rows(x: Tensor, batch: int) -> Tensor:
    """# [b y, c] -> [b, y, c]"""
    return x.view(batch, -1, x.shape[1])


def _pointwise(conv: nn.Conv2d, scale: float) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution as a matrix `[c, d]` and a bias `[d]`, both scaled."""
    assert conv.bias is not None
    return conv.weight[:, :, 0, 0].T.contiguous() * scale, conv.bias * scale
