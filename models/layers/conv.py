"""Convolutions that are causal in time and symmetric in frequency: dense, and decoupled into two cheap ones."""

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

KERNEL = 3  # in frequency and in time


class CausalConv2d(nn.Conv2d):
    """Convolve `[b, c, y, t]` over frequency and time, looking at past frames only.

    Offline is streaming with one big chunk: the state is the last `past` input frames, zeros at the start,
    which is what zero padding on the left gives.
    Shapes: x `[b, c, y, t]`, past `[b, c, y, past]` -> y `[b, d, y, t]`, past.
    """

    bias: Tensor

    def __init__(self, c: int, d: int, dilation: int = 1) -> None:
        """`dilation` is in time."""
        super().__init__(c, d, KERNEL, padding=(KERNEL // 2, 0), dilation=(1, dilation))
        self.past = (KERNEL - 1) * dilation  # frames

    def start(self, batch: int, bins: int) -> Tensor:
        """Silence before the first frame, in the dtype and on the device of the weights."""
        return self.bias.new_zeros(batch, self.in_channels, bins, self.past)

    def step(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Continue a stream by any number of frames."""
        joined = torch.cat([past.to(x.dtype), x], dim=3)
        return self(joined), joined[..., joined.shape[3] - self.past :].clone()

    def dense(self) -> Tensor:
        """The kernel.  # [d, c, 3, 3]"""
        return self.weight

    def draw(self, gain: float) -> None:
        """Start at random: variance scaling (fan average, uniform) times gain, bias 0."""
        nn.init.xavier_uniform_(self.weight, gain)
        nn.init.zeros_(self.bias)


class DecoupledConv2d(CausalConv2d):
    """A causal convolution as `rank` small kernels a channel, then a 1x1 mix.

    Source: Guo et al. 2018, arXiv 1808.05517, network decoupling; arXiv 2512.19442 (compression).
    """

    def __init__(self, c: int, d: int, rank: int, dilation: int = 1) -> None:
        super().__init__(c, d, dilation)
        del self.weight
        self.rank = rank
        self.kernels = nn.Parameter(torch.empty(c * rank, 1, KERNEL, KERNEL))
        self.mix = nn.Parameter(torch.empty(d, c * rank, 1, 1))
        self.draw(1.0)

    def forward(self, x: Tensor) -> Tensor:
        parts = F.conv2d(
            x, self.kernels, padding=self.padding, dilation=self.dilation, groups=self.in_channels
        )
        return F.conv2d(parts, self.mix, self.bias)

    def dense(self) -> Tensor:
        mix = rearrange(self.mix, "d (c k) 1 1 -> d c k", c=self.in_channels)
        kernels = rearrange(self.kernels, "(c k) 1 y t -> c k y t", c=self.in_channels)
        return einsum(mix, kernels, "d c k, c k y t -> d c y t")

    def draw(self, gain: float) -> None:
        """Start with the variance a dense kernel of this gain has; all of the gain is in the mix."""
        nn.init.normal_(self.kernels, std=1 / KERNEL)  # a kernel of size 1
        variance = 2 * gain**2 / (self.in_channels + self.out_channels) / self.rank
        bound = (3 * variance) ** 0.5
        nn.init.uniform_(self.mix, -bound, bound)
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Take the closest rank-limited form of a dense kernel, channel by channel.  # [d, c, 3, 3]"""
        u, s, v = torch.linalg.svd(rearrange(weight.double(), "d c y t -> c d (y t)"), full_matrices=False)
        root = s[:, : self.rank].sqrt()
        self.mix.copy_(rearrange(u[..., : self.rank] * root[:, None], "c d k -> d (c k) 1 1"))
        self.kernels.copy_(
            rearrange(v[:, : self.rank] * root[..., None], "c k (y t) -> (c k) 1 y t", y=KERNEL, t=KERNEL)
        )


def causal_conv(c: int, d: int, dilation: int = 1, rank: int = 0) -> CausalConv2d:
    """A convolution decoupled to `rank`; dense for rank 0 and where rank is more than it could ever need."""
    if rank and rank <= min(d, KERNEL * KERNEL):
        return DecoupledConv2d(c, d, rank, dilation)
    return CausalConv2d(c, d, dilation)
