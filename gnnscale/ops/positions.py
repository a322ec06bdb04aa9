"""Where the edges of rows stand in CSC arrays: of all of them, or of some drawn from each row."""

import torch
from torch import Tensor

from gnnscale.ops.random import bounded, fold


def ranges(starts: Tensor, counts: Tensor) -> Tensor:
    """Concatenate the ranges start, start + 1, ..., start + count - 1."""
    ends = counts.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    shift = (starts - (ends - counts)).repeat_interleave(counts, output_size=total)
    return torch.arange(total, device=starts.device) + shift


def _draw_distinct(degrees: Tensor, states: Tensor, k: int) -> Tensor:
    """Draw k distinct integers below each degree by Floyd's algorithm, all rows side by side."""
    drawn = degrees.new_empty(len(degrees), k)
    for i in range(k):
        last = degrees - k + i
        candidate = bounded(fold(states, torch.tensor(i)), last + 1)
        met = (drawn[:, :i] == candidate[:, None]).any(1)
        drawn[:, i] = torch.where(met, last, candidate)
    return drawn


def draw_positions(
    starts: Tensor, degrees: Tensor, states: Tensor, fanout: int, replace: bool
) -> tuple[Tensor, Tensor]:
    """Draw each row's edges: how many, and their positions."""
    if fanout < 0:
        return degrees, ranges(starts, degrees)
    counts = torch.where(degrees > 0, fanout, 0) if replace else degrees.clamp(max=fanout)
    positions = ranges(starts, counts)
    rows = (degrees > (0 if replace else fanout)).nonzero()[:, 0]
    if fanout > 0 and len(rows):
        first, draws = (counts.cumsum(0) - counts)[rows], torch.arange(fanout, device=starts.device)
        if replace:
            words = fold(states[rows][:, None], draws)
            drawn = bounded(words, degrees[rows][:, None])
        else:
            drawn = _draw_distinct(degrees[rows], states[rows], fanout)
        positions[first[:, None] + draws] = starts[rows][:, None] + drawn
    return counts, positions
