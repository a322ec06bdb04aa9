"""Sampling on a GPU: its kernels draw, torch sorts and selects, and the samples are the CPU's, bit for bit.

What the graph's arrays hold is not checked. The host waits for the device where it has to know how long a result is.
`cuda` is the module that has the kernels; the graph's arrays may be in pinned memory of the host, the others are on the
device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gnnscale.ops.gpu import memory_of, stream_of
from gnnscale.ops.random import as_signed, fold, uniform
from gnnscale.ops.reference import subgraph
from gnnscale.ops.reference.rules import priority_cut

_NOWHERE = 2**31 - 1
# Edges for which there may be room without need, so that all hops are drawn in one call: 340 MB.
_MOST_ROOM = 2**24
# Offsets, positions and importance of the edges drawn.
_Drawn = tuple[Tensor, Tensor, Tensor]
_Hops = tuple[Tensor, list[tuple[Tensor, Tensor, Tensor, Tensor]]]


def take(cuda: Any, values: Tensor, index: Tensor) -> Tensor:
    """Give values[index], (n,), of values on the device or in pinned memory."""
    if values.device == index.device and index.device.type == "cuda":
        return values[index]
    word = {4: torch.int32, 8: torch.int64}[values.element_size()]
    out = torch.empty(len(index), dtype=values.dtype, device=index.device)
    cuda.take(values.view(word), index, out.view(word), stream_of(index))
    return out


class InEdges(NamedTuple):
    """All in-edges of some nodes, one after the other.

    Edge e is of row ``rows[e]``, int32. Those of row i are ``offsets[i]`` to ``offsets[i + 1]``, and stand in the
    graph's arrays at e + ``shift[i]``.
    """

    nodes: Tensor
    degrees: Tensor
    offsets: Tensor
    shift: Tensor
    rows: Tensor

    @property
    def positions(self) -> Tensor:
        return self.at(torch.arange(len(self.rows), device=self.rows.device))

    def at(self, edges: Tensor) -> Tensor:
        """Where some of the edges stand in the graph's arrays."""
        return edges + self.shift[self.rows[edges].long()]


def in_edges(cuda: Any, indptr: Tensor, nodes: Tensor) -> InEdges:
    """Give the in-edges of `nodes`, (n,) int64; the host waits for their number."""
    starts = take(cuda, indptr, nodes)
    degrees = take(cuda, indptr, nodes + 1) - starts
    offsets = _offsets(degrees)
    numbers = torch.arange(len(nodes), dtype=torch.int32, device=nodes.device)
    rows = numbers.repeat_interleave(degrees, output_size=int(offsets[-1]))
    return InEdges(nodes, degrees, offsets, starts - offsets[:-1], rows)


def _offsets(counts: Tensor) -> Tensor:
    ends = counts.cumsum(0)
    return torch.cat([ends.new_zeros(1), ends])


def sample_neighbors(
    cuda: Any,
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    seeds: Tensor,
    fanouts: list[int],
    key: int,
    replace: bool,
) -> _Hops:
    """See ``native/include/sampling.h``."""
    if weight is None and min(fanouts, default=-1) >= 0 and len(indptr) > 1:
        room = _room(len(seeds), fanouts, len(indptr) - 1)
        if sum(edges for _, edges, _ in room) <= _MOST_ROOM:
            return _sample_alike(cuda, indptr, indices, seeds, fanouts, key, replace, room)

    def draw(nodes: Tensor, fanout: int, hop: int) -> _Drawn:
        state = fold(key, hop) % 2**64
        if weight is None or fanout < 0:
            return _draw_alike(cuda, indptr, indices, nodes, fanout, replace, state)
        if replace or fanout == 1:
            return _draw_by_weight(cuda, in_edges(cuda, indptr, nodes), weight, fanout, state)
        return _draw_by_priority(cuda, in_edges(cuda, indptr, nodes), weight, fanout, state)

    return _sample(cuda, indptr, indices, seeds, fanouts, draw)


def _room(num_seeds: int, fanouts: list[int], num_nodes: int) -> list[tuple[int, int, int]]:
    """The most rows and edges that each hop can have, and the most nodes after it."""
    rows, room = num_seeds, []
    for fanout in fanouts:
        # There may be as many nodes as that where seeds are repeated, which is only seen afterwards.
        nodes = min(rows * (1 + fanout), num_nodes + num_seeds)
        room.append((rows, rows * fanout, nodes))
        rows = nodes
    return room


def _sample_alike(
    cuda: Any,
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: list[int],
    key: int,
    replace: bool,
    room: list[tuple[int, int, int]],
) -> _Hops:
    """All hops in one call, into as much memory as they may need; the host waits once, for their lengths."""
    device, num_nodes, num_hops = seeds.device, len(indptr) - 1, len(fanouts)
    rows, edges = [most for most, _, _ in room], [most for _, most, _ in room]
    nodes, places = seeds.new_empty(room[-1][2]), _no_places(num_nodes, device)
    offsets = torch.zeros(sum(rows) + num_hops, dtype=torch.int32, device=device)
    sources = torch.empty(sum(edges), dtype=torch.int32, device=device)
    positions = torch.empty(sum(edges), dtype=torch.int64, device=device)
    importance = torch.empty(sum(edges), device=device)
    sizes = torch.empty(2 * num_hops + 2, dtype=torch.int64, device=device)
    states = [fold(key, hop) % 2**64 for hop in range(num_hops)]
    cuda.sample_alike(
        indptr, indices, fanouts, replace, states, seeds, rows, edges, places, nodes, offsets, sources, positions,
        importance, sizes, memory_of(seeds), stream_of(seeds),
    )  # fmt: skip
    wrong, *lengths = sizes.tolist()
    if wrong:
        _refuse("seeds", seeds, num_nodes)
    # Batches wait ahead of the model: one that fills less than half of its room does not keep it.
    kept = Tensor.clone if 2 * sum(lengths[num_hops + 1 :]) < len(sources) else lambda part: part
    hops, row, edge = [], 0, 0
    for hop, (most_rows, most_edges, _) in enumerate(room):
        num_rows, num_edges = lengths[hop], lengths[num_hops + 1 + hop]
        there = slice(edge, edge + num_edges)
        parts = offsets[row : row + num_rows + 1], sources[there], positions[there], importance[there]
        hops.append(tuple(map(kept, parts)))
        row, edge = row + most_rows + 1, edge + most_edges
    return kept(nodes[: lengths[num_hops]]), hops


def sample_labor(
    cuda: Any,
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: list[int],
    key: int,
    iterations: int,
    shared: bool,
) -> _Hops:
    """See ``native/include/sampling.h``."""

    def draw(nodes: Tensor, fanout: int, hop: int) -> _Drawn:
        if fanout < 0:
            return _draw_alike(cuda, indptr, indices, nodes, fanout, False, 0)
        edges, state = in_edges(cuda, indptr, nodes), fold(key, 0 if shared else hop)
        if iterations == 0 or fanout == 0:
            return _draw_labor(cuda, edges, indices, fanout, state % 2**64)
        return _draw_labor_iterated(cuda, edges, indptr, indices, fanout, iterations, as_signed(state))

    return _sample(cuda, indptr, indices, seeds, fanouts, draw)


def _sample(
    cuda: Any,
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: list[int],
    draw: Callable[[Tensor, int, int], _Drawn],
) -> _Hops:
    places, nodes, hops = places_of("seeds", seeds, len(indptr) - 1), seeds, []
    for hop, fanout in enumerate(fanouts):
        offsets, positions, importance = draw(nodes, fanout, hop)
        nodes, sources = relabel(cuda, indptr, indices, positions, places, nodes)
        hops.append((offsets.int(), sources, positions, importance))
    return nodes, hops


def places_of(name: str, nodes: Tensor, num_nodes: int) -> Tensor:
    """Where each node of the graph stands in a list of distinct ones; shape (num_nodes,), int32."""
    if num_nodes == 0:
        _refuse(name, nodes, num_nodes)
    inside = nodes.clamp(0, num_nodes - 1)
    places, numbers = _placed(inside, num_nodes)
    if bool(((inside != nodes) | (places[inside] != numbers)).any()):
        _refuse(name, nodes, num_nodes)
    return places


def _placed(nodes: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """The same for nodes that are known to be distinct, without a look, and 0, 1, ... as places are."""
    places = _no_places(num_nodes, nodes.device)
    numbers = torch.arange(len(nodes), dtype=torch.int32, device=nodes.device)
    places[nodes] = numbers
    return places, numbers


def _no_places(num_nodes: int, device: torch.device) -> Tensor:
    if num_nodes >= _NOWHERE:
        raise ValueError(
            f"the graph has {num_nodes} nodes; a GPU samples from less than 2**31 - 1. Leave it to the CPU."
        )
    return torch.full((num_nodes,), _NOWHERE, dtype=torch.int32, device=device)


def _refuse(name: str, nodes: Tensor, num_nodes: int) -> None:
    """Say what is wrong with a list of nodes, as the CPU does."""
    subgraph.places_of(name, nodes.cpu(), num_nodes)


def relabel(
    cuda: Any, indptr: Tensor, indices: Tensor, positions: Tensor, places: Tensor, nodes: Tensor
) -> tuple[Tensor, Tensor]:
    """Append the sources of some edges that are new to `nodes`; gives these and where each source stands there.

    `places` goes on to say where each node stands.
    """
    num_known, num_edges, stream = len(nodes), len(positions), stream_of(nodes)
    _check_few(num_edges, num_known)
    sources, is_first = (torch.empty(num_edges, dtype=torch.int32, device=nodes.device) for _ in range(2))
    cuda.find_new(indptr, indices, positions, num_known, places, sources, is_first, stream)
    ranks = is_first.cumsum(0, dtype=torch.int32)
    num_new = int(ranks[-1]) if num_edges else 0
    nodes = torch.cat([nodes, nodes.new_empty(num_new)])
    cuda.number_new(num_known, is_first, ranks, places, nodes, sources, stream)
    return nodes, sources


def _check_few(num_edges: int, num_nodes: int = 0) -> None:
    if num_nodes + num_edges >= _NOWHERE:
        raise ValueError(f"a layer has {num_edges} edges; a GPU samples less than 2**31. Make batches smaller.")


def _draw_alike(
    cuda: Any, indptr: Tensor, indices: Tensor, nodes: Tensor, fanout: int, replace: bool, state: int
) -> _Drawn:
    rule, stream = (indptr, indices, fanout, replace, state), stream_of(nodes)
    counts = torch.empty_like(nodes)
    cuda.count_edges(*rule, nodes, counts, stream)
    offsets = _offsets(counts)
    positions = nodes.new_empty(int(offsets[-1]))
    importance = torch.empty(0 if fanout < 0 else len(positions), device=nodes.device)
    cuda.draw_edges(*rule, nodes, offsets, positions, None if fanout < 0 else importance, stream)
    return offsets, positions, importance


def _draw_by_weight(cuda: Any, edges: InEdges, weight: Tensor, fanout: int, state: int) -> _Drawn:
    stream, (nodes, _, offsets, shift, rows) = stream_of(edges.nodes), edges
    sums = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    cuda.row_weight_sums(weight, offsets, shift, sums, stream)
    of_row = torch.cat([sums.new_zeros(1), sums])[offsets[1:]]  # where a row has edges
    weighs = (edges.degrees > 0) & (of_row > 0)
    drawn = _offsets(weighs.long() * fanout)
    positions = nodes.new_empty(int(drawn[-1]))
    importance = torch.empty(len(positions), device=nodes.device)
    cuda.draw_by_weight(weight, nodes, offsets, shift, sums, fanout, state, drawn, positions, importance, stream)
    return drawn, positions, importance


def _draw_by_priority(cuda: Any, edges: InEdges, weight: Tensor, fanout: int, state: int) -> _Drawn:
    positions = edges.positions
    weights = take(cuda, weight, positions).double()
    state_there = torch.tensor(as_signed(state))
    counts, kept, importance = priority_cut(edges.degrees, edges.rows.long(), positions, weights, fanout, state_there)
    return _offsets(counts), positions[kept], importance


def _draw_labor(cuda: Any, edges: InEdges, indices: Tensor, fanout: int, state: int) -> _Drawn:
    # p = k / d, as the CPU computes it.
    chance = torch.where(edges.degrees <= fanout, 1.0, _shares(edges.degrees, fanout).reciprocal())
    # What is less than it are the numbers of 52 bits below this.
    limits = (chance * 2.0**52).ceil().long()
    keep = torch.empty(len(edges.rows), dtype=torch.uint8, device=edges.rows.device)
    cuda.mark_below(indices, edges.rows, edges.shift, state, limits, keep, stream_of(keep))
    offsets, kept = _kept(edges.offsets, keep)
    return offsets, edges.at(kept), chance.reciprocal().float()[edges.rows[kept].long()]


def _shares(degrees: Tensor, fanout: int) -> Tensor:
    """d / k as the CPU rounds it: on a GPU, torch multiplies by the reciprocal of a number that the host has."""
    return degrees / torch.full((), fanout, dtype=torch.float64, device=degrees.device)


def _kept(offsets: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Where the edges of each row begin among those that are kept, and which these are."""
    return _offsets(keep)[offsets], keep.nonzero()[:, 0]


def _draw_labor_iterated(
    cuda: Any, edges: InEdges, indptr: Tensor, indices: Tensor, fanout: int, iterations: int, state: int
) -> _Drawn:
    """LABOR-i; ``native/cpu/labor.cpp`` says of π and y what they are."""
    stream, positions, rows = stream_of(edges.nodes), edges.positions, edges.rows.long()
    places, _ = _placed(edges.nodes, len(indptr) - 1)
    nodes, sources = relabel(cuda, indptr, indices, positions, places, edges.nodes)
    local = sources.long()
    y = _shares(edges.degrees, fanout).clamp(min=1)
    pi = y.new_ones(len(nodes))
    expected, done = float("inf"), 0
    while done != iterations:
        pi = pi / torch.full_like(pi, float("inf")).scatter_reduce_(0, local, y[rows], "amin")
        cuda.labor_roots(edges.offsets, sources, pi, fanout, y, stream)
        before, expected = expected, float(cumulative_sums(cuda, pi.clamp(max=1))[-1]) if len(pi) else 0.0
        if expected >= (1 - 1e-4) * before:
            break
        done += 1
    chance = (pi[local] / y[rows]).clamp(max=1)
    words = fold(torch.tensor(state), nodes)
    offsets, kept = _kept(edges.offsets, uniform(words)[local] < chance)
    return offsets, positions[kept], chance[kept].reciprocal().float()


def cumulative_sums(cuda: Any, values: Tensor) -> Tensor:
    """See ``native/include/ordered_sums.h``."""
    out, totals = torch.empty_like(values), values.new_empty(2 * -(-len(values) // 256))
    cuda.cumulative_sums(values, totals, out, stream_of(values))
    return out


def segment_sums(cuda: Any, offsets: Tensor, values: Tensor, order: Tensor | None = None) -> Tensor:
    """Add up the values of each segment in their order, float32 or float64; `order` says which these are."""
    out = values.new_empty(len(offsets) - 1)
    cuda.segment_sums(offsets.long(), order, values, out, stream_of(values))
    return out


def column_sums(
    cuda: Any,
    indptr: Tensor,
    indices: Tensor,
    destinations: Tensor,
    rows: Tensor | None,
    columns: Tensor | None,
    weight: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See ``native/include/layerwise.h``."""
    edges = in_edges(cuda, indptr, destinations)
    positions, places = edges.positions, _no_places(len(indptr) - 1, destinations.device)
    sources, local = relabel(cuda, indptr, indices, positions, places, destinations[:0])
    ones = torch.ones((), dtype=torch.float64, device=sources.device).expand(len(destinations))
    values = (ones if rows is None else rows[destinations])[edges.rows.long()]
    if weight is not None:
        values = values * take(cuda, weight, positions).double().square()
    ordered, order = local.sort(stable=True)
    numbers = torch.arange(len(sources) + 1, dtype=ordered.dtype, device=ordered.device)
    sums = segment_sums(cuda, torch.searchsorted(ordered, numbers), values, order)
    return sources, sums if columns is None else sums * columns[sources]


def draw_in_succession(cuda: Any, chance: Tensor, size: int, key: int) -> Tensor:
    """See ``native/include/layerwise.h``."""
    possible = (chance > 0).nonzero()[:, 0]
    if len(possible) <= size:
        return possible
    drawn, number = possible[:0], 0
    while len(drawn) < size:
        left = chance.index_fill(0, drawn, 0.0)
        cumulative = cumulative_sums(cuda, left)
        state = torch.tensor(as_signed(fold(as_signed(key), number)))
        draws = torch.arange(2 * (size - len(drawn)) + 32, device=chance.device)
        places = torch.searchsorted(cumulative, uniform(fold(state, draws)) * cumulative[-1], right=True)
        # Rounding can carry a point to the total. The last that is left has the largest number of those that are.
        last = torch.where(left > 0, torch.arange(len(left), device=left.device), 0).max()
        places = torch.minimum(places, last)
        first = draws.new_full((len(left),), len(draws)).scatter_reduce_(0, places, draws, "amin")
        drawn = torch.cat([drawn, places[first[places] == draws][: size - len(drawn)]])
        number += 1
    return drawn


def fill_rows(cuda: Any, indptr: Tensor, values: Tensor, weight: Tensor | None, totals: Tensor) -> Tensor:
    """See ``native/include/layerwise.h``."""
    sums = segment_sums(cuda, indptr, values if weight is None else values * weight)
    rows = torch.arange(len(totals), device=values.device)
    rows = rows.repeat_interleave(indptr.diff(), output_size=len(values))
    return values * torch.where(sums > 0, totals / sums, 0.0)[rows]


def edges_between(
    cuda: Any, indptr: Tensor, indices: Tensor, destinations: Tensor, sources: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``native/include/subgraph.h``."""
    return _edges_from(cuda, indptr, indices, destinations, places_of("sources", sources, len(indptr) - 1))


def _edges_from(
    cuda: Any, indptr: Tensor, indices: Tensor, destinations: Tensor, places: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The edges that leave nodes with a place."""
    edges = in_edges(cuda, indptr, destinations)
    keep = torch.empty(len(edges.rows), dtype=torch.uint8, device=places.device)
    cuda.mark_members(indices, edges.rows, edges.shift, places, keep, stream_of(keep))
    offsets, kept = _kept(edges.offsets, keep)
    _check_few(len(kept))
    positions = edges.at(kept)
    return offsets.int(), places[take(cuda, indices, positions).long()], positions


def edges_from(
    cuda: Any, indptr: Tensor, indices: Tensor, destinations: Tensor, drawn: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See ``native/include/subgraph.h``."""
    num_nodes = len(indptr) - 1
    of_drawn = places_of("drawn", drawn, num_nodes)
    offsets, origins, positions = _edges_from(cuda, indptr, indices, destinations, of_drawn)
    is_used = torch.zeros(len(drawn), dtype=torch.bool, device=drawn.device).index_fill_(0, origins.long(), True)
    of_drawn = places_of("destinations", destinations, num_nodes)[drawn]
    is_new = is_used & (of_drawn == _NOWHERE)
    behind = len(destinations) - 1 + is_new.cumsum(0, dtype=torch.int32)
    places = torch.where(is_used, torch.where(is_new, behind, of_drawn), -1).int()
    nodes = torch.cat([destinations, drawn[is_new]])
    return nodes, offsets, places[origins.long()], positions, origins, places
