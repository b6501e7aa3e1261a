"""Change the rate of sound by a ratio of whole numbers, in a stream of many rows."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from riverrun.media.resampling import bank

LENGTH = 36  # samples of the lower rate on either side of the filter


class Resample(nn.Module):
    """Sound of one rate to sound of another, by one filter a phase: flat to 0.44 of the lower rate.

    What comes out is `late` ticks of the rate in behind, and `told` of the rate out, both whole. Pieces may be of any
    length: what does not fill a group of `down` ticks, which gives one of `up`, waits in the state.
    Shapes: x `[b, t]`, past `[b, n]` -> y `[b, t']`, past.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        """Rates are in Hz."""
        super().__init__()
        common = math.gcd(rate_in, rate_out)
        self.up, self.down = rate_out // common, rate_in // common
        phases = torch.from_numpy(bank(self.up, self.down, LENGTH))
        half = phases.shape[1] // 2
        self.late = -(-half // self.down) * self.down
        self.told = self.late // self.down * self.up
        self.past = self.late + half - 1  # ticks before a group that its filters see
        filters = phases.new_zeros(self.up, 1, self.past + self.down)
        for i in range(self.up):
            tick, phase = divmod(i * self.down, self.up)
            first = self.past + tick - self.late - half + 1
            filters[i, 0, first : first + 2 * half] = phases[phase]
        self.register_buffer("filters", filters, persistent=False)
        self.filters: Tensor

    def start(self, batch: int) -> Tensor:
        """Silence before the first tick."""
        return self.filters.new_zeros(batch, self.past)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([past, x], dim=1)
        groups = (joined.shape[1] - self.past) // self.down
        kept = joined[:, groups * self.down :].clone()
        if not groups:
            return x[:, :0], kept
        y = F.conv1d(joined[:, None], self.filters, stride=self.down)
        return rearrange(y, "b p t -> b (t p)"), kept
