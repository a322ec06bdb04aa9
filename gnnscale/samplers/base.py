"""The sampler contract: how a mini-batch is formed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.blocks import to_blocks
from gnnscale.csc import CSC
from gnnscale.layer import Layer

if TYPE_CHECKING:
    from gnnscale.batch import MiniBatch


@dataclass(eq=False)
class Sample:
    """What a sampler drew for one batch.

    Attributes
    ----------
    nodes : Tensor
        Shape (num_input,), int64 global ids. The node list of every layer is a prefix of it.
    adjacencies : sequence of Adjacency
        One a layer, the input layer first.
    repeats : bool
        Whether the sample serves a model of any depth: the first adjacency is that of every layer but the last, and
        the last one that of the last layer. A sampler whose layers are all the same gives that one alone.
    loss_weight : Tensor or None
        Shape (num_output,), float32: weight of each output node in the loss, which is then a weighted sum; without
        it, the loss is the mean over the batch's training nodes.
    all_train : bool
        Whether every output node is known to be a training node.
    """

    nodes: Tensor
    adjacencies: Sequence[Adjacency]
    repeats: bool = False
    loss_weight: Tensor | None = None
    all_train: bool = False

    layer_class: ClassVar[type[Layer]] = Layer
    """What a model sees of a layer; samplers with histories have their own."""

    @property
    def output_nodes(self) -> Tensor:
        return self.nodes[: self.adjacencies[-1].num_dst]

    def spread(self, num_layers: int) -> list[Adjacency]:
        """The adjacency of each layer of a model.

        Raises
        ------
        ValueError
            If the sampler drew another number of layers.
        """
        if self.repeats:
            return [self.adjacencies[0]] * (num_layers - 1) + [self.adjacencies[-1]]
        if len(self.adjacencies) != num_layers:
            raise ValueError(
                f"the sampler drew {len(self.adjacencies)} layers and the model has {num_layers}; give the sampler "
                f"one number a layer, {num_layers} in all, or num_layers={num_layers} if it takes that"
            )
        return list(self.adjacencies)

    def own_rows(self, adjacency: Adjacency) -> int:
        """How many of the rows that a layer computes are the batch's own; the others are makeshift, of a halo."""
        return adjacency.num_dst

    def in_one_stream(self) -> Sample:
        """The same, whose layers give one row a node and no rows of their own, for models that do not expect them."""
        return self

    def history_reads(self, table: int) -> list[Tensor]:
        """Ids of the history rows that the layer above reads, int64, in the order in which it takes them.

        Parameters
        ----------
        table : int
            The history of layer ``table + 1``'s input.
        """
        return []

    def num_edges(self, num_layers: int) -> int:
        """How many edges a model of ``num_layers`` adds up for this batch, over all its layers."""
        return sum(a.hop.indices.numel() for a in self.spread(num_layers))

    def touched(self, num_layers: int) -> tuple[int, int]:
        """How many nodes' rows a model of ``num_layers`` reads for this batch, and how many edges it adds up."""
        return self.nodes.numel(), self.num_edges(num_layers)

    def to(self, device: torch.device) -> Sample:
        """The same with adjacencies and loss weights on a device; ids of nodes stay on the CPU."""
        if self.adjacencies[0].hop.indices.device == device:
            return self
        return self.moved(lambda values: values.to(device, non_blocking=True))

    def named_here(self) -> Sample:
        """The same with ids of nodes on the CPU, where a batch has them."""
        return self if self.nodes.device.type == "cpu" else replace(self, nodes=self.nodes.cpu())

    def moved(self, move: Callable[[Tensor], Tensor]) -> Sample:
        """The same with adjacencies and loss weights where ``move`` puts them."""
        weight = None if self.loss_weight is None else move(self.loss_weight)
        return replace(self, adjacencies=[a.moved(move) for a in self.adjacencies], loss_weight=weight)


class Sampler:
    """Base of gnnscale's own samplers. A sampler of your own needs ``sample_blocks`` alone, and no base class.

    A subclass implements :meth:`draw`; :meth:`sample_blocks`, DGL's interface, follows from it. It may override
    :meth:`batches` where a batch is not drawn from training nodes, and :meth:`prepare` for one-off work.
    """

    estimate: str = "unbiased"
    """What the layers of a batch compute, as :mod:`gnnscale.testing` checks it; see ``docs/samplers.md``.

    "exact": the full sum (with histories, once they are fresh); "unbiased": the full sum in expectation, given the
    destinations; "ratio": a weighted mean of the neighbours drawn, whose weights add up to the full sum's;
    "subgraph": the full sum of the subgraph that was drawn, with its degrees; "replaced": weights of its own, which
    add up to 1; "other": something else, which is not checked.
    """

    estimated_from: float | None = None
    """From how many draws the importance was itself estimated (GraphSAINT's counts); None where it is known."""

    default_batch_size: ClassVar[int | None] = None
    """Seeds a batch where the user names none; None for all of them."""

    default_per_layer: ClassVar[int | None] = None
    """For samplers whose first argument is a list with one number a layer: the number where the user names none."""

    keeps_history: ClassVar[bool] = False
    """Whether rows of absent nodes come from a history store."""

    keeps_gradients: ClassVar[bool] = False
    """Whether gradients of those rows are kept as well."""

    draws_ahead: ClassVar[bool] = True
    """Whether batches may be made ahead of the model; not if a draw depends on earlier steps."""

    needs_norm: ClassVar[bool] = False
    """Whether its layers refuse convolutions whose Â depends on the rows, as attention's does."""

    refresh: bool = False
    """Whether each evaluation of a training run rewrites the histories, which then counts as history time."""

    num_layers: int | None = None
    """Number of layers drawn; None where any number is."""

    prepared_by: int | None = None
    """The number of the loader that the sampler was prepared by last."""

    draws_on_gpu: ClassVar[bool] = False
    """Whether :meth:`draw` also takes a graph on a GPU, for the loader's ``graph_placement``."""

    num_threads: int = 1
    """Threads that one draw may use; the loader decides, and the result does not depend on it."""

    def prepare(self, graph: dgl.DGLGraph, indices: Tensor, batch_size: int) -> None:
        """One-off work before the first batch (partitions, say); its time is reported apart.

        Parameters
        ----------
        graph : DGLGraph
            The graph, with its features.
        indices : Tensor
            Shape (n,), int64: the training nodes.
        batch_size : int
            Seeds a batch.
        """

    def parameters(self) -> list[nn.Parameter]:
        """Parameters that are trained together with the model's; most samplers have none."""
        return []

    def feedback(self, batch: MiniBatch, logits: Tensor) -> None:
        """Called with each training step's logits, shape (num_output, C) without gradient; for samplers that adapt."""

    def batches(
        self, indices: Tensor, batch_size: int, shuffle: bool, drop_last: bool, generator: torch.Generator
    ) -> list[Tensor]:
        """The seeds of each batch of one epoch.

        Parameters
        ----------
        indices : Tensor
            Shape (n,), int64: the training nodes.
        batch_size : int
            Seeds a batch.
        shuffle, drop_last : bool
            Whether to draw the order anew, and whether to leave out a last batch that is not full.
        generator : torch.Generator
            Seeded for this epoch.
        """
        return split(indices, batch_size, shuffle, drop_last, generator)

    def comes_again(self, batch_size: int, shuffle: bool) -> bool:
        """Whether each epoch has the same batches, of which :meth:`draw` gives the same object again."""
        return False

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        """One batch. It may depend on its arguments alone, so that any thread may draw it at any time.

        Parameters
        ----------
        csc : CSC
            The graph; with ``draws_on_gpu``, it may be one for a GPU (:meth:`CSC.on`), which then draws the same
            sample there.
        seeds : Tensor
            One element of :meth:`batches`, on the CPU.
        key : int
            The batch's random key, a function of (seed, epoch, batch number).
        """
        raise NotImplementedError(f"{type(self).__name__} has to implement draw(csc, seeds, key)")

    def sample_blocks(
        self,
        g: dgl.DGLGraph,
        seeds: Tensor,
        exclude_eids: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, list[dgl.DGLGraph]]:
        """DGL's interface: input nodes, output nodes and blocks for ``seeds``.

        Raises
        ------
        ValueError
            If ``exclude_eids`` is given, or the number of layers is not known.
        """
        if exclude_eids is not None:
            raise ValueError(
                f"exclude_eids is not supported by {type(self).__name__}; remove those edges from the graph "
                "with dgl.remove_edges"
            )
        self.prepare(g, torch.as_tensor(seeds), len(seeds))
        key = int(torch.randint(2**62, (), generator=generator))
        sample = self.draw(CSC.of(g), seeds, key)
        return sample.nodes, sample.output_nodes, to_blocks(g, sample, self.num_layers)


def split(seeds: Tensor, batch_size: int, shuffle: bool, drop_last: bool, generator: torch.Generator) -> list[Tensor]:
    """``seeds`` in batches of ``batch_size``."""
    if shuffle:
        seeds = seeds[torch.randperm(seeds.numel(), generator=generator)]
    parts = list(seeds.split(batch_size))
    if drop_last and parts and parts[-1].numel() < batch_size:
        parts.pop()
    return parts
