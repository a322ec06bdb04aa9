"""``dgl.nn.GINConv``."""

from __future__ import annotations

from torch import Tensor, nn

from gnnscale.layer import Layer
from gnnscale.nn.adapters.base import Adapter, activated


class GINConv(Adapter):
    """f((1 + ε) x_v + sum, mean or largest of the neighbours): "sum" and "mean" estimate those of all neighbours."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__(conv)
        self.norm = {"sum": "sum", "mean": "mean"}.get(self.conv._aggregator_type)

    def _get_name(self) -> str:
        return f"{type(self).__name__}({self.conv._aggregator_type!r})"

    @property
    def in_feats(self) -> int | None:
        first = self.conv.apply_func
        while isinstance(first, nn.Sequential) and len(first):
            first = first[0]
        return first.in_features if isinstance(first, nn.Linear) else None

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        conv = self.conv
        of_neighbors = layer.reduce(x, "max") if self.norm is None else layer.aggregate(x, self.norm)
        out = (1 + conv.eps) * layer.own(x) + of_neighbors
        return activated(conv.activation, activated(conv.apply_func, out))
