"""Pictures as autoencoders take and give them: channels before frames, from -1 to 1."""

import torch
from torch import Tensor

HALF = 127.5  # shades from black to the middle


def to_pixels(pictures: Tensor) -> Tensor:
    """Pictures as an autoencoder takes them.  # [..., f, y, x, 3] uint8 -> [..., 3, f, y, x]"""
    return pictures.movedim(-1, -4).float() / HALF - 1


def to_pictures(pixels: Tensor) -> Tensor:
    """What an autoencoder gave as pictures.  # [..., 3, f, y, x] -> [..., f, y, x, 3] uint8"""
    shades = ((pixels.float().clamp(-1, 1) + 1) * HALF).round().to(torch.uint8)
    return shades.movedim(-4, -1).contiguous()
