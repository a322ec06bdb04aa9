"""Sampling of in-edges node by node, in torch."""

import torch
from torch import Tensor

from gnnscale.ops.positions import ranges
from gnnscale.ops.reference.rules import Rows, Rule, alike, by_weight, labor

# The sample's nodes, and (indptr, indices, positions, importance) of each hop.
Drawn = tuple[Tensor, list[tuple[Tensor, Tensor, Tensor, Tensor]]]


def in_order_of_appearance(ids: Tensor) -> Tensor:
    """Give the distinct ids, by where each stands first."""
    distinct, inverse = ids.unique(return_inverse=True)
    numbers = torch.arange(len(ids), device=ids.device)
    first = torch.full_like(distinct, len(ids)).scatter_reduce_(0, inverse, numbers, "amin")
    return distinct[first.argsort()]


def check_ids(name: str, ids: Tensor, places: Tensor | None, num_nodes: int) -> None:
    """Refuse ids that are no nodes; `places` says where they stand, if not in their own order."""
    wrong = ((ids < 0) | (ids >= num_nodes)).nonzero()
    if len(wrong):
        at = int(wrong[0])
        place = at if places is None else int(places[at])
        raise ValueError(f"{name}[{place}] is {int(ids[at])}; node ids of this graph are 0 to {num_nodes - 1}.")


def sample_neighbors(
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    seeds: Tensor,
    fanouts: list[int],
    key: int,
    replace: bool,
    narrow_limit: int,
) -> Drawn:
    """See ``native/include/sampling.h``."""
    rule = alike(key, replace) if weight is None else by_weight(key, weight, replace)
    return _sample(indptr, indices, seeds, fanouts, rule, narrow_limit)


def sample_labor(
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: list[int],
    key: int,
    iterations: int,
    shared: bool,
    narrow_limit: int,
) -> Drawn:
    """See ``native/include/sampling.h``."""
    return _sample(indptr, indices, seeds, fanouts, labor(key, indices, iterations, shared), narrow_limit)


def _sample(indptr: Tensor, indices: Tensor, seeds: Tensor, fanouts: list[int], rule: Rule, narrow_limit: int) -> Drawn:
    num_nodes = len(indptr) - 1
    check_ids("seeds", seeds, None, num_nodes)
    local_id = torch.full((num_nodes,), -1)
    local_id[seeds] = torch.arange(len(seeds))
    repeated = (local_id[seeds] != torch.arange(len(seeds))).nonzero()
    if len(repeated):
        node = int(seeds[repeated[0]])
        raise ValueError(f"seeds holds node {node} more than once; give each seed once.")

    nodes, hops = seeds.clone(), []
    for h, fanout in enumerate(fanouts):
        starts, stops = indptr[nodes], indptr[nodes + 1]
        wrong = ((starts < 0) | (stops < starts) | (stops > len(indices))).nonzero()
        if len(wrong):
            at = int(wrong[0])
            raise ValueError(
                f"indptr is no CSC pointer array: the edges of node {int(nodes[at])} would stand from "
                f"{int(starts[at])} to {int(stops[at])}, where indices has {len(indices)}."
            )
        rows = Rows(nodes, starts, stops - starts)
        if fanout < 0:
            counts, positions, importance = rows.degrees, ranges(rows.starts, rows.degrees), torch.empty(0)
        else:
            counts, positions, importance = rule(rows, fanout, h)
        sources = indices[positions].long()
        check_ids("indices", sources, positions, num_nodes)
        new = in_order_of_appearance(sources[local_id[sources] < 0])
        local_id[new] = torch.arange(len(nodes), len(nodes) + len(new))
        nodes = torch.cat([nodes, new])
        dtype = torch.int32 if max(len(positions), num_nodes) <= narrow_limit else torch.int64
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        hops.append((offsets.to(dtype), local_id[sources].to(dtype), positions, importance))
    return nodes, hops
