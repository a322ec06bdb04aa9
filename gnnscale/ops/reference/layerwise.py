"""Layer-wise sampling in torch."""

import torch
from torch import Tensor

from gnnscale.ops.random import as_signed, fold, uniform
from gnnscale.ops.reference.ordered_sums import cumulative_sums
from gnnscale.ops.reference.sampling import in_order_of_appearance
from gnnscale.ops.reference.subgraph import in_edges


def column_sums(
    indptr: Tensor,
    indices: Tensor,
    destinations: Tensor,
    rows: Tensor | None,
    columns: Tensor | None,
    weight: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See ``native/include/layerwise.h``."""
    counts, positions, found = in_edges(indptr, indices, destinations)
    sources = in_order_of_appearance(found)
    place = torch.empty(len(indptr) - 1, dtype=torch.int64)
    place[sources] = torch.arange(len(sources))
    of_rows = torch.ones(len(counts), dtype=torch.float64) if rows is None else rows[destinations]
    values = of_rows.repeat_interleave(counts)
    if weight is not None:
        values = values * weight[positions].double().square()
    # Adds one after the other; of nothing, torch counts in integers.
    sums = torch.bincount(place[found], weights=values, minlength=len(sources)).double()
    return sources, sums if columns is None else sums * columns[sources]


def draw_in_succession(chance: Tensor, size: int, key: int) -> Tensor:
    """See ``native/include/layerwise.h``."""
    wrong = (~((chance >= 0) & chance.isfinite())).nonzero()
    if len(wrong):
        at = int(wrong[0])
        raise ValueError(f"chance[{at}] is {float(chance[at]):.6f}; chances are finite and at least 0.")
    possible = (chance > 0).nonzero()[:, 0]
    if len(possible) <= size:
        return possible
    drawn, num_rounds = possible[:0], 0
    while len(drawn) < size:
        left = chance.index_fill(0, drawn, 0.0)
        cumulative = cumulative_sums(left)
        state = torch.tensor(as_signed(fold(as_signed(key), num_rounds)))
        words = fold(state, torch.arange(2 * (size - len(drawn)) + 32, device=chance.device))
        points = uniform(words) * cumulative[-1]
        # Rounding can carry a point to the total.
        last = (left > 0).nonzero()[-1, 0]
        places = torch.searchsorted(cumulative, points, right=True).clamp(max=last)
        drawn = torch.cat([drawn, in_order_of_appearance(places)[: size - len(drawn)]])
        num_rounds += 1
    return drawn


def draw_with_replacement(
    cumulative: Tensor, size: int, key: int, guide: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See ``native/include/layerwise.h``; a guide makes no difference."""
    if not len(cumulative) or not cumulative[-1] > 0:
        none = torch.empty(0, dtype=torch.int64, device=cumulative.device)
        return none, none
    total = cumulative[-1:]
    state = torch.tensor(as_signed(key))
    points = uniform(fold(state, torch.arange(size, device=cumulative.device))) * total
    last = int(torch.searchsorted(cumulative, total))
    draws = torch.searchsorted(cumulative, points, right=True).clamp(max=last)
    distinct, counts = draws.unique(return_counts=True)
    return distinct, counts


def fill_rows(indptr: Tensor, values: Tensor, weight: Tensor | None, totals: Tensor) -> Tensor:
    """See ``native/include/layerwise.h``."""
    if int(indptr[0]) != 0 or int(indptr[-1]) != len(values) or bool((indptr.diff() < 0).any()):
        raise ValueError(f"indptr is no pointer array: it has to rise from 0 to the number of values ({len(values)}).")
    rows = torch.arange(len(totals)).repeat_interleave(indptr.diff())
    weights = values if weight is None else values * weight
    # Adds one after the other.
    sums = torch.bincount(rows, weights=weights, minlength=len(totals))
    return values * torch.where(sums > 0, totals / sums, 0.0)[rows]
