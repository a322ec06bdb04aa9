"""The operations in plain torch: what the native ones are compared with, and what runs in their place.

The functions take arguments that have been checked and have the native module's contracts
(``native/include/*.h``); all but `spmm` and `sddmm` give bit for bit the same.
"""

import torch
from torch import Tensor

from gnnscale.ops.positions import draw_positions
from gnnscale.ops.random import as_signed, bounded, fold, uniform

# Rows of edges gathered at a time: enough to be fast, few enough to stay in the processor's cache.
_CHUNK = 1 << 14


def _in_order_of_appearance(ids: Tensor) -> Tensor:
    """Give the distinct ids, by where each stands first."""
    distinct, inverse = ids.unique(return_inverse=True)
    first = torch.full_like(distinct, len(ids)).scatter_reduce_(0, inverse, torch.arange(len(ids)), "amin")
    return distinct[first.argsort()]


def _check_ids(name: str, ids: Tensor, places: Tensor | None, num_nodes: int) -> None:
    wrong = ((ids < 0) | (ids >= num_nodes)).nonzero()
    if len(wrong):
        at = int(wrong[0])
        place = at if places is None else int(places[at])
        raise ValueError(f"{name}[{place}] is {int(ids[at])}; node ids of this graph are 0 to {num_nodes - 1}.")


def sample_neighbors(
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: list[int],
    key: int,
    replace: bool,
    narrow_limit: int,
) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """See ``native/include/sampling.h``."""
    num_nodes = len(indptr) - 1
    _check_ids("seeds", seeds, None, num_nodes)
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
        states = fold(torch.tensor(as_signed(fold(as_signed(key), h))), nodes)
        counts, positions = draw_positions(starts, stops - starts, states, fanout, replace)
        sources = indices[positions].long()
        _check_ids("indices", sources, positions, num_nodes)
        new = _in_order_of_appearance(sources[local_id[sources] < 0])
        local_id[new] = torch.arange(len(nodes), len(nodes) + len(new))
        nodes = torch.cat([nodes, new])
        dtype = torch.int32 if max(len(positions), num_nodes) <= narrow_limit else torch.int64
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        hops.append((offsets.to(dtype), local_id[sources].to(dtype), positions))
    return nodes, hops


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


def gather_rows(source: Tensor, index: Tensor, out: Tensor) -> None:
    """See ``native/include/gather.h``."""
    wrong = ((index < 0) | (index >= len(source))).nonzero()
    if len(wrong):
        at = int(wrong[0])
        raise IndexError(f"index[{at}] is {int(index[at])}; source has {len(source)} rows.")
    torch.index_select(source, 0, index, out=out)


def check_csr(indptr: Tensor, indices: Tensor, num_cols: int) -> None:
    """Refuse what is no CSR matrix with `num_cols` columns."""
    if int(indptr[0]) != 0 or int(indptr[-1]) != len(indices) or bool((indptr[1:] < indptr[:-1]).any()):
        raise ValueError(
            f"indptr is no CSR pointer array: it has to rise from 0 to the length of indices ({len(indices)})."
        )
    if len(indices):
        low, high = (int(bound) for bound in indices.aminmax())
        if low < 0 or high >= num_cols:
            raise ValueError(f"indices holds {low if low < 0 else high}; the matrix has {num_cols} columns.")


def _rows_of(indptr: Tensor) -> Tensor:
    """Give the row of every edge."""
    return torch.arange(len(indptr) - 1, device=indptr.device).repeat_interleave(indptr.diff())


def spmm(indptr: Tensor, indices: Tensor, weight: Tensor | None, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    """See ``native/include/sparse.h``."""
    check_csr(indptr, indices, len(x))
    out = x.new_zeros(len(indptr) - 1, x.shape[1])
    if diagonal is not None:
        out[: len(diagonal)] = diagonal[:, None] * x[: len(diagonal)]
    rows = _rows_of(indptr)
    for begin in range(0, len(indices), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        messages = x.index_select(0, indices[chunk])
        if weight is not None:
            messages *= weight[chunk, None]
        out.index_add_(0, rows[chunk], messages)
    return out


def sddmm(indptr: Tensor, indices: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """See ``native/include/sparse.h``."""
    check_csr(indptr, indices, len(cols))
    out = rows.new_empty(len(indices))
    row_ids = _rows_of(indptr)
    for begin in range(0, len(indices), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        out[chunk] = (rows.index_select(0, row_ids[chunk]) * cols.index_select(0, indices[chunk])).sum(1)
    return out


def transpose_csr(indptr: Tensor, indices: Tensor, num_cols: int) -> tuple[Tensor, Tensor, Tensor]:
    """See ``native/include/sparse.h``."""
    check_csr(indptr, indices, num_cols)
    permutation = indices.argsort(stable=True)
    counts = torch.bincount(indices, minlength=num_cols)
    indptr_t = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return indptr_t, _rows_of(indptr)[permutation].to(indices.dtype), permutation


def dropout(x: Tensor, keep: int, key: int, out: Tensor) -> None:
    """See ``native/include/dropout.h``; any floating dtype and device."""
    state = torch.tensor(as_signed(key), device=x.device)
    shifts = 16 * torch.arange(4, device=x.device)[:, None]
    for begin in range(0, len(x), 4 * _CHUNK):
        part = slice(begin, min(begin + 4 * _CHUNK, len(x)))
        tiles = -(-(part.stop - begin) // 256)
        words = fold(state, torch.arange(begin // 4, begin // 4 + 64 * tiles, device=x.device))
        bits = (words.view(tiles, 1, 64) >> shifts) & 0xFFFF
        dropped = (bits >= keep).view(-1)[: part.stop - begin]
        torch.mul(x[part], 65536 / keep, out=out[part]).masked_fill_(dropped, 0)
