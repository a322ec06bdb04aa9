"""What a model written for DGL blocks is handed in their place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gnnscale._dgl import dgl
from gnnscale.batch import MiniBatch
from gnnscale.csc import CSC
from gnnscale.layer import Layer
from gnnscale.nn.adapters import Adapter, OnBlock
from gnnscale.nn.adapters.on_block import block_of
from gnnscale.nn.autoscale_dropout import RowsBeforeDropout

_MESSAGES = ("update_all", "apply_edges", "send_and_recv", "push", "pull", "prop_nodes", "multi_update_all", "_graph")


class Blocks(list["BlockView"]):
    """A batch's layers as a list of blocks, one for each call of a convolution.

    Parameters
    ----------
    batch : MiniBatch
        Of any sampler.
    hops : list of int
        How many layers of the batch each block stands for.
    dropouts : RowsBeforeDropout or None
        What is known of rows before dropout; None where rows are not exchanged with anything, or nothing is dropped.
    """

    def __init__(self, batch: MiniBatch, hops: list[int], dropouts: RowsBeforeDropout | None) -> None:
        layers = batch.layers(sum(hops))
        starts = [sum(hops[:number]) for number in range(len(hops))]
        super().__init__(
            BlockView(number, layers[start : start + count], self)
            for number, (start, count) in enumerate(zip(starts, hops, strict=True))
        )
        self.batch = batch
        self.used = 0
        self.doubles = False  # whether the sampler adds rows of its own to those that a layer computes
        self._adjacencies = batch.sample.spread(sum(hops))
        self._dropouts = dropouts
        self._exchanged: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._first_of: dict[int, tuple[Tensor, Tensor]] = {}

    def next(self) -> BlockView:
        """The block that no convolution has used yet, for models that hand one graph to all of them."""
        if self.used == len(self):
            raise ValueError(
                f"the model has called more than {len(self)} convolutions; tell how often it calls one: "
                f"gs.autoscale(model, num_blocks={len(self) + 1})"
            )
        return self[self.used]

    def exchange(self, layer: Layer, x: Tensor) -> Tensor:
        """``layer.exchange`` of the rows before dropout; what it added is dropped out likewise."""
        # Two convolutions may read one block: what was written to the history is not to be read back.
        known = self._exchanged.get((layer.index, id(x)))
        if known is None:
            if any(index == layer.index for index, _ in self._exchanged):
                raise ValueError(
                    f"two convolutions read block {layer.index} with different rows, of which a history can keep one "
                    "kind; give both the same rows"
                )
            known = self._exchanged[layer.index, id(x)] = x, self._exchange(layer, x)
        return known[1]

    def _exchange(self, layer: Layer, x: Tensor) -> Tensor:
        before, p = (x, 0.0) if self._dropouts is None else self._dropouts.of(x)
        rows = layer.exchange(before)
        # Rows that a convolution sees again later (GCNII's first ones) are to be those that it saw.
        self._first_of.setdefault(id(before), (before, rows))
        if not p:
            return rows
        if rows is before:
            return x
        computed = self._adjacencies[max(layer.index - 1, 0)]
        num_own = min(self.batch.sample.own_rows(computed), len(rows))
        return torch.cat([x[:num_own], functional.dropout(rows[num_own:], p)])

    def seen(self, rows: Tensor) -> Tensor:
        """``rows`` with those of the halo as the first convolution saw them, if it did."""
        return self._first_of.get(id(rows), (rows, rows))[1]

    def check_all_used(self) -> None:
        """Refuse a model that leaves layers of the batch out.

        Raises
        ------
        ValueError
            If it did.
        """
        if self.used < len(self):
            raise ValueError(
                f"forward called convolutions on {self.used} of {len(self)} blocks; if that is what it always does, "
                f"tell the number: gs.autoscale(model, num_blocks={self.used})"
            )


class BlockView:
    """One layer of a batch (several, for a convolution of several hops) that answers like a DGL block.

    Counts of nodes are at hand; anything else, features and edges, say, comes from the block itself, which is made
    when it is first asked for. Messages are not sent along it: that would be a sum over what was drawn.
    """

    is_block = True

    def __init__(self, number: int, layers: list[Layer], blocks: Blocks) -> None:
        self.number = number
        self.layers = layers
        self.blocks = blocks
        self._block: dgl.DGLGraph | None = None

    def num_src_nodes(self, ntype: str | None = None) -> int:
        """Rows that the convolution reads."""
        return self.layers[0].num_src

    def num_dst_nodes(self, ntype: str | None = None) -> int:
        """Rows that it computes: the first of those."""
        return self.layers[-1].num_dst

    number_of_src_nodes = num_src_nodes
    number_of_dst_nodes = num_dst_nodes

    @property
    def device(self) -> torch.device:
        """Where the batch is."""
        return self.layers[0]._adjacency.degree.device

    def to(self, device: Any, **arguments: Any) -> BlockView:
        """Itself: the loader has put the batch on its device."""
        return self

    def __repr__(self) -> str:
        return f"BlockView(num_src_nodes={self.num_src_nodes()}, num_dst_nodes={self.num_dst_nodes()})"

    def __getattr__(self, name: str) -> Any:
        if name in _MESSAGES:
            raise ValueError(
                f"forward uses block.{name} outside of a convolution, which would be a sum over the edges drawn; put "
                "it into a module and name its class: gs.autoscale(model, convs=[MyConv])"
            )
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("int", "long"):
            return lambda: self
        if len(self.layers) > 1:
            raise ValueError(
                f"forward asks for block.{name} of a block that stands for {len(self.layers)} hops, which is no block "
                "of DGL's; only its numbers of nodes are known"
            )
        if self._block is None:
            self._block = block_of(self.layers[0])
        return getattr(self._block, name)

    def apply(self, adapter: Adapter, feat: Any, others: dict[str, Any]) -> Tensor:
        """What a call of the convolution gives: :meth:`Adapter.run` on the layers of this block."""
        name = adapter._get_name()
        x = self._rows(name, feat)
        if self.number > self.blocks.used:
            raise ValueError(
                f"{name} was given block {self.number} before any convolution had block {self.blocks.used}; use "
                "blocks in their order"
            )
        if adapter.hops != len(self.layers):
            raise ValueError(
                f"{name} sums over neighbours {adapter.hops} times and was given block {self.number}, which stands "
                f"for {len(self.layers)} layers; blocks have to go to convolutions in the order in which the model "
                "registers these"
            )
        self._check_degrees(adapter)
        self.blocks.used = max(self.blocks.used, self.number + 1)
        if isinstance(adapter, OnBlock) and others:
            return self._with_arguments(adapter, x, others)
        unknown = [key for key in others if key not in adapter.takes]
        if unknown:
            raise ValueError(
                f"{name} was given {unknown[0]}, which has no meaning on a batch; weights of edges belong into "
                "graph.edata['weight'], where every sampler and the degrees see them"
            )
        missing = [key for key in adapter.takes if key not in others]
        if missing:
            raise ValueError(f"{name} has to be given {missing[0]}")
        if adapter.takes:
            self.blocks.exchange(self.layers[0], x)  # they may be the rows that are exchanged here
        rows = [self.blocks.seen(others[key]) for key in adapter.takes]
        out = adapter.run(self.layers, self.blocks.exchange, x, *rows)
        self.blocks.doubles |= len(out) > self.num_dst_nodes()
        return out

    def _with_arguments(self, adapter: OnBlock, x: Tensor, others: dict[str, Any]) -> Tensor:
        """A convolution with arguments that nothing is known of, where it runs on the layer's edges and no others."""
        (layer,) = self.layers
        if type(layer).propagate is not Layer.propagate:
            raise ValueError(
                f"{adapter._get_name()} was given {next(iter(others))}, and the sampler runs it on other edges than "
                "the block's; use neighbor, cluster or gas, or give the convolution its rows alone"
            )
        return adapter(layer, self.blocks.exchange(layer, x), **others)

    def _rows(self, name: str, feat: Any) -> Tensor:
        x = feat
        if isinstance(feat, tuple):
            x, own = feat
            prefix = x[: self.num_dst_nodes()]
            if own.shape != prefix.shape or not (own.data_ptr() == prefix.data_ptr() or torch.equal(own, prefix)):
                raise ValueError(
                    f"{name} was given rows for destinations that are not the first of the sources' rows; in a batch "
                    "destinations are sources: give it h, or (h, h[:block.num_dst_nodes()])"
                )
        if not isinstance(x, Tensor) or x.dim() != 2:
            got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name} was given rows of {got}; give it a matrix, one row a node: h.flatten(1), say")
        return x

    def _check_degrees(self, adapter: Adapter) -> None:
        """DGL's check for nodes without in-edges, on the graph instead of the sample."""
        if isinstance(adapter, OnBlock) or getattr(adapter.conv, "_allow_zero_in_degree", True):
            return
        csc = CSC.of(self.blocks.batch.graph)
        nodes = self.blocks.batch.input_nodes[: self.num_dst_nodes()]
        lonely = nodes[csc.indptr[nodes + 1] == csc.indptr[nodes]]
        if len(lonely):
            raise ValueError(
                f"{adapter._get_name()} was given node {int(lonely[0])} of the graph, which has no in-edge, so that "
                "its row would be zeros; add self-loops with dgl.add_self_loop(graph), or make the convolution with "
                "allow_zero_in_degree=True"
            )
