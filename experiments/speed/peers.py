"""The libraries compared with, where they are installed; the machine."""

from __future__ import annotations

import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType


def find(name: str) -> ModuleType | None:
    """The module, or None where it is not installed or does not import."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, AttributeError, RuntimeError):
        return None


def machine() -> str:
    """Processor, memory and versions, in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = {
        "torch": "torch",
        "DGL": "dgl",
        "PyG": "torch_geometric",
        "torch-sparse": "torch_sparse",
    }
    shown = [
        models[0] if models else platform.machine(),
        f"{len(os.sched_getaffinity(0))} cores",
        f"{memory:.0f} GiB",
        f"Python {platform.python_version()}",
        *(f"{name} {_version(package)}" for name, package in packages.items()),
        f"PyGAS {'found' if find('torch_geometric_autoscale') else 'not installed'}",
        f"GraphBolt {'found' if find('dgl.graphbolt') else 'not installed'}",
    ]
    return "; ".join(shown)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
