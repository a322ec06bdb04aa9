"""``dgl.nn.GCN2Conv``."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gnnscale.layer import Layer
from gnnscale.nn.adapters.base import Adapter, activated, plus


class GCN2Conv(Adapter):
    """σ(((1 - α) Â X + α X₀)((1 - β) I + β W) + b): GCNII (Chen et al. 2020, eq. 5)."""

    norm = "in"
    takes: ClassVar[tuple[str, ...]] = ("feat_0",)

    def forward(self, layer: Layer, x: Tensor, first: Tensor) -> Tensor:
        conv = self.conv
        smoothed = (1 - conv.alpha) * layer.aggregate(x, "in")
        first = conv.alpha * first[: layer.num_dst]
        total = smoothed + first
        if conv._project_initial_features:
            mapped = total @ conv.weight1
        else:
            mapped = smoothed @ conv.weight1 + first @ conv.weight2
        out = (1 - conv.beta) * total + conv.beta * mapped
        return activated(conv._activation, plus(out, conv.bias))
