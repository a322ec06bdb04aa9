"""Models: stacks of convolutions that run under every sampler."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gnnscale.batch import MiniBatch
from gnnscale.checks import check_count
from gnnscale.nn.convs import GATConv, GCNConv, GINConv, SAGEConv
from gnnscale.nn.dropout import Dropout


class GNN(nn.Module):
    """A stack of convolutions; subclasses name the convolution.

    Between convolutions come normalisation, the activation, exchange with the history, and dropout, in this order;
    the features are dropped out too.

    Parameters
    ----------
    in_size, hidden_size, out_size : int
        Columns of the features, of the hidden rows, and of the logits.
    num_layers : int, default 2
        Number of convolutions.
    dropout : float, default 0.5
        Probability, in [0, 1).
    norm : {None, "batch", "layer"}
        Normalisation of hidden rows.

    Raises
    ------
    ValueError
        One sentence, for sizes that are not positive, a dropout outside [0, 1), or an unknown norm.
    """

    conv: ClassVar[type[nn.Module]]
    """Made as ``conv(in_size, out_size)``; a subclass whose convolution takes more overrides :meth:`make_convs`."""

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        out_size: int,
        *,
        num_layers: int = 2,
        dropout: float = 0.5,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        in_size, hidden_size = check_count("in_size", in_size), check_count("hidden_size", hidden_size)
        out_size, num_layers = check_count("out_size", out_size), check_count("num_layers", num_layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout!r} has to be at least 0 and less than 1")
        norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        if norm is not None and norm not in norms:
            raise ValueError(f"norm={norm!r} is not known; use None, 'batch' or 'layer'")
        widths = [in_size, *[hidden_size] * (num_layers - 1), out_size]
        self.hidden_size = hidden_size
        self.dropout = Dropout(dropout)
        self.convs = nn.ModuleList(self.make_convs(widths))
        self.norms = nn.ModuleList(norms[norm](hidden_size) for _ in widths[2:]) if norm else None

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        """The nonlinearity between convolutions: ReLU."""
        return torch.relu(x)

    def make_convs(self, widths: list[int]) -> Iterable[nn.Module]:
        """The convolutions between rows of these widths; ``hidden_size`` and ``dropout`` are set already."""
        return [self.conv(a, b) for a, b in pairwise(widths)]

    def forward(self, batch: MiniBatch, x: Tensor) -> Tensor:
        """Logits of the batch's output nodes.

        Parameters
        ----------
        batch : MiniBatch
            Of any sampler.
        x : Tensor
            Shape (num_input, in_size): ``batch.x``.

        Returns
        -------
        Tensor
            Shape (num_output, out_size).
        """
        layers = batch.layers(len(self.convs))
        for index, (layer, conv) in enumerate(zip(layers, self.convs, strict=True)):
            if index:
                x = self.activation(self.norms[index - 1](x) if self.norms is not None else x)
            x = layer.propagate(conv, self.dropout(layer.exchange(x)))
        return x

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimiser: weight decay on all but the last convolution, as in Kipf and Welling's GCN."""
        last = list(self.convs[-1].parameters())
        rest = [p for p in self.parameters() if all(p is not other for other in last)]
        groups = [{"params": rest, "weight_decay": weight_decay}, {"params": last, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]


class GCN(GNN):
    """Graph convolutional network (Kipf and Welling 2017).

    See :class:`GNN` for the parameters.

    Examples
    --------
    >>> import gnnscale as gs
    >>> gs.nn.GCN(1433, 16, 7).convs[0].weight.shape
    torch.Size([1433, 16])
    """

    conv = GCNConv


class SAGE(GNN):
    """GraphSAGE with the mean aggregator (Hamilton et al. 2017).

    See :class:`GNN` for the parameters.

    Examples
    --------
    >>> import gnnscale as gs
    >>> len(gs.nn.SAGE(1433, 16, 7, num_layers=3).convs)
    3
    """

    conv = SAGEConv


class GIN(GNN):
    """Graph isomorphism network (Xu et al. 2019).

    Each convolution has an MLP with ``hidden_size`` hidden columns; the last one's gives the logits. See
    :class:`GNN` for the parameters. Sums over many neighbours are large: on graphs with high degrees, ``norm`` or
    a small learning rate helps.

    Examples
    --------
    >>> import gnnscale as gs
    >>> gs.nn.GIN(1433, 16, 7, norm="batch").convs[1].second
    Linear(in_features=16, out_features=7, bias=True)
    """

    conv = GINConv

    def make_convs(self, widths: list[int]) -> Iterable[nn.Module]:
        return [GINConv(a, b, hidden_size=self.hidden_size) for a, b in pairwise(widths)]


class GAT(GNN):
    """Graph attention network (Veličković et al. 2018).

    ELU between convolutions, one head in the last. Dropout is on the input of each convolution and on its attention
    weights. See :class:`GNN` for the other parameters and what is raised.

    Parameters
    ----------
    heads : int, default 8
        Heads of each hidden layer. They share ``hidden_size`` equally, so the paper's 8 heads of 8 columns are
        ``hidden_size=64``, and models are compared at equal width.

    Examples
    --------
    >>> import gnnscale as gs
    >>> gs.nn.GAT(1433, 64, 7).convs[0].source.shape
    torch.Size([8, 8])
    """

    conv = GATConv

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        out_size: int,
        *,
        num_layers: int = 2,
        dropout: float = 0.5,
        norm: str | None = None,
        heads: int = 8,
    ) -> None:
        self.heads = heads  # the base class makes the convolutions
        super().__init__(in_size, hidden_size, out_size, num_layers=num_layers, dropout=dropout, norm=norm)

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        """The nonlinearity between convolutions: ELU."""
        return functional.elu(x)

    def make_convs(self, widths: list[int]) -> Iterable[nn.Module]:
        *hidden, last = pairwise(widths)
        return [
            *(GATConv(a, b, heads=self.heads, dropout=self.dropout.p) for a, b in hidden),
            GATConv(*last, dropout=self.dropout.p),
        ]

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """One group: weight decay on all parameters, as the authors and GNNAutoScale have it."""
        return [{"params": list(self.parameters()), "weight_decay": weight_decay}]
