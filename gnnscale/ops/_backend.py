"""Which implementation of the operations is in use, decided once at import."""

import importlib
import os
from typing import Any

native: Any = None  # the module gnnscale._native, or None where torch does the work
_reason = ""

if os.environ.get("GNNSCALE_NATIVE") == "0":
    _reason = "The native operations are switched off by GNNSCALE_NATIVE=0; unset that variable to use them."
else:
    try:
        native = importlib.import_module("gnnscale._native")
    except ModuleNotFoundError:
        _reason = (
            "The native operations were not built for this Python; install a C++17 compiler "
            "(Debian, Ubuntu: apt install g++) and install gnnscale again."
        )
    except ImportError as error:
        _reason = f"The native operations cannot be loaded ({error}); install gnnscale again on this machine."


def backend() -> str:
    """Tell what runs the operations: ``"native"`` (compiled C++) or ``"torch"`` (the slower reference).

    Examples
    --------
    >>> from gnnscale import ops
    >>> ops.backend() in ("native", "torch")
    True
    """
    return "torch" if native is None else "native"


def backend_reason() -> str:
    """Tell why the backend is ``"torch"``, with the remedy; empty where it is ``"native"``.

    Examples
    --------
    >>> from gnnscale import ops
    >>> (ops.backend_reason() == "") == (ops.backend() == "native")
    True
    """
    return _reason
