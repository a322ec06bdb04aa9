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

__all__ = ["dgl"]
