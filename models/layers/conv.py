"""Convolution that is causal in time and symmetric in frequency."""

import torch
from torch import Tensor, nn


class CausalConv2d(nn.Conv2d):
    """Convolve `[b, c, y, t]` over frequency and time, looking at past frames only.

    Offline is streaming with one big chunk: the state is the last `past` input frames, zeros at the start,
    which is what zero padding on the left gives.
    Shapes: x `[b, c, y, t]`, past `[b, c, y, past]` -> y `[b, d, y, t]`, past.
    """

    def __init__(self, c: int, d: int, kernel: tuple[int, int] = (3, 3), dilation: int = 1) -> None:
        """`kernel` is (frequency, time), the first odd; `dilation` is in time."""
        super().__init__(c, d, kernel, padding=(kernel[0] // 2, 0), dilation=(1, dilation))
        self.past = (kernel[1] - 1) * dilation  # frames

    def start(self, batch: int, bins: int) -> Tensor:
        """Silence before the first frame, in the dtype and on the device of the weights."""
        return self.weight.new_zeros(batch, self.in_channels, bins, self.past)

    def step(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Continue a stream by any number of frames."""
        joined = torch.cat([past.to(x.dtype), x], dim=3)
        return super().forward(joined), joined[..., joined.shape[3] - self.past :].clone()
