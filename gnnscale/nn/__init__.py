"""Convolutions on the layer contract, and models made of them."""

from gnnscale.nn.convs import GCNConv, SAGEConv
from gnnscale.nn.dropout import Dropout
from gnnscale.nn.models import GCN, GNN, SAGE

MODELS: dict[str, type[GNN]] = {"gcn": GCN, "sage": SAGE}
"""The models by the names that comparisons use."""

__all__ = ["GCN", "GNN", "MODELS", "SAGE", "Dropout", "GCNConv", "SAGEConv"]
