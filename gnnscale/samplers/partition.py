"""Splitting a graph into parts of about equal size."""

from __future__ import annotations

import contextlib
import os
import tempfile
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnscale._dgl import dgl
from gnnscale.cache import cache_dir
from gnnscale.checks import check_count
from gnnscale.csc import CSC

METHODS = ("metis", "random")


def partition(graph: dgl.DGLGraph, num_parts: int, method: str = "metis") -> Tensor:
    """The part of each node.

    METIS (Karypis and Kumar 1998) keeps neighbours together; it reads a directed graph as undirected. The same graph
    always gets the same parts. METIS takes long on a large graph, so what it gave is kept in the cache folder
    (:func:`gnnscale.cache.cache_dir`), where that can be written to.

    Parameters
    ----------
    graph : DGLGraph
        Homogeneous, on the CPU.
    num_parts : int
        Number of parts, at most the number of nodes. A part may stay empty.
    method : {"metis", "random"}
        Random parts serve as an ablation.

    Returns
    -------
    Tensor
        Shape (N,), int64, in [0, num_parts).

    Raises
    ------
    ValueError
        If ``num_parts`` exceeds the number of nodes, or the method is not known.

    Examples
    --------
    >>> import dgl
    >>> from gnnscale.samplers.partition import partition
    >>> partition(dgl.graph(([0, 1, 2, 3], [1, 0, 3, 2])), 2).bincount().tolist()
    [2, 2]
    """
    num_parts, method = check_partition(num_parts, method)
    num_nodes = graph.num_nodes()
    if num_parts > num_nodes:
        raise ValueError(f"num_parts={num_parts} is more than the graph's {num_nodes} nodes; use at most {num_nodes}")
    if method == "random":
        generator = torch.Generator().manual_seed(num_parts)
        return torch.randperm(num_nodes, generator=generator) % num_parts
    # METIS divides by zero for a single part, and has nothing to do where each node is one.
    if num_parts == 1:
        return torch.zeros(num_nodes, dtype=torch.int64)
    if num_parts == num_nodes:
        return torch.arange(num_nodes)
    name = _cache_name(graph, num_parts)
    parts = _read(name, num_nodes, num_parts)
    if parts is None:
        parts = torch.as_tensor(_metis(graph, num_parts), dtype=torch.int64)
        _write(name, parts)
    return parts


def check_partition(num_parts: int, method: str) -> tuple[int, str]:
    """Both, where a graph could be split so."""
    num_parts = check_count("num_parts", num_parts)
    if method not in METHODS:
        raise ValueError(f"partition={method!r} is not known; use one of {', '.join(map(repr, METHODS))}")
    return num_parts, method


def _cache_name(graph: dgl.DGLGraph, num_parts: int) -> str:
    """The file in the cache: its name tells apart all that the parts depend on."""
    csc = CSC.of(graph)
    digest = blake2b(f"METIS {version('pymetis')}: {num_parts} of {csc.num_nodes}".encode(), digest_size=20)
    for array in (csc.indptr, csc.indices):
        digest.update(array.numpy().data)
    return f"{digest.hexdigest()}.npy"


def _read(name: str, num_nodes: int, num_parts: int) -> Tensor | None:
    """Parts from the cache; None where there are none, or the file is damaged."""
    try:
        parts = torch.from_numpy(np.load(cache_dir() / "partitions" / name, allow_pickle=False))
    except Exception:  # NumPy raises all sorts of things where the file does not hold what it should
        return None
    if parts.shape != (num_nodes,) or parts.dtype != torch.int64 or parts.min() < 0 or parts.max() >= num_parts:
        return None
    return parts


def _write(name: str, parts: Tensor) -> None:
    """Keep parts in the cache, where there is one that can be written to (RuntimeError: there is no home)."""
    with contextlib.suppress(OSError, RuntimeError):
        folder = cache_dir() / "partitions"
        folder.mkdir(parents=True, exist_ok=True)
        # Written elsewhere and then renamed, so that nobody reads half a file.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            whole = Path(scratch, name)
            np.save(whole, parts.numpy(), allow_pickle=False)
            os.replace(whole, folder / name)


def _metis(graph: dgl.DGLGraph, num_parts: int) -> list[int]:
    """METIS by pymetis: the one that DGL ships reads memory that nobody wrote, and splits differently each run."""
    import pymetis  # here, as random parts do without it

    source, destination = graph.edges()
    apart = source != destination
    source, destination = source[apart].long(), destination[apart].long()
    num_nodes = graph.num_nodes()
    # Each edge both ways and once, by node.
    edges = torch.cat([source * num_nodes + destination, destination * num_nodes + source]).unique()
    if edges.numel() > torch.iinfo(torch.int32).max:
        raise ValueError(f"METIS takes at most 2^31 - 1 edges and the graph has {edges.numel()}; use 'random' parts")
    counts = torch.bincount(edges // num_nodes, minlength=num_nodes)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    adjacency = pymetis.CSRAdjacency(starts.int().numpy(), (edges % num_nodes).int().numpy())
    return pymetis.part_graph(num_parts, adjacency)[1]
