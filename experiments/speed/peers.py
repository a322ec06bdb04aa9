"""The libraries compared with, where they are installed; the machine."""

from __future__ import annotations

import importlib
import platform
from types import ModuleType


def find(name: str) -> ModuleType | None:
    """The module, or None where it is not installed or does not import."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, AttributeError, RuntimeError):
        return None


def machine() -> str:
    """Processor, memory and versions, in one line."""
    from gnnscale.compare.machine import cpu_model, installed, memory_gb, usable_cores

    packages = {"torch": "torch", "DGL": "dgl", "PyG": "torch_geometric", "torch-sparse": "torch_sparse"}
    shown = [
        cpu_model(),
        f"{usable_cores()} cores",
        f"{memory_gb():g} GB",
        f"Python {platform.python_version()}",
        *(f"{name} {installed(package) or 'not installed'}" for name, package in packages.items()),
        f"PyGAS {'found' if find('torch_geometric_autoscale') else 'not installed'}",
        f"GraphBolt {'found' if find('dgl.graphbolt') else 'not installed'}",
    ]
    return "; ".join(shown)
