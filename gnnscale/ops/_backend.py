"""Which implementation of the operations is in use: on the CPU decided once at import, on a GPU when first asked."""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

native: Any = None  # the module gnnscale._native, or None where torch does the work
emulated: Any = None  # tests put a build of the CUDA kernels for the host here, which then work on the CPU's tensors
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


def cuda_kernels(device: torch.device) -> Any:
    """Give the module whose kernels work on a device's memory, or None where torch or the CPU's code does the work."""
    return _load_cuda()[0] if device.type == "cuda" else emulated


def kernels_for(values: Any) -> tuple[Any, torch.device | None]:
    """Give what `cuda_kernels` gives for a tensor's device, and that device; None twice for what is no tensor."""
    device = getattr(values, "device", None)
    cuda = None if device is None else cuda_kernels(device)
    return cuda, None if cuda is None else device


def cuda_reason() -> str:
    """Tell why torch does the work on a GPU, with the remedy; empty where gnnscale's kernels do.

    Examples
    --------
    >>> from gnnscale import ops
    >>> isinstance(ops.cuda_reason(), str)
    True
    """
    return _load_cuda()[1]


@cache
def _load_cuda() -> tuple[Any, str]:
    """Give the module gnnscale._cuda, or None and why it is not in use."""
    import torch

    if os.environ.get("GNNSCALE_NATIVE") == "0":
        return None, "The CUDA kernels are switched off by GNNSCALE_NATIVE=0; unset that variable to use them."
    if not torch.cuda.is_available():
        return None, "torch finds no GPU; on a machine with one, install a CUDA build of torch and check `nvidia-smi`."
    try:
        module = importlib.import_module("gnnscale._cuda")
    except ModuleNotFoundError:
        return None, (
            "The CUDA kernels were not built for this Python; put the CUDA toolkit's nvcc on the PATH and install "
            "gnnscale again."
        )
    except ImportError as error:
        return None, f"The CUDA kernels cannot be loaded ({error}); install gnnscale again on this machine."
    if obstacle := module.obstacle():
        return None, (
            f"The CUDA kernels cannot run: {obstacle}; install gnnscale again with a CUDA toolkit that the driver "
            "supports."
        )
    return module, ""
