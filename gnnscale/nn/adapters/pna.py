"""``dgl.nn.PNAConv``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gnnscale.layer import Layer
from gnnscale.nn.adapters.base import Adapter

_AGGREGATORS = ("mean", "sum", "max", "min", "var", "std")

_SCALERS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda log_degree, delta: torch.ones_like(log_degree),
    "amplification": lambda log_degree, delta: log_degree / delta,
    "attenuation": lambda log_degree, delta: delta / log_degree,
}


class PNAConv(Adapter):
    """Principal neighbourhood aggregation (Corso et al. 2020), with degrees of the whole graph.

    A message is M (x_u ‖ x_v), the sum of one part for each end, so that no message of an edge is ever made. Of a
    sample, mean, sum and mean of squares are those of all neighbours in expectation; largest and smallest are of those
    drawn.
    """

    def __init__(self, conv: nn.Module) -> None:
        super().__init__(conv)
        if self.conv.edge_feat_size:
            raise ValueError(
                f"PNAConv has edge_feat_size={self.conv.edge_feat_size}; features of edges are not at hand in a "
                "batch: make it with edge_feat_size=0"
            )
        unknown = [name for name in self.conv.towers[0].aggregators if name not in _AGGREGATORS]
        if unknown:
            raise ValueError(
                f"PNAConv has the aggregator {unknown[0]!r}, which needs all messages of a node; "
                f"use {', '.join(_AGGREGATORS)}"
            )

    @property
    def in_feats(self) -> int:
        return self.conv.in_size

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        conv = self.conv
        columns = x.split(conv.tower_in_size, 1)
        towers = [self._tower(tower, layer, rows) for tower, rows in zip(conv.towers, columns, strict=True)]
        out = conv.mixing_layer(torch.cat(towers, 1))
        return out + layer.own(x) if conv.residual else out

    def _tower(self, tower: Any, layer: Layer, x: Tensor) -> Tensor:
        own = layer.own(x)
        of_source, of_destination = tower.M.weight.split(x.shape[1], 1)
        source, target = x @ of_source.t(), functional.linear(own, of_destination, tower.M.bias)
        degree = layer.degree.to(x.dtype).unsqueeze(1)
        statistics = torch.cat(self._statistics(tower.aggregators, layer, source, target, degree), 1)
        # A node without edges gets zeros; its degree must not become a division by zero on the way.
        log_degree = torch.where(degree > 0, degree, torch.ones_like(degree)).log1p()
        scaled = torch.cat([statistics * _SCALERS[name](log_degree, tower.delta) for name in tower.scalers], 1)
        scaled = torch.where(degree > 0, scaled, torch.zeros_like(scaled))
        out = tower.U(torch.cat([own, scaled], 1)) / layer._batch.graph.num_nodes() ** 0.5
        return tower.dropout(tower.batchnorm(out))

    @staticmethod
    def _statistics(names: list[str], layer: Layer, source: Tensor, target: Tensor, degree: Tensor) -> list[Tensor]:
        """Each statistic of the messages source_u + target_v of a node v, shape (num_dst, F)."""
        mean = layer.aggregate(source, "mean")

        def of(name: str) -> Tensor:
            if name == "mean":
                return mean + target
            if name == "sum":
                return layer.aggregate(source, "sum") + degree * target
            if name in ("max", "min"):
                return layer.reduce(source, name) + target
            # The variance does not see what all messages have in common.
            variance = torch.relu(layer.aggregate(source.square(), "mean") - mean.square())
            return variance if name == "var" else (variance + 1e-30).sqrt()

        return [of(name) for name in names]
