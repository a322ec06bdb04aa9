"""The operations in plain torch: what the native ones are compared with, and what runs in their place.

The functions take arguments that have been checked and have the native module's contracts
(``native/include/*.h``); all but `spmm`, `sddmm` and `extremes_backward` give bit for bit the same.
"""

from gnnscale.ops.reference.dropout import dropout
from gnnscale.ops.reference.extremes import extremes, extremes_backward
from gnnscale.ops.reference.gather import gather_rows
from gnnscale.ops.reference.sampling import sample_neighbors
from gnnscale.ops.reference.sparse import check_csr, sddmm, spmm, transpose_csr
from gnnscale.ops.reference.walks import random_walks, walk_ends

__all__ = [
    "check_csr",
    "dropout",
    "extremes",
    "extremes_backward",
    "gather_rows",
    "random_walks",
    "sample_neighbors",
    "sddmm",
    "spmm",
    "transpose_csr",
    "walk_ends",
]
