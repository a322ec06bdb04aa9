"""``dgl.nn.SAGEConv``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gnnscale.layer import Layer
from gnnscale.nn.adapters.base import Adapter, activated, check_same_size, plus
from gnnscale.nn.adapters.on_block import block_of


class SAGEConv(Adapter):
    """GraphSAGE with each of DGL's aggregators.

    "mean" and "gcn" divide by the degree in the whole graph. "pool" takes the largest of the neighbours drawn, and
    "lstm" runs over those drawn, by DGL's own code.
    """

    def __init__(self, conv: nn.Module) -> None:
        super().__init__(conv)
        check_same_size(conv, self.conv._in_src_feats, self.conv._in_dst_feats)
        self.on_block = self.conv._aggre_type == "lstm"
        self.norm = {"mean": "mean", "gcn": "sum"}.get(self.conv._aggre_type)

    def _get_name(self) -> str:
        return f"{type(self).__name__}({self.conv._aggre_type!r})"

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        conv = self.conv
        if conv._aggre_type == "gcn":
            out = plus(self._with_itself(layer, x), conv.bias)
        else:
            out = conv.fc_self(layer.own(x)) + self._neighbors(layer, x)
        return activated(conv.norm, activated(conv.activation, out))

    def _with_itself(self, layer: Layer, x: Tensor) -> Tensor:
        first, last = self._around(layer)
        rows = first(x)
        total = layer.aggregate(rows, "sum") + layer.own(rows)
        return last(total / (layer.degree.to(x.dtype).unsqueeze(1) + 1))

    def _neighbors(self, layer: Layer, x: Tensor) -> Tensor:
        conv = self.conv
        if conv._aggre_type == "mean":
            first, last = self._around(layer)
            return last(layer.aggregate(first(x), "mean"))
        if conv._aggre_type == "pool":
            return conv.fc_neigh(layer.reduce(torch.relu(conv.fc_pool(x)), "max"))
        block = block_of(layer, f"{self._get_name()} runs on")
        if not block.num_edges():
            return conv.fc_neigh(x.new_zeros(layer.num_dst, x.shape[1]))
        block.srcdata["h"] = x
        block.update_all(_copy_rows, conv._lstm_reducer)
        return conv.fc_neigh(block.dstdata["neigh"])

    def _around(self, layer: Layer) -> tuple[nn.Module, nn.Module]:
        """What comes before the sum and after it: the linear map goes where it costs less."""
        linear = self.conv.fc_neigh
        first = layer.maps_first(linear.in_features, linear.out_features)
        return (linear, nn.Identity()) if first else (nn.Identity(), linear)


def _copy_rows(edges):  # type: ignore[no-untyped-def]
    return {"m": edges.src["h"]}
