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
from gnnscale.nn.autoscale_dropout import RowsBeforeDropout, State, state_of

_MESSAGES = ("update_all", "apply_edges", "send_and_recv", "push", "pull", "prop_nodes", "multi_update_all", "_graph")
_CHANGES = ("to_canonical_etype", "clone", "add_edges", "add_nodes", "remove_edges", "remove_nodes")

_IN_THE_GRAPH = "what changes the graph belongs into the graph itself, before training: dgl.add_self_loop(graph), say"

ONE_AFTER_THE_OTHER = (
    "if one graph is handed to all convolutions, each has to come after the other, and branches side by side need "
    "forward(blocks, x), with one block for those that read the same rows"
)

_NO_MEANING = {
    "edge_weight": "weights of edges belong into graph.edata['weight'], where every sampler and the degrees see them",
    "edge_feat": "features of edges are not at hand there",
    "get_attention": "it gives rows alone; for the weights of attention call the convolution on DGL's graph",
    "weight": "the matrix has to be the convolution's own: make it with weight=True",
}


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
        # VR-GCN's rows with and without dropout, one above the other, a model that adds h[:len(x)] would mix up.
        batch.sample = batch.sample.in_one_stream()
        layers = batch.layers(sum(hops))
        starts = [sum(hops[:number]) for number in range(len(hops))]
        super().__init__(
            BlockView(number, layers[start : start + count], self)
            for number, (start, count) in enumerate(zip(starts, hops, strict=True))
        )
        self.batch = batch
        self.used = 0
        self.branches = False  # whether rows that one block has read are read by another
        self._adjacencies = batch.sample.spread(sum(hops))
        self._dropouts = dropouts
        self._exchanged: dict[tuple[int, State], tuple[Tensor, Tensor]] = {}
        self._first_of: dict[State, tuple[Tensor, Tensor]] = {}

    def __getitem__(self, index: Any) -> Any:
        try:
            return super().__getitem__(index)
        except IndexError:
            raise IndexError(
                f"forward asks for blocks[{index}], and the number of blocks is {len(self)}, one for each convolution "
                "that the model has unless told otherwise; if it needs more, tell the number: "
                f"gs.autoscale(model, num_blocks={max(index + 1, -index)})"
            ) from None

    def __getattr__(self, name: str) -> Any:
        # No other error: hasattr has to work.
        raise AttributeError(
            f"forward(blocks, x), or forward(g, x), asks its first argument for {name!r}; in a batch that is a list of "
            f"blocks, to be given to convolutions, or asked one by one: blocks[0].num_dst_nodes(); {_IN_THE_GRAPH}"
        )

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise TypeError(
            f"forward calls {getattr(func, '__name__', func)} on the batch's blocks, which are its first argument; "
            "make it forward(blocks, x)"
        )

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
        key = layer.index, state_of(x)
        known = self._exchanged.get(key)
        if known is None:
            self.branches |= any(state == key[1] for _, state in self._exchanged)
            if any(index == layer.index for index, _ in self._exchanged):
                raise ValueError(
                    f"two convolutions read block {layer.index} with different rows, of which a history can keep one "
                    "kind; give both the same rows"
                )
            known = self._exchanged[key] = x, self._exchange(layer, x)
        return known[1]

    def _exchange(self, layer: Layer, x: Tensor) -> Tensor:
        before, p = (x, 0.0) if self._dropouts is None else self._dropouts.of(x)
        rows = layer.exchange(before)
        # Rows that a convolution sees again later (GCNII's first ones) are to be those that it saw.
        self._first_of.setdefault(state_of(before), (before, rows))
        if not p:
            return rows
        if rows is before:
            return x
        computed = self._adjacencies[max(layer.index - 1, 0)]
        num_own = min(self.batch.sample.own_rows(computed), len(rows))
        return torch.cat([x[:num_own], functional.dropout(rows[num_own:], p)])

    def seen(self, rows: Tensor) -> Tensor:
        """``rows`` with those of the halo as the first convolution saw them, if it did."""
        return self._first_of.get(state_of(rows), (rows, rows))[1]

    def check_all_used(self) -> None:
        """Refuse a model that leaves layers of the batch out.

        Raises
        ------
        ValueError
            If it did.
        """
        if not self.used:
            raise ValueError("forward called no convolution; call each as conv(block, x), and return its rows")
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
        self.num_computed: int | None = None  # rows that a convolution gave
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
        if name in _CHANGES:
            raise ValueError(f"forward asks for block.{name}; a batch's blocks stay as they are, and {_IN_THE_GRAPH}")
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
            self._block = block_of(self.layers[0], f"forward asks for block.{name}, which is of")
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
        self._check_shape(adapter, x)
        self._check_degrees(adapter)
        self.blocks.used = max(self.blocks.used, self.number + 1)
        if isinstance(adapter, OnBlock) and others:
            return self._with_arguments(adapter, x, others)
        unknown = [key for key in others if key not in adapter.takes]
        if unknown:
            reason = _NO_MEANING.get(unknown[0], "leave it out")
            raise ValueError(f"{name} was given {unknown[0]}, which has no meaning on a batch; {reason}")
        missing = [key for key in adapter.takes if key not in others]
        if missing:
            raise ValueError(f"{name} has to be given {missing[0]}")
        if adapter.takes:
            self.blocks.exchange(self.layers[0], x)  # they may be the rows that are exchanged here
        rows = [self.blocks.seen(others[key]) for key in adapter.takes]
        out = adapter.run(self.layers, self.blocks.exchange, x, *rows)
        self.num_computed = len(out)
        return out

    def _with_arguments(self, adapter: OnBlock, x: Tensor, others: dict[str, Any]) -> Tensor:
        """A convolution with arguments that nothing is known of, where it runs on the layer's edges and no others."""
        (layer,) = self.layers
        if type(layer).propagate is not Layer.propagate:
            raise ValueError(
                f"{adapter._get_name()} was given {next(iter(others))}, and the sampler runs it on other edges than "
                "the block's; use neighbor, cluster or gas, or give the convolution its rows alone"
            )
        out = adapter(layer, self.blocks.exchange(layer, x), **others)
        self.num_computed = len(out)
        return out

    def _rows(self, name: str, feat: Any) -> Tensor:
        x = feat
        if isinstance(feat, tuple):
            kinds = [type(each).__name__ for each in feat]
            if len(feat) != 2 or not all(isinstance(each, Tensor) for each in feat):
                raise ValueError(
                    f"{name} was given a tuple of {', '.join(kinds) or 'nothing'}; give it h, or the pair "
                    "(h, h[:block.num_dst_nodes()])"
                )
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

    def _check_shape(self, adapter: Adapter, x: Tensor) -> None:
        num_rows, num_columns = x.shape
        if adapter.in_feats not in (None, num_columns):
            raise ValueError(
                f"{adapter._get_name()} of block {self.number} has in_feats={adapter.in_feats} and was given rows of "
                f"{num_columns} columns; make it with in_feats={num_columns}, or give it the rows it is made for"
            )
        before = self.blocks[self.number - 1].num_computed if self.number else None
        if before not in (None, num_rows) and num_rows != self.num_src_nodes():
            raise ValueError(
                f"{adapter._get_name()} was given {num_rows} rows and block {self.number} goes on from the {before} of "
                f"the block before; {ONE_AFTER_THE_OTHER}"
            )

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
