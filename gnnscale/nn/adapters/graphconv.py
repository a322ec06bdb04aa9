"""``dgl.nn.GraphConv``."""

from __future__ import annotations

from torch import Tensor, nn

from gnnscale.layer import Layer
from gnnscale.nn.adapters.base import Adapter, activated, plus

_NORMS = {"both": "both", "left": "left", "right": "mean", "none": "sum"}


class GraphConv(Adapter):
    """σ(Â X W + b) with the degrees of the whole graph, where DGL's module takes those of the block."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__(conv)
        self.norm = _NORMS[self.conv._norm]

    @property
    def in_feats(self) -> int | None:
        return None if self.conv.weight is None else self.conv._in_feats

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        conv, norm = self.conv, str(self.norm)
        if conv.weight is None:
            out = layer.aggregate(x, norm)
        elif layer.maps_first(*conv.weight.shape):
            out = layer.aggregate(x @ conv.weight, norm)
        else:
            out = layer.aggregate(x, norm) @ conv.weight
        return activated(conv._activation, plus(out, conv.bias))
