"""A mini-batch: one step's nodes, edges, features and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.blocks import check_blocks_on, to_blocks
from gnnscale.clock import Clock
from gnnscale.history import HistoryStore, Pull
from gnnscale.layer import Layer

if TYPE_CHECKING:
    from gnnscale.samplers.base import Sample


class MiniBatch:
    """One step's nodes, edges, features and labels.

    It unpacks the way DGL users expect: ``input_nodes, output_nodes, blocks = batch``.

    Attributes
    ----------
    graph : DGLGraph
        The whole graph.
    input_nodes, output_nodes : Tensor
        int64 global ids, on the CPU: the nodes whose features are read, and those that are computed.
    targets : Tensor or None
        Positions in ``output_nodes`` of the training nodes; None where all are.
    sample : Sample
        What the sampler drew.
    clock : Clock
        Seconds that this batch took, by stage.
    num_edges : int
        Edges of the layers that a model has asked for so far.
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
        gradients: HistoryStore | None = None,
        clock: Clock | None = None,
        feedback: Callable[[MiniBatch, Tensor], None] | None = None,
        arrive: Callable[[MiniBatch], None] | None = None,
    ) -> None:
        self._device = device or torch.device("cpu")
        self.sample = sample.to(self._device)
        self.input_nodes = sample.nodes
        self.output_nodes = sample.output_nodes
        self.targets = targets
        self.clock = clock or Clock()
        self.graph = graph
        self._given_blocks = blocks
        self._num_blocks = num_blocks
        self._x, self._y = x, y
        self._history, self._gradients = history, gradients
        self._feedback = feedback
        self.arrive = arrive
        """What has the device's current stream wait for the batch's arrays, where they are on their way."""
        self._penalties: list[Tensor] = []
        self.num_edges = 0
        self._pulls: dict[int, list[Pull]] = {}
        self.after_forward: Callable[[], None] | None = None
        """What the loader wants done once the model has gone forward: the next batch's rows asked for."""

    @property
    def x(self) -> Tensor:
        """Features of the input nodes, shape (num_input, F)."""
        if self._x is None:
            raise ValueError("the graph has no node features; store them in graph.ndata['feat']")
        return self._x

    @x.setter
    def x(self, rows: Tensor) -> None:
        self._x = rows

    @property
    def y(self) -> Tensor:
        """Labels of the output nodes, shape (num_output,) int64, or (num_output, C) float32 if multi-label."""
        if self._y is None:
            raise ValueError("the graph has no labels; store them in graph.ndata['label']")
        return self._y

    @property
    def history(self) -> HistoryStore:
        """The input rows of hidden layers, for the layers of samplers that keep them."""
        return _kept(self._history, "history")

    @property
    def gradients(self) -> HistoryStore:
        """The gradients of those rows, for the layers of samplers that keep them."""
        return _kept(self._gradients, "gradients")

    def ask_ahead(self, step: int) -> None:
        """Start the pulls that this batch will need, for use at ``step``."""
        for table in range(len(self.history.widths)):
            if table not in self._pulls:
                reads = self.sample.history_reads(table)
                self._pulls[table] = [self.history.pull(table, ids, step=step) for ids in reads]

    def pulled_rows(self, table: int, like: Tensor) -> list[Tensor]:
        """The history's rows that the sample reads, of the device and dtype of ``like``; layers call it.

        They are those of this moment, whether or not they were asked for ahead. A table that nobody has filled is
        made with the width of ``like``; its rows are zeros.
        """
        history = self.history
        history.ensure(table, like.shape[1])
        pulls = self._pulls.pop(table, None)
        if pulls is None or not all(pull.is_current for pull in pulls):
            pulls = [history.pull(table, ids) for ids in self.sample.history_reads(table)]
        return [pull.wait().to(like.device, like.dtype) for pull in pulls]

    @cached_property
    def blocks(self) -> list[dgl.DGLGraph]:
        """The layers as DGL blocks, made when first looked at, on the batch's device."""
        check_blocks_on(self._device, "batch.blocks asks for")
        blocks = self._given_blocks
        if blocks is None:
            blocks = to_blocks(self.graph, self.sample.to(torch.device("cpu")), self._num_blocks)
        return blocks if self._device.type == "cpu" else [block.to(self._device) for block in blocks]

    def __getitem__(self, index: int) -> Any:
        raise TypeError(
            "a batch is no list of blocks; make a model that is written for blocks ready for batches with "
            "gs.autoscale(model), or give it batch.blocks"
        )

    def __iter__(self) -> Iterator:
        return iter((self.input_nodes, self.output_nodes, self.blocks))

    def layers(self, num_layers: int) -> list[Layer]:
        """The layers for a model of ``num_layers`` convolutions, the input layer first.

        Raises
        ------
        ValueError
            If the sampler drew another number of layers.
        """
        adjacencies = self.sample.spread(num_layers)
        self.num_edges += self.sample.num_edges(num_layers)
        return [self.sample.layer_class(index, adjacency, self) for index, adjacency in enumerate(adjacencies)]

    def add_penalty(self, penalty: Tensor) -> None:
        """Add a scalar (AS-GCN's variance, a regulariser) to this batch's loss; layers call it."""
        self._penalties.append(penalty)

    def loss(self, logits: Tensor) -> Tensor:
        """The training loss of this batch.

        Cross-entropy for class labels; binary cross-entropy, the mean over classes, for multi-label ones. It is the
        mean over the batch's training nodes, or the sum weighted by the sampler's loss weights where it gives them.
        A sampler that adapts adds its own term and sees how hard each node was.

        Parameters
        ----------
        logits : Tensor
            Shape (num_output, C).

        Raises
        ------
        TypeError, ValueError
            If ``logits`` is no matrix with a row for each output node.
        """
        y, weight = self.y, self.sample.loss_weight
        as_logits(logits)
        if logits.shape[0] != y.shape[0]:
            raise ValueError(
                f"logits have {logits.shape[0]} rows and the batch has {y.shape[0]} output nodes; a model of L "
                "layers has to use all the batch's layers"
            )
        if self._feedback is not None:
            self._feedback(self, logits.detach())
        if self.after_forward is not None:
            with self.clock.stage("history"):
                self.after_forward()
        if self.targets is not None:
            logits, y = logits[self.targets], y[self.targets]
            weight = None if weight is None else weight[self.targets]
        if y.dim() == 1:
            try:
                losses = nn.functional.cross_entropy(logits, y, reduction="none")
            except IndexError as error:
                raise ValueError(
                    f"the model gave logits of {logits.shape[1]} classes and the batch has a label {int(y.max())}; "
                    "make it with the number of classes, data.num_classes"
                ) from error
        else:
            losses = nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(1)
        loss = losses.mean() if weight is None else (losses * weight).sum()
        return sum(self._penalties, loss)


def logits_of(model: nn.Module, batch: MiniBatch, x: Tensor) -> Tensor:
    """``model(batch, x)``.

    Raises
    ------
    TypeError, ValueError
        One sentence, if that is no matrix, or if the model has convolutions of DGL's that know no batches.
    """
    try:
        return as_logits(model(batch, x))
    except (AttributeError, TypeError) as error:
        for module in model.modules():
            # gs.autoscale gives each convolution a forward of its own.
            if type(module).__module__.startswith("dgl.nn.") and "forward" not in vars(module):
                raise TypeError(
                    f"{type(model).__name__} has a {type(module).__name__} of dgl.nn, which takes DGL's graphs and no "
                    f"batches ({error}); call gs.autoscale(model) first"
                ) from error
        raise


def as_logits(logits: Any) -> Tensor:
    """What a model gave, if it is a matrix.

    Raises
    ------
    TypeError, ValueError
        One sentence.
    """
    if not isinstance(logits, Tensor):
        raise TypeError(f"the model gave a {type(logits).__name__}; it has to give one tensor of logits, a row a node")
    if logits.dim() != 2:
        raise ValueError(
            f"the model gave a tensor of the shape {tuple(logits.shape)}; it has to give a matrix of logits, one row a "
            "node and one column a class (of attention heads, take the mean or flatten them)"
        )
    return logits


def _kept(store: HistoryStore | None, name: str) -> HistoryStore:
    if store is None:
        raise ValueError(f"this batch keeps no {name}; take batches from gnnscale.DataLoader, which makes the store")
    return store
