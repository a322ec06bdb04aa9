"""LMC: local message compensation, for the halo's rows and for the gradients of those rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from gnnscale._dgl import dgl
from gnnscale.checks import check_flag, check_share
from gnnscale.csc import CSC
from gnnscale.ops import sample_neighbors, transpose_csr
from gnnscale.ops.subgraph import append_nodes
from gnnscale.samplers.base import Sample
from gnnscale.samplers.cluster import PartitionSampler
from gnnscale.samplers.edges import in_edges, induced
from gnnscale.samplers.gas import HaloLayer, HaloSample, halo_adjacencies

SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "const": torch.ones_like,
    "linear": lambda x: x,
    "concave": lambda x: x * (2 - x),
    "convex": lambda x: x * x,
}
"""How much a halo row computed in the batch is trusted, by the share x of its in-edges that the batch has."""


class LMCSampler(PartitionSampler):
    """A few clusters and their neighbours, with compensation forward and backward (LMC; Shi, Liang and Wang 2023).

    Halo rows are computed too, from the edges among the batch and its halo, normalised by the degrees of the whole
    graph. Before each hidden layer the halo's rows become (1 − β) h̄ + β h, where h̄ is the history and
    β = ``beta`` · score(share of the node's in-edges at hand). The gradient is compensated likewise: a second history
    holds the gradient of each node's rows as of the last batch that had the node, and a halo row gets (1 − β) of that
    beside β of its gradient in the batch. It goes on to the batch's rows through the edges that leave the batch,
    which GAS cuts off. Weights get their gradient from the batch's rows alone.

    With ``beta=0`` the values are GAS's, and once both histories are fresh, the gradients of an epoch's batches, each
    times its number of training nodes, add up to the gradient of the whole graph's loss: exactly, for convolutions
    that are linear in the rows (GCN, GraphSAGE), whatever comes between them row by row. Batches without a training
    node are left out, as under GAS; what their rows would add is missing then.

    Details that differ from the authors' code:

    - The kept gradients are those of a convolution's output, before normalisation and activation, in units of the sum
      of the training nodes' losses, since a batch's loss is a mean over its own. So the kept gradient of a halo row
      does not pass through an activation of its incomplete row, nor into the weights of a normalisation.
    - The authors also compute the halo's outputs and their losses. A batch has labels of its own nodes, so the
      gradients of the halo's outputs come from the history alone.
    - The halo is all in-neighbours and all out-neighbours, which on undirected graphs are the same nodes.
    - All halo rows are compensated. The authors leave alone those with all their edges at hand.
    - The authors rewrite the rows' history at each evaluation; here only with ``refresh=True``. Gradients start at
      zero, and the first epoch builds them up.

    Batch normalisation between convolutions sees the halo's rows as well, as does the weight of any normalisation
    the β part of their gradient.

    Parameters
    ----------
    num_parts : int, default 40
        Number of parts. The loader's ``batch_size`` is the number of parts a batch, by default 10.
    partition : {"metis", "random"}
        How parts are made.
    beta : float, default 1.0
        In [0, 1]. The default is that of the authors' configurations, as is the score's.
    score : {"linear", "const", "concave", "convex"}
        x, 1, x (2 − x) or x² of the share x.
    refresh : bool, default False
        Whether each evaluation during :func:`gnnscale.train` rewrites the rows' history; the time counts as history
        time.
    num_layers : int, optional
        Number of blocks when a batch is unpacked the DGL way; gnnscale's models need none.

    Raises
    ------
    ValueError
        If an argument is not one of those.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.lmc import LMCSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    >>> result = gs.train(model, data, LMCSampler(num_parts=8), epochs=10, batch_size=2)
    >>> result.points[-1].loss < result.points[0].loss
    True
    """

    estimate = "exact"
    keeps_history = True
    keeps_gradients = True

    def __init__(
        self,
        num_parts: int = 40,
        *,
        partition: str = "metis",
        beta: float = 1.0,
        score: str = "linear",
        refresh: bool = False,
        num_layers: int | None = None,
    ) -> None:
        super().__init__(num_parts, partition, num_layers)
        self.beta = float(check_share("beta", beta, "a number from 0 to 1", zero=True, one=True))
        if not isinstance(score, str) or score not in SCORES:
            raise ValueError(f"score={score!r} is not known; use one of {', '.join(map(repr, SCORES))}")
        self.score = score
        self.refresh = check_flag("refresh", refresh)

    def __repr__(self) -> str:
        extra = f", beta={self.beta}, score={self.score!r}" + (", refresh=True" if self.refresh else "")
        return super().__repr__()[:-1] + extra + ")"

    def prepare(self, graph: dgl.DGLGraph, indices: Tensor, batch_size: int) -> None:
        csc = CSC.of(graph)
        if self._prepared_for is not csc:
            self._out_edges = transpose_csr(csc.indptr, csc.indices, csc.num_nodes)[:2]
        super().prepare(graph, indices, batch_size)

    def draw_members(self, csc: CSC, members: Tensor) -> Sample:
        num_own = members.numel()
        nodes, _ = in_edges(csc, members, self.num_threads)
        indptr, indices = map(csc.beside, self._out_edges)
        reached, _, _ = sample_neighbors(indptr, indices, members, [-1], key=0, num_threads=self.num_threads)
        nodes, _ = append_nodes(nodes, reached, csc.num_nodes)
        hop = induced(csc, nodes, self.num_threads)
        adjacencies, halo = halo_adjacencies(csc, nodes, hop, num_own)
        at_hand = hop.indptr.diff()[num_own:]
        in_all = csc.indptr[nodes[num_own:] + 1] - csc.indptr[nodes[num_own:]]
        # A node without edges, which only a self-made halo could have, has all there are.
        share = torch.where(in_all > 0, at_hand / in_all.clamp(min=1), 1.0)
        beta = self.beta * SCORES[self.score](share).unsqueeze(1)
        return LMCSample(nodes, adjacencies, repeats=True, halo=halo, beta=beta)


class LMCLayer(HaloLayer):
    """A layer whose halo gets values and gradients from histories, in part."""

    def exchange(self, x: Tensor) -> Tensor:
        self._check(x)
        batch, sample, num_own = self._batch, self._lmc_sample, self._sample.num_own
        own, fresh = x[:num_own], x[num_own:]
        if not self.index:
            # What a model computed from the features of the halo must not train it twice.
            return torch.cat([own, fresh.detach()]) if x.requires_grad else x
        with batch.clock.stage("history"):
            (known,) = batch.pulled_rows(self.index - 1, x)
            batch.history.push(self.index - 1, batch.input_nodes[:num_own], own)
        return torch.cat([own, torch.lerp(known, fresh, sample.beta.to(x.dtype))])

    def propagate(self, conv: nn.Module, x: Tensor, *rows: Tensor) -> Tensor:
        self._check(x)
        own = conv(self._own_layer(), x, *rows)
        if self._is_last and not x.requires_grad:
            return own
        if self._sample.halo.num_dst:
            fixed = {name: parameter.detach() for name, parameter in conv.named_parameters()}
            halo = functional_call(conv, fixed, self._halo_layer(x, *rows))
        else:
            halo = own[:0]
        if own.requires_grad:
            # Of a batch without a halo too: the table is that of all batches.
            needed = any(each.requires_grad for each in (x, *rows))
            own, halo = self._compensated(own, halo, needed)
        elif torch.is_grad_enabled():
            self._make_table(1)  # a convolution of raw features without weights: the layers above have tables too
        return own if self._is_last else torch.cat([own, halo])

    def _compensated(self, own: Tensor, halo: Tensor, needed: bool) -> tuple[Tensor, Tensor]:
        """The same rows, whose gradients are pushed (the batch's own) and completed (the halo's).

        The gradient of the first layer's halo reaches nothing, unless the model has trained weights before it; then it
        is not ``needed``.
        """
        self._make_table(own.shape[1] if needed else 1)
        return _Compensation.apply(own, halo, self) if needed else (own, halo)

    def _make_table(self, width: int) -> None:
        """Make this layer's table of gradients: tables are made in order, and gradients come last layer first."""
        store = self._batch.gradients
        if len(store.widths) == self.index:
            store.ensure(self.index, width)

    def push_gradient(self, own: Tensor) -> None:
        """Remember the gradient of the batch's own rows, in units of the sum of the training nodes' losses."""
        batch = self._batch
        with batch.clock.stage("history"):
            batch.gradients.push(self.index, batch.input_nodes[: len(own)], own * self._num_targets)

    def complete_gradient(self, halo: Tensor) -> Tensor:
        """Add the history's part to the gradient of the halo's rows, which the lerp of values has scaled by β."""
        batch = self._batch
        with batch.clock.stage("history"):
            known = batch.gradients.pull(self.index, batch.input_nodes[self._sample.num_own :]).wait()
        known = known.to(halo.device, halo.dtype) / self._num_targets
        # No value of the halo's outputs is used: all of their gradient is the history's.
        return halo + (known if self._is_last else (1 - self._lmc_sample.beta.to(halo.dtype)) * known)

    @property
    def _num_targets(self) -> int:
        targets = self._batch.targets
        return self._sample.num_own if targets is None else targets.numel()

    @property
    def _lmc_sample(self) -> LMCSample:
        return cast(LMCSample, self._batch.sample)


class _Compensation(torch.autograd.Function):
    """The identity, whose gradient passes through the history of gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, halo: Tensor, layer: LMCLayer) -> tuple[Tensor, Tensor]:
        ctx.layer = layer
        return own.view_as(own), halo.view_as(halo)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, own: Tensor, halo: Tensor) -> tuple[Tensor, Tensor, None]:
        ctx.layer.push_gradient(own)
        return own, ctx.layer.complete_gradient(halo), None


@dataclass(eq=False, kw_only=True)
class LMCSample(HaloSample):
    """Clusters, their halo, and β for each halo row, shape (H, 1), float32."""

    beta: Tensor

    layer_class = LMCLayer

    def num_edges(self, num_layers: int) -> int:
        return super().num_edges(num_layers) + self.halo.hop.indices.numel()  # the last layer's halo, for its gradient

    def moved(self, move: Callable[[Tensor], Tensor]) -> LMCSample:
        return replace(cast(LMCSample, super().moved(move)), beta=move(self.beta))
