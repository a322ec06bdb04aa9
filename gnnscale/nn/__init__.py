"""Convolutions on the layer contract, and models made of them."""

from torch import nn as _nn

from gnnscale.nn.convs import APPNPConv, GATConv, GCN2Conv, GCNConv, GINConv, PNAConv, SAGEConv
from gnnscale.nn.deep import APPNP, GCNII
from gnnscale.nn.dropout import Dropout
from gnnscale.nn.models import GAT, GCN, GIN, GNN, PNA, SAGE  # isort: split

from gnnscale.nn.bounds import Lipschitz, conv_constants, lipschitz_constants
from gnnscale.nn.lipschitz import local_lipschitz

MODELS: dict[str, type[_nn.Module]] = {
    "gcn": GCN,
    "sage": SAGE,
    "gin": GIN,
    "gat": GAT,
    "appnp": APPNP,
    "gcnii": GCNII,
    "pna": PNA,
}
"""The models by the names that comparisons use."""

__all__ = [
    "APPNP",
    "GAT",
    "GCN",
    "GCNII",
    "GIN",
    "GNN",
    "MODELS",
    "PNA",
    "SAGE",
    "APPNPConv",
    "Dropout",
    "GATConv",
    "GCN2Conv",
    "GCNConv",
    "GINConv",
    "Lipschitz",
    "PNAConv",
    "SAGEConv",
    "conv_constants",
    "lipschitz_constants",
    "local_lipschitz",
]
