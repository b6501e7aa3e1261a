"""The velocity network of Stream.FM: a frame-causal U-Net that resamples frequency and never time.

Source: arXiv 2512.19442 (network), after NCSN++ of Song et al. 2021, arXiv 2011.13456.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import silu

from riverrun.models.layers.conv import CausalConv2d, DecoupledConv2d, causal_conv
from riverrun.models.layers.norm import SubBandNorm, divide
from riverrun.models.layers.resample import down, up
from riverrun.models.state import State

HALF = 1 / math.sqrt(2)  # keeps the variance of a sum of two
Conv = Callable[[CausalConv2d, Tensor], Tensor]


@dataclass(frozen=True)
class BackboneConfig:
    """The shape of one network.

    Units: `bins` are complex frequency bins; `patch` neighbouring bins become channels, which makes the network
    that much cheaper; `inputs` and `outputs` count complex spectra. A `timed` network is told the flow time.
    A `rank` of 1 to 6 decouples the 3x3 convolutions; 0 leaves them dense. Raises ValueError for a shape that
    cannot be.
    """

    inputs: int = 2
    outputs: int = 1
    bins: int = 256
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    patch: int = 1
    timed: bool = True
    rank: int = 0

    def __post_init__(self) -> None:
        counts = [self.inputs, self.outputs, self.bins, self.width, self.blocks, self.patch]
        if min([*counts, *self.multipliers]) < 1 or not self.multipliers or not 0 <= self.rank <= 6:
            raise ValueError(f"{self}: expected counts of at least 1 and a rank of 0 to 6")
        step = self.patch * 2 ** (len(self.multipliers) - 1)
        if self.bins % step or self.width % 4:
            raise ValueError(f"{self.bins} bins, width {self.width}: expected multiples of {step} and 4")
        for i, m in enumerate(self.multipliers):
            divide(self.width * m, self.bins // self.patch // 2**i)


class TimeEmbedding(nn.Module):
    """Flow time in [0, 1] -> features, through fixed random Fourier frequencies.  # [b] -> [b, 4 width]"""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(width) * 16)
        self.first, self.second = nn.Linear(2 * width, 4 * width), nn.Linear(4 * width, 4 * width)

    def forward(self, time: Tensor) -> Tensor:
        angle = 2 * math.pi * time[:, None] * self.frequencies
        hidden: Tensor = self.second(silu(self.first(torch.cat([angle.sin(), angle.cos()], dim=1))))
        return hidden


class Residual(nn.Module):
    """norm, SiLU, resample, conv, + time, norm, SiLU, conv; beside it the resampled input.  # [b, c, y, t]"""

    def __init__(
        self, c: int, d: int, bins: int, embedding: int | None, resample: str = "", rank: int = 0
    ) -> None:
        super().__init__()
        after = bins // 2 if resample == "down" else bins * 2 if resample == "up" else bins
        self.resample = resample
        self.norm0, self.norm1 = SubBandNorm(c, bins), SubBandNorm(d, after)
        self.conv1 = causal_conv(c, d, 2 if resample == "down" else 1, rank)
        self.conv2 = causal_conv(d, d, rank=rank)
        self.time = nn.Linear(embedding, d) if embedding else None
        self.skip = nn.Conv2d(c, d, 1) if resample or c != d else None

    def shift(self, embedding: Tensor) -> Tensor:
        """What a flow time adds between the convolutions.  # [b, 4 width] -> [b, d]"""
        assert self.time is not None
        added: Tensor = self.time(silu(embedding))
        return added

    def forward(self, x: Tensor, embedding: Tensor | None, conv: Conv) -> Tensor:
        sample: Callable[[Tensor], Tensor] = {"down": down, "up": up}.get(self.resample, lambda v: v)
        h = conv(self.conv1, sample(silu(self.norm0(x))))
        if embedding is not None:
            h = h + rearrange(self.shift(embedding), "b d -> b d 1 1").to(h.dtype)
        h = conv(self.conv2, silu(self.norm1(h)))
        x = sample(x)
        return (h + (x if self.skip is None else self.skip(x))).mul_(HALF)


class Level(nn.Module):
    """What happens at one frequency resolution on the way up: blocks, then a head that reads it out."""

    def __init__(self, blocks: list[Residual], channels: int, bins: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = SubBandNorm(channels, bins)
        self.head = causal_conv(channels, outputs, rank=rank)


class Backbone(nn.Module):
    """Map spectra to one spectrum, frame by frame, looking back only.

    Shapes: x `[b, 2 inputs, y, t]`, real parts first, then imaginary; time `[b]` -> `[b, 2 outputs, y, t]`.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * m for m in config.multipliers]
        bins = [config.bins // config.patch // 2**i for i in range(len(widths))]
        inputs, outputs = 2 * config.inputs * config.patch, 2 * config.outputs * config.patch
        embedding, rank = 4 * config.width if config.timed else None, config.rank
        self.embed = TimeEmbedding(config.width) if config.timed else None
        self.input = causal_conv(inputs, widths[0], rank=rank)
        self.descent, self.downs, self.pyramid = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        skips, c = [widths[0]], widths[0]
        for i, d in enumerate(widths):
            blocks = [
                Residual(c if j == 0 else d, d, bins[i], embedding, rank=rank) for j in range(config.blocks)
            ]
            self.descent.append(nn.ModuleList(blocks))
            skips += [d] * config.blocks
            c = d
            if i + 1 < len(widths):
                self.downs.append(Residual(c, c, bins[i], embedding, "down", rank))
                self.pyramid.append(nn.Conv2d(inputs, c, 1))
        self.middle = nn.ModuleList(Residual(c, c, bins[-1], embedding, rank=rank) for _ in range(2))
        self.ascent, self.ups, self.aligns = nn.ModuleList(), nn.ModuleList(), nn.ModuleDict()
        for i, d in reversed(list(enumerate(widths))):
            blocks = []
            for j in range(config.blocks + (i == 0)):
                if (skip := skips.pop()) != c:
                    self.aligns[f"{i}-{j}"] = nn.Conv2d(skip, c, 1)
                blocks.append(Residual(c, d, bins[i], embedding, rank=rank))
                c = d
            self.ascent.append(Level(blocks, c, bins[i], outputs, rank))
            if i:
                self.ups.append(Residual(c, c, bins[i], embedding, "up", rank))
        self.reset_parameters()

    def convs(self) -> Iterator[tuple[str, CausalConv2d]]:
        """Every convolution that looks back, by name, in order."""
        for name, module in self.named_modules():
            if isinstance(module, CausalConv2d):
                yield name, module

    def reset_parameters(self) -> None:
        """Variance-scaling start, biases 0; the last convolution of each branch near zero (DDPM)."""
        small = {b.conv2 for b in self.modules() if isinstance(b, Residual)}
        small |= {b.head for b in self.modules() if isinstance(b, Level)}
        for module in self.modules():
            if isinstance(module, CausalConv2d):
                module.draw(math.sqrt(1e-5) if module in small else 1.0)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def start(self, batch: int) -> State:
        """The state before the first frame: for each convolution the input frames it looks back on."""
        bins: dict[CausalConv2d, int] = {self.input: self.config.bins // self.config.patch}
        for module in self.modules():
            if isinstance(module, Residual):
                bins[module.conv1] = bins[module.conv2] = module.norm1.bins
            elif isinstance(module, Level):
                bins[module.head] = module.norm.bins
        return {name.replace(".", "/"): conv.start(batch, bins[conv]) for name, conv in self.convs()}

    def forward(
        self, x: Tensor, time: Tensor | None = None, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Map any number of frames; without a state, start afresh. The state given is not changed."""
        names = {conv: name.replace(".", "/") for name, conv in self.convs()}
        before = self.start(x.shape[0]) if state is None else state
        after: State = {}

        def conv(layer: CausalConv2d, x: Tensor) -> Tensor:
            y, after[names[layer]] = layer.step(x, before[names[layer]])
            return y

        embedding = self.embed(time) if self.embed is not None and time is not None else None
        return self.unpatch(self.unet(self.patch(x), embedding, conv)), after

    def patch(self, x: Tensor) -> Tensor:
        return rearrange(x, "b c (y p) t -> b (c p) y t", p=self.config.patch)

    def unpatch(self, x: Tensor) -> Tensor:
        return rearrange(x, "b (c p) y t -> b c (y p) t", p=self.config.patch)

    def unet(self, x: Tensor, embedding: Tensor | None, conv: Conv) -> Tensor:
        """The figure: down with an input pyramid, two in the middle, up with summed skips and read-outs."""
        raw: Tensor = x
        h = conv(self.input, x)
        skips: list[Tensor] = [h]
        for i, blocks in enumerate(self.descent):
            for block in parts(blocks):
                h = block(h, embedding, conv)
                skips.append(h)
            if i < len(self.downs):
                raw = down(raw)
                h = (self.pyramid[i](raw) + self.downs[i](h, embedding, conv)).mul_(HALF)
        for block in self.middle:
            h = block(h, embedding, conv)
        out: Tensor | None = None
        for i, level in zip(reversed(range(len(self.descent))), parts(self.ascent), strict=True):
            for j, block in enumerate(parts(level.blocks)):
                skip, align = skips.pop(), f"{i}-{j}"
                h = ((self.aligns[align](skip) if align in self.aligns else skip) + h).mul_(HALF)
                h = block(h, embedding, conv)
            read = conv(level.head, silu(level.norm(h)))
            out = read if out is None else up(out) + read
            if i:
                h = self.ups[len(self.descent) - 1 - i](h, embedding, conv)
        assert out is not None
        return out


def decouple(net: Backbone, rank: int) -> Backbone:
    """The same network with its 3x3 convolutions decoupled to `rank`, as close as that rank allows.

    Raises ValueError unless the net is dense and rank is 1 to 6.
    """
    if net.config.rank or not 1 <= rank <= 6:
        raise ValueError(f"rank is {rank} of a net of rank {net.config.rank}, expected 1 to 6 of a dense one")
    small = Backbone(replace(net.config, rank=rank)).to(net.input.bias)  # its device and dtype
    dense = dict(net.convs())
    same = {k: v for k, v in net.state_dict().items() if k in small.state_dict()}
    small.load_state_dict(same, strict=False)
    for name, conv in small.convs():
        if isinstance(conv, DecoupledConv2d):
            conv.fit(dense[name].dense())
    return small.train(net.training)


def parts(modules: Any) -> list[Any]:
    """The members of a ModuleList, whose types a checker cannot see."""
    return list(modules)
