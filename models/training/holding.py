"""An autoencoder along time that begins by holding pictures: every fourth as it is, and each shown four times.

From random weights it first blurs what the 2D part had learned to tell, and on a small machine is not done with that
for most of its time. Here convolutions begin as copies, residual blocks add nothing, and where there is a norm, a loud
constant beside the latents keeps their level from being lost.
Letters: c channel; the norm's groups each hold some latents, a constant, its negative, and spare channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from riverrun.models.errors import ModelError
from riverrun.models.video.temporal import CausalConv3d, ResBlock, TemporalConfig, TemporalVae

LOUD = 4.0  # times the deviation of latents, of the constant: what is told wrong by the norm falls with its square
OFFSET, SPREAD = 4.0, 1.5  # where SiLU is nearly straight, and how much of it is used
SURE = -6.0  # logarithm of the variance of latents: noise would keep a new decoder from learning
REST = 0.02  # of the weights drawn at random that stays, so that all channels can learn


@dataclass(frozen=True)
class Places:
    """Which of some channels hold latents, the constant, and its negative."""

    latents: list[int]
    plus: list[int]
    minus: list[int]

    @classmethod
    def of(cls, config: TemporalConfig, channels: int) -> "Places":
        """Raises ModelError where a group of the norm is too small for them."""
        size, each = channels // config.groups, -(-config.latent // config.groups)
        if size < each + 2:
            raise ModelError(
                f"groups of {size} channels hold {each} latents and no constants: use fewer groups"
            )
        starts = [size * g for g in range(config.groups)]
        latents = [start + j for start in starts for j in range(each)][: config.latent]
        return cls(latents, [start + each for start in starts], [start + each + 1 for start in starts])

    @property
    def all(self) -> list[int]:
        return self.latents + self.plus + self.minus


@torch.no_grad()
def hold(vae: TemporalVae, deviation: float) -> None:
    """Set the weights of an autoencoder so that it holds pictures whose latents have such a deviation.

    Raises ModelError where its norms leave no room for that.
    """
    config, loud = vae.config, LOUD * deviation
    levels = [*vae.encoder.block_res_blocks, *vae.decoder.block_res_blocks]
    for block in vae.modules():
        if isinstance(block, ResBlock):
            block.conv2.conv.weight.zero_()
    for block in (part for level in levels for part in level if part.widens):
        copy(block.conv3, config)
    _hold_in(vae, config, loud)
    _hold_out(vae, config, loud)


def _hold_in(vae: TemporalVae, config: TemporalConfig, loud: float) -> None:
    """The encoder: the last of each four."""
    encoder, first = vae.encoder, True
    enter(encoder.conv_in, Places.of(config, config.channels[0]))
    for conv in (part for part in encoder.conv_blocks if isinstance(part, CausalConv3d)):
        copy(conv, config)
        if first:
            constants(conv, Places.of(config, conv.conv.out_channels), loud)
        first = False
    leave(encoder.norm1, encoder.conv2, config, loud)
    own = range(config.latent)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        clear(conv, own)
        for i in own:
            tap(conv, i, i)
    assert vae.quant_conv.conv.bias is not None
    vae.quant_conv.conv.bias[config.latent :] = SURE


def _hold_out(vae: TemporalVae, config: TemporalConfig, loud: float) -> None:
    """The decoder: each four times."""
    decoder = vae.decoder
    places = Places.of(config, config.channels[-1])
    enter(decoder.conv1, places)
    constants(decoder.conv1, places, loud)
    for conv in (part for part in decoder.conv_blocks if isinstance(part, CausalConv3d)):
        copy(conv, config, times=2)
    leave(decoder.norm1, decoder.conv_out, config, loud)


def tap(conv: CausalConv3d, out: int, source: int, weight: float = 1.0) -> None:
    """Take a channel of the newest frame seen, in the middle."""
    middle = conv.edge
    conv.conv.weight[out, source, -1, middle, middle] = weight


def clear(conv: CausalConv3d, outs: "list[int] | range") -> None:
    """Leave little of what was drawn, and nothing for some channels."""
    conv.conv.weight.mul_(REST)
    conv.conv.weight[list(outs)] = 0
    if conv.conv.bias is not None:
        conv.conv.bias.zero_()


def enter(conv: CausalConv3d, places: Places) -> None:
    """Latents to their places."""
    clear(conv, places.latents)
    for i, out in enumerate(places.latents):
        tap(conv, out, i)


def copy(conv: CausalConv3d, config: TemporalConfig, times: int = 1) -> None:
    """From places to places, each to so many channels in a row."""
    source = Places.of(config, conv.conv.in_channels).all
    target = Places.of(config, conv.conv.out_channels // times).all
    clear(conv, [times * out + k for out in target for k in range(times)])
    for i, out in zip(source, target, strict=True):
        for k in range(times):
            tap(conv, times * out + k, i)


def constants(conv: CausalConv3d, places: Places, loud: float) -> None:
    """The constant and its negative."""
    assert conv.conv.bias is not None
    conv.conv.weight[places.plus + places.minus] = 0
    conv.conv.bias[places.plus], conv.conv.bias[places.minus] = loud, -loud


def leave(norm: nn.GroupNorm, conv: CausalConv3d, config: TemporalConfig, loud: float) -> None:
    """Latents from their places, through a norm and SiLU, by what these do to the constants."""
    channels = norm.num_channels
    places, size = Places.of(config, channels), channels // config.groups
    norm.weight.fill_(SPREAD)
    norm.bias.fill_(OFFSET)
    level = loud * (2 / size) ** 0.5  # of a group, nearly
    at = torch.tensor(
        [OFFSET - SPREAD * loud / level, OFFSET, OFFSET + SPREAD * loud / level], requires_grad=True
    )
    with torch.enable_grad():
        low, middle, high = F.silu(at)
        (slope,) = torch.autograd.grad(middle, at)
    scale = float(level / (SPREAD * slope[1]))
    clear(conv, range(config.latent))
    assert conv.conv.bias is not None
    each = -(-config.latent // config.groups)
    for i, source in enumerate(places.latents):
        tap(conv, i, source, scale)
        for constant in (places.plus[i // each], places.minus[i // each]):
            tap(conv, i, constant, -scale / 2)
        conv.conv.bias[i] = scale * float((low + high) / 2 - middle)
