"""Which in-edges of a node are drawn, in torch; ``native/include/rules.h`` has the contract."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.ops.positions import draw_positions, ranges
from gnnscale.ops.random import as_signed, fold, uniform
from gnnscale.ops.reference.ordered_sums import cumulative_sums


class Rows(NamedTuple):
    """The destinations of a hop: their ids, and where in the CSC arrays their edges stand, all (n,) int64."""

    nodes: Tensor
    starts: Tensor
    degrees: Tensor


# How many edges each row draws, and their positions and importance.
Drawn = tuple[Tensor, Tensor, Tensor]
# (rows, fan-out, hop) to what is drawn.
Rule = Callable[[Rows, int, int], Drawn]


def _state(key: int, hop: int) -> Tensor:
    return torch.tensor(as_signed(fold(as_signed(key), hop)))


def alike(key: int, replace: bool) -> Rule:
    """Draw a fixed number of edges of each row, all alike."""

    def rule(rows: Rows, fanout: int, hop: int) -> Drawn:
        states = fold(_state(key, hop), rows.nodes)
        counts, positions = draw_positions(rows.starts, rows.degrees, states, fanout, replace)
        # Rows without edges divide 0 by 0 here and are repeated zero times.
        return counts, positions, (rows.degrees.float() / counts.float()).repeat_interleave(counts)

    return rule


def by_weight(key: int, weight: Tensor, replace: bool) -> Rule:
    """Draw a fixed number of edges of each row in proportion to their weights."""

    def rule(rows: Rows, fanout: int, hop: int) -> Drawn:
        positions = ranges(rows.starts, rows.degrees)
        read = weight[positions]
        wrong = (~((read >= 0) & (read < float("inf")))).nonzero()
        if len(wrong):
            raise ValueError(f"weight[{int(positions[wrong[0]])}] is no finite number of at least 0.")
        if replace or fanout == 1:
            return _by_weight_again(rows, weight, fanout, _state(key, hop))
        return _by_priority(rows, weight, fanout, _state(key, hop))

    return rule


def _by_weight_again(rows: Rows, weight: Tensor, fanout: int, state: Tensor) -> Drawn:
    counts = torch.zeros_like(rows.degrees)
    drawn = torch.zeros(len(rows.nodes), fanout, dtype=torch.int64)
    importance = torch.zeros(len(rows.nodes), fanout)
    for alike in _of_similar_length(rows.degrees):
        starts, degrees = rows.starts[alike], rows.degrees[alike]
        columns = torch.arange(int(degrees.max()))
        # Past a row's end its weights are 0, which no point falls on.
        inside = columns < degrees[:, None]
        weights = torch.zeros(inside.shape, dtype=torch.float64)
        weights[inside] = weight[ranges(starts, degrees)].double()
        sums = weights.cumsum(1)
        total = sums[:, -1:].contiguous()
        points = uniform(fold(fold(state, rows.nodes[alike])[:, None], torch.arange(fanout))) * total
        edges = torch.searchsorted(sums, points, right=True)
        edges = torch.minimum(edges, torch.searchsorted(sums, total))
        weighs = total[:, 0] > 0
        counts[alike[weighs]] = fanout
        drawn[alike] = starts[:, None] + edges
        of_drawn = weights.gather(1, edges.clamp(max=len(columns) - 1))
        importance[alike] = (total / (fanout * of_drawn)).float()
    kept = counts > 0
    return counts, drawn[kept].flatten(), importance[kept].flatten()


def _of_similar_length(degrees: Tensor) -> list[Tensor]:
    """Split the rows that have edges, so that padding to the longest of a group at most doubles it."""
    exponents = degrees.double().log2().floor()
    return [(exponents == exponent).nonzero()[:, 0] for exponent in exponents[degrees > 0].unique()]


def _by_priority(rows: Rows, weight: Tensor, fanout: int, state: Tensor) -> Drawn:
    positions = ranges(rows.starts, rows.degrees)
    row = torch.arange(len(rows.nodes)).repeat_interleave(rows.degrees)
    counts, kept, importance = priority_cut(rows.degrees, row, positions, weight[positions].double(), fanout, state)
    return counts, positions[kept], importance


def priority_cut(
    degrees: Tensor, row: Tensor, positions: Tensor, weights: Tensor, fanout: int, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the edges of highest priority: how many of each row, which, and their importance; on any device."""
    priority = weights / (1 - uniform(fold(state, positions)))
    # Row by row, the largest first, of equal ones the earlier.
    order = (-priority).argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    rank = torch.arange(len(row), device=row.device) - (degrees.cumsum(0) - degrees)[row]
    following = order[rank == fanout]
    threshold = weights.new_zeros(len(degrees)).index_copy_(0, row[following], priority[following])
    keep = torch.zeros_like(row, dtype=torch.bool)
    keep[order[rank < fanout]] = True
    kept = (keep & (weights > 0)).nonzero()[:, 0]
    counts = torch.bincount(row[kept], minlength=len(degrees))
    return counts, kept, (threshold[row[kept]] / weights[kept]).clamp(min=1).float()


def labor(key: int, indices: Tensor, iterations: int, shared: bool) -> Rule:
    """Keep edges by one random number a source (LABOR)."""

    def rule(rows: Rows, fanout: int, hop: int) -> Drawn:
        positions = ranges(rows.starts, rows.degrees)
        row = torch.arange(len(rows.nodes)).repeat_interleave(rows.degrees)
        sources = indices[positions].long()
        chance = labor_chances(rows, sources, fanout, iterations if fanout else 0)  # of none, no π converges
        keep = uniform(fold(_state(key, 0 if shared else hop), sources)) < chance
        counts = torch.bincount(row[keep], minlength=len(rows.nodes))
        return counts, positions[keep], chance[keep].reciprocal().float()

    return rule


def labor_chances(rows: Rows, sources: Tensor, fanout: int, iterations: int) -> Tensor:
    """p of each edge, (num_edges,) float64; ``native/cpu/labor.cpp`` says of y and π what they are."""
    row = torch.arange(len(rows.nodes)).repeat_interleave(rows.degrees)
    # In the order of their first appearance, as the sum over them is rounded.
    ids, local = torch.cat([rows.nodes, sources]).unique(return_inverse=True)
    first = torch.full_like(ids, len(local)).scatter_reduce_(0, local, torch.arange(len(local)), "amin")
    place = torch.empty_like(ids)
    place[first.argsort()] = torch.arange(len(ids))
    local = place[local[len(rows.nodes) :]]

    degree = rows.degrees.double()
    y = (degree / fanout).clamp(min=1)
    pi = degree.new_ones(len(ids))
    expected, done = float("inf"), 0
    while done != iterations:
        pi = pi / torch.full_like(pi, float("inf")).scatter_reduce_(0, local, y[row], "amin")
        y = _solve(pi[local], row, rows.degrees, fanout)
        before, expected = expected, float(cumulative_sums(pi.clamp(max=1))[-1]) if len(pi) else 0.0
        if expected >= (1 - 1e-4) * before:
            break
        done += 1
    return (pi[local] / y[row]).clamp(max=1)


def _solve(pi: Tensor, row: Tensor, degrees: Tensor, fanout: int) -> Tensor:
    """y of each row with Σ max(1, y / π) = d² / min(k, d) over its edges."""
    degree = degrees.double()
    target = degree * degree / fanout
    free = (degrees > fanout)[row]
    strand = 32 * row + ranges(torch.zeros_like(degrees), degrees) % 32
    while True:
        slope = degree.new_zeros(32 * len(degree)).index_add_(0, strand, free / pi).view(-1, 32)
        while slope.shape[1] > 1:
            slope = slope[:, : slope.shape[1] // 2] + slope[:, slope.shape[1] // 2 :]
        num_free = torch.zeros_like(degree).index_add_(0, row, free.double())
        y = (target - degree + num_free) / slope[:, 0]
        still = free & (pi < y[row])
        if torch.equal(still, free):
            break
        free = still
    # Rows that keep all: the root is no single point, and this is its end.
    least = torch.full_like(degree, float("inf")).scatter_reduce_(0, row, pi, "amin")
    return torch.where(degree <= fanout, least, y)
