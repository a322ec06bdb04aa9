"""A graph's features and labels on a GPU: one copy for all who read them whole, for as long as one of them does."""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor

from gnnscale._dgl import dgl

_known: WeakKeyDictionary[dgl.DGLGraph, WeakValueDictionary[tuple[object, ...], Tensor]] = WeakKeyDictionary()


def on_device(graph: dgl.DGLGraph, key: str, device: torch.device) -> Tensor:
    """``graph.ndata[key]`` on a device; the same tensor as long as somebody holds it and the graph's is not changed.

    Examples
    --------
    >>> import torch
    >>> import gnnscale as gs
    >>> graph = gs.load("synthetic", num_nodes=100, num_edges=500).graph
    >>> on_device(graph, "feat", torch.device("cpu")) is on_device(graph, "feat", torch.device("cpu"))
    True
    """
    values = graph.ndata[key]
    state = key, device, values.data_ptr(), values._version, values.shape, values.dtype
    copies = _known.setdefault(graph, WeakValueDictionary())
    copy = copies.get(state)
    if copy is None:
        copy = copies[state] = values.contiguous().to(device)
    return copy
