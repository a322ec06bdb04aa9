"""R-MAT graphs, in torch."""

import torch
from torch import Tensor

from gnnscale.ops.random import as_signed, fold

_CHUNK = 1 << 20


def draw_cells(levels: int, table: Tensor, key: int, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Rows and columns, int64, of draws `first` to `first + count`; see ``native/include/rmat.h``."""
    state = fold(torch.tensor(as_signed(key)), torch.arange(first, first + count))
    row, column = torch.zeros_like(state), torch.zeros_like(state)
    words = (levels + 7) // 8
    for number in range(words):
        word = fold(state, torch.tensor(number))
        for half in (word & 0xFFFFFFFF, (word >> 32) & 0xFFFFFFFF):
            entry = table[half & 255]
            outcome = torch.where(half >> 8 < entry >> 8, half, entry) & 255
            row = row << 4 | outcome >> 4
            column = column << 4 | outcome & 15
    excess = 8 * words - levels
    return row >> excess, column >> excess


def draw_rmat(
    levels: int, table: Tensor, relabel: Tensor, key: int, draws: int, most: int, directed: bool
) -> tuple[Tensor, Tensor, int]:
    """See ``native/include/rmat.h``."""
    num_nodes = len(relabel)
    edges = torch.zeros(0, dtype=torch.int64)
    for first in range(0, draws, _CHUNK):
        row, column = draw_cells(levels, table, key, first, min(_CHUNK, draws - first))
        inside = (row < num_nodes) & (column < num_nodes) & (row != column)
        source, target = relabel[row[inside]].long(), relabel[column[inside]].long()
        if not directed:
            source, target = torch.minimum(source, target), torch.maximum(source, target)
        edges = torch.cat([edges, source * num_nodes + target]).unique()
    found = len(edges)
    if found > most:
        hashes = fold(fold(torch.tensor(as_signed(key)), torch.tensor(-1)), edges)
        # From signed to unsigned order.
        edges = edges[(hashes ^ torch.iinfo(torch.int64).min).argsort()[:most]]
    source, target = edges // num_nodes, edges % num_nodes
    if not directed:
        source, target = torch.cat([source, target]), torch.cat([target, source])
    by_target = (target * num_nodes + source).sort().values
    indptr = torch.zeros(num_nodes + 1, dtype=torch.int64)
    indptr[1:] = torch.bincount(by_target // num_nodes, minlength=num_nodes).cumsum(0)
    return indptr, (by_target % num_nodes).int(), found
