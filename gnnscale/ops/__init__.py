"""The operations that decide speed: each native (C++ through DLPack), each with a plain torch reference.

`backend` says which one is in use; the results are the same.
"""

from gnnscale.ops._backend import backend, backend_reason
from gnnscale.ops.attention import attend, attend_edges
from gnnscale.ops.dropout import dropout
from gnnscale.ops.gather import gather_rows
from gnnscale.ops.sampling import Hop, sample_neighbors
from gnnscale.ops.sparse import spmm, transpose_csr

__all__ = [
    "Hop",
    "attend",
    "attend_edges",
    "backend",
    "backend_reason",
    "dropout",
    "gather_rows",
    "sample_neighbors",
    "spmm",
    "transpose_csr",
]
