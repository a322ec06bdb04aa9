"""Sums in an order that threads can follow."""

import torch
from torch import Tensor

_BLOCK = 256


def cumulative_sums(values: Tensor) -> Tensor:
    """See ``native/include/ordered_sums.h``."""
    within = torch.nn.functional.pad(values, (0, -len(values) % _BLOCK)).view(-1, _BLOCK).cumsum(1)
    totals = within[:, -1].cumsum(0)
    before = torch.cat([totals.new_zeros(1), totals[:-1]])[: len(totals)]
    return (before[:, None] + within).flatten()[: len(values)]
