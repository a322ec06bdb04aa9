"""VR-GCN: a few neighbours a node, and control variates from histories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.adjacency import NORMS, Adjacency
from gnnscale.checks import check_flag
from gnnscale.csc import CSC
from gnnscale.layer import Layer
from gnnscale.ops import gather_rows
from gnnscale.samplers.base import Sample
from gnnscale.samplers.edges import in_edges
from gnnscale.samplers.full import whole_graph
from gnnscale.samplers.neighbor import NeighborSampler

if TYPE_CHECKING:
    from gnnscale.batch import MiniBatch


class VRGCNSampler(NeighborSampler):
    """Neighbour sampling with control variates from histories (VR-GCN; Chen, Zhu and Song 2018).

    A layer computes Â_s (h − h̄) + Â h̄ (the paper's CV estimator): the sampled neighbours, with importance d / k, for
    what has changed since the history h̄ was written, and all neighbours for the history. The estimate is unbiased
    whatever the history holds, and its variance goes to zero as the history becomes fresh, so that one or two
    neighbours a node are enough. A step reads the histories before it writes its own rows: those of every node that it
    computed. In the first layer h̄ are the features themselves and Â h̄ is a constant: it is computed once for the whole
    graph and looked up (the paper's preprocessing). Where a model reads anything but the batch's features there, a
    trained linear map of them, say, the first layer is plain neighbour sampling.

    Control variates need an Â that does not depend on the rows: a convolution states its own as ``norm``, and is a
    linear map of rows without bias, that normalised sum, and anything after it (GCN, GraphSAGE, GIN). Others are
    refused. Of a convolution that is not linear after the sum (GIN), the sum is what is unbiased.

    Dropout makes h differ from any history. With ``cvd`` (the paper's section 5.1) each layer computes two streams, h
    with dropout and μ without it (and without gradient), the history stores μ, and h is estimated by
    Â' (h − μ) + Â_s (μ − μ̄) + Â μ̄, where Â' has the square root of the importance: h − μ is zero in the mean
    over dropout masks, and its terms are independent, so this scaling gives the variance of the full sum. Rows
    between layers are doubled, h above μ, for the model's normalisation and activation to act on both. Row by row
    (ReLU, layer normalisation) that is exact; batch normalisation sees the rows of both streams. A residual connection
    adds ``layer.own(x)``, which has both; a model that adds rows of its own making between convolutions needs
    ``cvd=False``, and those of ``gs.autoscale`` always have it. Then the history stores rows before dropout, and the
    estimate stays unbiased, with dropout's variance multiplied by the importance.

    As in the authors' code, μ has no gradient, so that under ``cvd`` the gradient reaches the sampled neighbours
    through Â', with the square root of the importance: what earlier layers get from neighbours is less noisy, and too
    small. With ``cvd=False`` it goes through Â_s and is unbiased once histories are fresh; for a model without dropout
    that is the one to use.

    The authors' code writes histories after the optimiser's step, zeros at the start, and aggregator inputs after
    dropout where CVD is off; here :func:`gnnscale.train` fills them exactly before the first epoch, and rows are
    those before dropout in any case. Its test also samples; evaluation here is exact.

    Parameters
    ----------
    fanouts : sequence of int
        In-edges drawn a node, without replacement, one number a layer, the input layer first; -1 takes all.
    cvd : bool, default True
        Whether rows with and without dropout are kept apart.

    Raises
    ------
    ValueError
        If ``fanouts`` is empty or holds anything but -1 and positive integers, or ``cvd`` is no bool.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.vrgcn import VRGCNSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    >>> result = gs.train(model, data, VRGCNSampler([1, 1]), epochs=10, batch_size=100)
    >>> result.points[-1].loss < result.points[0].loss
    True
    """

    default_per_layer = 1
    needs_norm = True
    keeps_history = True

    def __init__(self, fanouts: Sequence[int], *, cvd: bool = True) -> None:
        super().__init__(fanouts)
        self.cvd = check_flag("cvd", cvd)
        self._feature_sums: _FeatureSums | None = None

    def __repr__(self) -> str:
        return f"VRGCNSampler(fanouts={self.fanouts}{'' if self.cvd else ', cvd=False'})"

    def prepare(self, graph: dgl.DGLGraph, indices: Tensor, batch_size: int) -> None:
        csc, features = CSC.of(graph), graph.ndata.get("feat")
        known = self._feature_sums
        if features is None:
            self._feature_sums = None
        elif known is None or known.csc is not csc or not known.is_of(features):
            self._feature_sums = _FeatureSums(csc, features)

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        drawn = super().draw(csc, seeds, key)
        neighborhoods = []
        for adjacency in drawn.adjacencies[1:]:
            nodes, hop = in_edges(csc, drawn.nodes[: adjacency.num_dst], self.num_threads)
            neighborhoods.append((nodes, Adjacency(hop, nodes.numel(), csc, nodes)))
        damped = [_with_root_importance(a, csc, drawn.nodes) for a in drawn.adjacencies] if self.cvd else None
        return ControlledSample(
            drawn.nodes,
            drawn.adjacencies,
            all_train=True,
            neighborhoods=neighborhoods,
            damped=damped,
            feature_sums=self._feature_sums,
        )


class ControlledLayer(Layer):
    """A layer under control variates: what is sampled is the change since the history was written."""

    def __init__(self, index: int, adjacency: Adjacency, batch: MiniBatch) -> None:
        super().__init__(index, adjacency, batch)
        self._mean: Tensor | None = None  # rows before dropout: μ under CVD, else h
        self._histories: tuple[Tensor, Tensor] | None = None  # of the sources, and of all in-neighbours
        self._reads_features = False

    def exchange(self, x: Tensor) -> Tensor:
        sample = self._sample
        if self.index and sample.damped is not None:
            if x.shape[0] != 2 * self.num_src:
                raise ValueError(
                    f"layer {self.index} got {x.shape[0]} rows and computes with {self.num_src} of each kind, with and "
                    "without dropout, one above the other; a model that adds rows of its own between convolutions "
                    "adds layer.own(x), or needs VRGCNSampler(..., cvd=False)"
                )
            x, mean = x[: self.num_src], x[self.num_src :]
        else:
            self._check(x)
            mean = x
        self._mean = mean.detach()
        self._reads_features = not self.index and sample.feature_sums is not None and x is self._batch.x
        if self.index:
            batch, table = self._batch, self.index - 1
            with batch.clock.stage("history"):
                of_sources, of_all = batch.pulled_rows(table, x)
                self._histories = of_sources, of_all
                # After the pull: a row's difference to itself would be zero, and the estimate biased.
                batch.history.push(table, batch.input_nodes[: self.num_src], self._mean)
        return x

    def propagate(self, conv: nn.Module, x: Tensor, *rows: Tensor) -> Tensor:
        norm = getattr(conv, "norm", None)
        if norm not in NORMS:
            if getattr(conv, "is_affine", lambda x: False)(x):
                return self._controlled_from_outside(conv, x, *rows)
            raise ValueError(
                f"{conv._get_name()} declares no norm, and vrgcn needs an Â that does not depend on the rows, which "
                "attention and extremes have not: use gas, neighbor or cluster, or declare norm = 'sym', 'mean' or "
                "'sum' on a convolution that is a linear map of rows, that sum over neighbours, and anything after it"
            )
        self._check(x)
        mean = self._rows_before_dropout
        damped = self._sample.damped
        with torch.no_grad():
            correction = self._correction(norm, mean)
        if damped is None:
            return conv(self._seen_with(self._adjacency, norm), torch.cat([x, correction]), *rows)
        root = damped[self.index]
        with torch.no_grad():
            shift = self._adjacency.aggregate(mean, norm) - root.aggregate(mean, norm) + correction
        out = conv(self._seen_with(root, norm), torch.cat([x, shift]), *rows)
        if not self._keeps_both:
            return out
        with torch.no_grad():
            mean_out = conv(self._seen_with(self._adjacency, norm), torch.cat([mean, correction]), *rows)
        return torch.cat([out, mean_out])

    def _controlled_from_outside(self, conv: nn.Module, x: Tensor, *rows: Tensor) -> Tensor:
        """f(sample, h) - f(sample, h̄) + f(all, h̄) for an affine convolution f whose inside is not known.

        Only models of ``gs.autoscale`` have such, and these have one stream.
        """
        self._check(x)
        sampled = Layer(self.index, self._adjacency, self._batch)
        correction: Tensor | float = 0.0
        if self._histories is not None:
            of_sources, of_all = self._histories
            _, neighborhood = self._sample.neighborhoods[self.index - 1]
            correction = conv(Layer(self.index, neighborhood, self._batch), of_all, *rows)
            correction = correction - conv(sampled, of_sources, *rows)
        return conv(sampled, x, *rows) + correction

    def own(self, x: Tensor) -> Tensor:
        """The destinations' rows; under CVD those without dropout below them, as :meth:`propagate` has them."""
        rows = super().own(x)
        if not self._keeps_both:
            return rows
        return torch.cat([rows, super().own(self._rows_before_dropout)])

    @property
    def _keeps_both(self) -> bool:
        """Whether the rows that this layer computes are doubled, with dropout above without."""
        return self._sample.damped is not None and self._adjacency is not self._sample.adjacencies[-1]

    @property
    def _rows_before_dropout(self) -> Tensor:
        if self._mean is None:
            raise ValueError(f"layer {self.index} was not given its rows before dropout; call layer.exchange(x) first")
        return self._mean

    def _correction(self, norm: str, mean: Tensor) -> Tensor:
        """Â h̄ − Â_s h̄, shape (num_dst, F)."""
        if self._histories is not None:
            of_sources, of_all = self._histories
            _, neighborhood = self._sample.neighborhoods[self.index - 1]
            return neighborhood.aggregate(of_all, norm) - self._adjacency.aggregate(of_sources, norm)
        sums, batch = self._sample.feature_sums, self._batch
        if sums is None or not self._reads_features:
            # Nothing is known of the rows that were not drawn.
            return mean.new_zeros(self.num_dst, mean.shape[1])
        with batch.clock.stage("history"):
            rows = sums.of(norm, batch.input_nodes[: self.num_dst])
            if mean.device.type == "cuda":
                rows = rows.pin_memory()  # so that the host need not wait for the copy
            rows = rows.to(mean.device, mean.dtype, non_blocking=True)
        return rows - self._adjacency.aggregate(mean, norm)

    def _seen_with(self, adjacency: Adjacency, norm: str) -> _CorrectedLayer:
        return _CorrectedLayer(self.index, adjacency, self._batch, norm)

    @property
    def _sample(self) -> ControlledSample:
        return cast(ControlledSample, self._batch.sample)


class _CorrectedLayer(Layer):
    """What a convolution sees: rows of the sources, and below them a correction for each destination's sum.

    A linear map of rows acts on both alike, so the corrected sum is right before and after it.
    """

    def __init__(self, index: int, adjacency: Adjacency, batch: MiniBatch, norm: str) -> None:
        super().__init__(index, adjacency, batch)
        self._norm = norm

    def aggregate(self, x: Tensor, norm: str = "mean", *, dropout: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        if norm != self._norm:
            raise ValueError(
                f"the convolution declares norm={self._norm!r} and aggregates with {norm!r}; under vrgcn both have to "
                "be the same"
            )
        if x.shape[0] != self.num_src + self.num_dst:
            raise ValueError(
                f"x has {x.shape[0]} rows and layer {self.index} aggregates {self.num_src} rows and {self.num_dst} "
                "corrections; a convolution may change the columns of what it gets before it aggregates, not the rows"
            )
        return self._adjacency.aggregate(x[: self.num_src], norm, dropout) + x[self.num_src :]


@dataclass(eq=False, kw_only=True)
class ControlledSample(Sample):
    """A neighbour sample with what its control variates need.

    Attributes
    ----------
    neighborhoods : list of (Tensor, Adjacency)
        For each layer but the first: the destinations and all their in-neighbours, and the edges between.
    damped : list of Adjacency or None
        Under CVD, each layer's sampled edges with the square root of their importance.
    feature_sums : _FeatureSums or None
        The first layer's sums of features, where the sampler knows the features.
    """

    neighborhoods: list[tuple[Tensor, Adjacency]]
    damped: list[Adjacency] | None
    feature_sums: _FeatureSums | None

    layer_class = ControlledLayer

    def in_one_stream(self) -> Sample:
        return replace(self, damped=None)

    def history_reads(self, table: int) -> list[Tensor]:
        if table >= len(self.neighborhoods):  # the store has tables of a deeper model
            return []
        return [self.nodes[: self.adjacencies[table + 1].num_src], self.neighborhoods[table][0]]

    def num_edges(self, num_layers: int) -> int:
        return super().num_edges(num_layers) + sum(a.hop.indices.numel() for _, a in self.neighborhoods)

    def touched(self, num_layers: int) -> tuple[int, int]:
        nodes = torch.cat([self.nodes, *(nodes for nodes, _ in self.neighborhoods)]).unique()
        return nodes.numel(), self.num_edges(num_layers)

    def named_here(self) -> ControlledSample:
        here = [(nodes.cpu(), adjacency) for nodes, adjacency in self.neighborhoods]
        return replace(cast(ControlledSample, super().named_here()), neighborhoods=here)

    def moved(self, move: Callable[[Tensor], Tensor]) -> ControlledSample:
        return replace(
            cast(ControlledSample, super().moved(move)),
            neighborhoods=[(nodes, adjacency.moved(move)) for nodes, adjacency in self.neighborhoods],
            damped=None if self.damped is None else [adjacency.moved(move) for adjacency in self.damped],
        )


class _FeatureSums:
    """Â x of the features for the whole graph, computed when a norm is first asked for."""

    def __init__(self, csc: CSC, features: Tensor) -> None:
        self.csc, self.features, self._version = csc, features, features._version
        self._tables: dict[str, Tensor] = {}

    def is_of(self, features: Tensor) -> bool:
        """Whether these are the sums of ``features`` as they are now."""
        return self.features is features and self._version == features._version

    def of(self, norm: str, nodes: Tensor) -> Tensor:
        """The sums of ``nodes``, shape (n, F), float32 on the CPU."""
        if norm not in self._tables:
            (adjacency,) = whole_graph(self.csc).adjacencies
            self._tables[norm] = adjacency.aggregate(self.features.float(), norm)
        return gather_rows(self._tables[norm], nodes, num_threads=torch.get_num_threads())


def _with_root_importance(adjacency: Adjacency, csc: CSC, nodes: Tensor) -> Adjacency:
    if adjacency.importance is None:
        return adjacency
    return Adjacency(adjacency.hop, adjacency.num_src, csc, nodes, importance=adjacency.importance.sqrt())
