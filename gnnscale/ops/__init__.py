"""The operations that decide speed: each native (C++ through DLPack), each with a plain torch reference.

`backend` says which one is in use; the results are the same.
"""

from gnnscale.ops._backend import backend, backend_reason, cuda_reason
from gnnscale.ops.attention import attend, attend_edges
from gnnscale.ops.dropout import dropout
from gnnscale.ops.extremes import extremes
from gnnscale.ops.gather import gather_rows
from gnnscale.ops.huge_pages import use_huge_pages
from gnnscale.ops.sampling import Hop, sample_labor, sample_neighbors
from gnnscale.ops.sparse import spmm, transpose_csr
from gnnscale.ops.sparse_rows import SparseMatrix, multiply_rows

__all__ = [
    "Hop",
    "SparseMatrix",
    "attend",
    "attend_edges",
    "backend",
    "backend_reason",
    "cuda_reason",
    "dropout",
    "extremes",
    "gather_rows",
    "multiply_rows",
    "sample_labor",
    "sample_neighbors",
    "spmm",
    "transpose_csr",
    "use_huge_pages",
]
