"""Convolutions: one aggregation through a layer, and the weights around it."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnscale.checks import check_count
from gnnscale.layer import Layer
from gnnscale.nn.dropout import Dropout
from gnnscale.nn.lipschitz import local_lipschitz


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
        if layer.maps_first(self.in_size, self.out_size):
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
        if layer.maps_first(self.in_size, self.out_size):
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
    lipschitz : float, default 0
        Weight in the loss of :func:`gnnscale.nn.local_lipschitz` of the MLP, at least 0.

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

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        hidden_size: int | None = None,
        train_eps: bool = True,
        lipschitz: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_size, self.out_size, self.lipschitz = in_size, out_size, lipschitz
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
        penalised = self.lipschitz > 0 and self.training and torch.is_grad_enabled()
        # The sum commutes with the first linear map; but the penalty needs the sum itself.
        before = not penalised and layer.maps_first(self.in_size, self.hidden_size)
        rows = x @ self.first.weight.t() if before else x
        total = (1 + self.eps) * layer.own(rows) + layer.aggregate(rows, self.norm)
        if before:
            return self.second(torch.relu(total + self.first.bias))
        out = self.mlp(total)
        if penalised:
            layer.add_penalty(self.lipschitz * local_lipschitz(self.mlp, total, out))
        return out

    def mlp(self, x: Tensor) -> Tensor:
        """What follows the sum, row by row: shape (n, out_size), from shape (n, in_size)."""
        return self.second(torch.relu(self.first(x)))


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


class GCN2Conv(nn.Module):
    """H' = ((1 - α) Â H + α H₀) ((1 - β) I + β W), Â that of :class:`GCNConv`: GCNII (Chen et al. 2020, eq. 5).

    With ``shared_weights=False`` Â H and H₀ have a weight each (the authors' GCNII*).

    Parameters
    ----------
    size : int
        Columns of the input, of H₀ and of the output.
    alpha : float, default 0.1
        Share of the first rows H₀, in [0, 1].
    beta : float, default 1.0
        How far the linear map is from the identity, in [0, 1]; the paper's is log(θ / l + 1) in layer l.
    shared_weights : bool, default True
        Whether there is one weight or two.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, gs.samplers.FullSampler())))
    >>> (layer,) = batch.layers(1)
    >>> layer.propagate(gs.nn.GCN2Conv(data.num_features, beta=0.4), batch.x, batch.x).shape
    torch.Size([1000, 64])
    """

    norm: ClassVar[str] = "sym"
    """The convolution is a linear map of rows, this normalised sum over neighbours, and anything after it."""

    def __init__(self, size: int, *, alpha: float = 0.1, beta: float = 1.0, shared_weights: bool = True) -> None:
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta
        self.weight = nn.Parameter(torch.empty(size, size))
        self.first_weight = None if shared_weights else nn.Parameter(torch.empty(size, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot weights, as in PyTorch Geometric."""
        nn.init.xavier_uniform_(self.weight)
        if self.first_weight is not None:
            nn.init.xavier_uniform_(self.first_weight)

    def forward(self, layer: Layer, x: Tensor, first: Tensor) -> Tensor:
        """Shape (num_dst, size), from ``x`` of shape (num_src, size) and the first rows of at least num_dst nodes."""
        total = layer.aggregate(x, self.norm)
        first = first[: layer.num_dst]
        # (1 - β) S + β S W in one operation each.
        if self.first_weight is None:
            mixed = torch.lerp(total, first, self.alpha)
            return torch.addmm(mixed, mixed, self.weight, beta=1 - self.beta, alpha=self.beta)
        total, first = (1 - self.alpha) * total, self.alpha * first
        out = torch.addmm(total, total, self.weight, beta=1 - self.beta, alpha=self.beta)
        return out + torch.addmm(first, first, self.first_weight, beta=1 - self.beta, alpha=self.beta)


class APPNPConv(nn.Module):
    """Z' = (1 - α) Â Z + α Z₀, Â that of :class:`GCNConv`: one step of APPNP (Gasteiger et al. 2019, eq. 4).

    Parameters
    ----------
    alpha : float, default 0.1
        Chance to go back to the start, in [0, 1].

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, gs.samplers.FullSampler())))
    >>> (layer,) = batch.layers(1)
    >>> layer.propagate(gs.nn.APPNPConv(), batch.x, batch.x).shape
    torch.Size([1000, 64])
    """

    norm: ClassVar[str] = "sym"
    """The convolution is this normalised sum over neighbours, and something after it."""

    def __init__(self, alpha: float = 0.1) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, layer: Layer, x: Tensor, first: Tensor) -> Tensor:
        """Shape (num_dst, F), from ``x`` of shape (num_src, F) and the first rows of at least num_dst nodes."""
        return torch.lerp(layer.aggregate(x, self.norm), first[: layer.num_dst], self.alpha)


class PNAConv(nn.Module):
    """H' = U (H ‖ scalers ⊗ aggregators (M (h_v ‖ h_u))): principal neighbourhood aggregation (Corso et al. 2020).

    M and U are linear, M with ``out_size`` columns. The aggregators are mean, largest, smallest and standard deviation
    (eq. 8), the scalers 1, log(d + 1) / δ and its inverse (eq. 5), with a node's in-degree d in the whole graph. Nodes
    without neighbours get their own part alone.

    Of a sample, mean and mean of squares are unbiased, the standard deviation is made of them, and the extremes are
    those of the neighbours drawn. It is no linear map and one sum, so there is no ``norm``.

    Parameters
    ----------
    in_size, out_size : int
        Columns of the input and of the output.
    delta : float, optional
        δ, the mean of log(d + 1) over the training graph's nodes. Where absent, it is taken from the graph of the
        first batch and kept (in ``state_dict`` too).

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, gs.samplers.FullSampler())))
    >>> (layer,) = batch.layers(1)
    >>> gs.nn.PNAConv(data.num_features, 16)(layer, batch.x).shape
    torch.Size([1000, 16])
    """

    delta: Tensor

    def __init__(self, in_size: int, out_size: int, *, delta: float | None = None) -> None:
        super().__init__()
        if delta is not None and (type(delta) not in (int, float) or not 0 < delta < math.inf):
            raise ValueError(f"delta={delta!r} has to be a number above 0, the mean of log(degree + 1)")
        self.in_size, self.out_size = in_size, out_size
        self.own_message = nn.Linear(in_size, out_size)
        self.message = nn.Linear(in_size, out_size, bias=False)
        self.own = nn.Linear(in_size, out_size)
        self.neighbors = nn.Linear(12 * out_size, out_size, bias=False)
        self.register_buffer("delta", torch.tensor(math.nan if delta is None else delta))

    def reset_parameters(self) -> None:
        """Draw the weights anew, by torch's defaults."""
        for linear in (self.own_message, self.message, self.own, self.neighbors):
            linear.reset_parameters()

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        """Shape (num_dst, out_size), from ``x`` of shape (num_src, in_size)."""
        self.delta.nan_to_num_(nan=layer.mean_log_degree)  # to look whether it is known, the host would wait for a GPU
        # A linear M acts on both ends apart, and what comes from v is the same for all of v's neighbours.
        rows, own = self.message(x), layer.own(x)
        mean = layer.aggregate(rows, "mean")
        variance = layer.aggregate(rows.square(), "mean") - mean.square()
        aggregated = torch.cat([mean, layer.reduce(rows, "max"), layer.reduce(rows, "min")], 1)
        aggregated = aggregated + self.own_message(own).repeat(1, 3)
        aggregated = torch.cat([aggregated, torch.sqrt(variance.relu() + 1e-5)], 1)
        has_neighbors = layer.degree > 0
        amplified = (layer.degree.log1p() / self.delta).unsqueeze(1)
        scales = [torch.ones_like(amplified), amplified, torch.where(amplified > 0, amplified, 1.0).reciprocal()]
        scaled = torch.cat([scale * aggregated for scale in scales], 1)
        return self.own(own) + self.neighbors(scaled) * has_neighbors.unsqueeze(1)
