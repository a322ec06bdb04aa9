"""Models that look far: GCNII, with many convolutions, and APPNP, with many steps of propagation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale.batch import MiniBatch
from gnnscale.checks import check_flag, check_share
from gnnscale.nn.convs import APPNPConv, GCN2Conv
from gnnscale.nn.dropout import Dropout
from gnnscale.nn.models import check_shape, check_width, groups_without, make_norms


class APPNP(nn.Module):
    """A network of two linear maps whose predictions are propagated (Gasteiger et al. 2019).

    Each step is an :class:`APPNPConv`, and between steps rows are exchanged with the history: they have as many
    columns as there are classes.

    Parameters
    ----------
    in_size, hidden_size, out_size : int
        Columns of the features, of the network's hidden rows, and of the logits.
    num_layers : int, default 10
        Steps of propagation: the paper's K.
    dropout : float, default 0.5
        Probability, in [0, 1), before each linear map.
    norm : {None, "batch", "layer"}
        Normalisation of the network's hidden rows.
    alpha : float, default 0.1
        Chance to go back to the start, in [0, 1].

    Raises
    ------
    ValueError
        One sentence, for sizes that are not positive, a share outside its range, or an unknown norm.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.APPNP(data.num_features, 64, data.num_classes)
    >>> gs.infer(model, data.graph).shape
    torch.Size([1000, 10])
    """

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        out_size: int,
        *,
        num_layers: int = 10,
        dropout: float = 0.5,
        norm: str | None = None,
        alpha: float = 0.1,
    ) -> None:
        super().__init__()
        in_size, hidden_size, out_size, self.num_layers = check_shape(
            in_size, hidden_size, out_size, num_layers, dropout
        )
        self.dropout = Dropout(dropout)
        self.norms = make_norms(norm, hidden_size, 1)
        self.first = nn.Linear(in_size, hidden_size)
        self.second = nn.Linear(hidden_size, out_size)
        self.conv = APPNPConv(check_share("alpha", alpha, "a number from 0 to 1", zero=True, one=True))

    def forward(self, batch: MiniBatch, x: Tensor) -> Tensor:
        """Logits of the batch's output nodes, shape (num_output, out_size), from ``batch.x``."""
        check_width(x, self.first.in_features)
        x = self.first(self.dropout(x))
        x = torch.relu(x if self.norms is None else self.norms[0](x))
        x = self.second(self.dropout(x))
        first = x
        for layer in batch.layers(self.num_layers):
            x = layer.exchange(x)
            if not layer.index:
                first = x
            x = layer.propagate(self.conv, x, first)
        return x

    def parameter_groups(self, weight_decay: float, rest_weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Groups for an optimiser: weight decay on the first linear map alone, as the authors and GNNAutoScale."""
        return groups_without(self, self.second, weight_decay, rest_weight_decay)


class GCNII(nn.Module):
    """A deep GCN whose convolutions see the first rows again and are near the identity (Chen et al. 2020).

    A linear map and ReLU give the first rows H₀; then come ``num_layers`` times :class:`GCN2Conv` with
    β = log(θ / l + 1) in layer l and ReLU; a linear map gives the logits. Dropout is before every map, on its input.

    Parameters
    ----------
    in_size, hidden_size, out_size : int
        Columns of the features, of the hidden rows, and of the logits.
    num_layers : int, default 64
        Number of convolutions.
    dropout : float, default 0.5
        Probability, in [0, 1).
    norm : {None, "batch", "layer"}
        Normalisation of what each convolution gives, before ReLU.
    residual : bool, default False
        Whether each convolution's input is added to that.
    alpha : float, default 0.1
        Share of the first rows in each layer, in [0, 1].
    theta : float, default 0.5
        θ, above 0; β falls with the layer's number.
    shared_weights : bool, default True
        As for :class:`GCN2Conv`.

    Raises
    ------
    ValueError
        One sentence, for sizes that are not positive, a value outside its range, or an unknown norm.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCNII(data.num_features, 16, data.num_classes, num_layers=8)
    >>> gs.infer(model, data.graph).shape
    torch.Size([1000, 10])
    """

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        out_size: int,
        *,
        num_layers: int = 64,
        dropout: float = 0.5,
        norm: str | None = None,
        residual: bool = False,
        alpha: float = 0.1,
        theta: float = 0.5,
        shared_weights: bool = True,
    ) -> None:
        super().__init__()
        in_size, hidden_size, out_size, num_layers = check_shape(in_size, hidden_size, out_size, num_layers, dropout)
        alpha = check_share("alpha", alpha, "a number from 0 to 1", zero=True, one=True)
        if isinstance(theta, bool) or not isinstance(theta, (int, float)) or not 0 < theta < math.inf:
            raise ValueError(f"theta={theta!r} has to be a number above 0")
        shared_weights = check_flag("shared_weights", shared_weights)
        self.residual = check_flag("residual", residual)
        self.dropout = Dropout(dropout)
        self.first = nn.Linear(in_size, hidden_size)
        self.convs = nn.ModuleList(
            GCN2Conv(hidden_size, alpha=alpha, beta=math.log(theta / number + 1), shared_weights=shared_weights)
            for number in range(1, num_layers + 1)
        )
        self.norms = make_norms(norm, hidden_size, num_layers)
        self.last = nn.Linear(hidden_size, out_size)

    def forward(self, batch: MiniBatch, x: Tensor) -> Tensor:
        """Logits of the batch's output nodes, shape (num_output, out_size), from ``batch.x``."""
        check_width(x, self.first.in_features)
        x = torch.relu(self.first(self.dropout(x)))
        first = x
        for layer, conv in zip(batch.layers(len(self.convs)), self.convs, strict=True):
            x = layer.exchange(x)
            if not layer.index:
                first = x
            given = self.dropout(x)
            x = layer.propagate(conv, given, first)
            x = x if self.norms is None else self.norms[layer.index](x)
            x = torch.relu(x + layer.own(given) if self.residual else x)
        return self.last(self.dropout(x))

    def parameter_groups(self, weight_decay: float, rest_weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Groups for an optimiser, as the authors: one weight decay for the convolutions, one for the linear maps."""
        linear = nn.ModuleList([self.first, self.last])
        return groups_without(self, linear, weight_decay, rest_weight_decay)
