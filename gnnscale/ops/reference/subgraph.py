"""Edges among given nodes in torch."""

import torch
from torch import Tensor

from gnnscale.ops.positions import ranges
from gnnscale.ops.reference.sampling import check_ids, in_order_of_appearance


def in_edges(indptr: Tensor, indices: Tensor, destinations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many in-edges each destination has, and the positions and sources of all of them."""
    num_nodes = len(indptr) - 1
    check_ids("destinations", destinations, None, num_nodes)
    starts, stops = indptr[destinations], indptr[destinations + 1]
    wrong = ((starts < 0) | (stops < starts) | (stops > len(indices))).nonzero()
    if len(wrong):
        at = int(wrong[0])
        raise ValueError(
            f"indptr is no CSC pointer array: the edges of node {int(destinations[at])} would stand from "
            f"{int(starts[at])} to {int(stops[at])}, where indices has {len(indices)}."
        )
    positions = ranges(starts, stops - starts)
    sources = indices[positions].long()
    check_ids("indices", sources, positions, num_nodes)
    return stops - starts, positions, sources


def places_of(name: str, nodes: Tensor, num_nodes: int) -> Tensor:
    """Where each node of the graph stands in a list of distinct ones, -1 where it does not; shape (num_nodes,)."""
    check_ids(name, nodes, None, num_nodes)
    places = torch.full((num_nodes,), -1)
    places[nodes] = torch.arange(len(nodes))
    repeated = (places[nodes] != torch.arange(len(nodes))).nonzero()
    if len(repeated):
        raise ValueError(
            f"{name} holds node {int(nodes[repeated[0]])} more than once; give each {'seed ' * (name == 'seeds')}once."
        )
    return places


def edges_between(
    indptr: Tensor, indices: Tensor, destinations: Tensor, sources: Tensor, narrow_limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``native/include/subgraph.h``."""
    places = places_of("sources", sources, len(indptr) - 1)
    counts, positions, found = in_edges(indptr, indices, destinations)
    ids = places[found]
    kept = ids >= 0
    before = torch.cat([kept.new_zeros(1).long(), kept.cumsum(0)])
    offsets = before[torch.cat([counts.new_zeros(1), counts.cumsum(0)])]
    dtype = torch.int32 if int(offsets[-1]) <= narrow_limit else torch.int64
    return offsets.to(dtype), ids[kept].to(dtype), positions[kept]


def edges_from(
    indptr: Tensor, indices: Tensor, destinations: Tensor, drawn: Tensor, narrow_limit: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See ``native/include/subgraph.h``."""
    num_nodes = len(indptr) - 1
    places_of("drawn", drawn, num_nodes)
    offsets, origins, positions = edges_between(indptr, indices, destinations, drawn, narrow_limit)
    places = torch.full((len(drawn),), -1, dtype=torch.int32)
    used = origins.long().unique()
    of_nodes = places_of("destinations", destinations, num_nodes)
    new = drawn[used][of_nodes[drawn[used]] < 0]
    of_nodes[new] = torch.arange(len(destinations), len(destinations) + len(new))
    places[used] = of_nodes[drawn[used]].int()
    return torch.cat([destinations, new]), offsets, places[origins].to(origins.dtype), positions, origins, places


def distinct_nodes(ids: Tensor, num_nodes: int) -> Tensor:
    """See ``native/include/subgraph.h``."""
    places = (ids != -1).nonzero()[:, 0]
    check_ids("ids", ids[places], places, num_nodes)
    return ids[places].unique()


def append_nodes(seeds: Tensor, ids: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """See ``native/include/subgraph.h``."""
    # Without a list as long as the graph: there may be more ids than fit into memory.
    check_ids("seeds", seeds, None, num_nodes)
    check_ids("ids", ids, None, num_nodes)
    together = torch.cat([seeds, ids])
    nodes = in_order_of_appearance(together)
    repeated = (nodes[: len(seeds)] != seeds[: len(nodes)]).nonzero()
    if len(repeated) or len(nodes) < len(seeds):
        ordered = seeds.sort().values
        twice = int(ordered[1:][ordered[1:] == ordered[:-1]][0])
        raise ValueError(f"seeds holds node {twice} more than once; give each seed once.")
    distinct, order = nodes.sort()
    return nodes, order[torch.searchsorted(distinct, ids)].int()
