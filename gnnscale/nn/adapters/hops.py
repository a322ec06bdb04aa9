"""``dgl.nn.SGConv``, ``TAGConv`` and ``APPNPConv``, which sum over neighbours several times in one call.

Each hop is a layer of the batch of its own, with an exchange before it, as in GNNAutoScale's APPNP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gnnscale.layer import Layer
from gnnscale.nn.adapters.base import Adapter, Exchange, Hop, activated


class _Hops(Adapter):
    """All hops but the last are sums alone; the last one has the parameters.

    Its rows are then what a sampler takes for the convolution's, as LMC does, whose gradients are those of a
    convolution's rows.
    """

    norm = "in"

    def __init__(self, conv: nn.Module) -> None:
        super().__init__(conv)
        self.hop = Hop(str(self.norm))
        check_hops(conv)

    @property
    def hops(self) -> int:
        return self.conv._k


class SGConv(_Hops):
    """(Â^k X) W + b: simplified graph convolution (Wu et al. 2019)."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__(conv)
        if self.conv._cached:
            raise ValueError(
                "SGConv(cached=True) keeps the sums of the first graph that it sees, which would be those of one "
                "batch; make it with cached=False"
            )

    @property
    def in_feats(self) -> int:
        return self.conv.fc.in_features

    def run(self, layers: Sequence[Layer], exchange: Exchange, x: Tensor, *rows: Tensor) -> Tensor:
        for layer in layers[:-1]:
            x = layer.propagate(self.hop, exchange(layer, x))
        return layers[-1].propagate(self, exchange(layers[-1], x))

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        return self.conv.fc(activated(self.conv.norm, layer.aggregate(x, "in")))


class TAGConv(_Hops):
    """[X, Â X, ..., Â^k X] W + b: topology-adaptive convolution (Du et al. 2017)."""

    def run(self, layers: Sequence[Layer], exchange: Exchange, x: Tensor, *rows: Tensor) -> Tensor:
        before: list[Tensor] = []
        for layer in layers[:-1]:
            before.append(exchange(layer, x))
            x = layer.propagate(self.hop, before[-1])
        return layers[-1].propagate(self, exchange(layers[-1], x), *before)

    def forward(self, layer: Layer, x: Tensor, *before: Tensor) -> Tensor:
        stack = [*(rows[: layer.num_dst] for rows in before), layer.own(x), layer.aggregate(x, "in")]
        return activated(self.conv._activation, self.conv.lin(torch.cat(stack, 1)))


class APPNPConv(_Hops):
    """Z ← (1 - α) Â Z + α Z₀, k times (Gasteiger et al. 2019, eq. 4), with D^-1/2 A D'^-1/2 for Â."""

    norm = "both"

    def run(self, layers: Sequence[Layer], exchange: Exchange, x: Tensor, *rows: Tensor) -> Tensor:
        first: Tensor | None = None
        for layer in layers:
            x = exchange(layer, x)
            first = x if first is None else first
            x = layer.propagate(self, x, first)
        return x

    def forward(self, layer: Layer, x: Tensor, first: Tensor) -> Tensor:
        conv = self.conv
        total = layer.aggregate(x, "both", dropout=conv.edge_drop)
        return (1 - conv._alpha) * total + conv._alpha * first[: layer.num_dst]


def check_hops(conv: nn.Module) -> None:
    """Refuse a convolution that does not look at neighbours."""
    if conv._k < 1:  # type: ignore[operator]
        raise ValueError(f"{type(conv).__name__} has k={conv._k}; it has to sum over neighbours at least once")
