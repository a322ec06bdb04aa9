"""What is installed, what is in use, and what is missing, each with its remedy."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from gnnscale._version import __version__
from gnnscale.compare.machine import cpu_model, gpu, memory_gb, usable_cores


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``remedy`` says what to do about it, and only broken findings must be."""

    subject: str
    state: str
    remedy: str = ""
    broken: bool = False


def examine() -> Iterator[Finding]:
    """Look at everything gnnscale uses.

    Yields
    ------
    Finding
        Nothing raises: what cannot be imported is a finding too.
    """
    yield Finding("gnnscale", __version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")
    for name, module, remedy in (
        ("torch", "torch", "pip install torch"),
        ("dgl", "gnnscale._dgl", "pip install 'dgl>=1.1.3,!=2.0.*,!=2.1.*' packaging"),
        ("numpy", "numpy", "pip install numpy"),
    ):
        yield _library(name, module, remedy)
    yield Finding("CPU", f"{cpu_model()}, {usable_cores()} cores usable of {os.cpu_count()}, {memory_gb():g} GB")
    yield _gpu()
    yield from _native()
    yield _cuda_kernels()
    yield from _dgl_on_gpu()


def _library(name: str, module: str, remedy: str) -> Finding:
    try:
        imported = importlib.import_module(module)
    except Exception as error:
        return Finding(name, f"cannot be imported: {type(error).__name__}: {error}", remedy, broken=True)
    return Finding(name, str(getattr(imported, name, imported).__version__))


def _gpu() -> Finding:
    try:
        import torch

        if found := gpu():
            return Finding("GPU", found)
        built = torch.version.cuda
    except Exception as error:
        return Finding("GPU", f"unknown, torch does not say: {error}")
    if built:
        return Finding("GPU", f"none found by torch built for CUDA {built}", "check `nvidia-smi` and the driver")
    return Finding("GPU", "none in use, this torch is built for the CPU", "for a GPU, install a CUDA build of torch")


def _native() -> Iterator[Finding]:
    try:
        from gnnscale import ops
        from gnnscale.ops._backend import native

        backend, reason = ops.backend(), ops.backend_reason()
    except Exception as error:
        yield Finding("operations", f"cannot be imported: {error}", "install gnnscale again", broken=True)
        return
    if backend == "native" and native.has_threads:
        yield Finding("operations", "native")
        return
    if backend == "native":
        yield Finding("operations", "native, each on one thread, as the compiler had no OpenMP",
                      "install g++, or clang's libomp, then install gnnscale again")  # fmt: skip
        return
    yield Finding("operations", f"{backend}, which is slower", reason)
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name):
        yield Finding(
            "C++ compiler",
            "none found",
            "install one (on Debian: apt-get install g++), then install gnnscale again",
        )


def _cuda_kernels() -> Finding:
    built = "built" if importlib.util.find_spec("gnnscale._cuda") else "not built"
    try:
        import torch

        from gnnscale import ops

        there, reason = torch.cuda.is_available(), ops.cuda_reason()
    except Exception as error:
        return Finding("CUDA kernels", f"{built}; whether they can be loaded is unknown: {error}")
    if not reason:
        return Finding("CUDA kernels", "in use; written without a GPU: `make test-cuda` tests them on this one")
    if not there:
        return Finding("CUDA kernels", f"{built}, and not loaded without a GPU")
    return Finding("CUDA kernels", f"{built}, not in use: on the GPU, torch does the work, slower", reason)


def _dgl_on_gpu() -> Iterator[Finding]:
    """Whether DGL's own code runs there, where there is a GPU at all."""
    try:
        import torch

        from gnnscale._dgl import dgl_has_cuda

        if torch.cuda.is_available() and not dgl_has_cuda():
            yield Finding(
                "DGL on the GPU",
                "no, it is built for the CPU; gnnscale's models and convolutions with an adapter do not need it",
                "for others (docs/autoscale.md), install a CUDA build of DGL",
            )
    except Exception:
        return  # of torch and DGL it has been told above
