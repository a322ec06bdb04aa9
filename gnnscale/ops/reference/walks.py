"""Random walks in torch."""

import torch
from torch import Tensor

from gnnscale.ops.random import as_signed, bounded, fold, uniform


def random_walks(
    indptr: Tensor, indices: Tensor, sums: Tensor | None, starts: Tensor, key: int, stop: float, out: Tensor
) -> None:
    """See ``native/include/walks.h``."""
    out[:, 0], out[:, 1:] = starts, -1
    states = fold(torch.tensor(as_signed(key)), torch.arange(len(starts)))
    walking, nodes = torch.arange(len(starts)), starts
    for t in range(out.shape[1] - 1):
        walking, nodes = _walk_on(indptr, indices, sums, walking, nodes, _words(states[walking], 2 * t))
        out[walking, t + 1] = nodes
        if stop:
            goes_on = uniform(_words(states[walking], 2 * t + 1)) >= stop
            walking, nodes = walking[goes_on], nodes[goes_on]


def walk_ends(
    indptr: Tensor, indices: Tensor, sums: Tensor | None, starts: Tensor, key: int, stop: float, out: Tensor
) -> None:
    """See ``native/include/walks.h``."""
    out.copy_(starts)
    states = fold(torch.tensor(as_signed(key)), torch.arange(len(starts)))
    walking, t = torch.arange(len(starts)), 0
    while len(walking):
        walking = walking[uniform(_words(states[walking], 2 * t)) >= stop]
        words = _words(states[walking], 2 * t + 1)
        walking, nodes = _walk_on(indptr, indices, sums, walking, out[walking], words)
        out[walking] = nodes
        t += 1


def top_visits(visited: Tensor, own: Tensor | None, limit: int, key: int) -> tuple[Tensor, Tensor, Tensor]:
    """See ``native/include/visits.h``."""
    seen = visited != -1 if own is None else (visited != -1) & (visited != own[:, None])
    rows, at = seen.nonzero(as_tuple=True)
    nodes = visited[rows, at]
    width = int(nodes.max()) + 1 if len(nodes) else 1
    pairs, counts = (rows * width + nodes).unique(return_counts=True)
    rows, nodes = pairs // width, pairs % width
    if limit >= 0:
        scores = counts + uniform(fold(fold(torch.tensor(as_signed(key)), rows), nodes))
        order = scores.argsort(descending=True, stable=True)
        order = order[rows[order].argsort(stable=True)]
        of_row = torch.bincount(rows, minlength=len(visited))
        ranks = torch.arange(len(rows), device=rows.device) - (of_row.cumsum(0) - of_row)[rows]
        kept = order[ranks < limit].sort().values
        rows, nodes, counts = rows[kept], nodes[kept], counts[kept]
    of_row = torch.bincount(rows, minlength=len(visited))
    return torch.cat([of_row.new_zeros(1), of_row.cumsum(0)]), nodes, counts


def _words(states: Tensor, counter: int) -> Tensor:
    return fold(states, torch.tensor(counter))


def _walk_on(
    indptr: Tensor, indices: Tensor, sums: Tensor | None, walking: Tensor, nodes: Tensor, words: Tensor
) -> tuple[Tensor, Tensor]:
    """The walks that find an in-edge at their nodes, and where it leads them."""
    starts, stops = indptr[nodes], indptr[nodes + 1]
    if sums is None:
        possible = stops > starts
        edges = starts + bounded(words, stops - starts)
    else:
        low, high = sums[starts], sums[stops]
        possible = high > low
        # Rounding may not lead to the row's end: past it is another row, before it an edge that weighs nothing.
        target = torch.minimum(low + uniform(words) * (high - low), torch.nextafter(high, low))
        edges = torch.searchsorted(sums, target, right=True) - 1
    return walking[possible], indices[edges[possible]].long()
