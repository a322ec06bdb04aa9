"""The sampled edges of one layer, and the weights that turn them into an estimate of the full sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from gnnscale.csc import CSC
from gnnscale.ops import Hop, attend, attend_edges, extremes, spmm, transpose_csr

NORMS = ("sym", "mean", "sum", "both", "in", "left")


class Adjacency:
    """The sampled in-edges of a layer's destinations: a sparse matrix Â' with E[Â'] = Â.

    The model's normalisation Â comes from the degrees of the whole graph, whatever was sampled; ``importance``
    says how much each sampled edge stands for.

    Parameters
    ----------
    hop : Hop
        The edges by destination, sources as positions in the batch's list of nodes.
    num_src : int
        Number of sources; the first ``num_dst`` of them are the destinations.
    csc : CSC
        The whole graph.
    nodes : Tensor
        Shape (at least num_src,), int64: global ids of the batch's nodes.
    importance : Tensor, optional
        Shape (E,), float32: 1 / (probability that the edge is in the sample); 1 where absent.
    degree : Tensor, optional
        Shape (at least num_src,), float32: degrees to normalise with in the place of the whole graph's, for a
        sampler that defines its estimate so (Cluster-GCN).
    weight : Tensor, optional
        Shape (E,), float32: edge weights; looked up in the whole graph where absent.
    diagonal : float, optional
        λ of Cluster-GCN's diagonal enhancement: Ã + λ diag(Ã) takes the place of Â, where Ã is A + I under the same
        normalisation (self-loops replaced): D̃^-1/2 (A + I) D̃^-1/2, (D + I)⁻¹(A + I), A + I, and so on.
    """

    def __init__(
        self,
        hop: Hop,
        num_src: int,
        csc: CSC,
        nodes: Tensor,
        *,
        importance: Tensor | None = None,
        degree: Tensor | None = None,
        weight: Tensor | None = None,
        diagonal: float | None = None,
    ) -> None:
        self.hop = hop
        self.num_dst = hop.indptr.numel() - 1
        self.num_src = num_src
        self.importance = importance
        self._csc: CSC | None = csc
        self.nodes: Tensor | None = nodes if nodes is csc.nodes else nodes[:num_src]
        self.replaced_degree = None if degree is None else degree[:num_src]
        if weight is None and csc.weight is not None:
            weight = csc.take(csc.weight, hop.positions)
        self._weight = weight
        self._diagonal = diagonal
        self.replaced_weight: Tensor | None = None
        self._normalised: dict[str, tuple[Tensor | None, Tensor | None]] = {}

    @classmethod
    def replacing(cls, hop: Hop, num_src: int, weight: Tensor, degree: Tensor | None = None) -> Adjacency:
        """Edges of a sampler's own graph, which takes the place of the one that was given (PinSAGE).

        Parameters
        ----------
        hop : Hop
            The edges; their positions mean nothing.
        num_src : int
            Number of sources.
        weight : Tensor
            Shape (E,), float32: the weight of each edge, which the model's normalisation is applied to.
        degree : Tensor, optional
            Shape (num_src,), float32: in-degrees in that graph; 1 where absent, for weights that add up to 1.
        """
        made = object.__new__(cls)
        degree = weight.new_ones(num_src) if degree is None else degree[:num_src]
        made.__dict__.update(
            hop=hop,
            num_dst=hop.indptr.numel() - 1,
            num_src=num_src,
            importance=None,
            replaced_degree=degree,
            replaced_weight=weight,
            _weight=weight,
            _csc=None,
            nodes=None,
            _diagonal=None,
            _normalised={},
        )
        return made

    def to(self, device: torch.device) -> Adjacency:
        """The same on another device (itself where it is there already)."""
        if self.hop.indices.device == device:
            return self
        return self.moved(lambda values: values.to(device, non_blocking=True))

    def moved(self, move: Callable[[Tensor], Tensor]) -> Adjacency:
        """The same with its arrays where ``move`` puts them, and what it looks up in the graph beside them."""
        moved = object.__new__(type(self))
        moved.__dict__.update(
            num_dst=self.num_dst,
            num_src=self.num_src,
            hop=Hop(*map(move, self.hop)),
            _csc=self._csc,
            nodes=self.nodes if self.nodes is None or self.nodes.device.type == "cpu" else move(self.nodes),
            _diagonal=self._diagonal,
            _normalised={},
        )
        degree, loops = self._in_graph
        values = {"degree": degree if self.replaced_degree is None else self.replaced_degree, "_loops": loops}
        values |= {
            name: getattr(self, name) for name in ("importance", "replaced_degree", "replaced_weight", "_weight")
        }
        for name, value in values.items():
            setattr(moved, name, None if value is None else move(value))
        return moved

    @cached_property
    def degree(self) -> Tensor:
        """Shape (num_src,), float32: in-degrees in the whole graph, or those that replace them."""
        if self.replaced_degree is not None:
            return self.replaced_degree
        return self._in_graph[0].to(self.hop.indices.device)  # type: ignore[union-attr]

    @cached_property
    def _loops(self) -> Tensor | None:
        """Shape (num_src,), float32: how much of the degree is self-loops; None where there are none."""
        loops = self._in_graph[1]
        return None if loops is None else loops.to(self.hop.indices.device)

    @cached_property
    def _in_graph(self) -> tuple[Tensor | None, Tensor | None]:
        """The sources' degrees in the whole graph and those of loops, on the CPU; None for what is not wanted."""
        if self._csc is None:
            return None, None
        degree, loops = None if self.replaced_degree is not None else self._csc.degree, self._csc.loops
        if self.nodes is self._csc.nodes:
            return degree, loops
        return None if degree is None else degree[self.nodes], None if loops is None else loops[self.nodes]

    @cached_property
    def destinations(self) -> Tensor:
        """Shape (E,), int64: the destination of each edge."""
        counts = self.hop.indptr.diff().long()
        ids = torch.arange(self.num_dst, device=counts.device)
        return torch.repeat_interleave(ids, counts, output_size=self.hop.indices.numel())

    @property
    def out_degree(self) -> Tensor:
        """Shape (num_src,), float32: out-degrees in the whole graph, or in the subgraph where degrees are those there.

        A sampler that replaces degrees gives those of in-edges, which stand for both where out-edges are not at hand.
        """
        if self.replaced_degree is not None and self.num_dst == self.num_src:
            weight = torch.ones_like(self.degree[self.destinations]) if self._weight is None else self._weight
            return torch.zeros_like(self.degree).index_add_(0, self.hop.indices, weight)
        if self.replaced_degree is not None or self._csc is None:
            return self.degree
        return self._csc.out_degree[self.nodes].to(self.degree.device)

    @property
    def mean_log_degree(self) -> float:
        """The mean of log(d + 1) over the whole graph's in-degrees d."""
        return math.log(2) if self._csc is None else self._csc.mean_log_degree

    @cached_property
    def transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """The edges by source, for the gradient."""
        return transpose_csr(self.hop.indptr, self.hop.indices, self.num_src)

    def normalised(self, norm: str) -> tuple[Tensor | None, Tensor | None]:
        """Weights of the edges, shape (E,), and of each destination's own row, shape (num_dst,).

        None stands for weights that are all 1 (edges) or all 0 (own row).
        """
        if norm not in self._normalised:
            self._normalised[norm] = self._normalise(norm)
        return self._normalised[norm]

    def _normalise(self, norm: str) -> tuple[Tensor | None, Tensor | None]:
        if norm not in NORMS:
            raise ValueError(f"norm={norm!r} is not known; use one of {', '.join(map(repr, NORMS))}")
        factors = [value for value in (self._weight, self.importance) if value is not None]
        adds_loops = norm == "sym" or self._diagonal is not None
        if adds_loops and self._loops is not None:
            # A + I: its loop has weight 1 and takes the place of any that A has.
            factors.append((self.hop.indices != self.destinations).to(self.degree.dtype))
        of_source, of_destination = self._scales(norm, adds_loops)
        if of_source is not None:
            factors.append(of_source[self.hop.indices.long()])
        if of_destination is not None:
            factors.append(of_destination[self.destinations])
        own = None
        if adds_loops:
            own = torch.ones_like(self.degree[: self.num_dst])
            for scale in (of_source, of_destination):
                own = own if scale is None else own * scale[: self.num_dst]
        if own is not None and self._diagonal is not None:
            own = (1 + self._diagonal) * own
        edges = None
        for factor in factors:
            edges = factor if edges is None else edges * factor
        return edges, own

    def _scales(self, norm: str, adds_loops: bool) -> tuple[Tensor | None, Tensor | None]:
        """What an edge gets for its source, shape (num_src,), and for its destination, shape (num_dst,); None is 1."""

        def inverse(degree: Tensor) -> Tensor:
            if adds_loops:
                return (degree + 1 if self._loops is None else degree - self._loops + 1).reciprocal()
            # A node whose edges all weigh nothing gets zeros, like one without edges; as a source it stays as it is.
            return torch.where(degree > 0, degree, torch.ones_like(degree)).reciprocal()

        if norm == "sum":
            return None, None
        if norm == "left":
            return inverse(self.out_degree), None
        of_destination = inverse(self.degree)[: self.num_dst]
        if norm == "mean":
            return None, of_destination
        of_source = inverse(self.out_degree if norm == "both" else self.degree)
        return of_source.sqrt(), of_destination.sqrt()

    def aggregate(self, x: Tensor, norm: str, dropout: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The estimate of Σ_u Â_vu x_u, shape (num_dst, F), for ``x`` of shape (num_src, F)."""
        dtype = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
        edges, own = (w if w is None else w.to(dtype) for w in self.normalised(norm))
        if dropout is not None:
            edges = dropout(x.new_ones(len(self.hop.indices), dtype=dtype) if edges is None else edges)
        transposed = self.transposed if x.requires_grad else None
        return spmm(self.hop.indptr, self.hop.indices, edges, x, diagonal=own, transposed=transposed)

    @cached_property
    def _log_multiplicity(self) -> Tensor | None:
        """Shape (E,): logarithm of the number of edges that each one stands for; None where each is just one."""
        multiplicity, _ = self.normalised("sum")
        if self._loops is not None:
            others = (self.hop.indices != self.destinations).to(self.degree.dtype)
            multiplicity = others if multiplicity is None else multiplicity * others
        return None if multiplicity is None else multiplicity.log()

    def attend(
        self,
        x: Tensor,
        source_scores: Tensor,
        target_scores: Tensor,
        *,
        negative_slope: float,
        dropout: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Attention over the in-edges and the own row; :meth:`gnnscale.layer.Layer.attend` has the formula."""
        source_scores, target_scores = _single(source_scores), _single(target_scores)
        return attend(
            self.hop.indptr,
            self.hop.indices,
            x,
            source_scores,
            target_scores,
            negative_slope=negative_slope,
            own_row=True,
            log_multiplicity=_like(self._log_multiplicity, source_scores),
            mask=_mask(dropout, source_scores, len(self.hop.indices) + self.num_dst, source_scores.shape[1]),
            transposed=self.transposed if _wants_gradient(x, source_scores, target_scores) else None,
        )

    def attend_edges(self, scores: Tensor, x: Tensor, *, dropout: Callable[[Tensor], Tensor]) -> Tensor:
        """Attention over the in-edges alone; :meth:`gnnscale.layer.Layer.attend_edges` has the formula."""
        scores = _single(scores)
        multiplicity, _ = self.normalised("sum")
        return attend_edges(
            self.hop.indptr,
            self.hop.indices,
            x,
            scores,
            log_multiplicity=None if multiplicity is None else multiplicity.log().to(scores.dtype),
            mask=_mask(dropout, scores, *scores.shape),
            transposed=self.transposed if _wants_gradient(x, scores) else None,
        )

    def reduce(self, x: Tensor, reduction: str) -> Tensor:
        """The largest or smallest of each destination's drawn rows, column by column; zeros where none was drawn."""
        transposed = self.transposed if x.requires_grad else None
        return extremes(self.hop.indptr, self.hop.indices, x, largest=reduction == "max", transposed=transposed)


def _single(values: Tensor) -> Tensor:
    """Scores of mixed precision in float32, in which softmaxes are computed."""
    return values.float() if values.dtype == torch.bfloat16 else values


def _like(values: Tensor | None, scores: Tensor) -> Tensor | None:
    return None if values is None else values.to(scores.dtype)


def _mask(dropout: Callable[[Tensor], Tensor], scores: Tensor, num_edges: int, heads: int) -> Tensor | None:
    """What attention weights of shape (num_edges, heads) are multiplied by; None where nothing is dropped."""
    ones = scores.new_ones(()).expand(num_edges, heads)
    mask = dropout(ones)
    return None if mask is ones else mask


def _wants_gradient(*values: Tensor) -> bool:
    return torch.is_grad_enabled() and any(value.requires_grad for value in values)
