"""The operations in plain torch: what the native ones are compared with, and what runs in their place.

The functions take arguments that have been checked and have the native module's contracts
(``native/include/*.h``); all but sums of floating-point numbers (products and attention)
are the same bit for bit.
"""

from gnnscale.ops.reference.attention import attend, attend_backward
from gnnscale.ops.reference.dropout import dropout
from gnnscale.ops.reference.gather import gather_rows
from gnnscale.ops.reference.sampling import sample_neighbors
from gnnscale.ops.reference.sparse import check_csr, sddmm, spmm, transpose_csr
from gnnscale.ops.reference.walks import random_walks, walk_ends

__all__ = [
    "attend",
    "attend_backward",
    "check_csr",
    "dropout",
    "gather_rows",
    "random_walks",
    "sample_neighbors",
    "sddmm",
    "spmm",
    "transpose_csr",
    "walk_ends",
]
