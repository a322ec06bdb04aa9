"""The operations in plain torch: what the native ones are compared with, and what runs in their place.

The functions take arguments that have been checked and have the native module's contracts
(``native/include/*.h``); all but sums of floating-point numbers (products and attention)
are the same bit for bit.
"""

from gnnscale.ops.reference.attention import attend, attend_backward
from gnnscale.ops.reference.dropout import dropout
from gnnscale.ops.reference.extremes import extremes, extremes_backward
from gnnscale.ops.reference.gather import gather_rows
from gnnscale.ops.reference.layerwise import column_sums, draw_in_succession, draw_with_replacement, fill_rows
from gnnscale.ops.reference.ordered_sums import cumulative_sums
from gnnscale.ops.reference.rmat import draw_cells, draw_rmat
from gnnscale.ops.reference.sampling import sample_labor, sample_neighbors
from gnnscale.ops.reference.sparse import check_csr, sddmm, spmm, transpose_csr
from gnnscale.ops.reference.sparse_rows import multiply_rows
from gnnscale.ops.reference.subgraph import append_nodes, distinct_nodes, edges_between, edges_from
from gnnscale.ops.reference.walks import random_walks, top_visits, walk_ends

__all__ = [
    "append_nodes",
    "attend",
    "attend_backward",
    "check_csr",
    "column_sums",
    "cumulative_sums",
    "distinct_nodes",
    "draw_cells",
    "draw_in_succession",
    "draw_rmat",
    "draw_with_replacement",
    "dropout",
    "edges_between",
    "edges_from",
    "extremes",
    "extremes_backward",
    "fill_rows",
    "gather_rows",
    "multiply_rows",
    "random_walks",
    "sample_labor",
    "sample_neighbors",
    "sddmm",
    "spmm",
    "top_visits",
    "transpose_csr",
    "walk_ends",
]
