"""Splitting a graph into parts of about equal size."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch
from torch import Tensor

from gnnscale._dgl import dgl

METHODS = ("metis", "random")


def partition(graph: dgl.DGLGraph, num_parts: int, method: str = "metis") -> Tensor:
    """The part of each node.

    METIS (Karypis and Kumar 1998), by recursive bisection, keeps neighbours together; it reads a directed graph as
    undirected.

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
    check_partition(num_parts, method)
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
    bare = graph if graph.idtype == torch.int64 else graph.long()
    # Recursive bisection: METIS's direct k-way method, as DGL ships it, reads memory that nobody wrote, so that
    # the same graph is split differently from one run to the next.
    with _quiet():
        parts = dgl.metis_partition_assignment(bare, num_parts, mode="recursive")
    if parts is None:
        raise RuntimeError(
            f"METIS could not split the graph of {num_nodes} nodes into {num_parts} parts; "
            "use fewer parts, or partition='random'"
        )
    return parts


def check_partition(num_parts: int, method: str) -> None:
    """Refuse what no graph could be split by."""
    if type(num_parts) is not int or num_parts < 1:
        raise ValueError(f"num_parts={num_parts!r} has to be a positive integer")
    if method not in METHODS:
        raise ValueError(f"partition={method!r} is not known; use one of {', '.join(map(repr, METHODS))}")


@contextmanager
def _quiet() -> Iterator[None]:
    """DGL prints the progress of METIS from Python, and METIS its own from C++."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.devnull, "w") as nowhere:
        saved = {fd: os.dup(fd) for fd in (1, 2)}
        try:
            for fd in saved:
                os.dup2(nowhere.fileno(), fd)
            with redirect_stdout(nowhere):
                yield
        finally:
            for fd, copy in saved.items():
                os.dup2(copy, fd)
                os.close(copy)
