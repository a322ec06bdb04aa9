"""Convolutions: one aggregation through a layer, and the weights around it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnscale.checks import check_count
from gnnscale.layer import Layer
from gnnscale.nn.dropout import Dropout


class GCNConv(nn.Module):
    """H' = D̃^-1/2 (A + I) D̃^-1/2 H W + b (Kipf and Welling 2017, eq. 2, without the activation).

    Parameters
    ----------
    in_size, out_size : int
        Columns of the input and of the output.
    """

    norm: ClassVar[str] = "sym"
    """The convolution is a linear map of rows, this normalised sum over neighbours, and anything after it."""

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.in_size, self.out_size = in_size, out_size
        self.weight = nn.Parameter(torch.empty(in_size, out_size))
        self.bias = nn.Parameter(torch.empty(out_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot weights and zero bias, as the authors'."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        """Shape (num_dst, out_size), from ``x`` of shape (num_src, in_size)."""
        # Both orders give the same; the narrower rows are cheaper to add up.
        if self.out_size <= self.in_size:
            out = layer.aggregate(x @ self.weight, self.norm)
        else:
            out = layer.aggregate(x, self.norm) @ self.weight
        return out + self.bias


class SAGEConv(nn.Module):
    """H' = H W₁ + (D⁻¹A H) W₂ + b: GraphSAGE with the mean aggregator (Hamilton et al. 2017, algorithm 1).

    The authors concatenate a node's own row and the mean and multiply once; two weights are the same.

    Parameters
    ----------
    in_size, out_size : int
        Columns of the input and of the output.
    """

    norm: ClassVar[str] = "mean"
    """The convolution is a linear map of rows, this normalised sum over neighbours, and anything after it."""

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.in_size, self.out_size = in_size, out_size
        self.own = nn.Linear(in_size, out_size)
        self.neighbors = nn.Linear(in_size, out_size, bias=False)

    def reset_parameters(self) -> None:
        """Draw the weights anew, by torch's defaults."""
        self.own.reset_parameters()
        self.neighbors.reset_parameters()

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        """Shape (num_dst, out_size), from ``x`` of shape (num_src, in_size)."""
        if self.out_size <= self.in_size:
            mean = layer.aggregate(self.neighbors(x), self.norm)
        else:
            mean = self.neighbors(layer.aggregate(x, self.norm))
        return self.own(layer.own(x)) + mean


class GINConv(nn.Module):
    """H' = MLP((1 + ε) H + A H): graph isomorphism network (Xu et al. 2019, eq. 4.1).

    The MLP has one hidden layer with ReLU, and no batch normalisation inside, which the authors' code has: its
    statistics would be those of each sampler's batches. Between convolutions a model may have it.

    Parameters
    ----------
    in_size, out_size : int
        Columns of the input and of the output.
    hidden_size : int, optional
        Columns of the MLP's hidden layer; ``out_size`` where absent.
    train_eps : bool, default True
        Whether ε, which starts at 0, is learned (GIN-ε) or stays 0 (GIN-0).

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, gs.samplers.FullSampler())))
    >>> (layer,) = batch.layers(1)
    >>> gs.nn.GINConv(data.num_features, 16)(layer, batch.x).shape
    torch.Size([1000, 16])
    """

    norm: ClassVar[str] = "sum"
    """The convolution is a linear map of rows, this normalised sum over neighbours, and anything after it."""

    eps: Tensor

    def __init__(self, in_size: int, out_size: int, *, hidden_size: int | None = None, train_eps: bool = True) -> None:
        super().__init__()
        self.in_size, self.out_size = in_size, out_size
        self.hidden_size = out_size if hidden_size is None else hidden_size
        self.first = nn.Linear(self.in_size, self.hidden_size)
        self.second = nn.Linear(self.hidden_size, self.out_size)
        if train_eps:
            self.eps = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("eps", torch.zeros(()))

    def reset_parameters(self) -> None:
        """Draw the weights anew, by torch's defaults, and set ε to 0."""
        self.first.reset_parameters()
        self.second.reset_parameters()
        nn.init.zeros_(self.eps)

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        """Shape (num_dst, out_size), from ``x`` of shape (num_src, in_size)."""
        # The sum commutes with the first linear map; the narrower rows are cheaper to add up.
        before = self.hidden_size <= self.in_size
        rows = x @ self.first.weight.t() if before else x
        total = (1 + self.eps) * layer.own(rows) + layer.aggregate(rows, self.norm)
        hidden = total + self.first.bias if before else self.first(total)
        return self.second(torch.relu(hidden))


class GATConv(nn.Module):
    """Graph attention: h'_v = Σ_u α_vu W h_u + b over in-neighbours and v itself (Veličković et al. 2018).

    α_vu is the softmax over u of LeakyReLU(aᵀ[W h_u ‖ W h_v]), for each head its own; the heads stand side by side
    (eq. 5). :meth:`gnnscale.layer.Layer.attend` says what is computed from a sample, and what edge weights mean. As
    in PyTorch Geometric, dropout is on the attention weights, beside the one on the inputs that a model has; the
    authors' code drops W h_u as well. There is no ``norm``: the weights depend on the rows, so an estimate that
    needs a fixed matrix, such as a control variate, does not apply.

    Parameters
    ----------
    in_size, out_size : int
        Columns of the input and of the output, of all heads together.
    heads : int, default 1
        Number of heads, which share ``out_size`` equally.
    dropout : float, default 0
        Probability that an attention weight is dropped in training, in [0, 1).

    Raises
    ------
    ValueError
        One sentence, for ``heads`` that is not a positive integer or does not divide ``out_size``, and a dropout
        outside [0, 1).

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, gs.samplers.FullSampler())))
    >>> (layer,) = batch.layers(1)
    >>> gs.nn.GATConv(data.num_features, 16, heads=4)(layer, batch.x).shape
    torch.Size([1000, 16])
    """

    def __init__(self, in_size: int, out_size: int, *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        heads = check_count("heads", heads)
        if out_size % heads:
            raise ValueError(f"heads={heads} has to divide the {out_size} columns of a layer; each head has its share")
        self.in_size, self.out_size, self.heads = in_size, out_size, heads
        self.weight = nn.Parameter(torch.empty(in_size, out_size))
        self.source = nn.Parameter(torch.empty(heads, out_size // heads))
        self.target = nn.Parameter(torch.empty(heads, out_size // heads))
        self.bias = nn.Parameter(torch.empty(out_size))
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot weights and zero bias, as in PyTorch Geometric."""
        for weight in (self.weight, self.source, self.target):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.bias)

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        """Shape (num_dst, out_size), from ``x`` of shape (num_src, in_size)."""
        rows = x @ self.weight
        source_scores, target_scores = self._scores(rows, self.source), self._scores(layer.own(rows), self.target)
        return layer.attend(rows, source_scores, target_scores, dropout=self.dropout) + self.bias

    def _scores(self, rows: Tensor, weight: Tensor) -> Tensor:
        return (rows.view(-1, *weight.shape) * weight).sum(2)
