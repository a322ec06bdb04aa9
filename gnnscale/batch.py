"""A mini-batch, and the layers through which a model sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.blocks import to_blocks
from gnnscale.clock import Clock
from gnnscale.history import HistoryStore

if TYPE_CHECKING:
    from gnnscale.samplers.base import Sample


class Layer:
    """One layer of a batch, as a model sees it.

    A model calls :meth:`exchange` on its rows before each convolution (before dropout, as GNNAutoScale does), and
    :meth:`propagate` for the convolution itself; a convolution calls :meth:`aggregate`.

    Attributes
    ----------
    index : int
        0 for the layer that reads the features.
    num_src, num_dst : int
        Rows that the layer reads and computes; the first ``num_dst`` of the sources are the destinations.
    """

    def __init__(
        self,
        index: int,
        adjacency: Adjacency,
        nodes: Tensor,
        *,
        history: HistoryStore | None = None,
        clock: Clock | None = None,
        pause: Callable[[], None] | None = None,
        inputs: HistoryStore | None = None,
    ) -> None:
        self.index = index
        self.num_src = adjacency.num_src
        self.num_dst = adjacency.num_dst
        self._adjacency = adjacency
        self._nodes = nodes
        self._history = history
        self._clock = clock or Clock()
        self._pause = pause
        self._inputs = inputs

    def exchange(self, x: Tensor) -> Tensor:
        """Remember the batch's rows and append those of the halo.

        Parameters
        ----------
        x : Tensor
            Shape (n, F): the rows that the layer before computed.

        Returns
        -------
        Tensor
            Shape (num_src, F). ``x`` itself where no history is kept, and in the first layer, whose halo has features
            of its own. Appended rows carry no gradient.
        """
        # An exact evaluation in chunks gives the first layer no rows of the halo either.
        store, table = (self._history, self.index - 1) if self.index else (self._inputs, 0)
        if store is None:
            return x
        with self._clock.stage("history"):
            store.push(table, self._nodes[: x.shape[0]], x)
        if self._pause is not None:
            self._pause()
        if x.shape[0] == self.num_src:
            return x
        with self._clock.stage("history"):
            halo = store.pull(table, self._nodes[x.shape[0] : self.num_src]).wait()
        return torch.cat([x, halo.to(x.device, x.dtype)])

    def propagate(self, conv: nn.Module, x: Tensor) -> Tensor:
        """Apply a convolution: ``conv(layer, x)``, shape (num_dst, F_out), from ``x`` of shape (num_src, F_in)."""
        return conv(self, x)

    def aggregate(self, x: Tensor, norm: str = "mean") -> Tensor:
        """The sampler's estimate of Σ_u Â_vu x_u.

        Parameters
        ----------
        x : Tensor
            Shape (num_src, F).
        norm : {"sym", "mean", "sum"}
            The model's normalisation Â, from the degrees of the whole graph: "sym" is D̃^-1/2 (A + I) D̃^-1/2 with
            D̃ the in-degree plus one (a self-loop of A is replaced), "mean" D⁻¹A, "sum" A.

        Returns
        -------
        Tensor
            Shape (num_dst, F). A node without neighbours gets zeros (and its own row under "sym").

        Raises
        ------
        ValueError
            If ``x`` does not have a row for each source.
        """
        if x.dim() != 2 or x.shape[0] != self.num_src:
            raise ValueError(
                f"x has the shape {tuple(x.shape)} and layer {self.index} reads {self.num_src} rows; pass "
                "layer.exchange(x), or batch.x in the first layer"
            )
        return self._adjacency.aggregate(x, norm)


class MiniBatch:
    """One step's nodes, edges, features and labels.

    It unpacks the way DGL users expect: ``input_nodes, output_nodes, blocks = batch``.

    Attributes
    ----------
    input_nodes, output_nodes : Tensor
        int64 global ids, on the CPU: the nodes whose features are read, and those that are computed.
    targets : Tensor or None
        Positions in ``output_nodes`` of the training nodes; None where all are.
    clock : Clock
        Seconds that this batch took, by stage.
    """

    def __init__(
        self,
        graph: dgl.DGLGraph,
        sample: Sample,
        *,
        blocks: list[dgl.DGLGraph] | None = None,
        num_blocks: int | None = None,
        x: Tensor | None = None,
        y: Tensor | None = None,
        targets: Tensor | None = None,
        device: torch.device | None = None,
        history: HistoryStore | None = None,
        clock: Clock | None = None,
        pause: Callable[[], None] | None = None,
        inputs: HistoryStore | None = None,
    ) -> None:
        self.input_nodes = sample.nodes
        self.output_nodes = sample.output_nodes
        self.targets = targets
        self.clock = clock or Clock()
        self._graph = graph
        self._sample = sample
        self._given_blocks = blocks
        self._num_blocks = num_blocks
        self._x, self._y = x, y
        self._history = history
        self._pause = pause
        self._inputs = inputs
        device = device or torch.device("cpu")
        self._adjacencies = [adjacency.to(device) for adjacency in sample.adjacencies]
        self._loss_weight = None if sample.loss_weight is None else sample.loss_weight.to(device)

    @property
    def x(self) -> Tensor:
        """Features of the input nodes, shape (num_input, F)."""
        if self._x is None:
            raise ValueError("the graph has no node features; store them in graph.ndata['feat']")
        return self._x

    @property
    def y(self) -> Tensor:
        """Labels of the output nodes, shape (num_output,) int64, or (num_output, C) float32 if multi-label."""
        if self._y is None:
            raise ValueError("the graph has no labels; store them in graph.ndata['label']")
        return self._y

    @cached_property
    def blocks(self) -> list[dgl.DGLGraph]:
        """The layers as DGL blocks, made when first looked at."""
        if self._given_blocks is not None:
            return self._given_blocks
        return to_blocks(self._graph, self._sample, self._num_blocks)

    def __iter__(self) -> Iterator:
        return iter((self.input_nodes, self.output_nodes, self.blocks))

    def layers(self, num_layers: int) -> list[Layer]:
        """The layers for a model of ``num_layers`` convolutions, the input layer first.

        Raises
        ------
        ValueError
            If the sampler drew another number of layers.
        """
        adjacencies = self._adjacencies
        if self._sample.repeats:
            adjacencies = adjacencies * num_layers
        elif len(adjacencies) != num_layers:
            raise ValueError(
                f"the sampler drew {len(adjacencies)} layers and the model has {num_layers}; give the sampler one "
                f"number a layer, such as NeighborSampler({[10] * num_layers})"
            )
        return [
            Layer(
                index,
                adjacency,
                self.input_nodes,
                history=self._history,
                clock=self.clock,
                pause=self._pause,
                inputs=self._inputs,
            )
            for index, adjacency in enumerate(adjacencies)
        ]

    def loss(self, logits: Tensor) -> Tensor:
        """The training loss of this batch.

        Cross-entropy for class labels; binary cross-entropy, the mean over classes, for multi-label ones. It is the
        mean over the batch's training nodes, or the sum weighted by the sampler's loss weights where it gives them.

        Parameters
        ----------
        logits : Tensor
            Shape (num_output, C).

        Raises
        ------
        ValueError
            If ``logits`` does not have a row for each output node.
        """
        y, weight = self.y, self._loss_weight
        if logits.shape[0] != y.shape[0]:
            raise ValueError(
                f"logits have {logits.shape[0]} rows and the batch has {y.shape[0]} output nodes; a model of L "
                "layers has to use all the batch's layers"
            )
        if self.targets is not None:
            logits, y = logits[self.targets], y[self.targets]
            weight = None if weight is None else weight[self.targets]
        if y.dim() == 1:
            losses = nn.functional.cross_entropy(logits, y, reduction="none")
        else:
            losses = nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(1)
        return losses.mean() if weight is None else (losses * weight).sum()
