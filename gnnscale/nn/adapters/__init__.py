"""Adapters: for each convolution of DGL's, what it computes on the layers of a batch."""

from __future__ import annotations

from torch import nn

from gnnscale._dgl import dgl
from gnnscale.nn.adapters.attention import GATConv, GATv2Conv
from gnnscale.nn.adapters.base import Adapter
from gnnscale.nn.adapters.gcn2 import GCN2Conv
from gnnscale.nn.adapters.gin import GINConv
from gnnscale.nn.adapters.graphconv import GraphConv
from gnnscale.nn.adapters.hops import APPNPConv, SGConv, TAGConv
from gnnscale.nn.adapters.on_block import OnBlock
from gnnscale.nn.adapters.pna import PNAConv
from gnnscale.nn.adapters.sage import SAGEConv

ADAPTERS: dict[type[nn.Module], type[Adapter]] = {
    dgl.nn.GraphConv: GraphConv,
    dgl.nn.SAGEConv: SAGEConv,
    dgl.nn.GATConv: GATConv,
    dgl.nn.GATv2Conv: GATv2Conv,
    dgl.nn.GINConv: GINConv,
    dgl.nn.SGConv: SGConv,
    dgl.nn.TAGConv: TAGConv,
    dgl.nn.APPNPConv: APPNPConv,
    dgl.nn.GCN2Conv: GCN2Conv,
    dgl.nn.PNAConv: PNAConv,
}

__all__ = ["ADAPTERS", "Adapter", "OnBlock", "adapter_for"]


def adapter_for(conv: nn.Module) -> Adapter:
    """The adapter of a convolution: that of its class, or of the class whose ``forward`` it inherits.

    Raises
    ------
    ValueError
        For an option of the convolution that cannot be had.
    """
    for known, adapter in ADAPTERS.items():
        if isinstance(conv, known) and type(conv).forward is known.forward:
            return adapter(conv)
    return OnBlock(conv)
