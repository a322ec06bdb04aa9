"""DGL, imported quietly: unless told its backend, it prints and writes a file in the user's home."""

import os
import warnings

_unset = "DGLBACKEND" not in os.environ
os.environ.setdefault("DGLBACKEND", "pytorch")
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dgl
finally:
    if _unset:
        del os.environ["DGLBACKEND"]

__all__ = ["dgl", "dgl_has_cuda"]


def dgl_has_cuda() -> bool:
    """Whether this build of DGL can have graphs on a GPU: a look into its table of functions, which starts nothing."""
    return dgl._ffi.function.get_global_func("device_api.cuda", allow_missing=True) is not None
